"""Fold into the weights what does not depend on the image, once, so that a pass has fewer steps.

- The scale and shift of a norm go into the linear layer behind it: W (γ n + β) + b = (W γ) n + (W β + b).
- LayerScale goes into the layer before it: γ (W x + b) = (γ W) x + γ b.
- The attention scale 1 / √d goes into the query's rows of ``qkv``.
- The constants of the activations go into the layers around them: the halves of GELU and SiLU, the slope of quick GELU.
- With rotary positions, the rows of query and key are put into another order, the same for both, so that the two
  channels of a pair are neighbours: one complex multiplication turns them. Their products do not change.
- Softmax does not see what is added to all scores of a query alike, so the bias of the keys disappears (not with rotary
  positions, which turn it); shares sum to 1, so the bias of the values goes through ``proj`` into its bias.
- A missing bias becomes zeros, or disappears in a bias that arises anyway.

All weights become (in, out) and contiguous, which OpenBLAS multiplies a little faster than (out, in): see
``python -m benchmarks.forward --gemm``. The result equals the plain pass but for rounding (tests/engines and
tests/parity).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.models.config import ViTConfig
from vitseek.nn.activations import QUICK_GELU_SLOPE

Array = NDArray[np.floating]
Params = Mapping[str, Array]

# What the activation of kernels.py lacks, to be multiplied to its input and its output.
ACTIVATION_SCALES = {
    "gelu": (1.0, 0.5),
    "gelu-tanh": (1.0, 0.5),
    "quick-gelu": (
        QUICK_GELU_SLOPE / 2,
        1 / QUICK_GELU_SLOPE,
    ),  # h (1 + tanh h) with h = 0.851 x is 1.702 quick-gelu(x)
}
STRIP_COLUMNS = 64
GATE_SCALE = 0.5  # silu(g) = h (1 + tanh h) with h = g / 2


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FoldedNorm:
    """Scale and shift of a norm that no linear layer follows."""

    weight: Array  # (D,)
    bias: Array | None  # (D,); RMSNorm has none


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FoldedMlp:
    """Weights of a feed-forward with the norm before it; (in, out), D width, F feed-forward width."""

    up_weight: Array  # (D, F), or (D, 2 F) for SwiGLU: half the gate, then the value
    up_bias: Array
    down_weight: Array  # (F, D)
    down_bias: Array  # (D,)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FoldedBlock:
    """Weights of one block; (in, out)."""

    qkv_weight: Array  # (D, 3 D), the query's part scaled
    qk_bias: Array  # (D,) of the queries, or with rotary positions (2 D,) of queries and keys
    proj_weight: Array  # (D, D)
    proj_bias: Array  # (D,)
    mlp: FoldedMlp


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FoldedPool:
    """Weights of an attention pool. Its query is constant, so its key projection shrinks to one vector a head:

    qᵀ (K x + b) = (Kᵀ q)ᵀ x + qᵀ b, and softmax does not see what is added to all scores alike. Shares sum to 1, so
    values are projected after they were averaged.
    """

    score_weight: Array  # (D, H), scaled
    value_weight: Array  # (H, D, d)
    value_bias: Array  # (D,)
    proj_weight: Array  # (D, D)
    proj_bias: Array  # (D,)
    mlp: FoldedMlp


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FoldedWeights:
    """Everything that a pass needs, in one dtype."""

    patch_weight: Array  # (3 p p, D)
    patch_bias: Array  # (D,)
    patch_norm: FoldedNorm | None
    prefix: Array  # (prefix tokens, D), with their positions; registers have none
    patch_positions: Array | None  # (rows * columns, D) of the trained grid
    pre_norm: FoldedNorm | None
    blocks: tuple[FoldedBlock, ...]
    norm: FoldedNorm
    pool: FoldedPool | None
    projection: Array | None  # (D, E)
    heads: Mapping[str, Array]  # head.* and head_dist.* as they are

    @property
    def dtype(self) -> np.dtype[np.floating]:
        return self.patch_weight.dtype


def fold(params: Params, config: ViTConfig, dtype: DTypeLike = np.float32, *, threads: int = 1) -> FoldedWeights:
    """Return folded copies of ``params``; biases are worked out in float64 and rounded once.

    ``threads`` share the blocks: a search for one picture waits for this.
    """
    prefix, patch_positions = _fold_positions(params, config)
    projection = params["projection.weight"] if config.embedding_dim else None
    names = [f"blocks.{index}" for index in range(config.depth)]
    with ThreadPoolExecutor(threads, thread_name_prefix="vitseek-fold") as pool:
        blocks = tuple(pool.map(lambda name: _fold_block(params, config, name, dtype), names))
    return FoldedWeights(
        patch_weight=_transposed(params["patch_embed.proj.weight"].reshape(config.embed_dim, -1), dtype),
        patch_bias=_bias(params, "patch_embed.proj", config.embed_dim).astype(dtype),
        patch_norm=_fold_norm(params, "patch_embed.norm", dtype) if config.patch_norm else None,
        prefix=prefix.astype(dtype),
        patch_positions=None if patch_positions is None else patch_positions.astype(dtype),
        pre_norm=_fold_norm(params, "norm_pre", dtype) if config.pre_norm else None,
        blocks=blocks,
        norm=_fold_norm(params, "norm", dtype),
        pool=_fold_pool(params, config, dtype) if config.attention_pool else None,
        projection=None if projection is None else _transposed(projection, dtype),
        heads={name: params[name].astype(dtype) for name in params if name.startswith(("head.", "head_dist."))},
    )


def _fold_positions(params: Params, config: ViTConfig) -> tuple[Array, Array | None]:
    """Return the prefix tokens with their positions, and the positions of the trained grid."""
    front = config.num_position_prefix
    placed = [params[name][0] for name in ("cls_token", "dist_token")[:front]]
    registers = [params["reg_token"][0]] if config.num_registers else []
    prefix = np.concatenate([np.empty((0, config.embed_dim)), *placed, *registers]).astype(np.float64)
    if config.pos_embed != "learned":
        return prefix, None
    positions = params["pos_embed"][0].astype(np.float64)  # (prefix + P, D)
    prefix[:front] += positions[:front]
    return prefix, positions[front:]


def _fold_block(params: Params, config: ViTConfig, block: str, dtype: DTypeLike) -> FoldedBlock:
    width = config.embed_dim
    query_scale = np.ones(3 * width)
    query_scale[:width] = 1 / math.sqrt(config.head_dim)
    order = _rotary_order(config) if config.pos_embed == "rope" else None
    qkv_weight, qkv_bias = _fold_linear(params, f"{block}.attn.qkv", f"{block}.norm1", query_scale, dtype, order=order)
    proj_weight, proj_bias = _fold_linear(params, f"{block}.attn.proj", None, _gamma(params, f"{block}.ls1"), dtype)
    passed_on = _times(proj_weight.T, qkv_bias[2 * width :])
    kept = width if order is None else 2 * width
    mlp = _fold_mlp(params, config, f"{block}.mlp", f"{block}.norm2", _gamma(params, f"{block}.ls2"), dtype)
    return FoldedBlock(qkv_weight, qkv_bias[:kept], proj_weight, (proj_bias + passed_on).astype(dtype), mlp)


def _rotary_order(config: ViTConfig) -> NDArray[np.intp]:
    """Which row of ``qkv`` comes where: in a head of query or key, channel i + d / 2 comes right after channel i."""
    pairs = np.arange(2 * config.embed_dim).reshape(2 * config.num_heads, 2, config.head_dim // 2)
    value = np.arange(2 * config.embed_dim, 3 * config.embed_dim)
    return np.concatenate([pairs.transpose(0, 2, 1).ravel(), value])


def _fold_mlp(
    params: Params, config: ViTConfig, name: str, norm: str, gamma: Array | float, dtype: DTypeLike
) -> FoldedMlp:
    if config.mlp_layer == "swiglu":
        up_scale = np.repeat([GATE_SCALE, 1.0], config.mlp_dim)
        up = _fold_linear(params, f"{name}.w12", norm, up_scale, dtype)
        return FoldedMlp(*up, *_fold_linear(params, f"{name}.w3", None, gamma, dtype))
    before, after = ACTIVATION_SCALES[config.mlp_layer]
    up = _fold_linear(params, f"{name}.fc1", norm, before, dtype)
    down_weight, down_bias = _fold_linear(params, f"{name}.fc2", None, gamma, dtype)
    down_weight *= after
    return FoldedMlp(*up, down_weight, down_bias)


def _fold_pool(params: Params, config: ViTConfig, dtype: DTypeLike) -> FoldedPool:
    width, heads, head_dim = config.embed_dim, config.num_heads, config.head_dim
    query = params["attn_pool.q.weight"].astype(np.float64) @ params["attn_pool.latent"][0, 0]
    query = (query + params["attn_pool.q.bias"]) / math.sqrt(head_dim)  # (D,)
    key, value = params["attn_pool.kv.weight"].astype(np.float64).reshape(2, heads, head_dim, width)
    return FoldedPool(
        score_weight=_transposed(np.einsum("hd,hdw->hw", query.reshape(heads, head_dim), key), dtype),
        value_weight=np.array(value.transpose(0, 2, 1), dtype=dtype, order="C"),
        value_bias=params["attn_pool.kv.bias"][width:].astype(dtype),
        proj_weight=_transposed(params["attn_pool.proj.weight"], dtype),
        proj_bias=params["attn_pool.proj.bias"].astype(dtype),
        mlp=_fold_mlp(params, config, "attn_pool.mlp", "attn_pool.norm", 1.0, dtype),
    )


def _fold_linear(
    params: Params,
    name: str,
    norm_before: str | None,
    scale_after: Array | float,
    dtype: DTypeLike,
    *,
    order: NDArray[np.intp] | None = None,
) -> tuple[Array, Array]:
    """Return scale_after * (weight (norm_before's affine part) + bias) as one (in, out) weight and one bias.

    ``order`` says which output comes where; ``scale_after`` belongs to the outputs in their old places.
    """
    weight = params[f"{name}.weight"]  # (out, in)
    total = _bias(params, name, weight.shape[0])
    if norm_before is not None and f"{norm_before}.bias" in params:
        total += _times(weight, params[f"{norm_before}.bias"])
    total *= scale_after
    scale = np.asarray(scale_after, dtype=dtype)
    if order is not None:
        weight, total = weight[order], total[order]
        scale = scale[order] if scale.ndim else scale
    gain = None if norm_before is None else params[f"{norm_before}.weight"].astype(dtype)
    return _transposed(weight, dtype, gain=gain, scale=scale), total.astype(dtype)


def _fold_norm(params: Params, name: str, dtype: DTypeLike) -> FoldedNorm:
    bias = params.get(f"{name}.bias")
    return FoldedNorm(params[f"{name}.weight"].astype(dtype), None if bias is None else bias.astype(dtype))


def _bias(params: Params, name: str, size: int) -> Array:
    bias = params.get(f"{name}.bias")
    return np.zeros(size) if bias is None else bias.astype(np.float64)


def _gamma(params: Params, name: str) -> Array | float:
    gamma = params.get(f"{name}.gamma")
    return 1.0 if gamma is None else gamma.astype(np.float64)


def _times(weight: Array, vector: Array) -> Array:
    """Return weight (out, in) @ vector (in,) in float64, without a copy of the weight in float64."""
    wide = vector.astype(np.float64)
    starts = range(0, weight.shape[0], STRIP_COLUMNS)
    return np.concatenate([weight[start : start + STRIP_COLUMNS].astype(np.float64) @ wide for start in starts])


def _transposed(weight: Array, dtype: DTypeLike, *, gain: Array | None = None, scale: Array | float = 1.0) -> Array:
    """Return (out, in) as (in, out), its rows multiplied by ``gain`` and its columns by ``scale``.

    A strip of columns at a time, because NumPy turns a whole matrix through by jumps that no cache holds.
    """
    turned = np.empty(weight.shape[::-1], dtype=dtype)
    for start in range(0, weight.shape[0], STRIP_COLUMNS):
        part = slice(start, start + STRIP_COLUMNS)
        strip = turned[:, part]
        strip[...] = weight[part].T
        if gain is not None:
            strip *= gain[:, None]
        strip *= scale[part] if isinstance(scale, np.ndarray) and scale.ndim else scale
    return turned
