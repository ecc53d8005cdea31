"""One pass over some images on folded weights: what a single thread, or a member of a team of threads, does.

Shapes: the tokens of all images of a pack are the rows of one matrix. R rows, N tokens an image, D width, F
feed-forward width, d = D / H head width.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.engines import kernels
from vitseek.engines.fold import FoldedBlock, FoldedMlp, FoldedNorm, FoldedWeights
from vitseek.models.config import ViTConfig
from vitseek.models.vit import Stages
from vitseek.nn.attention import SCORES_LIMIT
from vitseek.nn.layers import patchify

Array = NDArray[np.floating]


class Workspace:
    """Arrays that a pass writes to; kept between passes, because fresh memory costs a page fault every 4 KiB.

    ``prepare`` makes room; afterwards the attributes have exactly the rows of the pass. The members of a team share the
    rows and have a ``scratch`` each.
    """

    def __init__(self, config: ViTConfig, dtype: DTypeLike) -> None:
        self._config = config
        self._dtype = np.dtype(dtype)
        self._flat: dict[str, Array] = {}

    def prepare(self, rows: int, *, tokens: int, members: int) -> None:
        """Make room for ``rows`` rows, of images with ``tokens`` tokens, and ``members`` threads."""
        width, hidden = self._config.embed_dim, self._config.mlp_dim
        swiglu = self._config.mlp_layer == "swiglu"
        self.x = self._array("x", rows, width)
        self.normed = self._array("normed", rows, width)
        self.mixed = self._array("mixed", rows, width)
        self.hidden = self._array("hidden", rows, hidden)
        self.gates = self._array("gates", rows, 2 * hidden) if swiglu else self.hidden
        # A member may be one block ahead of another that still reads keys and values: two copies in turn.
        self.qkv = [self._array(f"qkv{turn}", rows, 3 * width) for turn in range(min(members, 2))]
        # The same numbers serve attention scores and GELU, one after the other.
        size = max(SCORES_LIMIT, tokens, 2 * max(kernels.BLOCK_NUMBERS, hidden))
        self.scratch = [self._array(f"scratch{member}", 1, size)[0] for member in range(members)]

    def _array(self, name: str, rows: int, columns: int) -> Array:
        flat = self._flat.get(name)
        if flat is None or flat.size < rows * columns:
            flat = self._flat[name] = np.empty(rows * columns, dtype=self._dtype)
        return flat[: rows * columns].reshape(rows, columns)


class Team:
    """Threads that share the rows of one image; they meet at the barrier."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size)

    def rows_of(self, member: int, rows: int) -> slice:
        """The part of ``rows`` that a member works on."""
        return slice(rows * member // self.size, rows * (member + 1) // self.size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """What to compute: the first ``wanted`` tokens of each image (all if ``None``), into ``out``.

    Parameters
    ----------
    positions : shape (rows * columns, D)
        For this grid, with everything constant that is added to a patch.
    rotation : shape (rows * columns, d / 2), complex
        How rotary positions turn the pairs of channels of each patch; ``None`` without such positions.
    tokens
        N.
    attention : block -> shape (B, H, N, N)
        Where to write attention weights.
    """

    config: ViTConfig
    weights: FoldedWeights
    pixels: Array
    positions: Array
    rotation: NDArray[np.complexfloating] | None
    tokens: int
    wanted: int | None
    out: Array
    attention: Mapping[int, Array]
    stages: Stages | None = None

    def run(self, images: range, space: Workspace, member: int, team: Team) -> None:
        """Do ``member``'s share of the pass over ``images``; ``space`` is prepared and shared by the team."""
        mine = team.rows_of(member, len(images) * self.tokens)
        scratch = space.scratch[member]
        self._embed(images, space.x, mine)
        if self.weights.pre_norm is not None:
            self._norm(self.weights.pre_norm, space.x[mine], space.x[mine])
        self._tell("embed", space.x)
        for index, block in enumerate(self.weights.blocks):
            shortcut = self.wanted is not None and index == self.config.depth - 1
            qkv = space.qkv[index % len(space.qkv)]
            self._keys_and_values(block, space, qkv, mine, with_query=not shortcut)
            if self.rotation is not None:
                self._rotate(images, qkv, mine, with_query=not shortcut)
            if team.size > 1:
                team.barrier.wait()  # now qkv holds the rows of all members
            if shortcut:
                if member == 0:
                    self._finish_first_tokens(images, block, space, qkv, scratch)
                return
            self._attend(images, index, qkv, space.mixed, mine, scratch)
            x, branch = space.x[mine], space.normed[mine]
            np.matmul(space.mixed[mine], block.proj_weight, out=branch)
            kernels.add_branch(x, branch, block.proj_bias)
            self._feed_forward(block.mlp, x, branch, space.hidden[mine], space.gates[mine], scratch)
            self._tell(f"block.{index}", space.x)
        out = self.out[images.start : images.stop].reshape(-1, self.config.embed_dim)[mine]
        self._norm(self.weights.norm, space.x[mine], out)
        self._tell("norm", self.out)

    def _tell(self, name: str, rows: Array) -> None:
        if self.stages is not None:
            self.stages(name, rows.reshape(-1, self.tokens, self.config.embed_dim).copy())

    def _images(self, images: range, rows: slice) -> Iterator[tuple[int, int, slice]]:
        """Yield for each image that has rows here its number, its first row and its tokens here."""
        for place, image in enumerate(images):
            base = place * self.tokens
            start, stop = max(rows.start - base, 0), min(rows.stop - base, self.tokens)
            if start < stop:
                yield image, base, slice(start, stop)

    def _embed(self, images: range, x: Array, mine: slice) -> None:
        prefix = self.config.num_prefix_tokens
        for image, base, here in self._images(images, mine):
            tokens = x[base : base + self.tokens]
            front = slice(here.start, min(here.stop, prefix))
            if front.start < front.stop:
                tokens[front] = self.weights.prefix[front]
            first, last = max(here.start - prefix, 0), here.stop - prefix
            if first < last:
                patches = patchify(self.pixels[image : image + 1], self.config.patch_size)[0, first:last]
                target = tokens[first + prefix : last + prefix]
                np.matmul(patches, self.weights.patch_weight, out=target)
                if self.weights.patch_norm is not None:
                    target += self.weights.patch_bias
                    self._norm(self.weights.patch_norm, target, target)
                target += self.positions[first:last]

    def _keys_and_values(
        self, block: FoldedBlock, space: Workspace, qkv: Array, mine: slice, *, with_query: bool
    ) -> None:
        """Write normed rows, and their (query,) key and value with bias to ``qkv``, shape (R, 3 D)."""
        self._normalise(space.x[mine], space.normed[mine])
        columns = slice(0 if with_query else self.config.embed_dim, None)
        target = qkv[mine, columns]
        np.matmul(space.normed[mine], block.qkv_weight[:, columns], out=target)
        kernels.add_bias(target, block.qkv_bias[columns])

    def _rotate(self, images: range, qkv: Array, mine: slice, *, with_query: bool) -> None:
        """Turn (queries and) keys of the patches among my rows by their places; prefix tokens have none."""
        assert self.rotation is not None
        prefix, heads = self.config.num_prefix_tokens, self.config.num_heads
        pairs = qkv.view(self.rotation.dtype).reshape(len(qkv), 3 * heads, -1)  # (R, 3 H, d / 2), a view
        for _, base, here in self._images(images, mine):
            first = max(here.start, prefix)
            rows, places = slice(base + first, base + here.stop), slice(first - prefix, here.stop - prefix)
            if first < here.stop:
                kernels.rotate(pairs[rows, 0 if with_query else heads : 2 * heads], self.rotation[places])

    def _attend(self, images: range, index: int, qkv: Array, mixed: Array, mine: slice, scratch: Array) -> None:
        kept = self.attention.get(index)
        for image, base, here in self._images(images, mine):
            rows = slice(base + here.start, base + here.stop)
            for head in range(self.config.num_heads):
                query, key, value = self._head(qkv, head)
                kernels.attend(
                    query[rows],
                    key[base : base + self.tokens],
                    value[base : base + self.tokens],
                    out=mixed[rows, self._columns(head)],
                    scores=scratch,
                    kept=None if kept is None else kept[image, head, here],
                )

    def _columns(self, head: int) -> slice:
        return slice(head * self.config.head_dim, (head + 1) * self.config.head_dim)

    def _head(self, qkv: Array, head: int) -> tuple[Array, Array, Array]:
        """Views on the query, key and value of a head, each of shape (R, d)."""
        width, columns = self.config.embed_dim, self._columns(head)
        query, key, value = (qkv[:, part * width : (part + 1) * width][:, columns] for part in range(3))
        return query, key, value

    def _feed_forward(
        self, mlp: FoldedMlp, x: Array, normed: Array, hidden: Array, gates: Array, scratch: Array
    ) -> None:
        """Add the feed-forward branch to ``x``; all arrays have the same rows."""
        self._normalise(x, normed)
        np.matmul(normed, mlp.up_weight, out=gates)
        if self.config.mlp_layer == "swiglu":
            kernels.bias_swiglu(gates, mlp.up_bias, out=hidden)
        else:
            kernels.ACTIVATIONS[self.config.mlp_layer](gates, mlp.up_bias, scratch=scratch)
        np.matmul(hidden, mlp.down_weight, out=normed)
        kernels.add_branch(x, normed, mlp.down_bias)

    def _finish_first_tokens(
        self, images: range, block: FoldedBlock, space: Workspace, qkv: Array, scratch: Array
    ) -> None:
        """The last block and the final norm for the first ``wanted`` tokens of each image alone."""
        assert self.wanted is not None
        width = self.config.embed_dim
        first = (np.arange(len(images))[:, None] * self.tokens + np.arange(self.wanted)).ravel()
        x, normed = space.x[first], space.normed[first]  # copies, (images * wanted, D)
        query = normed @ block.qkv_weight[:, :width]
        query += block.qkv_bias[:width]
        mixed = np.empty_like(x)
        for place in range(len(images)):
            rows = slice(place * self.wanted, (place + 1) * self.wanted)
            keys = slice(place * self.tokens, (place + 1) * self.tokens)
            for head in range(self.config.num_heads):
                columns = self._columns(head)
                _, key, value = self._head(qkv, head)
                kernels.attend(
                    query[rows, columns], key[keys], value[keys], out=mixed[rows, columns], scores=scratch
                )  # fmt: skip
        branch = mixed @ block.proj_weight
        kernels.add_branch(x, branch, block.proj_bias)
        count = len(first)
        self._feed_forward(block.mlp, x, branch, space.hidden[:count], space.gates[:count], scratch)
        self._norm(self.weights.norm, x, self.out[images.start : images.stop].reshape(count, width))

    def _normalise(self, x: Array, out: Array) -> None:
        kernels.normalise(x, eps=self.config.norm_eps, out=out, centre=self.config.norm_layer == "layernorm")

    def _norm(self, norm: FoldedNorm, x: Array, out: Array) -> None:
        self._normalise(x, out)
        out *= norm.weight
        if norm.bias is not None:
            out += norm.bias
