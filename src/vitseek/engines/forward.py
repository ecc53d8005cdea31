"""One pass over some images on folded weights: what a single thread, or a member of a team of threads, does.

Shapes: the tokens of all images of a pack are the rows of one matrix. R rows, N tokens an image, D width, F
feed-forward width, d = D / H head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.engines import kernels
from vitseek.engines.crew import Team
from vitseek.engines.fold import FoldedBlock, FoldedMlp, FoldedNorm, FoldedWeights
from vitseek.engines.kernels import Kernels
from vitseek.engines.reduction import NONE, Reduction, merge, prune
from vitseek.models.config import ViTConfig
from vitseek.models.vit import Stages
from vitseek.nn.activations import softmax
from vitseek.nn.attention import SCORES_LIMIT
from vitseek.nn.layers import patchify

Array = NDArray[np.floating]
Watch = Callable[[int, str, Array], None]  # block, layer ("qkv", "proj", "up", "down"), rows that go into it


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
        # A member may be one block ahead of another that still reads keys and values: two copies in turn.
        self.qkv = [self._array(f"qkv{turn}", rows, 3 * width) for turn in range(min(members, 2))]
        # The same numbers serve attention scores and GELU, one after the other.
        size = max(SCORES_LIMIT, tokens, 2 * max(kernels.BLOCK_NUMBERS, hidden))
        self.sizes: Array | None = None  # of each row, once a reduction has begun: how many patches it stands for
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
        N at the beginning.
    reduction
        Which of them are left out on the way.
    sizes : shape (images, tokens at the end)
        Where to write how many patches each token stands for, with a reduction and all tokens wanted.
    attention : block -> shape (B, H, N, N)
        Where to write attention weights.
    watch
        Shown what goes into the layers, some rows at a time; called by all threads.
    kernels
        What does the element-wise steps.
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
    watch: Watch | None = None
    kernels: Kernels = kernels
    reduction: Reduction = NONE
    sizes: Array | None = None

    def prepare(self, space: Workspace, images: int, members: int) -> None:
        """Make room for so many images, and threads that share them."""
        space.prepare(images * self.tokens, tokens=self.tokens, members=members)

    def run(self, images: range, space: Workspace, member: int, team: Team) -> None:
        """Do ``member``'s share of the pass over ``images``; ``space`` is prepared and shared by the team."""
        x, normed, width, tokens = space.x, space.normed, self.config.embed_dim, self.tokens
        counts = self.reduction.tokens_after(tokens, self.config, all_blocks=self.wanted is None)
        mine = team.rows_of(member, len(x))
        self._embed(images, x, mine)
        if self.weights.pre_norm is not None:
            self._norm(self.weights.pre_norm, x[mine], x[mine])
        self._tell("embed", x)
        for index, block in enumerate(self.weights.blocks):
            self._normalise(x[mine], normed[mine])
            if self.wanted is not None and index == self.config.depth - 1:
                self._finish_first_tokens(images, block, space, tokens, member, team)
                return
            self._show(index, "qkv", normed[mine])
            qkv = space.qkv[index % len(space.qkv)]
            self._queries_keys_values(images, block, normed, qkv, mine)
            team.meet()  # qkv has the rows of all members
            self._attend(images, index, qkv, space, tokens, mine, space.scratch[member])
            self._show(index, "proj", space.mixed[mine])
            branch = normed[mine]
            self.kernels.multiply(space.mixed[mine], block.proj_weight, out=branch)
            self.kernels.add_branch(x[mine], branch, block.proj_bias)
            if counts[index] < tokens:
                team.meet()  # all rows are there
                if member == 0:
                    self._leave_out(images, qkv, space, tokens, counts[index])
                team.meet()
                tokens = counts[index]
                mine = team.rows_of(member, len(images) * tokens)
            self._feed_forward(
                block.mlp, x[mine], normed[mine], space.hidden[mine], space.gates[mine], space.scratch[member], index
            )
            self._tell(f"block.{index}", x)
        out = self.out[images.start : images.stop].reshape(-1, width)[mine]
        self._norm(self.weights.norm, x[mine], out)
        if self.sizes is not None and space.sizes is not None:
            self.sizes[images.start : images.stop].reshape(-1)[mine] = space.sizes[mine]
        self._tell("norm", self.out)

    def _leave_out(self, images: range, qkv: Array, space: Workspace, tokens: int, left: int) -> None:
        """Reduce the ``tokens`` of each image to ``left``, closing ranks in ``space.x``."""
        prefix, heads = self.config.num_prefix_tokens, self.config.num_heads
        if space.sizes is None:
            space.sizes = np.ones(len(images) * tokens, dtype=space.x.dtype)
        keys = qkv[: len(images) * tokens, self.config.embed_dim : 2 * self.config.embed_dim]
        for place in range(len(images)):
            rows = slice(place * tokens, (place + 1) * tokens)
            patches = slice(rows.start + prefix, rows.stop)
            x, sizes = space.x[patches], space.sizes[patches]
            if self.reduction.method == "merge":
                mean_keys = keys[patches].reshape(len(x), heads, -1).mean(axis=1)
                x, sizes = merge(x, sizes, mean_keys, tokens - left)
            else:
                attention = self._attention_of_first(qkv[rows], space.sizes[rows])[prefix:]
                x, sizes = prune(x, sizes, attention, left - prefix - 1)
            target = slice(place * left, (place + 1) * left)  # never beyond what is still to be read
            front = slice(target.start, target.start + prefix)
            space.x[front], space.sizes[front] = space.x[rows][:prefix], 1
            space.x[front.stop : target.stop], space.sizes[front.stop : target.stop] = x, sizes

    def _attention_of_first(self, qkv: Array, sizes: Array) -> Array:
        """What the first token of an image gives to each, (N,), the mean over its heads."""
        query, key, _ = qkv.reshape(len(qkv), 3, self.config.num_heads, -1).transpose(1, 2, 0, 3)  # (H, N, d) each
        scores = np.matmul(key, query[:, 0, :, None])[..., 0] + np.log(sizes)  # (H, N)
        attention: Array = softmax(scores, out=scores).mean(axis=0)
        return attention

    def _tell(self, name: str, rows: Array) -> None:
        if self.stages is not None:
            self.stages(name, rows.reshape(-1, self.tokens, self.config.embed_dim).copy())

    def _show(self, block: int, layer: str, rows: Array) -> None:
        if self.watch is not None:
            self.watch(block, layer, rows)

    def _images(self, images: range, rows: slice, tokens: int) -> Iterator[tuple[int, int, slice]]:
        """Yield for each image that has rows here its number, its first row and its tokens here, of ``tokens`` each."""
        for place, image in enumerate(images):
            base = place * tokens
            start, stop = max(rows.start - base, 0), min(rows.stop - base, tokens)
            if start < stop:
                yield image, base, slice(start, stop)

    def _embed(self, images: range, x: Array, mine: slice) -> None:
        prefix = self.config.num_prefix_tokens
        for image, base, here in self._images(images, mine, self.tokens):
            tokens = x[base : base + self.tokens]
            front = slice(here.start, min(here.stop, prefix))
            if front.start < front.stop:
                tokens[front] = self.weights.prefix[front]
            first, last = max(here.start - prefix, 0), here.stop - prefix
            if first < last:
                patches = patchify(self.pixels[image : image + 1], self.config.patch_size)[0, first:last]
                target = tokens[first + prefix : last + prefix]
                self.kernels.multiply(patches, self.weights.patch_weight, out=target)
                if self.weights.patch_norm is not None:
                    target += self.weights.patch_bias
                    self._norm(self.weights.patch_norm, target, target)
                target += self.positions[first:last]

    def _queries_keys_values(self, images: range, block: FoldedBlock, normed: Array, qkv: Array, mine: slice) -> None:
        """Write my rows of queries, keys and values to ``qkv``, shape (R, 3 D)."""
        self.kernels.multiply(normed[mine], block.qkv_weight, out=qkv[mine])
        self.kernels.add_bias(qkv[mine], block.qk_bias)
        if self.rotation is not None:
            self._rotate(images, qkv, mine, with_query=True)

    def _rotate(self, images: range, qkv: Array, mine: slice, *, with_query: bool) -> None:
        """Turn (queries and) keys of the patches among my rows by their places; prefix tokens have none."""
        assert self.rotation is not None
        prefix, heads = self.config.num_prefix_tokens, self.config.num_heads
        pairs = qkv.view(self.rotation.dtype).reshape(len(qkv), 3 * heads, -1)  # (R, 3 H, d / 2), a view
        for _, base, here in self._images(images, mine, self.tokens):
            first = max(here.start, prefix)
            rows, places = slice(base + first, base + here.stop), slice(first - prefix, here.stop - prefix)
            if first < here.stop:
                self.kernels.rotate(pairs[rows, 0 if with_query else heads : 2 * heads], self.rotation[places])

    def _attend(
        self, images: range, index: int, qkv: Array, space: Workspace, tokens: int, mine: slice, scratch: Array
    ) -> None:
        kept = self.attention.get(index)
        for image, base, here in self._images(images, mine, tokens):
            rows, keys = slice(base + here.start, base + here.stop), slice(base, base + tokens)
            mixed = space.mixed[rows]
            self.kernels.attend(
                *self._heads(qkv, rows, keys),
                out=mixed.reshape(len(mixed), self.config.num_heads, -1).transpose(1, 0, 2),
                scores=scratch,
                kept=None if kept is None else kept[image, :, here],
                bias=None if space.sizes is None else np.log(space.sizes[keys]),
            )

    def _heads(self, qkv: Array, rows: slice, keys: slice) -> tuple[Array, Array, Array]:
        """Views on the queries of ``rows``, and the keys and values of ``keys``, each of shape (H, rows, d)."""
        parts = qkv.reshape(len(qkv), 3, self.config.num_heads, -1).transpose(1, 2, 0, 3)  # (3, H, R, d)
        return parts[0, :, rows], parts[1, :, keys], parts[2, :, keys]

    def _feed_forward(
        self, mlp: FoldedMlp, x: Array, branch: Array, hidden: Array, gates: Array, scratch: Array, block: int
    ) -> None:
        """Add the feed-forward branch of a block to ``x``; all arrays have the same rows."""
        self._normalise(x, branch)
        self._show(block, "up", branch)
        self.kernels.multiply(branch, mlp.up_weight, out=gates)
        if self.config.mlp_layer == "swiglu":
            self.kernels.bias_swiglu(gates, mlp.up_bias, out=hidden)
        else:
            self.kernels.ACTIVATIONS[self.config.mlp_layer](gates, mlp.up_bias, scratch=scratch)
        self._show(block, "down", hidden)
        self.kernels.multiply(hidden, mlp.down_weight, out=branch)
        self.kernels.add_branch(x, branch, mlp.down_bias)

    def _finish_first_tokens(
        self, images: range, block: FoldedBlock, space: Workspace, tokens: int, member: int, team: Team
    ) -> None:
        """The last block and the final norm for the first ``wanted`` tokens of each image alone, of ``tokens``.

        Few queries ask many keys, so neither keys nor values are worth making: q · (n K) = (q Kᵀ) · n, and shares of
        values are values of shares, Σ a (n V) = (Σ a n) V. Rotary positions turn each key its own way: then keys are
        made.
        """
        assert self.wanted is not None
        width, heads = self.config.embed_dim, self.config.num_heads
        qkv = space.qkv[(self.config.depth - 1) % len(space.qkv)]
        if self.rotation is not None:
            mine = team.rows_of(member, len(qkv))
            np.matmul(space.normed[mine], block.qkv_weight[:, width : 2 * width], out=qkv[mine, width : 2 * width])
            self.kernels.add_bias(qkv[mine, width : 2 * width], block.qk_bias[width:])
            self._rotate(images, qkv, mine, with_query=False)
        team.meet()  # normed, and the keys, have the rows of all members
        if member:
            return
        first = (np.arange(len(images))[:, None] * tokens + np.arange(self.wanted)).ravel()
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
            its = slice(place * tokens, (place + 1) * tokens)
            normed = space.normed[its]  # (N, D)
            if asked is not None:
                scores = asked[:, rows].reshape(-1, width) @ normed.T  # (H * wanted, N)
            else:
                keys = qkv[its, width : 2 * width]
                scores = by_head[:, rows] @ keys.reshape(tokens, heads, -1).transpose(1, 2, 0)
                scores = scores.reshape(-1, tokens)
            if space.sizes is not None:
                scores += np.log(space.sizes[its])
            seen[:, rows] = (softmax(scores, out=scores) @ normed).reshape(heads, -1, width)
        mixed = (seen @ value_weight.transpose(1, 0, 2)).transpose(1, 0, 2).reshape(-1, width)
        count = len(first)
        branch = mixed @ block.proj_weight
        self.kernels.add_branch(x, branch, block.proj_bias)
        self._feed_forward(
            block.mlp, x, branch, space.hidden[:count], space.gates[:count], space.scratch[member],
            self.config.depth - 1,
        )  # fmt: skip
        self._norm(self.weights.norm, x, self.out[images.start : images.stop].reshape(count, width))

    def _normalise(self, x: Array, out: Array) -> None:
        self.kernels.normalise(x, eps=self.config.norm_eps, out=out, centre=self.config.norm_layer == "layernorm")

    def _norm(self, norm: FoldedNorm, x: Array, out: Array) -> None:
        self._normalise(x, out)
        out *= norm.weight
        if norm.bias is not None:
            out += norm.bias
