"""The engine gives what the plain pass gives, however the work is shared."""

import dataclasses
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.models.random_weights import FAMILIES, SMALL, random_params, rules
from vitseek.engines import forward, kernels, numpy_engine
from vitseek.engines.fold import fold
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.errors import ConfigError, DTypeError, ShapeError
from vitseek.models.vit import classify, features, forward_features

ROUNDING = 1e-11
FLOAT32 = 2e-5


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_folded_weights_and_shared_work_change_nothing(family: str, threads: int, rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    params = random_params(config, rng)
    engine = NumpyEngine(params, config, rules(config)[0], threads=threads, dtype=np.float64)
    for shape in ((1, 3, 35, 49), (3, 3, 14, 63), (7, 3, 7, 7)):
        pixels = rng.standard_normal(shape)
        wanted = forward_features(params, config, pixels, attention_blocks=(0, -1))
        found = engine.tokens(pixels, attention_blocks=(0, -1))
        np.testing.assert_allclose(found.all, wanted.all, atol=ROUNDING)
        np.testing.assert_allclose(engine.forward(pixels), wanted.all, atol=ROUNDING)
        np.testing.assert_allclose(found.registers, wanted.registers, atol=ROUNDING)
        np.testing.assert_allclose(found.patches, wanted.patches, atol=ROUNDING)
        assert found.grid == wanted.grid
        assert list(found.attention) == list(wanted.attention)
        for block, weights in wanted.attention.items():
            np.testing.assert_allclose(found.attention[block], weights, atol=ROUNDING)
        if config.num_classes:
            np.testing.assert_allclose(engine.classify(pixels), classify(params, config, wanted), atol=ROUNDING)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_stays_within_rounding_of_float64(family: str, rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    params, pixels = random_params(config, rng), rng.standard_normal((3, 3, 35, 49))
    wanted = forward_features(params, config, pixels).all
    single = {name: value.astype(np.float32) for name, value in params.items()}
    engine = NumpyEngine(single, config, rules(config)[-1], threads=2)
    features_wanted = features(params, config, forward_features(params, config, pixels), rules(config)[-1])
    np.testing.assert_allclose(engine.embed_pixels(pixels.astype(np.float32)), features_wanted, atol=FLOAT32)
    found = engine.forward(pixels.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=FLOAT32)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_the_plain_pass_by_every_rule(
    family: str, threads: int, rng: np.random.Generator
) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    params, pixels = random_params(config, rng), rng.standard_normal((4, 3, 14, 49))
    tokens = forward_features(params, config, pixels)
    assert len(rules(config)) >= 2
    for rule in rules(config):
        engine = NumpyEngine(params, config, rule, threads=threads, dtype=np.float64)
        wanted = features(params, config, tokens, rule)
        assert engine.embed_dim == wanted.shape[1]
        np.testing.assert_allclose(engine.embed_pixels(pixels), wanted, atol=ROUNDING, err_msg=rule)
        np.testing.assert_allclose(engine.pool(engine.tokens(pixels)), wanted, atol=ROUNDING, err_msg=rule)


def test_only_the_first_tokens_of_the_last_block_are_computed_where_they_suffice(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    usual = forward.Pass._feed_forward

    def counting(self: forward.Pass, mlp: object, x: np.ndarray, *args: object) -> None:
        rows.append(len(x))
        usual(self, mlp, x, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(forward.Pass, "_feed_forward", counting)
    clip, pooled = (dataclasses.replace(SMALL, **FAMILIES[name]) for name in ("clip", "pool beside class token"))
    for config, rule, last in ((SMALL, "cls", 1), (clip, "embedding", 1), (clip, "gem", 36), (pooled, "embedding", 39)):
        rows.clear()
        NumpyEngine(random_params(config, rng), config, rule, threads=1, dtype=np.float64).embed_pixels(
            np.zeros((1, 3, 35, 49))
        )
        assert rows == [config.num_prefix_tokens + 35] * 2 + [last]


def test_rotary_weights_keep_their_products_in_another_order(rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES["dinov3"])
    params = random_params(config, rng)
    block = fold(params, config, np.float64).blocks[0]
    plain = params["blocks.0.attn.qkv.weight"] * params["blocks.0.norm1.weight"]
    width, half = config.embed_dim, config.head_dim // 2
    for place in (0, 1, 2, 3, config.head_dim, width, width + 5):
        pair, second = divmod(place % config.head_dim, 2)
        old = place - place % config.head_dim + pair + second * half
        scale = config.head_dim**-0.5 if place < width else 1
        np.testing.assert_allclose(block.qkv_weight[:, place], plain[old] * scale, atol=1e-14)
    np.testing.assert_allclose(block.qkv_weight[:, 2 * width :], plain[2 * width :].T, atol=1e-14)


@pytest.mark.parametrize("family", ["vit", "dinov3", "clip", "siglip", "no positions"])
def test_cutting_rows_smaller_changes_nothing(
    family: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    params, pixels = random_params(config, rng), rng.standard_normal((5, 3, 35, 49))
    wanted = forward_features(params, config, pixels).all
    monkeypatch.setattr("vitseek.nn.attention.SCORES_LIMIT", 100)
    monkeypatch.setattr("vitseek.engines.kernels.BLOCK_NUMBERS", 50)
    monkeypatch.setattr(numpy_engine, "PACK_ROWS", 1)
    engine = NumpyEngine(params, config, rules(config)[0], threads=2, dtype=np.float64)
    np.testing.assert_allclose(engine.forward(pixels), wanted, atol=ROUNDING)


@pytest.mark.parametrize("family", ["vit", "dinov3", "clip", "siglip"])
@pytest.mark.parametrize("threads", [4, 7])
def test_more_threads_than_heads_share_one_image(family: str, threads: int, rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    params, pixels = random_params(config, rng), rng.standard_normal((1, 3, 35, 49))
    assert threads > config.num_heads
    tokens = forward_features(params, config, pixels)
    for rule in rules(config):
        engine = NumpyEngine(params, config, rule, threads=threads, dtype=np.float64)
        np.testing.assert_allclose(engine.forward(pixels), tokens.all, atol=ROUNDING)
        np.testing.assert_allclose(
            engine.embed_pixels(pixels), features(params, config, tokens, rule), atol=ROUNDING, err_msg=rule
        )


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 300.0, 1e20])
@pytest.mark.parametrize("shift", [0.0, -500.0, 500.0])
def test_attention_is_right_for_scores_of_any_size(size: float, shift: float, rng: np.random.Generator) -> None:
    query, key, value = (rng.standard_normal((3, count, 5)) for count in (11, 13, 13))
    query *= size
    key[..., 0] = 1
    query[..., 0] += shift
    scores = query.astype(np.float32) @ key.astype(np.float32).transpose(0, 2, 1)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True), dtype=np.float64)
    shares /= shares.sum(axis=-1, keepdims=True)
    out, kept = np.empty((3, 11, 5), np.float32), np.empty((3, 11, 13), np.float32)
    kernels.attend(
        *(array.astype(np.float32) for array in (query, key, value)),
        out=out,
        scores=np.empty(3 * 11 * 13, np.float32),
        kept=kept,
    )
    np.testing.assert_allclose(kept, shares, atol=2e-6)
    np.testing.assert_allclose(out, shares @ value, atol=1e-5)


def test_an_empty_batch_gives_an_empty_result(rng: np.random.Generator) -> None:
    engine = NumpyEngine(random_params(SMALL, rng), SMALL, threads=2, dtype=np.float64)
    assert engine.embed_pixels(np.empty((0, 3, 35, 49))).shape == (0, 21)
    assert engine.forward(np.empty((0, 3, 35, 49))).shape == (0, 36, 21)


def test_results_are_not_overwritten_by_the_next_pass(rng: np.random.Generator) -> None:
    engine = NumpyEngine(random_params(SMALL, rng), SMALL, threads=2, dtype=np.float64)
    first = engine.forward(rng.standard_normal((2, 3, 35, 49)))
    kept = first.copy()
    engine.forward(rng.standard_normal((2, 3, 35, 49)))
    np.testing.assert_array_equal(first, kept)


def test_many_callers_at_once_each_get_their_own(rng: np.random.Generator) -> None:
    params = random_params(SMALL, rng, np.float32)
    engine = NumpyEngine(params, SMALL, threads=3)
    batches = [rng.standard_normal((1 + n % 4, 3, 14 + 7 * (n % 3), 49), dtype=np.float32) for n in range(40)]
    wanted = [engine.embed_pixels(pixels) for pixels in batches]
    with ThreadPoolExecutor(6) as callers:
        found = list(callers.map(engine.embed_pixels, batches))
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("family", ["dinov3", "vit"])
@pytest.mark.parametrize("slow", ["MainThread", "vitseek-forward"])
def test_nobody_overwrites_what_a_slower_member_still_reads(
    family: str, slow: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for depth in (2, 3):
        config = dataclasses.replace(SMALL, **FAMILIES[family], depth=depth)
        params, pixels = random_params(config, rng), rng.standard_normal((1, 3, 35, 49))
        wanted = forward_features(params, config, pixels).cls_token
        usual = forward.Pass._attend

        def late(self: forward.Pass, *args: object, usual: Callable[..., None] = usual) -> None:
            if threading.current_thread().name == slow:
                time.sleep(0.05)
            usual(self, *args)

        monkeypatch.setattr(forward.Pass, "_attend", late)
        engine = NumpyEngine(params, config, threads=2, dtype=np.float64)
        np.testing.assert_allclose(engine.embed_pixels(pixels), wanted, atol=ROUNDING)
        monkeypatch.undo()


def test_a_failing_thread_wakes_the_others_and_is_told(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = NumpyEngine(random_params(SMALL, rng), SMALL, threads=3, dtype=np.float64)
    usual = forward.Pass._attend

    def failing(self: forward.Pass, *args: object) -> None:
        if threading.current_thread().name == "vitseek-forward":
            raise MemoryError("no room for scores")
        usual(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(forward.Pass, "_attend", failing)
    for images in (1, 6):
        with pytest.raises(MemoryError, match="no room for scores"):
            engine.forward(np.zeros((images, 3, 35, 49)))
    monkeypatch.undo()
    assert engine.forward(np.zeros((1, 3, 35, 49))).shape == (1, 36, 21)


def test_long_inputs_need_no_full_attention_matrix(rng: np.random.Generator) -> None:
    import tracemalloc

    config = dataclasses.replace(SMALL, num_heads=21, depth=1, num_classes=0)
    engine = NumpyEngine(random_params(config, rng, np.float32), config, threads=1)
    pixels = np.zeros((1, 3, 259, 259), dtype=np.float32)  # 1,370 tokens, as DINOv2 at 518 px
    tracemalloc.start()
    engine.forward(pixels)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    full_bytes = 21 * 1370 * 1370 * 4  # (H, N, N) in float32: 158 MB
    assert peak_bytes < full_bytes / 10


def test_weights_are_copies_that_the_caller_may_throw_away(rng: np.random.Generator) -> None:
    params, pixels = random_params(SMALL, rng), rng.standard_normal((1, 3, 35, 49))
    engine = NumpyEngine(params, SMALL, dtype=np.float64)
    before = engine.forward(pixels)
    for value in params.values():
        value[...] = np.nan
    np.testing.assert_array_equal(engine.forward(pixels), before)


def test_wrong_input_is_refused_before_any_thread_starts(rng: np.random.Generator) -> None:
    engine = NumpyEngine(random_params(SMALL, rng), SMALL, threads=2)
    with pytest.raises(DTypeError, match="pixels are float64 and the parameters float32"):
        engine.forward(np.zeros((1, 3, 35, 49)))
    with pytest.raises(ShapeError, match="does not divide into 7 px patches"):
        engine.embed_pixels(np.zeros((1, 3, 36, 49), dtype=np.float32))
    with pytest.raises(ConfigError, match="pooling must be one of"):
        NumpyEngine({}, SMALL, "max")
    with pytest.raises(ConfigError, match="pooling 'cls': this model has no class token"):
        NumpyEngine({}, dataclasses.replace(SMALL, **FAMILIES["siglip"]), "cls")
