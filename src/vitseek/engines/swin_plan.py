"""Where the tokens of a Swin Transformer go: worked out once for a size of picture and a number of images.

Between blocks, tokens need not lie row by row: everything but attention and merging works on single tokens. So each
block leaves them in the order of its own windows, without padding, and the next one fetches them from there: padding,
shift, partition and their way back become one list of places.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from vitseek.models.swin import window_and_shift
from vitseek.models.swin_config import MERGED, SwinConfig
from vitseek.nn.windows import PADDING, merge_patches, window_slots

Indices = NDArray[np.intp]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class BlockPlan:
    """One block. Windows of all images follow each other, and so do their tokens; padding is left out.

    Parameters
    ----------
    window, shift
        In tokens.
    source : shape (tokens of all images,)
        Where each token lies in the order that the step before has left; ``None`` if it stays where it is.
    starts : shape (windows + 1,)
        The first token of each window.
    slots : shape (tokens of all images,)
        The place of each token among windows * window² places; ``None`` if there is no padding.
    kinds : shape (windows,)
        Which mask a window has; see :func:`vitseek.engines.swin_fold.window_bias`.
    order : shape (rows * columns,)
        Where the tokens of the first image, row by row, lie behind this block.
    """

    window: int
    shift: int
    source: Indices | None
    starts: Indices
    slots: Indices | None
    kinds: Indices
    order: Indices

    @property
    def windows(self) -> int:
        """Of all images."""
        return len(self.kinds)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class StagePlan:
    """One stage: its grid, the merging before it and its blocks.

    Parameters
    ----------
    merged : shape (tokens of all images * 4,)
        Where the four tokens to merge lie; empty for the first stage.
    missing
        The places in ``merged`` beyond an odd edge: these tokens are zeros.
    """

    rows: int
    columns: int
    merged: Indices
    missing: Indices
    blocks: tuple[BlockPlan, ...]


def plan(config: SwinConfig, rows: int, columns: int, images: int) -> tuple[StagePlan, ...]:
    """Return the way of the tokens of ``images`` images with a grid of ``rows`` x ``columns`` patches."""
    stages: list[StagePlan] = []
    order = np.arange(rows * columns)  # where the tokens of one image, row by row, lie now
    for stage, depth in enumerate(config.depths):
        merged = missing = np.empty(0, dtype=np.intp)
        if stage:
            squares = _squares(rows, columns)
            missing = np.flatnonzero(np.tile(squares, images) == PADDING)
            merged = _of_all(order[squares], images, rows * columns)
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
            order = np.arange(rows * columns)
        blocks = []
        for place in range(depth):
            blocks.append(_block(config, place, rows, columns, images, order))
            order = blocks[-1].order
        stages.append(StagePlan(rows, columns, merged, missing, tuple(blocks)))
    return tuple(stages)


def _block(config: SwinConfig, place: int, rows: int, columns: int, images: int, before: Indices) -> BlockPlan:
    window, shift = window_and_shift(config, place, rows, columns)
    slots = window_slots(rows, columns, window, shift)  # (windows of an image, w²)
    filled = np.flatnonzero(slots != PADDING)
    tokens = slots.ravel()[filled]  # of an image, in the order of the windows
    source = before[tokens]
    after = np.empty_like(before)
    after[tokens] = np.arange(len(tokens))
    counts = np.tile((slots != PADDING).sum(axis=1), images)
    return BlockPlan(
        window=window,
        shift=shift,
        source=None if (source == np.arange(len(source))).all() else _of_all(source, images, len(tokens)),
        starts=np.concatenate([[0], np.cumsum(counts)]),
        slots=None if len(filled) == slots.size else _of_all(filled, images, slots.size),
        kinds=np.tile(_kinds(-(-rows // window), -(-columns // window), shift), images),
        order=after,
    )


def _kinds(rows: int, columns: int, shift: int) -> Indices:
    """The kind of each of rows x columns windows: 1 in the last column, 2 in the last row, 3 in the corner."""
    if not shift:
        return np.zeros(rows * columns, dtype=np.intp)
    kinds: Indices = np.add.outer(2 * (np.arange(rows) == rows - 1), np.arange(columns) == columns - 1).ravel()
    return kinds


def _squares(rows: int, columns: int) -> Indices:
    """The four tokens of each square to merge, in :func:`merge_patches`' order, or PADDING; flat."""
    numbers = np.arange(1, rows * columns + 1, dtype=np.float64).reshape(1, rows, columns, 1)
    return merge_patches(numbers).reshape(-1, MERGED).astype(np.intp).ravel() + PADDING


def _of_all(places: Indices, images: int, stride: int) -> Indices:
    """The same places for every image, each of which begins ``stride`` behind the one before."""
    return np.add.outer(np.arange(images) * stride, places).ravel()
