"""Fewer tokens, for speed: merging those that are alike, or dropping those that the class token does not look at.

*Merging* is ToMe (Bolya et al., "Token Merging: Your ViT But Faster", 2023). Between attention and the feed-forward,
the patches are dealt to two sets in turn; each of the first set finds the one of the second whose key is most like its
own (cosine, keys averaged over heads), and the r most similar pairs become their average. A token counts in later
attention as often as it stands for patches: the logarithm of that is added to its scores.

*Pruning* is EViT (Liang et al., "Not All Patches Are What You Need", 2022). The patches that the class token attends to
most are kept, and the others become one token, their average weighted by that attention.

Unlike the papers, which reduce from the first block on, merging begins half way and pruning after two thirds of the
depth: the neighbours that a search finds are the same far more often for the same work (docs/performance.md).

Neither needs training. Class token, distillation token and registers are never touched. The steps here are for the
tokens of one image; which tokens go where depends on nothing but these, so that the batch does not matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import ConfigError
from vitseek.models.config import ViTConfig

Array = NDArray[np.floating]
Indices = NDArray[np.intp]

FEWEST_PATCHES = 4  # a reduction stops here: a tiny picture must not lose all it has
LARGEST_MERGE = 1024
FORMS = (
    "'none', 'merge-R' (R patches merge in a block, as 'merge-16'), "
    "or 'prune-K' (the share that is kept, as 'prune-0.7')"
)


@dataclass(frozen=True, slots=True)
class Reduction:
    """Which tokens a pass leaves out.

    Parameters
    ----------
    method
        ``"merge"`` or ``"prune"``; ``"none"`` leaves all.
    amount
        How many patches merge in each block of the second half; or the share of the patches that each of two blocks
        keeps.
    """

    method: Literal["none", "merge", "prune"] = "none"
    amount: float = 0

    @classmethod
    def parse(cls, text: str) -> Reduction:
        """Read what :meth:`key` writes.

        Raises
        ------
        ConfigError
            If it is something else.
        """
        if text == "none":
            return cls()
        if found := re.fullmatch(r"merge-(\d{1,4})", text):
            if 1 <= (merged := int(found[1])) <= LARGEST_MERGE:
                return cls("merge", merged)
        elif (found := re.fullmatch(r"prune-(0?\.\d{1,3})", text)) and (share := float(found[1])) > 0:
            return cls("prune", share)
        raise ConfigError(f"{text!r} is no way to leave out tokens: there are {FORMS}")

    def key(self) -> str:
        """The same in a few characters."""
        return "none" if self.method == "none" else f"{self.method}-{self.amount:g}"

    def __bool__(self) -> bool:
        return self.method != "none"

    def check(self, config: ViTConfig) -> None:
        """Raise :class:`ConfigError` if a model of ``config`` cannot leave tokens out in this way."""
        if self and config.pos_embed == "rope":
            raise ConfigError(
                f"{self.key()!r}: the model turns queries and keys by the place of each patch, and patches that became "
                "one have no place: take 'none', or smaller pictures"
            )
        if self.method == "prune" and not config.class_token:
            raise ConfigError(f"{self.key()!r} goes by what the class token looks at, and the model has none: merge")

    def patches_after(self, block: int, patches: int, depth: int) -> int:
        """How many of ``patches`` go on behind the attention of a block."""
        if self.method == "merge" and block >= depth // 2:
            merged = min(int(self.amount), patches // 2, patches - FEWEST_PATCHES)
            return patches - max(merged, 0)
        if self.method == "prune" and block in (2 * depth // 3, 5 * depth // 6):
            kept = max(int(np.ceil(self.amount * patches)), FEWEST_PATCHES)
            return min(kept + 1, patches)  # and what the others became
        return patches

    def tokens_after(self, tokens: int, config: ViTConfig, *, all_blocks: bool) -> list[int]:
        """How many tokens there are behind the attention of each block, for ``tokens`` at the beginning.

        Without ``all_blocks``, the last block is for the first tokens alone and leaves out none.
        """
        counts = []
        patches = tokens - config.num_prefix_tokens
        for block in range(config.depth):
            if all_blocks or block < config.depth - 1:
                patches = self.patches_after(block, patches, config.depth)
            counts.append(config.num_prefix_tokens + patches)
        return counts


NONE = Reduction()


def merge(x: Array, sizes: Array, keys: Array, merged: int) -> tuple[Array, Array]:
    """Merge the ``merged`` most similar pairs of patches.

    Parameters
    ----------
    x : shape (P, D)
    sizes : shape (P,)
        How many patches each stands for.
    keys : shape (P, d)
        What tells how alike they are; not normalised.

    Returns
    -------
    Tokens (P - merged, D) and their sizes: what is left of the first set, then the second set
    """
    units = keys / np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), np.finfo(keys.dtype).tiny)
    alike = units[0::2] @ units[1::2].T  # (first set, second set)
    partner = alike.argmax(axis=1)
    best = np.take_along_axis(alike, partner[:, None], axis=1)[:, 0]
    order = np.argsort(-best, kind="stable")
    going, staying = order[:merged], np.sort(order[merged:])
    first, second = x[0::2], x[1::2] * sizes[1::2, None]
    weights = sizes[1::2].copy()
    np.add.at(second, partner[going], first[going] * sizes[0::2][going, None])
    np.add.at(weights, partner[going], sizes[0::2][going])
    second /= weights[:, None]
    return np.concatenate([first[staying], second]), np.concatenate([sizes[0::2][staying], weights])


def prune(x: Array, sizes: Array, attention: Array, kept: int) -> tuple[Array, Array]:
    """Keep the patches with most ``attention``, in their order, and make one token of the others.

    Parameters
    ----------
    x : shape (P, D)
    sizes : shape (P,)
        How many patches each stands for.
    attention : shape (P,)
        What the class token gives to each; positive.

    Returns
    -------
    Tokens (kept + 1, D) and their sizes
    """
    order = np.argsort(-attention, kind="stable")
    staying, going = np.sort(order[:kept]), np.sort(order[kept:])
    shares = attention[going] / attention[going].sum()
    return np.concatenate([x[staying], shares[None] @ x[going]]), np.append(sizes[staying], sizes[going].sum())
