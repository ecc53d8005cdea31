"""One pass over some images on folded weights: what a single thread, or a member of a team of threads, does.

Shapes: the tokens of all images of a pack are the rows of one matrix. R rows, N tokens an image, D width, F
feed-forward width, d = D / H head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.engines import kernels
from vitseek.engines.crew import Team
from vitseek.engines.fold import FoldedBlock, FoldedMlp, FoldedNorm, FoldedWeights
from vitseek.models.config import ViTConfig
from vitseek.models.vit import Stages
from vitseek.nn.activations import softmax
from vitseek.nn.attention import SCORES_LIMIT
from vitseek.nn.layers import patchify

Array = NDArray[np.floating]


class Workspace:
    """Arrays that a pass writes to, kept between passes.

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
        self.branch = self.normed if members == 1 else self._array("branch", rows, width)  # see Pass.run
        self.qkv = self._array("qkv", rows, 3 * width)
        # The same numbers serve attention scores and GELU, one after the other.
        size = max(SCORES_LIMIT, tokens, 2 * max(kernels.BLOCK_NUMBERS, hidden))
        self.scratch = [self._array(f"scratch{member}", 1, size)[0] for member in range(members)]

    def _array(self, name: str, rows: int, columns: int) -> Array:
        flat = self._flat.get(name)
        if flat is None or flat.size < rows * columns:
            flat = self._flat[name] = np.empty(rows * columns, dtype=self._dtype)
        return flat[: rows * columns].reshape(rows, columns)


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

    def prepare(self, space: Workspace, images: int, members: int) -> None:
        """Make room for so many images, and threads that share them."""
        space.prepare(images * self.tokens, tokens=self.tokens, members=members)

    def run(self, images: range, space: Workspace, member: int, team: Team) -> None:
        """Do ``member``'s share of the pass over ``images``; ``space`` is prepared and shared by the team."""
        x, normed, width = space.x, space.normed, self.config.embed_dim
        mine, columns = team.rows_of(member, len(x)), team.columns_of(member, width)
        self._embed(images, x, mine)
        if self.weights.pre_norm is not None:
            self._norm(self.weights.pre_norm, x[mine], x[mine])
        self._tell("embed", x)
        for index, block in enumerate(self.weights.blocks):
            self._normalise(x[mine], normed[mine])
            team.meet()  # normed has all rows
            if self.wanted is not None and index == self.config.depth - 1:
                self._finish_first_tokens(images, block, space, member, team)
                return
            self._queries_keys_values(images, block, space, member, team)
            self._attend(images, index, space, member, team)
            team.meet()  # mixed has all columns
            np.matmul(space.mixed, block.proj_weight[:, columns], out=space.branch[:, columns])
            kernels.add_branch(x[:, columns], space.branch[:, columns], block.proj_bias[columns])
            team.meet()  # x has all columns
            self._normalise(x[mine], normed[mine])
            team.meet()
            self._hidden(block.mlp, normed, space.hidden, space.gates, team.columns_of(member, self.config.mlp_dim),
                         space.scratch[member])  # fmt: skip
            team.meet()  # hidden has all columns
            np.matmul(space.hidden, block.mlp.down_weight[:, columns], out=space.branch[:, columns])
            kernels.add_branch(x[:, columns], space.branch[:, columns], block.mlp.down_bias[columns])
            team.meet()
            self._tell(f"block.{index}", x)
        out = self.out[images.start : images.stop].reshape(-1, width)[mine]
        self._norm(self.weights.norm, x[mine], out)
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

    def _queries_keys_values(
        self, images: range, block: FoldedBlock, space: Workspace, member: int, team: Team
    ) -> None:
        """Write queries, keys and values of the normed rows to ``space.qkv``; all of them are there at the end."""
        columns = team.columns_of(member, 3 * self.config.embed_dim)
        np.matmul(space.normed, block.qkv_weight[:, columns], out=space.qkv[:, columns])
        biased = slice(columns.start, min(columns.stop, len(block.qk_bias)))
        if biased.start < biased.stop:
            kernels.add_bias(space.qkv[:, biased], block.qk_bias[biased])
        team.meet()
        if self.rotation is not None:
            self._rotate(images, space.qkv, team.rows_of(member, len(space.qkv)), with_query=True)
            team.meet()

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

    def _attend(self, images: range, index: int, space: Workspace, member: int, team: Team) -> None:
        """Write what my heads mix to ``space.mixed``; with more members than heads, heads are cut by rows."""
        kept = self.attention.get(index)
        cuts = -(-team.size // self.config.num_heads)
        units = team.rows_of(member, self.config.num_heads * cuts)
        for place, image in enumerate(images):
            keys = slice(place * self.tokens, (place + 1) * self.tokens)
            for head, cut in (divmod(unit, cuts) for unit in range(units.start, units.stop)):
                here = slice(self.tokens * cut // cuts, self.tokens * (cut + 1) // cuts)
                rows = slice(keys.start + here.start, keys.start + here.stop)
                query, key, value = self._head(space.qkv, head)
                kernels.attend(
                    query[rows],
                    key[keys],
                    value[keys],
                    out=space.mixed[rows, self._columns(head)],
                    scores=space.scratch[member],
                    kept=None if kept is None else kept[image, head, here],
                )

    def _columns(self, head: int) -> slice:
        return slice(head * self.config.head_dim, (head + 1) * self.config.head_dim)

    def _head(self, qkv: Array, head: int) -> tuple[Array, Array, Array]:
        """Views on the query, key and value of a head, each of shape (R, d)."""
        width, columns = self.config.embed_dim, self._columns(head)
        query, key, value = (qkv[:, part * width : (part + 1) * width][:, columns] for part in range(3))
        return query, key, value

    def _hidden(
        self, mlp: FoldedMlp, normed: Array, hidden: Array, gates: Array, columns: slice, scratch: Array
    ) -> None:
        """Write some columns of the feed-forward's hidden layer."""
        if self.config.mlp_layer != "swiglu":
            np.matmul(normed, mlp.up_weight[:, columns], out=hidden[:, columns])
            kernels.ACTIVATIONS[self.config.mlp_layer](hidden[:, columns], mlp.up_bias[columns], scratch=scratch)
            return
        values = slice(self.config.mlp_dim + columns.start, self.config.mlp_dim + columns.stop)
        for part in (columns, values):
            np.matmul(normed, mlp.up_weight[:, part], out=gates[:, part])
        kernels.bias_swiglu(
            gates[:, columns], gates[:, values], mlp.up_bias[columns], mlp.up_bias[values], out=hidden[:, columns]
        )

    def _finish_first_tokens(
        self, images: range, block: FoldedBlock, space: Workspace, member: int, team: Team
    ) -> None:
        """The last block and the final norm for the first ``wanted`` tokens of each image alone.

        Few queries ask many keys, so neither keys nor values are worth making: q · (n K) = (q Kᵀ) · n, and shares of
        values are values of shares, Σ a (n V) = (Σ a n) V. Rotary positions turn each key its own way: then keys are
        made.
        """
        assert self.wanted is not None
        width, heads = self.config.embed_dim, self.config.num_heads
        if self.rotation is not None:
            mine = team.rows_of(member, len(space.qkv))
            keys = space.qkv[mine, width : 2 * width]
            np.matmul(space.normed[mine], block.qkv_weight[:, width : 2 * width], out=keys)
            kernels.add_bias(keys, block.qk_bias[width:])
            self._rotate(images, space.qkv, mine, with_query=False)
            team.meet()
        if member:
            return
        first = (np.arange(len(images))[:, None] * self.tokens + np.arange(self.wanted)).ravel()
        x, normed = space.x[first], space.normed[first]  # copies, (images * wanted, D)
        query = normed @ block.qkv_weight[:, :width]
        query += block.qk_bias[:width]
        by_head = query.reshape(-1, heads, self.config.head_dim).transpose(1, 0, 2)  # (H, images * wanted, d)
        key_weight, value_weight = (
            block.qkv_weight[:, part * width : (part + 1) * width].reshape(width, heads, -1) for part in (1, 2)
        )  # (D, H, d) each
        asked = by_head @ key_weight.transpose(1, 2, 0) if self.rotation is None else None  # (H, images * wanted, D)
        seen = np.empty((heads, len(first), width), dtype=x.dtype)
        for place in range(len(images)):
            rows = slice(place * self.wanted, (place + 1) * self.wanted)
            tokens = space.normed[place * self.tokens : (place + 1) * self.tokens]  # (N, D)
            if asked is not None:
                scores = asked[:, rows].reshape(-1, width) @ tokens.T  # (H * wanted, N)
            else:
                keys = space.qkv[place * self.tokens : (place + 1) * self.tokens, width : 2 * width]
                scores = by_head[:, rows] @ keys.reshape(self.tokens, heads, -1).transpose(1, 2, 0)
                scores = scores.reshape(-1, self.tokens)
            seen[:, rows] = (softmax(scores, out=scores) @ tokens).reshape(heads, -1, width)
        mixed = (seen @ value_weight.transpose(1, 0, 2)).transpose(1, 0, 2).reshape(-1, width)
        count = len(first)
        branch, hidden, gates = space.branch[:count], space.hidden[:count], space.gates[:count]
        np.matmul(mixed, block.proj_weight, out=branch)
        kernels.add_branch(x, branch, block.proj_bias)
        self._normalise(x, normed)
        self._hidden(block.mlp, normed, hidden, gates, slice(0, self.config.mlp_dim), space.scratch[member])
        np.matmul(hidden, block.mlp.down_weight, out=branch)
        kernels.add_branch(x, branch, block.mlp.down_bias)
        self._norm(self.weights.norm, x, self.out[images.start : images.stop].reshape(count, width))

    def _normalise(self, x: Array, out: Array) -> None:
        kernels.normalise(x, eps=self.config.norm_eps, out=out, centre=self.config.norm_layer == "layernorm")

    def _norm(self, norm: FoldedNorm, x: Array, out: Array) -> None:
        self._normalise(x, out)
        out *= norm.weight
        if norm.bias is not None:
            out += norm.bias
