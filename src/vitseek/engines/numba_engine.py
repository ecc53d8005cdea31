"""The NumPy engine with steps that Numba has compiled, and never without a check.

The pass, its weights and its working memory are those of the NumPy engine beside it; what is compiled are the
element-wise steps, and on processors with AVX-512 the products with weights. They are measured against NumPy's when the
first pictures come. If they are further away than float32 allows (:data:`vitseek.engines.checked.TOLERANCES`), or Numba
fails, NumPy computes everything, and the user is told once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.engines import checked
from vitseek.engines.kernels import Kernels
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.reduction import NONE, Reduction
from vitseek.models.config import ViTConfig
from vitseek.models.tokens import Tokens
from vitseek.models.vit import check_pixels

Array = NDArray[np.floating]


class NumbaEngine:
    """An engine with the methods of :class:`NumpyEngine`, whose steps are compiled.

    Parameters
    ----------
    reduction
        See :func:`vitseek.engines.build.build_engine`.
    weights_sha256
        The identity of ``params``: with it, a check passed is remembered. ``None``: every process checks again.
    report
        Told, in one sentence, when the compiled steps cannot be used.
    load
        Gives the compiled steps, at the first pictures; another than the usual is for tests.
    """

    name = "numba"

    def __init__(
        self,
        params: Mapping[str, Array],
        config: ViTConfig,
        pooling: str,
        threads: int | None = None,
        *,
        reduction: Reduction = NONE,
        weights_sha256: str | None = None,
        report: Callable[[str], None] | None = None,
        load: Callable[[NumpyEngine], Kernels] | None = None,
    ) -> None:
        self.numpy = NumpyEngine(params, config, pooling, threads, reduction=reduction)
        self.config, self.pooling = config, pooling
        self._weights_sha256 = weights_sha256
        self._report = report
        self._load = compiled_kernels if load is None else load
        self._chosen: NumpyEngine | None = None
        self._choosing = threading.Lock()

    @property
    def embed_dim(self) -> int:
        """Length of a pooled feature vector."""
        return self.numpy.embed_dim

    @property
    def computes(self) -> str:
        """What computes: ``"numba"``, or ``"numpy"`` since that has failed."""
        return "numpy" if self._chosen is self.numpy else self.name

    def embed_pixels(self, pixels: Array) -> Array:
        """Return the pooled features, shape (B, embed_dim), not normalised."""
        return self._for(pixels).embed_pixels(pixels)

    def forward(self, pixels: Array) -> Array:
        """Return all tokens after the final norm, shape (B, N, D)."""
        return self._for(pixels).forward(pixels)

    def tokens(self, pixels: Array, *, attention_blocks: Sequence[int] = ()) -> Tokens:
        """Return the tokens by name, with the attention weights of the blocks asked for."""
        return self._for(pixels).tokens(pixels, attention_blocks=attention_blocks)

    def pool(self, tokens: Tokens) -> Array:
        """Return what :meth:`embed_pixels` returns, from the tokens of those pixels."""
        return self.numpy.pool(tokens)

    def classify(self, pixels: Array) -> Array:
        """Return the logits of the checkpoint's own classes, shape (B, num_classes)."""
        return self._for(pixels).classify(pixels)

    def classify_features(self, features: Array) -> Array:
        """Return the same from what the head sees, shape (B, D); not for two heads."""
        return self.numpy.classify_features(features)

    def _for(self, pixels: Array) -> NumpyEngine:
        """The engine that computes, chosen by a check when the first pictures come."""
        check_pixels(self.config, pixels, dtype=self.numpy.weights.dtype)
        if not len(pixels):
            return self.numpy
        with self._choosing:
            if self._chosen is None:
                self._chosen = self._checked(pixels.shape[2:]) or self.numpy
            return self._chosen

    def _checked(self, size_px: tuple[int, int]) -> NumpyEngine | None:
        """The engine with compiled steps; ``None``, and a word to the user, if it cannot be used."""
        tolerance = checked.TOLERANCES["float32"]
        try:
            fused = self.numpy.with_kernels(self._load(self.numpy))
            fused.forward(checked.probes(*size_px)[:1])  # compiles here, where a failure is caught, check or no check
            # Every compiled step has a part in the tokens, so that one check is enough for all that is asked later.
            apart = checked.measured(fused.forward, self.numpy.forward, size_px, self._facts(size_px))
        except Exception as error:  # a compiler and what it is installed with raise what they like
            reason = f"failed ({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})"
        else:
            if apart <= tolerance:
                return fused
            reason = f"gives tokens {apart:.2g} of their length away from NumPy's ({tolerance:g} is allowed)"
        if self._report is not None:
            self._report(f"{version()} is not used, because it {reason}: NumPy computes instead")
        return None

    def _facts(self, size_px: tuple[int, int]) -> dict[str, Any] | None:
        if self._weights_sha256 is None:
            return None
        return {
            "weights": self._weights_sha256,
            "config": self.config.to_dict(),
            "runtime": version(),
            "kernels": VERSION,
            "precision": "float32",
            "size_px": size_px,
            "pooling": None,
        }


VERSION = 1  # of engines/numba_kernels.py: raise it whenever what is computed there changes


def version() -> str:
    """Name and version for people."""
    from importlib.metadata import version as installed

    return f"Numba {installed('numba')}"


def compiled_kernels(engine: NumpyEngine) -> Kernels:
    """Import Numba, which takes a third of a second, and return the steps that it compiles for an engine's weights."""
    from vitseek.engines.numba_kernels import CompiledKernels

    weights = engine.weights
    multiplied = [weights.patch_weight]
    for block in weights.blocks:
        multiplied += [block.qkv_weight, block.proj_weight, block.mlp.up_weight, block.mlp.down_weight]
    return CompiledKernels(multiplied, threads=engine.threads)
