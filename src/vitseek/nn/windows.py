"""Windows of a grid of tokens: cut, shifted, masked and joined again, as in Swin (Liu et al., 2021, section 3.2).

Grids have the shape (B, rows, columns, D). A window is ``window`` x ``window`` tokens, flat and row by row.

Source of every quirk: microsoft/Swin-Transformer, models/swin_transformer.py, and transformers' ``SwinModel``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.errors import ShapeError

Array = NDArray[np.floating]
Indices = NDArray[np.intp]

MASKED = -100.0  # added to a score that must not count; theirs, and enough: exp(-100) is below float32's rounding
PADDING = -1  # in window_slots: no token of the grid


def pad_grid(grid: Array, multiple: int) -> Array:
    """Add rows of zeros at the bottom and columns at the right until both sides are multiples.

    Parameters
    ----------
    grid : shape (B, rows, columns, D)

    Returns
    -------
    shape (B, rows', columns', D); ``grid`` itself where nothing is missing
    """
    below, right = (-side % multiple for side in grid.shape[1:3])
    return np.pad(grid, ((0, 0), (0, below), (0, right), (0, 0))) if below or right else grid


def partition(grid: Array, window: int) -> Array:
    """Cut a grid into windows, row by row; both sides are multiples of the window.

    Returns
    -------
    shape (B * windows, window * window, D), the windows of an image one after the other

    Raises
    ------
    ShapeError
        If a side is not a multiple.
    """
    batch, rows, columns, width = grid.shape
    if rows % window or columns % window:
        raise ShapeError(f"a grid of {rows} x {columns} tokens does not divide into windows of {window}: pad it first")
    split = grid.reshape(batch, rows // window, window, columns // window, window, width)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(-1, window * window, width)


def reverse(windows: Array, window: int, rows: int, columns: int) -> Array:
    """Join windows to the grid that :func:`partition` cut, shape (B, rows, columns, D)."""
    width = windows.shape[-1]
    split = windows.reshape(-1, rows // window, columns // window, window, window, width)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, width)


def cyclic_shift(grid: Array, shift: int) -> Array:
    """Move all tokens ``shift`` rows up and columns left; what leaves comes in again on the other side.

    A negative shift moves them back.
    """
    return np.roll(grid, (-shift, -shift), axis=(1, 2)) if shift else grid


def shift_mask(rows: int, columns: int, window: int, shift: int, dtype: DTypeLike = np.float64) -> Array:
    """Return what is added to the scores of a shifted grid, so that only tokens that were neighbours see each other.

    After the shift, the last window of a row holds tokens from both ends of it: a pair of tokens from unlike regions
    gets :data:`MASKED`, every other pair 0.

    Returns
    -------
    shape (windows, window * window, window * window)
    """
    regions = [
        (np.arange(side) >= side - window).astype(np.intp) + (np.arange(side) >= side - shift)
        for side in (rows, columns)
    ]
    names = (3 * regions[0][:, None] + regions[1]).astype(np.float64)[None, :, :, None]
    region = partition(names, window)[..., 0]  # (windows, window * window)
    unlike = region[:, :, None] != region[:, None, :]
    return np.where(unlike, MASKED, 0.0).astype(dtype)


def relative_position_index(window: int, trained: int | None = None) -> Indices:
    """Return for each pair of tokens of a window the row of the bias table that belongs to their distance.

    Parameters
    ----------
    trained
        The window that the table is for, at least ``window``, which is its default: a smaller window has only the
        smaller distances.

    Returns
    -------
    shape (window * window, window * window), query before key; the table has (2 * trained - 1)² rows, one for each
    pair of vertical and horizontal distances
    """
    trained = trained or window
    places = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    distance = places[:, :, None] - places[:, None, :] + (trained - 1)  # (2, w², w²), from 0 on
    index: Indices = distance[0] * (2 * trained - 1) + distance[1]
    return index


def relative_position_bias(table: Array, window: int, trained: int | None = None) -> Array:
    """Return the bias of each head for each pair of tokens, shape (H, window * window, window * window).

    Parameters
    ----------
    table : shape ((2 * trained - 1)², H)
    """
    index = relative_position_index(window, trained)
    return np.ascontiguousarray(table[index].transpose(2, 0, 1))


def merge_patches(grid: Array) -> Array:
    """Put each square of 2 x 2 tokens into one token of four times the width; an odd side gets zeros first.

    Within the square the order goes down before it goes right.

    Returns
    -------
    shape (B, ceil(rows / 2), ceil(columns / 2), 4 D)
    """
    even = pad_grid(grid, 2)
    batch, rows, columns, width = even.shape
    split = even.reshape(batch, rows // 2, 2, columns // 2, 2, width)
    return split.transpose(0, 1, 3, 4, 2, 5).reshape(batch, rows // 2, columns // 2, 4 * width)


def window_slots(rows: int, columns: int, window: int, shift: int) -> Indices:
    """Return which token of the grid lies where after padding, shift and partition: the three in one table.

    Returns
    -------
    shape (windows, window * window); tokens are numbered row by row, and :data:`PADDING` stands for none
    """
    numbers = np.arange(1, rows * columns + 1, dtype=np.float64).reshape(1, rows, columns, 1)
    windows = partition(cyclic_shift(pad_grid(numbers, window), shift), window)[..., 0]
    return windows.astype(np.intp) + PADDING
