"""The plain Swin pass: its shapes, its edges, and that windows, shifts and padding do what the paper says."""

import dataclasses

import numpy as np
import pytest

from tests.models.random_swin import SMALL, random_swin_params
from vitseek.errors import ConfigError, DTypeError, ShapeError
from vitseek.models.swin import classify, forward_features, window_and_shift
from vitseek.models.tokens import pool, pooled_dim

ROUNDING = 1e-12


@pytest.fixture
def params(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return random_swin_params(SMALL, rng)


@pytest.mark.parametrize(
    ("size", "grid"),
    [((105, 105), (9, 9)), ((60, 99), (5, 9)), ((61, 98), (6, 9)), ((1, 1), (1, 1)), ((3, 200), (1, 17))],
)
def test_any_size_of_picture_works(size: tuple[int, int], grid: tuple[int, int], params, rng) -> None:
    tokens = forward_features(params, SMALL, rng.standard_normal((2, 3, *size)))
    assert tokens.grid == grid
    assert tokens.all.shape == (2, grid[0] * grid[1], SMALL.num_features)
    assert tokens.num_prefix_tokens == 0
    np.testing.assert_array_equal(tokens.patches, tokens.all)
    assert np.isfinite(tokens.all).all()


def test_every_stage_is_told_with_its_shape(params, rng) -> None:
    found = {}
    forward_features(params, SMALL, rng.standard_normal((1, 3, 60, 99)), stages=found.__setitem__)
    shapes = {name: value.shape[1:] for name, value in found.items()}
    assert shapes == {
        "embed": (20 * 33, 14), "block.0": (20 * 33, 14), "block.1": (20 * 33, 14),
        "merge.1": (10 * 17, 28), "block.2": (10 * 17, 28), "block.3": (10 * 17, 28), "block.4": (10 * 17, 28),
        "merge.2": (5 * 9, 56), "block.5": (5 * 9, 56), "block.6": (5 * 9, 56), "norm": (5 * 9, 56),
    }  # fmt: skip


def changed_tokens(params, config, pixels, row: int, column: int) -> np.ndarray:
    """Where the grid after two blocks of the first stage changes when one patch of the picture does."""
    patch, after = config.patch_size, []
    other = pixels.copy()
    other[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] += 1
    for one in (pixels, other):
        found = {}
        forward_features(params, config, one, stages=found.__setitem__)
        after.append((found["block.0"], found["block.1"]))
    rows, columns = (side // patch for side in pixels.shape[2:])
    return np.stack([
        np.abs(before - now).max(axis=(0, 2)).reshape(rows, columns) > 0 for before, now in zip(*after, strict=True)
    ])  # fmt: skip


def test_a_patch_reaches_its_window_and_after_the_shift_the_windows_around(params, rng) -> None:
    pixels = rng.standard_normal((1, 3, 15 * SMALL.patch_size, 20 * SMALL.patch_size))  # 3 x 4 windows of 5
    plain, shifted = changed_tokens(params, SMALL, pixels, 7, 11)
    rows, columns = np.nonzero(plain)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 9, 10, 14)
    # Windows start at 2, 7, 12, … after the shift by 2; those that touch 5 … 9 and 10 … 14 span 2 … 11 and 7 … 16.
    rows, columns = np.nonzero(shifted)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 11, 7, 16)


def test_opposite_edges_do_not_meet_through_the_cyclic_shift(params, rng) -> None:
    pixels = rng.standard_normal((1, 3, 15 * SMALL.patch_size, 20 * SMALL.patch_size))
    _, shifted = changed_tokens(params, SMALL, pixels, 0, 0)
    rows, columns = np.nonzero(shifted)
    assert (rows.max(), columns.max()) == (6, 6)  # not row 13 or 14, nor column 18 or 19


def test_a_grid_no_longer_than_the_window_is_one_window_and_not_shifted() -> None:
    assert window_and_shift(SMALL, 1, 11, 23) == (5, 2)
    assert window_and_shift(SMALL, 0, 11, 23) == (5, 0)
    assert window_and_shift(SMALL, 1, 5, 23) == (5, 0)
    assert window_and_shift(SMALL, 1, 23, 3) == (3, 0)


