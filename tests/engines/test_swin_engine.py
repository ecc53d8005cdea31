"""The Swin engine gives what the plain pass gives, however the work is shared."""

import dataclasses
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.models.random_swin import SMALL, random_swin_params
from vitseek.engines import swin_forward
from vitseek.engines.swin_engine import SwinEngine
from vitseek.errors import ConfigError, DTypeError, ShapeError
from vitseek.models.swin import classify, forward_features
from vitseek.models.swin_config import SwinConfig
from vitseek.models.tokens import pool

ROUNDING = 1e-11
FLOAT32 = 2e-5  # for values up to 4; measured: 3.1e-6

# name: config, sizes in pixels: all windows whole; padding everywhere; odd to merge; a grid below the window; one patch
CASES: dict[str, tuple[SwinConfig, tuple[tuple[int, int], ...]]] = {
    "windows of 5": (SMALL, ((60, 60), (46, 65), (9, 71), (2, 3))),
    "no qkv bias": (dataclasses.replace(SMALL, qkv_bias=False, num_classes=0), ((50, 47),)),
    "windows of 2": (dataclasses.replace(SMALL, window_size=2, norm_eps=1e-2), ((48, 24), (19, 41))),
    "one stage": (SwinConfig(embed_dim=14, depths=(3,), num_heads=(7,), window_size=3, patch_size=5), ((45, 31),)),
}


@pytest.mark.parametrize("name", CASES)
def test_folded_weights_and_shared_work_change_nothing(name: str, rng: np.random.Generator) -> None:
    config, sizes = CASES[name]
    params = random_swin_params(config, rng)
    engines = [SwinEngine(params, config, threads=threads, dtype=np.float64) for threads in (1, 2, 5)]
    for size in sizes:
        pixels = rng.standard_normal((7, 3, *size))
        wanted = forward_features(params, config, pixels, attention_blocks=(0, 1, -1))
        for engine in engines:
            # A pack a thread and one image left for a team of all; then more teams than one; then one team.
            for batch in (7, 3, 1):
                found = engine.tokens(pixels[:batch], attention_blocks=(0, 1, -1))
                assert found.grid == wanted.grid
                assert found.num_prefix_tokens == 0
                np.testing.assert_allclose(found.all, wanted.all[:batch], atol=ROUNDING)
                assert list(found.attention) == list(wanted.attention)
                for block, weights in wanted.attention.items():
                    np.testing.assert_allclose(found.attention[block], weights[:batch], atol=ROUNDING)
        np.testing.assert_allclose(engines[1].embed_pixels(pixels), wanted.all.mean(axis=1), atol=ROUNDING)
        np.testing.assert_array_equal(engines[1].forward(pixels), engines[1].tokens(pixels).all)
        if config.num_classes:
            logits = classify(params, config, wanted)
            np.testing.assert_allclose(engines[1].classify(pixels), logits, atol=ROUNDING)


@pytest.mark.parametrize("name", CASES)
def test_every_stage_is_that_of_the_plain_pass(name: str, rng: np.random.Generator) -> None:
    config, sizes = CASES[name]
    params = random_swin_params(config, rng)
    for size in sizes:
        pixels = rng.standard_normal((1, 3, *size))
        wanted, found = {}, {}
        forward_features(params, config, pixels, stages=wanted.__setitem__)
        SwinEngine(params, config, threads=2, dtype=np.float64).tokens(pixels, stages=found.__setitem__)
        assert list(found) == list(wanted)
        for stage, value in wanted.items():
            np.testing.assert_allclose(found[stage], value, atol=ROUNDING, err_msg=stage)


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_within_rounding_of_float64(name: str, rng: np.random.Generator) -> None:
    config, sizes = CASES[name]
    params, pixels = random_swin_params(config, rng), rng.standard_normal((3, 3, *sizes[0]))
    wanted = forward_features(params, config, pixels).all
    engine = SwinEngine({key: value.astype(np.float32) for key, value in params.items()}, config, threads=2)
    found = engine.forward(pixels.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=FLOAT32)


@pytest.mark.parametrize("pooling", ["patch-mean", "gem"])
def test_pooling_is_that_of_the_tokens(pooling: str, rng: np.random.Generator) -> None:
    params, pixels = random_swin_params(SMALL, rng), rng.standard_normal((4, 3, 60, 75))
    engine = SwinEngine(params, SMALL, pooling, threads=3, dtype=np.float64)
    wanted = pool(forward_features(params, SMALL, pixels), pooling)
    assert engine.embed_dim == wanted.shape[1] == 56
    np.testing.assert_allclose(engine.embed_pixels(pixels), wanted, atol=ROUNDING)


