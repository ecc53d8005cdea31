"""The pass of :mod:`vitseek.models.swin` on folded weights, cut so that every core is busy.

How the work is shared. The images of a batch go in packs to one thread each; a group of windows passes through a whole
block (attention and feed-forward) while it is in the cache, and the late stages, whose weights are large and whose
tokens are few, take the windows of a whole pack together. When fewer images than threads are left, several threads form
a team and share the windows of one image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.engines.forward import Team
from vitseek.engines.swin_fold import fold_swin, window_bias
from vitseek.engines.swin_forward import SwinPass, SwinWorkspace
from vitseek.engines.swin_plan import StagePlan, plan
from vitseek.engines.threads import BLAS, default_threads, run_together
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
        self._spare: list[SwinWorkspace] = []
        self._spare_lock = threading.Lock()

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
        self._run(task, images)
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

    def _run(self, task: SwinPass, images: int) -> None:
        with BLAS.single_threaded():
            if task.stages is not None or self.threads == 1:
                step = max(images, 1) if task.stages is not None else PACK_IMAGES
                self._run_packs(task, _cut(0, images, step), threads=1)
                return
            alone = images - images % self.threads
            step = max(1, min(alone // self.threads, PACK_IMAGES))
            self._run_packs(task, _cut(0, alone, step), threads=self.threads)
            if alone < images:
                self._run_teams(task, range(alone, images))

    def _run_packs(self, task: SwinPass, packs: list[range], *, threads: int) -> None:
        """Work the packs off, each in one thread."""
        lock = threading.Lock()
        waiting = iter(packs)
        stop = threading.Event()

        def work() -> None:
            with self._workspace() as space:
                while not stop.is_set():
                    with lock:
                        pack = next(waiting, None)
                    if pack is None:
                        return
                    space.prepare(task.plans(len(pack)), len(pack))
                    task.run(pack, space, Team(1), 0)

        if packs:
            run_together([work] * min(threads, len(packs)), on_failure=stop.set)

    def _run_teams(self, task: SwinPass, images: range) -> None:
        """Give each image to a team, the teams as alike as it goes."""
        with ExitStack() as stack:
            jobs: list[Callable[[], None]] = []
            teams: list[Team] = []
            for place, image in enumerate(images):
                first, last = (self.threads * edge // len(images) for edge in (place, place + 1))
                team, space = Team(last - first), stack.enter_context(self._workspace())
                space.prepare(task.plans(1), 1)
                teams.append(team)
                pack = range(image, image + 1)
                jobs.extend(partial(task.run, pack, space, team, member) for member in range(team.size))

            def wake_all() -> None:
                for team in teams:
                    team.give_up()

            run_together(jobs, on_failure=wake_all)

    @contextmanager
    def _workspace(self) -> Iterator[SwinWorkspace]:
        with self._spare_lock:
            space = self._spare.pop() if self._spare else SwinWorkspace(self.config, self.weights.dtype)
        try:
            yield space
        finally:
            with self._spare_lock:
                if len(self._spare) < self.threads:
                    self._spare.append(space)


def _cut(start: int, stop: int, step: int) -> list[range]:
    return [range(first, min(first + step, stop)) for first in range(start, stop, step)]
