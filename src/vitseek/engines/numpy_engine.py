"""The default engine: the pass of :mod:`vitseek.models.vit` on folded weights, cut so that every core is busy.

How the work is shared (:mod:`vitseek.engines.crew`). The images of a batch go in packs of a few to one thread each; a
pack's tokens are the rows of one matrix, because larger matrix products run faster. When fewer images than threads are
left, several threads form a team and share the rows of one image: everything but attention works on rows alone, so
they meet once a block, when the keys and values of all rows are there.

When only the first tokens are wanted (the class token, or the embedding that is projected from it), the last block
attends for those tokens alone. That is exact, not an approximation: no later block could use the other rows.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.engines import kernels
from vitseek.engines.attention_pool import pool_by_attention
from vitseek.engines.crew import Crew
from vitseek.engines.fold import fold
from vitseek.engines.forward import Pass, Watch, Workspace
from vitseek.engines.kernels import Kernels
from vitseek.engines.reduction import NONE, Reduction
from vitseek.engines.threads import default_threads
from vitseek.models.config import ViTConfig
from vitseek.models.tokens import Tokens, check_pooling, pool, pool_weighted, pooled_dim
from vitseek.models.vit import (
    Stages,
    check_pixels,
    classify,
    resize_positions,
    resolve_blocks,
    rotary_positions,
)
from vitseek.nn.layers import linear

Array = NDArray[np.floating]

PACK_ROWS = 600  # rows of a pack: two 224 px images of patch 14; more gains little speed and costs memory and balance
GRIDS_KEPT = 8  # resized position grids; "short-side" preprocessing asks for a new one with every aspect ratio


class NumpyEngine:
    """A Vision Transformer ready to run; weights are shared between threads, working memory is not.

    Parameters
    ----------
    params
        Under timm's names, as ``parameter_shapes(config)`` lists them; not kept.
    pooling
        Rule of :func:`vitseek.models.tokens.pool` that :meth:`embed_pixels` follows.
    threads
        Cores to use; by default all that this process may run on.
    dtype
        float32; float64 is for tests.
    reduction
        Which tokens :meth:`embed_pixels` leaves out on the way. Everything else is computed from all tokens.
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        config: ViTConfig,
        pooling: str = "cls",
        threads: int | None = None,
        *,
        dtype: DTypeLike = np.float32,
        reduction: Reduction = NONE,
    ) -> None:
        check_pooling(pooling, config)
        reduction.check(config)
        self.reduction = reduction
        self.config = config
        self.kernels: Kernels = kernels
        self.pooling = pooling
        self.threads = threads or default_threads()
        self.weights = fold(params, config, dtype, threads=self.threads)
        self._places = lru_cache(GRIDS_KEPT)(self._work_out_places)
        self._crew = Crew(self.threads, lambda: Workspace(config, self.weights.dtype))

    def with_kernels(self, other: Kernels) -> NumpyEngine:
        """Return an engine that shares weights and working memory with this one, and has other element-wise steps."""
        twin = copy.copy(self)
        twin.kernels = other
        return twin

    @property
    def embed_dim(self) -> int:
        """Length of a pooled feature vector."""
        return pooled_dim(self.config, self.pooling)

    def embed_pixels(self, pixels: Array) -> Array:
        """Return the pooled features, shape (B, embed_dim), not normalised."""
        if self.pooling == "cls":
            return self._run(pixels, wanted=1, reduction=self.reduction)[:, 0]
        if self.pooling == "embedding" and self.weights.pool is None:
            return self._project(self._run(pixels, wanted=1, reduction=self.reduction)[:, 0])
        if self.reduction:
            return self._pool_reduced(pixels)
        return self.pool(self.tokens(pixels))

    def _pool_reduced(self, pixels: Array) -> Array:
        """The same where the tokens that are left count as often as they stand for patches."""
        check_pixels(self.config, pixels, dtype=self.weights.dtype)
        rows, columns = self._grid(pixels)
        prefix = self.config.num_prefix_tokens
        left = self.reduction.tokens_after(prefix + rows * columns, self.config, all_blocks=True)[-1]
        sizes = np.ones((len(pixels), left), dtype=self.weights.dtype)
        tokens = self._run(pixels, reduction=self.reduction, sizes=sizes)
        if self.pooling == "embedding":
            assert self.weights.pool is not None
            return self._project(pool_by_attention(self.weights.pool, self.config, tokens, sizes))
        return pool_weighted(tokens, sizes, self.pooling, num_prefix_tokens=prefix)

    def pool(self, tokens: Tokens) -> Array:
        """Return what :meth:`embed_pixels` returns without a reduction, from the tokens of those pixels."""
        if self.pooling != "embedding":
            return pool(tokens, self.pooling)
        if self.weights.pool is None:
            return self._project(tokens.cls_token.copy())
        return self._project(pool_by_attention(self.weights.pool, self.config, tokens.all))

    def forward(self, pixels: Array) -> Array:
        """Return all tokens after the final norm, shape (B, N, D)."""
        return self._run(pixels)

    def tokens(self, pixels: Array, *, attention_blocks: Sequence[int] = (), stages: Stages | None = None) -> Tokens:
        """Return what :func:`vitseek.models.vit.forward_features` returns, with the same options.

        With ``stages`` the whole batch runs in the calling thread.
        """
        blocks = resolve_blocks(attention_blocks, self.config.depth)
        check_pixels(self.config, pixels, dtype=self.weights.dtype)
        grid = self._grid(pixels)
        tokens = self.config.num_prefix_tokens + grid[0] * grid[1]
        shape = (pixels.shape[0], self.config.num_heads, tokens, tokens)
        attention = {block: np.empty(shape, dtype=self.weights.dtype) for block in blocks}
        return Tokens(
            all=self._run(pixels, attention=attention, stages=stages),
            grid=grid,
            num_registers=self.config.num_registers,
            distilled=self.config.distilled,
            class_token=self.config.class_token,
            attention=attention,
        )

    def watch(self, pixels: Array, watch: Watch) -> None:
        """Show what goes into the layers of each block for all tokens of pixels, shape (B, 3, height, width)."""
        self._run(pixels, watch=watch)

    def classify(self, pixels: Array) -> Array:
        """Return the logits of the checkpoint's own classes, shape (B, num_classes)."""
        wanted = self.config.num_position_prefix if self.config.head_input == "cls" else None
        tokens = Tokens(
            all=self._run(pixels, wanted=wanted), grid=self._grid(pixels), distilled=self.config.distilled,
            num_registers=self.config.num_registers if wanted is None else 0, class_token=self.config.class_token,
        )  # fmt: skip
        return classify(self.weights.heads, self.config, tokens)

    def classify_features(self, features: Array) -> Array:
        """Return the same from what the head sees, shape (B, D); not for two heads."""
        return linear(features, self.weights.heads["head.weight"], self.weights.heads["head.bias"])

    def _grid(self, pixels: Array) -> tuple[int, int]:
        return pixels.shape[2] // self.config.patch_size, pixels.shape[3] // self.config.patch_size

    def _project(self, pooled: Array) -> Array:
        return pooled if self.weights.projection is None else pooled @ self.weights.projection

    def places(self, rows: int, columns: int) -> tuple[Array, NDArray[np.complexfloating] | None]:
        """Return for a grid what is added to its patches, (P, D), and how their channels turn, (P, d / 2) or None."""
        return self._places(rows, columns)

    def _work_out_places(self, rows: int, columns: int) -> tuple[Array, NDArray[np.complexfloating] | None]:
        """Return for a grid what is added to its patches, (P, D), and how their channels turn, (P, d / 2)."""
        weights, config = self.weights, self.config
        positions = np.zeros((rows * columns, config.embed_dim), dtype=weights.dtype)
        if weights.patch_positions is not None:
            positions += resize_positions(weights.patch_positions, config, rows, columns)
        if weights.patch_norm is None:  # else the bias is added before that norm
            positions += weights.patch_bias
        if config.pos_embed != "rope":
            return positions, None
        cos, sin = rotary_positions(config, rows, columns, weights.dtype)
        rotation = np.empty(cos.shape, dtype=np.result_type(weights.dtype, np.complex64))
        rotation.real, rotation.imag = cos, sin
        return positions, rotation

    def _run(
        self,
        pixels: Array,
        *,
        wanted: int | None = None,
        attention: Mapping[int, Array] | None = None,
        stages: Stages | None = None,
        watch: Watch | None = None,
        reduction: Reduction = NONE,
        sizes: Array | None = None,
    ) -> Array:
        """Return the first ``wanted`` tokens of each image (all that are left by default), shape (B, wanted, D)."""
        check_pixels(self.config, pixels, dtype=self.weights.dtype)
        rows, columns = self._grid(pixels)
        tokens = self.config.num_prefix_tokens + rows * columns
        images = pixels.shape[0]
        left = wanted or reduction.tokens_after(tokens, self.config, all_blocks=True)[-1]
        out = np.empty((images, left, self.config.embed_dim), dtype=self.weights.dtype)
        positions, rotation = self._places(rows, columns)
        task = Pass(
            config=self.config, weights=self.weights, pixels=pixels, positions=positions, rotation=rotation,
            tokens=tokens, wanted=wanted, out=out, attention=attention or {}, stages=stages,
            watch=watch, reduction=reduction, sizes=sizes, kernels=self.kernels,
        )  # fmt: skip
        largest_pack = max(1, PACK_ROWS // tokens)
        self._crew.run(task, images, largest_pack=largest_pack, together=stages is not None)
        return out
