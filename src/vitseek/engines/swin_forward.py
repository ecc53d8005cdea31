"""One pass of a Swin Transformer over some images on folded weights: what a thread, or a member of a team, does.

Shapes: the tokens of all images of a pack are the rows of one matrix, in the order that
:mod:`vitseek.engines.swin_plan` says. R rows, D width of the stage, F feed-forward width, H heads, d = D / H,
W windows, w tokens along a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.engines import kernels
from vitseek.engines.crew import Team
from vitseek.engines.swin_fold import FoldedSwin, FoldedSwinBlock
from vitseek.engines.swin_plan import BlockPlan, StagePlan
from vitseek.models.swin import MERGE_EPS, Stages
from vitseek.models.swin_config import MERGED, SwinConfig
from vitseek.nn.attention import SCORES_LIMIT
from vitseek.nn.layers import patchify

Array = NDArray[np.floating]

# Rows that go through a block together: so few that what one layer writes the next finds in the cache, so many that
# the matrix products are fast. See `python -m benchmarks.families --swin-rows`.
GROUP_ROWS = 512


class SwinWorkspace:
    """Arrays that a pass writes to, kept between passes.

    The members of a team share the two matrices of tokens, which :meth:`prepare` makes beforehand; all others are named
    after their member.
    """

    def __init__(self, config: SwinConfig, dtype: DTypeLike) -> None:
        self._config = config
        self._dtype = np.dtype(dtype)
        self._flat: dict[str, Array] = {}

    def prepare(self, plans: Sequence[StagePlan], images: int) -> None:
        """Make room for the tokens of ``images`` images in every stage."""
        for stage, plan in enumerate(plans):
            for name in ("x0", "x1"):
                self.rows(name, images * plan.rows * plan.columns, self._config.width(stage))

    def rows(self, name: str, rows: int, columns: int) -> Array:
        """A matrix of a name; what it held before is lost when its shape changes."""
        flat = self._flat.get(name)
        if flat is None or flat.size < rows * columns:
            flat = self._flat[name] = np.empty(rows * columns, dtype=self._dtype)
        return flat[: rows * columns].reshape(rows, columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class SwinPass:
    """What to compute for which pixels.

    Parameters
    ----------
    pixels : shape (B, 3, height, width)
        Whole patches already.
    plans
        For a number of images.
    biases
        For a block and its plan, what is added to the scores, shape (kinds, H, w², w²).
    out : shape (B, tokens, D)
        Where the tokens go, row by row.
    attention : block -> shape (B, windows of an image, H, w², w²)
        Where to write attention weights.
    """

    config: SwinConfig
    weights: FoldedSwin
    pixels: Array
    plans: Callable[[int], tuple[StagePlan, ...]]
    biases: Callable[[int, int, int], Array]
    out: Array
    attention: Mapping[int, Array] = field(default_factory=dict)
    stages: Stages | None = None

    def prepare(self, space: SwinWorkspace, images: int, members: int) -> None:
        """Make room for so many images; what belongs to a member is made when it is needed."""
        space.prepare(self.plans(images), images)

    def run(self, images: range, space: SwinWorkspace, member: int, team: Team) -> None:
        """Do ``member``'s share of the pass over ``images``; ``space`` is shared by the team."""
        plans = self.plans(len(images))
        x = space.rows("x0", len(images) * plans[0].rows * plans[0].columns, self.config.embed_dim)
        self._embed(images, x, team.rows_of(member, len(x)))
        self._tell("embed", x, len(images))
        turn, index = 0, 0
        for stage, plan in enumerate(plans):
            if stage:
                team.meet()
                turn = 1 - turn
                x = self._merge(stage, plan, x, f"x{turn}", space, team, member)
                self._tell(f"merge.{stage}", x, len(images))
            for block in plan.blocks:
                team.meet()  # other members' rows are needed from here on
                before = x
                if block.source is not None:
                    turn = 1 - turn
                    x = space.rows(f"x{turn}", *before.shape)
                self._block(index, images, block, before, x, space, team, member)
                self._tell(f"block.{index}", x, len(images), block)
                index += 1
        team.meet()
        self._finish(images, plans[-1].blocks[-1], x, team, member)
        self._tell("norm", self.out[images.start : images.stop].reshape(-1, self.out.shape[2]), len(images))

    def _tell(self, name: str, x: Array, images: int, block: BlockPlan | None = None) -> None:
        if self.stages is not None:
            tokens = x.reshape(images, -1, x.shape[-1])
            self.stages(name, tokens.copy() if block is None else tokens[:, block.order])

    def _embed(self, images: range, x: Array, mine: slice) -> None:
        tokens = len(x) // len(images)
        weight, (scale, shift) = self.weights.patch_weight, self.weights.patch_norm
        for place, image in enumerate(images):
            start, stop = max(mine.start - place * tokens, 0), min(mine.stop - place * tokens, tokens)
            if start < stop:
                patches = patchify(self.pixels[image : image + 1], self.config.patch_size)[0, start:stop]
                target = x[place * tokens + start : place * tokens + stop]
                np.matmul(patches, weight, out=target)
                kernels.add_bias(target, self.weights.patch_bias)
                kernels.normalise(target, eps=MERGE_EPS, out=target)
                _scale_and_shift(target, scale, shift)

    def _merge(
        self, stage: int, plan: StagePlan, x: Array, name: str, space: SwinWorkspace, team: Team, member: int
    ) -> Array:
        """Put 2 x 2 tokens into one, row by row, in the matrix ``name``."""
        weight, bias = self.weights.merges[stage - 1]
        width = x.shape[1]
        merged = space.rows(name, len(plan.merged) // MERGED, weight.shape[1])
        for rows in _groups(team.rows_of(member, len(merged)), GROUP_ROWS):
            squares = space.rows(f"hidden{member}", rows.stop - rows.start, MERGED * width)
            flat = squares.reshape(-1, width)
            first, last = MERGED * rows.start, MERGED * rows.stop
            np.take(x, plan.merged[first:last], axis=0, out=flat, mode="clip")
            beyond = slice(*np.searchsorted(plan.missing, (first, last)))
            flat[plan.missing[beyond] - first] = 0
            kernels.normalise(squares, eps=MERGE_EPS, out=squares)
            np.matmul(squares, weight, out=merged[rows])
            kernels.add_bias(merged[rows], bias)
        return merged

    def _block(
        self, index: int, images: range, plan: BlockPlan, before: Array, x: Array, space: SwinWorkspace,
        team: Team, member: int,
    ) -> None:  # fmt: skip
        """Take the block's tokens from ``before`` and leave them in ``x``, which is ``before`` where they lie right."""
        block = self.weights.blocks[index]
        windows = team.rows_of(member, plan.windows)
        # Too few windows for the team: at least the feed-forward is shared, by rows.
        apart = plan.windows % team.size != 0
        for group in _window_groups(plan, windows):
            rows = slice(int(plan.starts[group.start]), int(plan.starts[group.stop]))
            self._attend(index, images, block, plan, group, rows, before, x, space, member)
            if not apart:
                self._feed_forward(block, x[rows], space, member)
        if apart:
            team.meet()
            for rows in _groups(team.rows_of(member, len(x)), GROUP_ROWS):
                self._feed_forward(block, x[rows], space, member)

    def _attend(
        self, index: int, images: range, block: FoldedSwinBlock, plan: BlockPlan, group: slice, rows: slice,
        before: Array, x: Array, space: SwinWorkspace, member: int,
    ) -> None:  # fmt: skip
        """Add to the tokens of a group of windows what they see in their window."""
        here, count, width = x[rows], rows.stop - rows.start, x.shape[1]
        if plan.source is not None:
            np.take(before, plan.source[rows], axis=0, out=here, mode="clip")
        normed = space.rows(f"normed{member}", count, width)
        kernels.normalise(here, eps=self.config.norm_eps, out=normed)
        qkv = space.rows(f"hidden{member}", count, 3 * width)
        np.matmul(normed, block.qkv_weight, out=qkv)
        kernels.add_bias(qkv, block.qkv_bias)
        places = (group.stop - group.start) * plan.window**2
        mixed = space.rows(f"mixed{member}", places, width)
        if plan.slots is None:
            self._attend_windows(index, images, plan, group, qkv, mixed, space, member)
        else:
            slots = plan.slots[rows] - group.start * plan.window**2
            padded = space.rows(f"padded{member}", places, 3 * width)
            padded[...] = block.qkv_of_padding
            padded[slots] = qkv
            self._attend_windows(index, images, plan, group, padded, mixed, space, member)
            mixed = np.take(mixed, slots, axis=0, out=space.rows(f"kept{member}", count, width), mode="clip")
        np.matmul(mixed, block.proj_weight, out=normed)
        kernels.add_branch(here, normed, block.proj_bias)

    def _attend_windows(
        self, index: int, images: range, plan: BlockPlan, group: slice, qkv: Array, mixed: Array,
        space: SwinWorkspace, member: int,
    ) -> None:  # fmt: skip
        """Write softmax(Q Kᵀ + bias) V of every window and head, from (R, 3 D) to (R, D)."""
        area = plan.window**2
        width = mixed.shape[1]
        heads = self.weights.blocks[index].bias_table.shape[1]
        bias = self.biases(index, plan.window, plan.shift)  # (kinds, H, w², w²)
        split = qkv.reshape(-1, area, 3, heads, width // heads)
        query, key, value = (split[:, :, part].transpose(0, 2, 1, 3) for part in range(3))  # (W, H, w², d)
        out = mixed.reshape(-1, area, heads, width // heads).transpose(0, 2, 1, 3)  # (W, H, w², d)
        kinds, kept = plan.kinds[group], self.attention.get(index)
        scratch = space.rows(f"scores{member}", 1, max(SCORES_LIMIT, area * area))[0]
        ones = np.ones(area, dtype=mixed.dtype)
        for windows, some in _score_blocks(len(kinds), heads, area):
            shape = (windows.stop - windows.start, some.stop - some.start, area, area)
            scores = scratch[: shape[0] * shape[1] * area * area].reshape(shape)
            np.matmul(query[windows, some], key[windows, some].swapaxes(-1, -2), out=scores)
            for run, kind in _runs(kinds[windows]):
                scores[run] += bias[kind, some]
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            total = (scores @ ones)[..., None]
            result = out[windows, some]
            np.matmul(scores, value[windows, some], out=result)
            result /= total
            if kept is not None:
                by_window = kept[images.start : images.stop].reshape(-1, *kept.shape[2:])  # a view
                first = group.start + windows.start
                by_window[first : first + shape[0], some] = scores / total

    def _feed_forward(self, block: FoldedSwinBlock, x: Array, space: SwinWorkspace, member: int) -> None:
        normed = space.rows(f"normed{member}", *x.shape)
        kernels.normalise(x, eps=self.config.norm_eps, out=normed)
        hidden = space.rows(f"hidden{member}", len(x), block.up_weight.shape[1])
        np.matmul(normed, block.up_weight, out=hidden)
        size = 2 * max(kernels.BLOCK_NUMBERS, hidden.shape[1])
        kernels.bias_gelu(hidden, block.up_bias, scratch=space.rows(f"scores{member}", 1, size)[0])
        np.matmul(hidden, block.down_weight, out=normed)
        kernels.add_branch(x, normed, block.down_bias)

    def _finish(self, images: range, last: BlockPlan, x: Array, team: Team, member: int) -> None:
        """The final norm, and the way back to the order of the picture."""
        tokens = len(last.order)
        mine = team.rows_of(member, tokens)
        for place, image in enumerate(images):
            target = self.out[image, mine]
            np.take(x[place * tokens : (place + 1) * tokens], last.order[mine], axis=0, out=target, mode="clip")
            kernels.normalise(target, eps=self.config.norm_eps, out=target)
            _scale_and_shift(target, *self.weights.norm)


def _scale_and_shift(x: Array, scale: Array, shift: Array) -> None:
    for rows in kernels.blocks_of(*x.shape):
        x[rows] *= scale
        x[rows] += shift


def _groups(rows: slice, step: int) -> Iterator[slice]:
    for start in range(rows.start, rows.stop, step):
        yield slice(start, min(start + step, rows.stop))


def _window_groups(plan: BlockPlan, windows: slice) -> Iterator[slice]:
    """Cut windows into groups of about :data:`GROUP_ROWS` places, as alike as it goes (one window at least)."""
    count = windows.stop - windows.start
    groups = max(1, min(count, round(count * plan.window**2 / GROUP_ROWS)))
    for group in range(groups if count else 0):
        yield slice(windows.start + count * group // groups, windows.start + count * (group + 1) // groups)


def _score_blocks(windows: int, heads: int, area: int) -> Iterator[tuple[slice, slice]]:
    """Cut windows and heads so that a block's scores fit :data:`SCORES_LIMIT` (one head of one window at least)."""
    fitting = max(1, SCORES_LIMIT // area**2)  # heads of windows
    if fitting >= heads:
        for some in _groups(slice(0, windows), fitting // heads):
            yield some, slice(0, heads)
    else:
        for window in range(windows):
            for some in _groups(slice(0, heads), fitting):
                yield slice(window, window + 1), some


def _runs(kinds: NDArray[np.intp]) -> Iterator[tuple[slice, int]]:
    """Neighbours of the same kind."""
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
    for start, stop in pairwise(edges):
        yield slice(start, stop), int(kinds[start])
