"""What a Vision Transformer returns: tokens by name, and the rules that turn them into one vector an image."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import ConfigError, ShapeError
from vitseek.models.config import ViTConfig

Array = NDArray[np.floating]
Pooling = Literal["cls", "patch-mean", "cls+patch-mean", "gem"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

GEM_POWER = 3.0  # the value that Radenović et al., "Fine-tuning CNN Image Retrieval" (2018), start from and end near
GEM_FLOOR = 1e-6  # theirs: a power needs positive numbers


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """All tokens after the final LayerNorm, and views on them by name.

    Parameters
    ----------
    all : shape (B, N, D)
        Class token, distillation token if there is one, registers, patches row by row.
    grid
        (rows, columns) of patches.
    num_registers
        Registers among the tokens.
    distilled
        Whether a distillation token follows the class token.
    attention
        For each block that was asked for, the attention weights, shape (B, H, N, N): rows are queries and sum to 1.
    """

    all: Array
    grid: tuple[int, int]
    num_registers: int = 0
    distilled: bool = False
    attention: dict[int, Array] = dataclasses.field(default_factory=dict)

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the first patch."""
        return 1 + self.distilled + self.num_registers

    @property
    def cls_token(self) -> Array:
        """The class token, shape (B, D)."""
        return self.all[:, 0]

    @property
    def dist_token(self) -> Array | None:
        """The distillation token, shape (B, D), or ``None``."""
        return self.all[:, 1] if self.distilled else None

    @property
    def registers(self) -> Array:
        """The registers, shape (B, R, D); R may be 0."""
        return self.all[:, self.num_prefix_tokens - self.num_registers : self.num_prefix_tokens]

    @property
    def patches(self) -> Array:
        """The patch tokens row by row, shape (B, rows * columns, D)."""
        return self.all[:, self.num_prefix_tokens :]


def pooled_dim(config: ViTConfig, rule: str) -> int:
    """Return the length of the vector that ``rule`` makes."""
    check_pooling(rule)
    return 2 * config.embed_dim if rule == "cls+patch-mean" else config.embed_dim


def check_pooling(rule: str) -> None:
    """Raise ConfigError unless ``rule`` is one of :data:`POOLINGS`."""
    if rule not in POOLINGS:
        raise ConfigError(f"pooling must be one of {', '.join(POOLINGS)}, not {rule!r}")


def pool(tokens: Tokens, rule: str) -> Array:
    """Turn the tokens of each image into one vector.

    Parameters
    ----------
    rule
        ``"cls"``: the class token. ``"patch-mean"``: the mean of the patch tokens (no prefix token takes part).
        ``"cls+patch-mean"``: the one after the other, twice as long. ``"gem"``: the generalised mean of the patch
        tokens with power 3, which lies between mean and maximum; negative entries count as zero.

    Returns
    -------
    shape (B, D), or (B, 2 D) for ``"cls+patch-mean"``; dtype of the tokens

    Raises
    ------
    ConfigError
        If there is no such rule.
    ShapeError
        If no patch token is left to average.
    """
    check_pooling(rule)
    if rule == "cls":
        return tokens.cls_token.copy()
    patches = tokens.patches  # (B, P, D)
    if not patches.shape[1]:
        raise ShapeError(f"pooling {rule!r} needs patch tokens, but the {tokens.all.shape[1]} tokens hold none")
    if rule == "gem":
        powers = np.maximum(patches, patches.dtype.type(GEM_FLOOR)) ** patches.dtype.type(GEM_POWER)
        gem: Array = powers.mean(axis=1) ** patches.dtype.type(1 / GEM_POWER)
        return gem
    mean = patches.mean(axis=1)  # (B, D)
    return np.concatenate([tokens.cls_token, mean], axis=1) if rule == "cls+patch-mean" else mean
