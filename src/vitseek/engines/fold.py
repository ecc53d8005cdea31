"""Fold into the weights what does not depend on the image, once, so that a pass has fewer steps.

- The scale and shift of a LayerNorm go into the linear layer behind it: W (γ n + β) + b = (W γ) n + (W β + b).
- LayerScale goes into the layer before it: γ (W x + b) = (γ W) x + γ b.
- The attention scale 1 / √d goes into the query's rows of ``qkv``.
- The halves of GELU and SiLU go into the layer behind, and for SiLU's inner half into the layer before.

All weights become (in, out) and contiguous, which OpenBLAS multiplies a little faster than (out, in): see
``python -m benchmarks.forward --gemm``. The result equals the plain pass but for rounding (tests/engines and
tests/parity).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.models.config import ViTConfig

Array = NDArray[np.floating]
Params = Mapping[str, Array]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FoldedBlock:
    """Weights of one block; (in, out), D width, F feed-forward width."""

    qkv_weight: Array  # (D, 3 D), the query's part scaled
    qkv_bias: Array  # (3 D,)
    proj_weight: Array  # (D, D)
    proj_bias: Array  # (D,)
    up_weight: Array  # (D, F), or (D, 2 F) for SwiGLU: half the gate, then the value
    up_bias: Array
    down_weight: Array  # (F, D), halved for GELU
    down_bias: Array  # (D,)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FoldedWeights:
    """Everything that a pass needs, in one dtype."""

    patch_weight: Array  # (3 p p, D)
    patch_bias: Array  # (D,)
    prefix: Array  # (prefix tokens, D), with their positions; registers have none
    patch_positions: Array  # (rows * columns, D) of the trained grid
    blocks: tuple[FoldedBlock, ...]
    norm_weight: Array  # (D,)
    norm_bias: Array  # (D,)
    heads: Mapping[str, Array]  # head.* and head_dist.* as they are

    @property
    def dtype(self) -> np.dtype[np.floating]:
        return self.patch_weight.dtype


def fold(params: Params, config: ViTConfig, dtype: DTypeLike = np.float32) -> FoldedWeights:
    """Return folded copies of ``params``; biases are worked out in float64 and rounded once."""
    positions = params["pos_embed"][0].astype(np.float64)  # (prefix + P, D)
    front = config.num_position_prefix
    tokens = [params[name][0] for name in ("cls_token", "dist_token") if name in params]
    registers = [params["reg_token"][0]] if config.num_registers else []
    return FoldedWeights(
        patch_weight=_transposed(params["patch_embed.proj.weight"].reshape(config.embed_dim, -1), dtype),
        patch_bias=params["patch_embed.proj.bias"].astype(dtype),
        prefix=np.concatenate([np.concatenate(tokens) + positions[:front], *registers]).astype(dtype),
        patch_positions=positions[front:].astype(dtype),
        blocks=tuple(_fold_block(params, config, f"blocks.{index}", dtype) for index in range(config.depth)),
        norm_weight=params["norm.weight"].astype(dtype),
        norm_bias=params["norm.bias"].astype(dtype),
        heads={name: params[name].astype(dtype) for name in params if name.startswith(("head.", "head_dist."))},
    )


def _fold_block(params: Params, config: ViTConfig, block: str, dtype: DTypeLike) -> FoldedBlock:
    width = config.embed_dim
    query_scale = np.ones(3 * width)
    query_scale[:width] = 1 / math.sqrt(config.head_dim)
    swiglu = config.mlp_layer == "swiglu"
    up, down = ("w12", "w3") if swiglu else ("fc1", "fc2")
    up_scale = np.ones(params[f"{block}.mlp.{up}.weight"].shape[0])
    if swiglu:
        up_scale[: config.mlp_dim] = 0.5  # the gate: silu(g) = h (1 + tanh h) with h = g / 2
    qkv_weight, qkv_bias = _fold_linear(params, f"{block}.attn.qkv", f"{block}.norm1", query_scale, dtype)
    proj_weight, proj_bias = _fold_linear(params, f"{block}.attn.proj", None, _gamma(params, f"{block}.ls1"), dtype)
    up_weight, up_bias = _fold_linear(params, f"{block}.mlp.{up}", f"{block}.norm2", up_scale, dtype)
    gamma = _gamma(params, f"{block}.ls2")
    down_weight, down_bias = _fold_linear(params, f"{block}.mlp.{down}", None, gamma, dtype)
    if not swiglu:
        down_weight *= 0.5  # exact; gelu(doubled=True) leaves its last half out
    return FoldedBlock(
        qkv_weight, qkv_bias, proj_weight, proj_bias, up_weight, up_bias, down_weight, down_bias
    )  # fmt: skip


def _fold_linear(
    params: Params, name: str, norm_before: str | None, scale_after: Array | float, dtype: DTypeLike
) -> tuple[Array, Array]:
    """Return scale_after * (weight (norm_before's affine part) + bias) as one (in, out) weight and one bias."""
    weight = params[f"{name}.weight"]  # (out, in)
    bias = params.get(f"{name}.bias")
    total = np.zeros(weight.shape[0]) if bias is None else bias.astype(np.float64)
    folded = _transposed(weight, dtype)  # (in, out)
    if norm_before is not None:
        total += weight.astype(np.float64) @ params[f"{norm_before}.bias"].astype(np.float64)
        folded *= params[f"{norm_before}.weight"].astype(dtype)[:, None]
    folded *= np.asarray(scale_after, dtype=dtype)
    return folded, (total * scale_after).astype(dtype)


def _gamma(params: Params, name: str) -> Array | float:
    gamma = params.get(f"{name}.gamma")
    return 1.0 if gamma is None else gamma.astype(np.float64)


def _transposed(weight: Array, dtype: DTypeLike) -> Array:
    return np.array(weight.T, dtype=dtype, order="C")
