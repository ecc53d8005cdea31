"""Fold into a Swin Transformer's weights what does not depend on the image, once; see :mod:`vitseek.engines.fold`.

The scale and shift of a LayerNorm go into the linear layer behind it, the attention scale into the query's rows of
``qkv``, GELU's last half into the layer behind; the relative position bias and the mask of shifted windows become one
array to add. All weights become (in, out) and contiguous.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.models.swin_config import SwinConfig, block_name
from vitseek.nn.windows import relative_position_bias, shift_mask

Array = NDArray[np.floating]
Params = Mapping[str, Array]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FoldedSwinBlock:
    """Weights of one block; (in, out), D width, F feed-forward width."""

    qkv_weight: Array  # (D, 3 D), the query's part scaled
    qkv_bias: Array  # (3 D,)
    qkv_of_padding: Array  # (3 D,): padding comes after the norm, so the norm's shift is not in it
    bias_table: Array  # (distances, H)
    proj_weight: Array  # (D, D)
    proj_bias: Array  # (D,)
    up_weight: Array  # (D, F)
    up_bias: Array  # (F,)
    down_weight: Array  # (F, D), halved
    down_bias: Array  # (D,)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FoldedSwin:
    """Everything that a pass needs, in one dtype."""

    patch_weight: Array  # (3 p p, C)
    patch_bias: Array  # (C,)
    patch_norm: tuple[Array, Array]  # scale and shift, both (C,): the residual path begins behind them
    merges: tuple[tuple[Array, Array], ...]  # before stage 1, 2, …: (4 D, 2 D) and (2 D,)
    blocks: tuple[FoldedSwinBlock, ...]  # of all stages
    norm: tuple[Array, Array]
    head: Mapping[str, Array]  # head.fc.* as they are

    @property
    def dtype(self) -> np.dtype[np.floating]:
        return self.patch_weight.dtype


def fold_swin(params: Params, config: SwinConfig, dtype: DTypeLike = np.float32) -> FoldedSwin:
    """Return folded copies of ``params``; biases are worked out in float64 and rounded once."""

    def affine(name: str) -> tuple[Array, Array]:
        return params[f"{name}.weight"].astype(dtype), params[f"{name}.bias"].astype(dtype)

    merges = (f"layers.{stage}.downsample" for stage in range(1, len(config.depths)))
    return FoldedSwin(
        patch_weight=_transposed(params["patch_embed.proj.weight"].reshape(config.embed_dim, -1), dtype),
        patch_bias=params["patch_embed.proj.bias"].astype(dtype),
        patch_norm=affine("patch_embed.norm"),
        merges=tuple(_behind_norm(params, f"{name}.reduction", f"{name}.norm", dtype=dtype) for name in merges),
        blocks=tuple(_fold_block(params, config, stage, place, dtype) for stage, place in config.blocks()),
        norm=affine("norm"),
        head={name: params[name].astype(dtype) for name in params if name.startswith("head.")},
    )


def window_bias(table: Array, window: int, shift: int, trained: int) -> Array:
    """Return what is added to the scores of a window, by its kind, shape (kinds, H, w², w²).

    Without a shift there is one kind. With one, the last column of windows, the last row and their corner (kinds 1, 2
    and 3) have masks of their own.
    """
    bias = relative_position_bias(table, window, trained)[None]  # (1, H, w², w²)
    if not shift:
        return bias
    return bias + shift_mask(2 * window, 2 * window, window, shift, table.dtype)[:, None]


def _fold_block(params: Params, config: SwinConfig, stage: int, place: int, dtype: DTypeLike) -> FoldedSwinBlock:
    block, width = block_name(stage, place), config.width(stage)
    scale = np.ones(3 * width)
    scale[:width] = 1 / math.sqrt(width // config.num_heads[stage])
    qkv_weight, qkv_bias = _behind_norm(params, f"{block}.attn.qkv", f"{block}.norm1", scale, dtype=dtype)
    own_bias = params[f"{block}.attn.qkv.bias"] if config.qkv_bias else np.zeros(3 * width)
    up_weight, up_bias = _behind_norm(params, f"{block}.mlp.fc1", f"{block}.norm2", dtype=dtype)
    down_weight = _transposed(params[f"{block}.mlp.fc2.weight"], dtype)
    down_weight *= 0.5  # exact; gelu(doubled=True) leaves its last half out
    return FoldedSwinBlock(
        qkv_weight=qkv_weight,
        qkv_bias=qkv_bias,
        qkv_of_padding=(own_bias * scale).astype(dtype),
        bias_table=params[f"{block}.attn.relative_position_bias_table"].astype(dtype),
        proj_weight=_transposed(params[f"{block}.attn.proj.weight"], dtype),
        proj_bias=params[f"{block}.attn.proj.bias"].astype(dtype),
        up_weight=up_weight,
        up_bias=up_bias,
        down_weight=down_weight,
        down_bias=params[f"{block}.mlp.fc2.bias"].astype(dtype),
    )


def _behind_norm(
    params: Params, name: str, norm: str, scale_after: Array | None = None, *, dtype: DTypeLike
) -> tuple[Array, Array]:
    """Return a linear layer with the affine part of the norm before it, as one (in, out) weight and one bias."""
    weight, own_bias = params[f"{name}.weight"], params.get(f"{name}.bias")
    bias = weight.astype(np.float64) @ params[f"{norm}.bias"].astype(np.float64)
    if own_bias is not None:
        bias += own_bias
    folded = _transposed(weight, dtype)  # (in, out)
    folded *= params[f"{norm}.weight"].astype(dtype)[:, None]
    if scale_after is not None:
        folded *= scale_after.astype(dtype)
        bias *= scale_after
    return folded, bias.astype(dtype)


def _transposed(weight: Array, dtype: DTypeLike) -> Array:
    return np.array(weight.T, dtype=dtype, order="C")
