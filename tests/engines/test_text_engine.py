"""The fast text engine computes what the plain pass does, for every tower, length and number of threads."""

import dataclasses
import threading

import numpy as np
import pytest

from tests.models.random_text import BERT, CLIP, SIGLIP, TOWERS, random_ids, random_text_params
from vitseek.engines import text_engine
from vitseek.engines.text_engine import TextEngine
from vitseek.engines.threads import BLAS
from vitseek.errors import ShapeError, UsageError
from vitseek.models.text import TextConfig, encode

VARIANTS: dict[str, TextConfig] = {
    **TOWERS,
    "clip-largest": dataclasses.replace(CLIP, pooling="largest"),
    "clip-unprojected": dataclasses.replace(CLIP, embedding_dim=0),
    "clip-exact-gelu": dataclasses.replace(CLIP, mlp_layer="gelu"),
    "bert-unprojected": dataclasses.replace(BERT, embedding_dim=0),
    "causal-first": dataclasses.replace(CLIP, pooling="first"),
    "all-seeing-eos": dataclasses.replace(CLIP, causal=False),
    "one-block": dataclasses.replace(SIGLIP, depth=1),
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_engine_equals_the_plain_pass_in_float64(name: str, threads: int, rng: np.random.Generator) -> None:
    config = VARIANTS[name]
    params = random_text_params(config, rng)
    engine = TextEngine(params, config, threads=threads, dtype=np.float64)
    for texts in (1, 2, 13):
        ids, mask = random_ids(config, rng, texts=texts)
        wanted = encode(params, config, ids, mask)
        np.testing.assert_allclose(engine.encode(ids, mask), wanted, rtol=0, atol=1e-12)
    assert engine.embed_dim == config.output_dim


@pytest.mark.parametrize("name", VARIANTS)
def test_float32_stays_close(name: str, rng: np.random.Generator) -> None:
    config = VARIANTS[name]
    params = random_text_params(config, rng)
    single = {key: value.astype(np.float32) for key, value in params.items()}
    ids, mask = random_ids(config, rng, texts=7)
    found = TextEngine(single, config).encode(ids, mask)
    assert found.dtype == np.float32
    wanted = encode(params, config, ids, mask)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()  # measured: 1.5e-6 at most


def test_packs_do_not_change_an_embedding(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    params = random_text_params(CLIP, rng)
    ids, mask = random_ids(CLIP, rng, texts=11)
    engine = TextEngine(params, CLIP, threads=1, dtype=np.float64)
    whole = engine.encode(ids, mask)
    for rows in (1, 7, 29):
        monkeypatch.setattr(text_engine, "PACK_ROWS", rows)
        np.testing.assert_allclose(engine.encode(ids, mask), whole, rtol=0, atol=1e-12)


def test_nothing_is_computed_behind_the_end_of_a_causal_text(rng: np.random.Generator) -> None:
    params = random_text_params(CLIP, rng)
    engine = TextEngine(params, CLIP, threads=1, dtype=np.float64)
    ids = np.array([[98, 5, 100] + [0] * 10, [98, 5, 6, 7, 100] + [0] * 8])
    pooled, lengths = engine._lengths(ids, None)
    assert lengths.tolist() == [3, 5]
    (pack,) = engine._packs(lengths, pooled)
    assert pack.spans == (slice(0, 3), slice(3, 8))
    assert pack.pooled.tolist() == [2, 7]
    np.testing.assert_allclose(engine.encode(ids), encode(params, CLIP, ids), rtol=0, atol=1e-12)


def test_no_text_gives_no_embedding(rng: np.random.Generator) -> None:
    engine = TextEngine(random_text_params(CLIP, rng), CLIP)
    assert engine.encode(np.zeros((0, 5), dtype=np.int64)).shape == (0, CLIP.embedding_dim)


def test_a_mask_with_holes_or_without_the_end_is_refused(rng: np.random.Generator) -> None:
    engine = TextEngine(random_text_params(BERT, rng), BERT)
    ids = np.array([[101, 5, 6, 102]])
    for mask in ([[1, 0, 1, 1]], [[0, 1, 1, 1]], [[0, 0, 0, 0]]):
        with pytest.raises(ShapeError, match="pad on the right"):
            engine.encode(ids, np.array(mask))
    with pytest.raises(ShapeError, match=r"the mask must have the shape of ids, \(1, 4\), not \(4,\)"):
        engine.encode(ids, np.ones(4, dtype=int))
    clip = TextEngine(random_text_params(CLIP, rng), CLIP)
    with pytest.raises(ShapeError, match="pad on the right"):
        clip.encode(np.array([[98, 5, 100]]), np.array([[1, 1, 0]]))
    with pytest.raises(UsageError, match="text 0 has no end-of-text token 100"):
        clip.encode(np.array([[98, 5, 6]]))


def test_several_threads_may_share_an_engine(rng: np.random.Generator) -> None:
    params = random_text_params(CLIP, rng)
    engine = TextEngine(params, CLIP, threads=2, dtype=np.float64)
    batches = [random_ids(CLIP, rng, texts=5) for _ in range(4)]
    wanted = [encode(params, CLIP, *batch) for batch in batches]
    found: dict[int, list[np.ndarray]] = {place: [] for place in range(len(batches))}

    def work(place: int) -> None:
        for _ in range(5):
            found[place].append(engine.encode(*batches[place]))

    threads = [threading.Thread(target=work, args=(place,)) for place in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, results in found.items():
        assert len(results) == 5
        for result in results:
            np.testing.assert_allclose(result, wanted[place], rtol=0, atol=1e-12)
    assert BLAS._users == 0


def test_an_error_in_one_thread_reaches_the_caller(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TextEngine(random_text_params(CLIP, rng), CLIP, threads=3)
    monkeypatch.setattr(TextEngine, "_block", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.encode(*random_ids(CLIP, rng, texts=9))
    assert BLAS._users == 0


def test_the_table_of_tokens_is_not_copied(rng: np.random.Generator) -> None:
    params = {key: value.astype(np.float32) for key, value in random_text_params(CLIP, rng).items()}
    table = params["text.token_embed.weight"]
    before = table.copy()
    engine = TextEngine(params, CLIP)
    engine.encode(*random_ids(CLIP, rng))
    assert engine._tokens is table
    np.testing.assert_array_equal(table, before)
