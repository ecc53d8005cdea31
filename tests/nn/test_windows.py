"""Windows: cut, shifted, masked and joined, each against the definition written out in loops."""

import numpy as np
import pytest

from vitseek.errors import ShapeError
from vitseek.nn.windows import (
    MASKED,
    PADDING,
    cyclic_shift,
    merge_patches,
    pad_grid,
    partition,
    relative_position_bias,
    relative_position_index,
    reverse,
    shift_mask,
    window_slots,
)

BATCH, ROWS, COLUMNS, WIDTH, WINDOW = 2, 15, 35, 7, 5  # 3 x 7 windows
SHIFT = 2


@pytest.fixture
def grid(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((BATCH, ROWS, COLUMNS, WIDTH))


def test_windows_are_blocks_of_the_grid_row_by_row(grid: np.ndarray) -> None:
    windows = partition(grid, WINDOW)
    assert windows.shape == (BATCH * 3 * 7, WINDOW * WINDOW, WIDTH)
    for image in range(BATCH):
        for row in range(3):
            for column in range(7):
                block = grid[image, row * 5 : row * 5 + 5, column * 5 : column * 5 + 5]
                np.testing.assert_array_equal(windows[image * 21 + row * 7 + column], block.reshape(25, WIDTH))


def test_joining_undoes_cutting(grid: np.ndarray) -> None:
    np.testing.assert_array_equal(reverse(partition(grid, WINDOW), WINDOW, ROWS, COLUMNS), grid)


def test_a_grid_that_does_not_divide_is_refused(grid: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="15 x 35 tokens does not divide into windows of 7"):
        partition(grid, 7)


def test_padding_adds_zeros_at_the_bottom_and_the_right(grid: np.ndarray) -> None:
    padded = pad_grid(grid, 13)
    assert padded.shape == (BATCH, 26, 39, WIDTH)
    np.testing.assert_array_equal(padded[:, :ROWS, :COLUMNS], grid)
    assert not padded[:, ROWS:].any()
    assert not padded[:, :, COLUMNS:].any()
    assert pad_grid(grid, WINDOW) is grid


def test_a_shift_moves_tokens_up_and_left_and_back(grid: np.ndarray) -> None:
    shifted = cyclic_shift(grid, SHIFT)
    for row, column in ((0, 0), (11, 3), (14, 34)):
        moved = shifted[:, (row - SHIFT) % ROWS, (column - SHIFT) % COLUMNS]
        np.testing.assert_array_equal(moved, grid[:, row, column])
    np.testing.assert_array_equal(cyclic_shift(shifted, -SHIFT), grid)
    assert cyclic_shift(grid, 0) is grid


def test_after_a_shift_only_tokens_that_were_near_see_each_other() -> None:
    mask = shift_mask(ROWS, COLUMNS, WINDOW, SHIFT)
    places = np.stack(np.meshgrid(np.arange(ROWS), np.arange(COLUMNS), indexing="ij"), axis=-1)[None]
    was = partition(cyclic_shift(places, SHIFT), WINDOW)  # (windows, 25, 2): where each token came from
    assert mask.shape == (21, 25, 25)
    for window in range(21):
        for query in range(25):
            for key in range(25):
                apart = np.abs(was[window, query] - was[window, key]).max()
                assert mask[window, query, key] == (0 if apart < WINDOW else MASKED)
    assert set(np.unique(mask)) == {0.0, MASKED}


def test_bias_of_a_pair_depends_on_its_distance_alone(rng: np.random.Generator) -> None:
    heads = 3
    table = rng.standard_normal(((2 * WINDOW - 1) ** 2, heads))
    bias = relative_position_bias(table, WINDOW)
    assert bias.shape == (heads, 25, 25)
    for query in range(25):
        for key in range(25):
            down, right = query // 5 - key // 5, query % 5 - key % 5
            row = (down + WINDOW - 1) * (2 * WINDOW - 1) + right + WINDOW - 1
            np.testing.assert_array_equal(bias[:, query, key], table[row])


def test_a_smaller_window_takes_the_same_distances_from_a_larger_table(rng: np.random.Generator) -> None:
    table = rng.standard_normal(((2 * 7 - 1) ** 2, 3))
    whole = relative_position_bias(table, 7).reshape(3, 7, 7, 7, 7)
    part = relative_position_bias(table, 3, 7).reshape(3, 3, 3, 3, 3)
    np.testing.assert_array_equal(part, whole[:, :3, :3, :3, :3])
    assert len(np.unique(relative_position_index(3, 7))) == 25


@pytest.mark.parametrize(("rows", "columns"), [(6, 10), (5, 11), (1, 3)])
def test_merging_puts_a_square_into_one_token_down_before_right(
    rows: int, columns: int, rng: np.random.Generator
) -> None:
    grid = rng.standard_normal((BATCH, rows, columns, WIDTH))
    merged = merge_patches(grid)
    assert merged.shape == (BATCH, (rows + 1) // 2, (columns + 1) // 2, 4 * WIDTH)
    for row in range(merged.shape[1]):
        for column in range(merged.shape[2]):
            for place, (down, right) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
                y, x = 2 * row + down, 2 * column + right
                wanted = grid[:, y, x] if y < rows and x < columns else np.zeros((BATCH, WIDTH))
                found = merged[:, row, column, place * WIDTH : (place + 1) * WIDTH]
                np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shift", [0, SHIFT])
@pytest.mark.parametrize(("rows", "columns"), [(15, 35), (13, 17), (5, 11)])
def test_slots_are_padding_shift_and_partition_in_one(
    rows: int, columns: int, shift: int, rng: np.random.Generator
) -> None:
    grid = rng.standard_normal((1, rows, columns, WIDTH))
    wanted = partition(cyclic_shift(pad_grid(grid, WINDOW), shift), WINDOW)
    slots = window_slots(rows, columns, WINDOW, shift)
    tokens = np.concatenate([grid.reshape(-1, WIDTH), np.zeros((1, WIDTH))])  # PADDING is the last
    np.testing.assert_array_equal(tokens[slots], wanted)
    assert sorted(slots[slots != PADDING]) == list(range(rows * columns))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_stay_what_they_are(dtype: type, rng: np.random.Generator) -> None:
    grid = rng.standard_normal((1, 7, 11, 3)).astype(dtype)
    assert merge_patches(grid).dtype == dtype
    assert partition(pad_grid(grid, WINDOW), WINDOW).dtype == dtype
    assert shift_mask(10, 15, WINDOW, SHIFT, dtype).dtype == dtype
    assert relative_position_bias(np.ones((81, 2), dtype), WINDOW).dtype == dtype
