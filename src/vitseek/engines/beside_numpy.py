"""A Vision Transformer computed by another runtime than NumPy, from the same weights, and never without a check.

NumPy stays beside it: its folded weights are what the runtime computes with, its numbers are what a new run is measured
against, and it computes what the runtime does not (attention maps, class scores) or gets wrong. A runtime that fails or
is further away than its precision allows (:data:`vitseek.engines.checked.TOLERANCES`) is not used again, and the user
is told once.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.engines import checked
from vitseek.engines.checked import Run
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.reduction import NONE, Reduction
from vitseek.errors import ConfigError, ShapeError
from vitseek.models.config import ViTConfig
from vitseek.models.tokens import Tokens
from vitseek.models.vit import check_pixels

Array = NDArray[np.floating]


class BesideNumpy(ABC):
    """An engine with the methods of :class:`NumpyEngine`, features and tokens computed by another runtime.

    A subclass says what its runtime is, and makes a run for pictures of one size.

    Parameters
    ----------
    precision, reduction
        See :func:`vitseek.engines.build.build_engine`.
    weights_sha256
        The identity of ``params``: with it, a check passed is remembered. ``None``: every process checks again.
    report
        Told, in one sentence, when the runtime cannot be used.
    """

    runs_kept = 4

    def __init__(
        self,
        params: Mapping[str, Array],
        config: ViTConfig,
        pooling: str,
        threads: int | None = None,
        *,
        precision: str = "float32",
        reduction: Reduction = NONE,
        weights_sha256: str | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.numpy = NumpyEngine(params, config, pooling, threads, reduction=reduction)
        self.config, self.pooling = config, pooling
        self._asked = precision
        self._weights_sha256 = weights_sha256
        self._report = report
        self._failed = False
        self._runs: OrderedDict[tuple[int, int, str | None], Run] = OrderedDict()
        self._building = threading.Lock()

    @property
    @abstractmethod
    def name(self) -> str:
        """As in ``vitseek.load(engine=...)``."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Name and version of the runtime, for people."""

    @abstractmethod
    def _compile(self, size_px: tuple[int, int], pooling: str | None) -> Run:
        """Return what computes pictures of (height, width): features, or for ``None`` all tokens; for any thread."""

    @abstractmethod
    def _made_with(self) -> dict[str, Any]:
        """What a check depends on besides weights, shape, precision, and the runtime's version."""

    @property
    def embed_dim(self) -> int:
        """Length of a pooled feature vector."""
        return self.numpy.embed_dim

    @property
    def computes(self) -> str:
        """What computes: the runtime's name, or ``"numpy"`` since that has failed."""
        return "numpy" if self._failed else self.name

    @property
    def precision(self) -> str:
        """What it computes in: the precision asked for, or ``"float32"`` since the runtime has failed."""
        return "float32" if self._failed else self._asked

    def settle(self, size_px: tuple[int, int]) -> None:
        """Make and check the run for features of pictures of (height, width) now: afterwards, ``precision`` holds.

        Raises
        ------
        ShapeError
            If pictures of that size do not divide into patches.
        """
        grid_of(self.config, size_px)
        self._run_for_size(size_px, self.pooling, self.numpy.embed_pixels)

    def embed_pixels(self, pixels: Array) -> Array:
        """Return the pooled features, shape (B, embed_dim), not normalised."""
        return self._run_for(pixels, self.pooling)(pixels)

    def forward(self, pixels: Array) -> Array:
        """Return all tokens after the final norm, shape (B, N, D)."""
        return self._run_for(pixels, None)(pixels)

    def tokens(self, pixels: Array, *, attention_blocks: Sequence[int] = ()) -> Tokens:
        """Return the tokens by name; NumPy computes them where attention weights are asked for."""
        if attention_blocks:
            return self.numpy.tokens(pixels, attention_blocks=attention_blocks)
        return Tokens(
            all=self.forward(pixels),
            grid=(pixels.shape[2] // self.config.patch_size, pixels.shape[3] // self.config.patch_size),
            num_registers=self.config.num_registers,
            distilled=self.config.distilled,
            class_token=self.config.class_token,
        )

    def pool(self, tokens: Tokens) -> Array:
        """Return what :meth:`embed_pixels` returns, from the tokens of those pixels."""
        return self.numpy.pool(tokens)

    def classify(self, pixels: Array) -> Array:
        """Return the logits of the checkpoint's own classes, shape (B, num_classes); computed by NumPy."""
        return self.numpy.classify(pixels)

    def classify_features(self, features: Array) -> Array:
        """Return the same from what the head sees, shape (B, D); not for two heads."""
        return self.numpy.classify_features(features)

    def _run_for(self, pixels: Array, pooling: str | None) -> Run:
        """The run for pixels of this size, made and checked; NumPy if that failed or there is nothing to do."""
        check_pixels(self.config, pixels, dtype=self.numpy.weights.dtype)
        by_numpy = self.numpy.forward if pooling is None else self.numpy.embed_pixels
        if not len(pixels):
            return by_numpy
        height, width = pixels.shape[2:]
        return self._run_for_size((height, width), pooling, by_numpy)

    def _run_for_size(self, size_px: tuple[int, int], pooling: str | None, by_numpy: Run) -> Run:
        key = (*size_px, pooling)
        with self._building:
            if self._failed:
                return by_numpy
            if key not in self._runs:
                run = self._checked_run(size_px, pooling, by_numpy)
                if run is None:
                    self._failed = True
                    self._runs.clear()
                    return by_numpy
                self._runs[key] = run
                if len(self._runs) > self.runs_kept:
                    self._runs.popitem(last=False)
            self._runs.move_to_end(key)
            return self._runs[key]

    def _checked_run(self, size_px: tuple[int, int], pooling: str | None, by_numpy: Run) -> Run | None:
        """Make a run and measure it; ``None``, and a word to the user, if it cannot be used."""
        try:
            run = self._compile(size_px, pooling)
            apart = checked.measured(run, by_numpy, size_px, self._facts(size_px, pooling))
        except Exception as error:  # a foreign runtime raises what it likes; MissingExtraError came before
            reason = f"failed ({type(error).__name__}: {_first_line(error)})"
        else:
            tolerance = checked.tolerance(self._asked, reduced=pooling is not None and bool(self.numpy.reduction))
            if apart <= tolerance:
                return run
            reason = f"gives features {apart:.2g} of their length away from NumPy's ({tolerance:g} is allowed)"
        if self._asked != "float32" and self._runs:  # its vectors are in a space of this precision already
            raise ConfigError(
                f"{self.version} {reason} for pictures of {size_px[1]} x {size_px[0]} px, and its others "
                f"are in {self._asked}: take precision 'float32', or pictures of one size"
            )
        if self._report is not None:
            in_it = "" if self._asked == "float32" else f" in {self._asked}"
            self._report(f"{self.version} is not used{in_it}, because it {reason}: NumPy computes instead")
        return None

    def _facts(self, size_px: tuple[int, int], pooling: str | None) -> dict[str, Any] | None:
        if self._weights_sha256 is None:
            return None
        return {
            "weights": self._weights_sha256,
            "config": self.config.to_dict(),
            "runtime": self.version,
            "precision": self._asked,
            "reduction": self.numpy.reduction.key(),
            "size_px": size_px,
            "pooling": pooling,
            **self._made_with(),
        }


def grid_of(config: ViTConfig, size_px: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) of patches in pictures of (height, width) pixels.

    Raises
    ------
    ShapeError
        If they do not divide into patches.
    """
    side_px = config.patch_size
    if any(side < side_px or side % side_px for side in size_px):
        raise ShapeError(
            f"pictures of {size_px[0]} x {size_px[1]} px (height x width) do not divide into "
            f"{side_px} px patches: take multiples of {side_px} px"
        )
    return size_px[0] // side_px, size_px[1] // side_px


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