@pytest.mark.parametrize("threads", [1, 2])
def test_cutting_the_work_smaller_changes_nothing(
    threads: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, pixels = random_swin_params(SMALL, rng), rng.standard_normal((3, 3, 57, 65))
    wanted = forward_features(params, SMALL, pixels).all
    monkeypatch.setattr("vitseek.engines.kernels.BLOCK_NUMBERS", 50)
    monkeypatch.setattr(swin_forward, "GROUP_ROWS", 31)
    for limit in (1, 1300, 3000):  # one head of a window; two heads; all heads of some windows
        monkeypatch.setattr(swin_forward, "SCORES_LIMIT", limit)
        engine = SwinEngine(params, SMALL, threads=threads, dtype=np.float64)
        np.testing.assert_allclose(engine.forward(pixels), wanted, atol=ROUNDING)


def test_an_empty_batch_gives_an_empty_result(rng: np.random.Generator) -> None:
    engine = SwinEngine(random_swin_params(SMALL, rng), SMALL, threads=2, dtype=np.float64)
    assert engine.embed_pixels(np.empty((0, 3, 60, 75))).shape == (0, 56)
    assert engine.forward(np.empty((0, 3, 60, 75))).shape == (0, 35, 56)


def test_results_are_not_overwritten_by_the_next_pass(rng: np.random.Generator) -> None:
    engine = SwinEngine(random_swin_params(SMALL, rng), SMALL, threads=2, dtype=np.float64)
    first = engine.forward(rng.standard_normal((2, 3, 60, 75)))
    kept = first.copy()
    engine.forward(rng.standard_normal((2, 3, 60, 75)))
    np.testing.assert_array_equal(first, kept)


def test_many_callers_and_sizes_at_once_each_get_their_own(rng: np.random.Generator) -> None:
    engine = SwinEngine(random_swin_params(SMALL, rng, np.float32), SMALL, threads=3)
    batches = [rng.standard_normal((1 + n % 4, 3, 30 + 11 * (n % 5), 60), dtype=np.float32) for n in range(40)]
    wanted = [engine.embed_pixels(pixels) for pixels in batches]
    with ThreadPoolExecutor(6) as callers:
        found = list(callers.map(engine.embed_pixels, batches))
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_failing_thread_wakes_the_others_and_is_told(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SwinEngine(random_swin_params(SMALL, rng), SMALL, threads=3, dtype=np.float64)
    usual = swin_forward.SwinPass._feed_forward

    def failing(self: swin_forward.SwinPass, *args: object) -> None:
        if threading.current_thread().name == "vitseek-forward":
            raise MemoryError("no room for the hidden layer")
        usual(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(swin_forward.SwinPass, "_feed_forward", failing)
    for images in (1, 6):
        with pytest.raises(MemoryError, match="no room for the hidden layer"):
            engine.forward(np.zeros((images, 3, 60, 75)))
    monkeypatch.undo()
    assert engine.forward(np.zeros((1, 3, 60, 75))).shape == (1, 35, 56)


def test_weights_are_copies_that_the_caller_may_throw_away(rng: np.random.Generator) -> None:
    params, pixels = random_swin_params(SMALL, rng), rng.standard_normal((1, 3, 60, 75))
    engine = SwinEngine(params, SMALL, dtype=np.float64)
    before, logits = engine.forward(pixels), engine.classify(pixels)
    for value in params.values():
        value[...] = np.nan
    np.testing.assert_array_equal(engine.forward(pixels), before)
    np.testing.assert_array_equal(engine.classify(pixels), logits)


def test_wrong_input_is_refused_before_any_thread_starts(rng: np.random.Generator) -> None:
    engine = SwinEngine(random_swin_params(SMALL, rng, np.float32), SMALL, threads=2)
    with pytest.raises(DTypeError, match="pixels are float64 and the parameters float32"):
        engine.forward(np.zeros((1, 3, 60, 75)))
    with pytest.raises(ShapeError, match="must have the shape"):
        engine.embed_pixels(np.zeros((3, 60, 75), dtype=np.float32))
    for pooling in ("cls", "cls+patch-mean", "embedding", "max"):
        with pytest.raises(ConfigError, match=re.escape(repr(pooling))):
            SwinEngine({}, SMALL, pooling)
