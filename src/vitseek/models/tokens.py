"""What a Vision Transformer returns: tokens by name, and the rules that turn them into one vector an image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import ConfigError, ShapeError

Array = NDArray[np.floating]
Pooling = Literal["cls", "patch-mean", "cls+patch-mean", "gem", "embedding"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

GEM_POWER = 3.0  # the value that Radenović et al., "Fine-tuning CNN Image Retrieval" (2018), start from and end near
GEM_FLOOR = 1e-6  # theirs: a power needs positive numbers
NO_CLASS = "this model has no class token: choose the pooling 'patch-mean' or 'gem'"


class Poolable(Protocol):
    """What a config says about the ways to pool; :class:`vitseek.models.config.ViTConfig` says what the words mean."""

    @property
    def num_features(self) -> int: ...
    @property
    def class_token(self) -> bool: ...
    @property
    def attention_pool(self) -> bool: ...
    @property
    def embedding_dim(self) -> int: ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """All tokens after the final LayerNorm, and views on them by name.

    Parameters
    ----------
    all : shape (B, N, D)
        Class token, distillation token and registers where there are such, then patches row by row.
    grid
        (rows, columns) of patches.
    num_registers
        Registers among the tokens.
    distilled
        Whether a distillation token follows the class token.
    class_token
        Whether there is a class token at all.
    attention
        For each block that was asked for, the attention weights, shape (B, H, N, N): rows are queries and sum to 1.
    """

    all: Array
    grid: tuple[int, int]
    num_registers: int = 0
    distilled: bool = False
    class_token: bool = True
    attention: dict[int, Array] = dataclasses.field(default_factory=dict)

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the first patch."""
        return self.class_token + self.distilled + self.num_registers

    @property
    def cls_token(self) -> Array:
        """The class token, shape (B, D); ConfigError where the model has none."""
        if not self.class_token:
            raise ConfigError(NO_CLASS)
        return self.all[:, 0]

    @property
    def dist_token(self) -> Array | None:
        """The distillation token, shape (B, D), or ``None``."""
        return self.all[:, int(self.class_token)] if self.distilled else None

    @property
    def registers(self) -> Array:
        """The registers, shape (B, R, D); R may be 0."""
        return self.all[:, self.num_prefix_tokens - self.num_registers : self.num_prefix_tokens]

    @property
    def patches(self) -> Array:
        """The patch tokens row by row, shape (B, rows * columns, D)."""
        return self.all[:, self.num_prefix_tokens :]


def pooled_dim(config: Poolable, rule: str) -> int:
    """Return the length of the vector that ``rule`` makes."""
    check_pooling(rule, config)
    if rule == "embedding":
        return config.embedding_dim or config.num_features
    return 2 * config.num_features if rule == "cls+patch-mean" else config.num_features


def check_pooling(rule: str, config: Poolable | None = None) -> None:
    """Raise ConfigError unless ``rule`` is one of :data:`POOLINGS`, and one that a model of ``config`` can follow."""
    if rule not in POOLINGS:
        raise ConfigError(f"pooling must be one of {', '.join(POOLINGS)}, not {rule!r}")
    if config is None or config.class_token:
        return
    if rule in ("cls", "cls+patch-mean"):
        other = ", or 'embedding' for its attention pool" if config.attention_pool else ""
        raise ConfigError(f"pooling {rule!r}: {NO_CLASS}{other}")
    if rule == "embedding" and not config.attention_pool:
        raise ConfigError(f"pooling 'embedding' needs a class token or an attention pool; {NO_CLASS}")


def usual_pooling(config: Poolable) -> str:
    """Return the rule that fits a model of which nothing else is known.

    Its own embedding where it has an attention pool or a projection; else the class token, or without one the mean.
    """
    if config.attention_pool or config.embedding_dim:
        return "embedding"
    return "cls" if config.class_token else "patch-mean"


def pool(tokens: Tokens, rule: str) -> Array:
    """Turn the tokens of each image into one vector.

    Parameters
    ----------
    rule
        ``"cls"``: the class token. ``"patch-mean"``: the mean of the patch tokens (no prefix token takes part).
        ``"cls+patch-mean"``: the one after the other, twice as long. ``"gem"``: the generalised mean of the patch
        tokens with power 3, which lies between mean and maximum; negative entries count as zero. ``"embedding"``, the
        model's own image embedding, takes parameters: :func:`vitseek.models.vit.image_embedding`.

    Returns
    -------
    shape (B, D), or (B, 2 D) for ``"cls+patch-mean"``; dtype of the tokens

    Raises
    ------
    ConfigError
        If there is no such rule, or it needs a class token or parameters, and there are none.
    ShapeError
        If no patch token is left to average.
    """
    check_pooling(rule)
    if rule == "embedding":
        raise ConfigError("pooling 'embedding' takes the model's parameters: ask the model itself for its embeddings")
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


def pool_weighted(tokens: Array, sizes: Array, rule: str, *, num_prefix_tokens: int) -> Array:
    """Do :func:`pool` for tokens of which each stands for several patches.

    Parameters
    ----------
    tokens : shape (B, N, D)
        Prefix tokens, the class token first among them where there is one, then the others.
    sizes : shape (B, N)
        How often each token counts in a mean.
    """
    patches, shares = tokens[:, num_prefix_tokens:], sizes[:, num_prefix_tokens:]
    shares = shares / shares.sum(axis=1, keepdims=True)  # (B, P)
    if rule == "gem":
        powers = np.maximum(patches, patches.dtype.type(GEM_FLOOR)) ** patches.dtype.type(GEM_POWER)
        gem: Array = (shares[:, None] @ powers)[:, 0] ** patches.dtype.type(1 / GEM_POWER)
        return gem
    mean: Array = (shares[:, None] @ patches)[:, 0]  # (B, D)
    return np.concatenate([tokens[:, 0], mean], axis=1) if rule == "cls+patch-mean" else mean


def resolve_blocks(blocks: Sequence[int], depth: int) -> list[int]:
    """Return block numbers with negative ones counted from the end; ConfigError if one does not exist."""
    for block in blocks:
        if not -depth <= block < depth:
            raise ConfigError(f"no block {block}: the model has blocks 0 to {depth - 1} (or -1 for the last)")
    return [block % depth for block in blocks]
