"""The Vision Transformer, read from top to bottom as in the paper (Dosovitskiy et al., 2021), one shape a line.

One forward pass serves ViT, DeiT (distilled or not), DINO, DINOv2 and DINOv2 with registers: they differ in prefix
tokens, LayerScale, the feed-forward layer and how positions are resized, and :class:`ViTConfig` says which. The
parameters are a mapping of arrays under timm's names; nothing is changed in place but arrays made here. This is the
reference: the engine (:mod:`vitseek.engines.numpy_engine`) computes the same faster and is tested against it.

Shapes: B images, N tokens, P patches, D width, H heads, d = D / H, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import ConfigError, DTypeError, ShapeError
from vitseek.models.config import ViTConfig
from vitseek.models.tokens import POOLINGS as POOLINGS
from vitseek.models.tokens import Tokens as Tokens
from vitseek.models.tokens import pool as pool
from vitseek.nn.activations import gelu, silu
from vitseek.nn.attention import attention, attention_weights, split_heads
from vitseek.nn.layers import layer_norm, linear, patchify
from vitseek.nn.resample import resize_grid

Array = NDArray[np.floating]
Params = Mapping[str, Array]
Stages = Callable[[str, Array], None]

POSITION_OFFSET = (
    0.1  # facebookresearch's DINO and DINOv2: added to the size in patches "to avoid floating point error"
)


def forward_features(
    params: Params,
    config: ViTConfig,
    pixels: Array,
    *,
    attention_blocks: Sequence[int] = (),
    stages: Stages | None = None,
) -> Tokens:
    """Turn normalised pixels into tokens after the final LayerNorm.

    Parameters
    ----------
    params
        Arrays under the names and shapes of :func:`vitseek.models.config.parameter_shapes`.
    pixels : shape (B, 3, height, width)
        Any multiples of the patch; need not be the size that the model was trained for.
    attention_blocks
        Blocks whose attention weights to keep; negative numbers count from the last block.
    stages
        Called with a name and tokens of shape (B, N, D) after each step: ``"embed"``, ``"block.0"`` …, ``"norm"``.

    Returns
    -------
    Tokens, in the dtype of ``pixels``

    Raises
    ------
    ShapeError
        If ``pixels`` has another shape or does not divide into patches.
    DTypeError
        If ``pixels`` and the parameters are not both float32 or both float64.
    """
    check_pixels(config, pixels, dtype=params["cls_token"].dtype)
    wanted = resolve_blocks(attention_blocks, config.depth)
    kept: dict[int, Array] = {}
    tell = stages or _ignore

    x = embed_patches(params, config, pixels)  # (B, N, D)
    tell("embed", x)
    for index in range(config.depth):
        block = f"blocks.{index}"
        query, key, value = attention_inputs(params, config, block, x)  # each (B, H, N, d)
        if index in wanted:
            kept[index] = attention_weights(query, key)  # (B, H, N, N)
        mixed = attention(query, key, value)  # (B, N, D)
        branch = linear(mixed, params[f"{block}.attn.proj.weight"], params[f"{block}.attn.proj.bias"])
        x = x + _layer_scale(params, f"{block}.ls1", branch)  # (B, N, D)
        x = x + _layer_scale(params, f"{block}.ls2", feed_forward(params, config, block, x))  # (B, N, D)
        tell(f"block.{index}", x)
    x = layer_norm(x, params["norm.weight"], params["norm.bias"], eps=config.norm_eps)  # (B, N, D)
    tell("norm", x)

    rows, columns = (side // config.patch_size for side in pixels.shape[2:])
    return Tokens(
        all=x,
        grid=(rows, columns),
        num_registers=config.num_registers,
        distilled=config.distilled,
        attention={index: kept[index] for index in wanted},
    )


def embed_patches(params: Params, config: ViTConfig, pixels: Array) -> Array:
    """Project patches, add positions, and put the prefix tokens in front; shape (B, N, D).

    Registers come after the positions were added: they have none.
    """
    batch, _, height, width = pixels.shape
    kernel = params["patch_embed.proj.weight"].reshape(config.embed_dim, -1)  # (D, 3 p p)
    patches = linear(patchify(pixels, config.patch_size), kernel, params["patch_embed.proj.bias"])  # (B, P, D)
    prefix = [params["cls_token"], params["dist_token"]] if config.distilled else [params["cls_token"]]
    x = np.concatenate([*(np.repeat(token, batch, axis=0) for token in prefix), patches], axis=1)
    x += position_embedding(params, config, height // config.patch_size, width // config.patch_size)
    if config.num_registers:
        registers = np.repeat(params["reg_token"], batch, axis=0)  # (B, R, D)
        x = np.concatenate([x[:, :1], registers, x[:, 1:]], axis=1)
    return x


def position_embedding(params: Params, config: ViTConfig, rows: int, columns: int) -> Array:
    """Return positions for a grid of ``rows`` x ``columns`` patches, shape (1, prefix + rows * columns, D).

    The trained grid is used as it is; for any other, its patch part is resized by the rule ``config.pos_resize``. The
    positions of class and distillation token do not change.

    Source: ``interpolate_pos_encoding`` of transformers' ViT, DeiT, Dinov2 and Dinov2WithRegisters, and
    facebookresearch/dinov2, dinov2/models/vision_transformer.py.
    """
    positions, prefix = params["pos_embed"], config.num_position_prefix
    if (rows, columns) == config.grid:
        return positions
    resized = resize_positions(positions[0, prefix:], config, rows, columns)  # (rows * columns, D)
    return np.concatenate([positions[:, :prefix], resized[None]], axis=1)


def resize_positions(patch_positions: Array, config: ViTConfig, rows: int, columns: int) -> Array:
    """Resize the patch part of the positions, shape (P, D), to (rows * columns, D); the trained grid stays as it is."""
    if (rows, columns) == config.grid:
        return patch_positions
    resized = resize_grid(
        patch_positions.reshape(*config.grid, config.embed_dim),
        (rows, columns),
        method="bicubic" if config.pos_resize == "bicubic-offset" else config.pos_resize,
        offset=POSITION_OFFSET if config.pos_resize == "bicubic-offset" else 0.0,
    )
    return resized.reshape(rows * columns, config.embed_dim)


def attention_inputs(params: Params, config: ViTConfig, block: str, x: Array) -> tuple[Array, Array, Array]:
    """Return query, key and value of a block, each of shape (B, H, N, d)."""
    normed = layer_norm(x, params[f"{block}.norm1.weight"], params[f"{block}.norm1.bias"], eps=config.norm_eps)
    qkv = linear(normed, params[f"{block}.attn.qkv.weight"], params.get(f"{block}.attn.qkv.bias"))  # (B, N, 3 D)
    query, key, value = (split_heads(part, config.num_heads) for part in np.split(qkv, 3, axis=-1))
    return query, key, value


def feed_forward(params: Params, config: ViTConfig, block: str, x: Array) -> Array:
    """Return what the feed-forward branch adds to each token, before LayerScale; shape (B, N, D)."""
    normed = layer_norm(x, params[f"{block}.norm2.weight"], params[f"{block}.norm2.bias"], eps=config.norm_eps)
    if config.mlp_layer == "swiglu":
        both = linear(normed, params[f"{block}.mlp.w12.weight"], params[f"{block}.mlp.w12.bias"])  # (B, N, 2 F)
        gate, up = np.split(both, 2, axis=-1)
        return linear(silu(gate) * up, params[f"{block}.mlp.w3.weight"], params[f"{block}.mlp.w3.bias"])
    hidden = linear(normed, params[f"{block}.mlp.fc1.weight"], params[f"{block}.mlp.fc1.bias"])  # (B, N, F)
    return linear(gelu(hidden, out=hidden), params[f"{block}.mlp.fc2.weight"], params[f"{block}.mlp.fc2.bias"])


def classify(params: Params, config: ViTConfig, tokens: Tokens) -> Array:
    """Return the logits of the checkpoint's own classes, shape (B, num_classes).

    A distilled model has two heads and its answer is their mean (DeiT, section 3).

    Raises
    ------
    ConfigError
        If the model has no head.
    """
    if not config.num_classes:
        raise ConfigError("this model has no classification head: load a checkpoint with one, or use its features")
    features = pool(tokens, config.head_input)
    logits = linear(features, params["head.weight"], params["head.bias"])
    if tokens.dist_token is None:
        return logits
    distilled = linear(tokens.dist_token, params["head_dist.weight"], params["head_dist.bias"])
    return (logits + distilled) / 2


def check_pixels(config: ViTConfig, pixels: Array, *, dtype: np.dtype[np.floating]) -> None:
    """Raise ShapeError or DTypeError unless ``pixels`` is what a model with parameters of ``dtype`` takes."""
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ShapeError(f"pixels must have the shape (batch, 3, height, width), not {pixels.shape}")
    for side_px in pixels.shape[2:]:
        if side_px < config.patch_size or side_px % config.patch_size:
            raise ShapeError(
                f"an image of {pixels.shape[2]} x {pixels.shape[3]} px (height x width) does not divide into "
                f"{config.patch_size} px patches: resize or crop it to multiples of {config.patch_size} px"
            )
    if pixels.dtype != dtype or dtype not in (np.float32, np.float64):
        raise DTypeError(
            f"pixels are {pixels.dtype} and the parameters {dtype}: make both float32 (or both float64, for tests)"
        )


def resolve_blocks(blocks: Sequence[int], depth: int) -> list[int]:
    """Return block numbers with negative ones counted from the end; ConfigError if one does not exist."""
    for block in blocks:
        if not -depth <= block < depth:
            raise ConfigError(f"no block {block}: the model has blocks 0 to {depth - 1} (or -1 for the last)")
    return [block % depth for block in blocks]


def _layer_scale(params: Params, name: str, branch: Array) -> Array:
    gamma = params.get(f"{name}.gamma")
    return branch if gamma is None else branch * gamma


def _ignore(name: str, tokens: Array) -> None:
    pass
