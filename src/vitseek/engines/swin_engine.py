"""The pass of :mod:`vitseek.models.swin` on folded weights, cut so that every core is busy.

How the work is shared. The images of a batch go in packs to one thread each; a group of windows passes through a whole
block (attention and feed-forward) while it is in the cache, and the late stages, whose weights are large and whose
tokens are few, take the windows of a whole pack together. When fewer images than threads are left, several threads form
a team and share the windows of one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.engines.crew import Crew
from vitseek.engines.swin_fold import fold_swin, window_bias
from vitseek.engines.swin_forward import SwinPass, SwinWorkspace
from vitseek.engines.swin_plan import StagePlan, plan
from vitseek.engines.threads import default_threads
from vitseek.models.swin import Stages, check_pixels, classify, pad_pixels, resolve_blocks, spread_weights
from vitseek.models.swin_config import SwinConfig
from vitseek.models.tokens import Tokens, check_pooling, pool, pooled_dim
from vitseek.nn.layers import linear

Array = NDArray[np.floating]

PACK_IMAGES = 4  # more gains little speed and costs memory and balance
PLANS_KEPT = 16  # for a size and a number of images; "short-side" preprocessing has a new size with every aspect ratio


class SwinEngine:
    """A Swin Transformer ready to run; weights are shared between threads, working memory is not.

    Parameters
    ----------
    params
        Under timm's names, as ``swin_parameter_shapes(config)`` lists them; not kept.
    pooling
        ``"patch-mean"``, Swin's own, or ``"gem"``; see :func:`vitseek.models.tokens.pool`.
    threads
        Cores to use; by default all that this process may run on.
    dtype
        float32; float64 is for tests.
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        config: SwinConfig,
        pooling: str = "patch-mean",
        threads: int | None = None,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        check_pooling(pooling, config)
        self.config = config
        self.pooling = pooling
        self.threads = threads or default_threads()
        self.weights = fold_swin(params, config, dtype)
        self._plan = lru_cache(PLANS_KEPT)(partial(plan, config))
        self._bias = lru_cache(2 * config.depth)(self._work_out_bias)
        self._crew = Crew(self.threads, lambda: SwinWorkspace(config, self.weights.dtype))

    @property
    def embed_dim(self) -> int:
        """Length of a pooled feature vector."""
        return pooled_dim(self.config, self.pooling)

    def embed_pixels(self, pixels: Array) -> Array:
        """Return the pooled features, shape (B, embed_dim), not normalised."""
        return self.pool(self.tokens(pixels))

    def pool(self, tokens: Tokens) -> Array:
        """Return what :meth:`embed_pixels` returns, from the tokens of those pixels."""
        return pool(tokens, self.pooling)

    def forward(self, pixels: Array) -> Array:
        """Return all tokens after the final norm, shape (B, N, D)."""
        return self.tokens(pixels).all

    def classify(self, pixels: Array) -> Array:
        """Return the logits of the checkpoint's own classes, shape (B, num_classes)."""
        return classify(self.weights.head, self.config, self.tokens(pixels))

    def classify_features(self, features: Array) -> Array:
        """Return the same from the mean of all tokens, which is what the head sees, shape (B, D)."""
        return linear(features, self.weights.head["head.fc.weight"], self.weights.head["head.fc.bias"])

    def tokens(self, pixels: Array, *, attention_blocks: Sequence[int] = (), stages: Stages | None = None) -> Tokens:
        """Return what :func:`vitseek.models.swin.forward_features` returns, with the same options.

        With ``stages`` the whole batch runs in the calling thread.
        """
        blocks = resolve_blocks(attention_blocks, self.config.depth)
        check_pixels(pixels, dtype=self.weights.dtype)
        whole = pad_pixels(pixels, self.config.patch_size)
        images, dtype = len(whole), self.weights.dtype
        grid = whole.shape[2] // self.config.patch_size, whole.shape[3] // self.config.patch_size
        way = self._plan(*grid, 1)
        windows = self._attention_of(way, blocks, images)
        task = SwinPass(
            config=self.config,
            weights=self.weights,
            pixels=whole,
            plans=partial(self._plan, *grid),
            biases=self._bias,
            out=np.empty((images, way[-1].rows * way[-1].columns, self.config.num_features), dtype=dtype),
            attention=windows,
            stages=stages,
        )
        self._crew.run(task, images, largest_pack=PACK_IMAGES, together=stages is not None)
        return Tokens(
            all=task.out,
            grid=(way[-1].rows, way[-1].columns),
            class_token=False,
            attention={block: self._spread(way, block, windows[block]) for block in blocks},
        )

    def _attention_of(self, way: Sequence[StagePlan], blocks: Sequence[int], images: int) -> dict[int, Array]:
        """Room for the weights of windows, (B, windows, H, w², w²), of each block asked for."""
        shapes = [
            (images, block.windows, heads, block.window**2, block.window**2)
            for stage, heads in zip(way, self.config.num_heads, strict=True)
            for block in stage.blocks
        ]
        return {block: np.empty(shapes[block], dtype=self.weights.dtype) for block in blocks}

    def _spread(self, way: Sequence[StagePlan], block: int, windows: Array) -> Array:
        stage, place = self.config.blocks()[block]
        own = way[stage].blocks[place]
        flat = windows.reshape(-1, *windows.shape[2:])
        return spread_weights(flat, own.window, own.shift, way[stage].rows, way[stage].columns)

    def _work_out_bias(self, block: int, window: int, shift: int) -> Array:
        return window_bias(self.weights.blocks[block].bias_table, window, shift, self.config.window_size)