def test_attention_maps_are_over_the_whole_grid_and_zero_between_windows(params, rng) -> None:
    pixels = rng.standard_normal((2, 3, 60, 120))  # 20 x 40, then 10 x 20, then 5 x 10 tokens: no padding
    tokens = forward_features(params, SMALL, pixels, attention_blocks=(2, -1))
    assert list(tokens.attention) == [2, 6]
    for block, (rows, columns, heads) in {2: (10, 20, 4), 6: (5, 10, 7)}.items():
        weights = tokens.attention[block]
        assert weights.shape == (2, heads, rows * columns, rows * columns)
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=ROUNDING)
        window = np.add.outer(np.arange(rows) // 5 * 100, np.arange(columns) // 5).ravel()
        assert ((weights > 0) == (window[:, None] == window[None])).all()


def test_maps_of_padded_windows_leave_the_padding_out(params, rng) -> None:
    weights = forward_features(params, SMALL, rng.standard_normal((1, 3, 51, 33)), attention_blocks=(1,)).attention[1]
    assert weights.shape == (1, 2, 17 * 11, 17 * 11)
    sums = weights.sum(axis=-1).reshape(2, 17, 11)
    # Shifted windows begin at 2, 7, 12: the one over columns 7 to 11 has a column of padding; that over rows 17 to 19
    # holds rows 0 and 1 too, but masked from it.
    np.testing.assert_allclose(sums[:, :, :7], 1, atol=ROUNDING)
    assert (sums[:, :, 7:] < 1 - 1e-3).all()


def test_the_class_logits_come_from_the_mean_of_all_tokens(params, rng) -> None:
    tokens = forward_features(params, SMALL, rng.standard_normal((2, 3, 60, 75)))
    wanted = tokens.all.mean(axis=1) @ params["head.fc.weight"].T + params["head.fc.bias"]
    np.testing.assert_allclose(classify(params, SMALL, tokens), wanted, atol=ROUNDING)


def test_what_needs_a_class_token_says_so(params, rng) -> None:
    tokens = forward_features(params, SMALL, rng.standard_normal((1, 3, 60, 75)))
    with pytest.raises(ConfigError, match="no class token"):
        pool(tokens, "cls")
    for rule in ("cls", "cls+patch-mean", "embedding"):
        with pytest.raises(ConfigError, match="choose the pooling 'patch-mean' or 'gem'"):
            pooled_dim(SMALL, rule)
    assert pooled_dim(SMALL, "patch-mean") == pooled_dim(SMALL, "gem") == 56
    with pytest.raises(ConfigError, match="no classification head"):
        classify(params, dataclasses.replace(SMALL, num_classes=0), tokens)
    with pytest.raises(ConfigError, match="no block 7: the model has blocks 0 to 6"):
        forward_features(params, SMALL, np.zeros((1, 3, 60, 75)), attention_blocks=(7,))


def test_wrong_pixels_are_refused(params) -> None:
    with pytest.raises(ShapeError, match=r"\(batch, 3, height, width\), not \(3, 60, 75\)"):
        forward_features(params, SMALL, np.zeros((3, 60, 75)))
    with pytest.raises(ShapeError, match=r"not \(1, 3, 0, 75\)"):
        forward_features(params, SMALL, np.zeros((1, 3, 0, 75)))
    with pytest.raises(DTypeError, match="pixels are float32 and the parameters float64"):
        forward_features(params, SMALL, np.zeros((1, 3, 60, 75), np.float32))


def test_float32_stays_float32(params, rng) -> None:
    narrow = {name: value.astype(np.float32) for name, value in params.items()}
    tokens = forward_features(
        narrow, SMALL, rng.standard_normal((1, 3, 61, 98), dtype=np.float32), attention_blocks=(1,)
    )
    assert tokens.all.dtype == tokens.attention[1].dtype == np.float32
    assert classify(narrow, SMALL, tokens).dtype == np.float32
