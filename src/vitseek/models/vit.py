"""The Vision Transformer, read from top to bottom as in the paper (Dosovitskiy et al., 2021), one shape a line.

One forward pass serves ViT, DeiT (distilled or not), MAE, DINO, DINOv2 and DINOv3, the image towers of CLIP, SigLIP and
SigLIP 2, I-JEPA and AIMv2: they differ in prefix tokens, norms, biases, positions, the feed-forward layer and what is
made of the tokens in the end, and :class:`ViTConfig` says which. The parameters are a mapping of arrays under timm's
names; nothing is changed in place but arrays made here. This is the reference:
the engine (:mod:`vitseek.engines.numpy_engine`) computes the same faster and is tested against it.

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
from vitseek.models.tokens import check_pooling
from vitseek.models.tokens import pool as pool
from vitseek.models.tokens import resolve_blocks as resolve_blocks
from vitseek.nn.activations import gelu, gelu_tanh, quick_gelu, silu
from vitseek.nn.attention import attention, attention_weights, split_heads
from vitseek.nn.attention_pool import pool_by_attention
from vitseek.nn.layers import layer_norm, linear, patchify, rms_norm
from vitseek.nn.resample import resize_grid
from vitseek.nn.rotary import rotary_angles, rotate

Array = NDArray[np.floating]
Params = Mapping[str, Array]
Stages = Callable[[str, Array], None]
Rotation = tuple[Array, Array]  # cos and sin, each of shape (P, d / 2)

ACTIVATIONS = {"gelu": gelu, "quick-gelu": quick_gelu, "gelu-tanh": gelu_tanh}
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
    """Turn normalised pixels into tokens after the final norm.

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
    check_pixels(config, pixels, dtype=params["norm.weight"].dtype)
    wanted = resolve_blocks(attention_blocks, config.depth)
    kept: dict[int, Array] = {}
    tell = stages or _ignore
    rows, columns = (side // config.patch_size for side in pixels.shape[2:])

    x = embed_patches(params, config, pixels)  # (B, N, D)
    tell("embed", x)
    rotation = rotary_positions(config, rows, columns, x.dtype) if config.pos_embed == "rope" else None
    for index in range(config.depth):
        block = f"blocks.{index}"
        query, key, value = attention_inputs(params, config, block, x, rotation)  # each (B, H, N, d)
        if index in wanted:
            kept[index] = attention_weights(query, key)  # (B, H, N, N)
        mixed = _linear(params, f"{block}.attn.proj", attention(query, key, value))  # (B, N, D)
        x = x + _layer_scale(params, f"{block}.ls1", mixed)  # (B, N, D)
        x = x + _layer_scale(params, f"{block}.ls2", feed_forward(params, config, block, x))  # (B, N, D)
        tell(f"block.{index}", x)
    x = _norm(params, config, "norm", x)  # (B, N, D)
    tell("norm", x)

    return Tokens(
        all=x,
        grid=(rows, columns),
        num_registers=config.num_registers,
        distilled=config.distilled,
        class_token=config.class_token,
        attention={index: kept[index] for index in wanted},
    )


def embed_patches(params: Params, config: ViTConfig, pixels: Array) -> Array:
    """Project patches, add positions, and put the prefix tokens in front; shape (B, N, D).

    Registers come after the positions were added: they have none.
    """
    batch, _, height, width = pixels.shape
    kernel = params["patch_embed.proj.weight"].reshape(config.embed_dim, -1)  # (D, 3 p p)
    patches = linear(patchify(pixels, config.patch_size), kernel, params.get("patch_embed.proj.bias"))  # (B, P, D)
    if config.patch_norm:
        patches = _norm(params, config, "patch_embed.norm", patches)
    prefix = ["cls_token"] * config.class_token + ["dist_token"] * config.distilled
    x = np.concatenate([*(np.repeat(params[name], batch, axis=0) for name in prefix), patches], axis=1)
    if config.pos_embed == "learned":
        x += position_embedding(params, config, height // config.patch_size, width // config.patch_size)
    if config.num_registers:
        registers = np.repeat(params["reg_token"], batch, axis=0)  # (B, R, D)
        front = config.num_position_prefix
        x = np.concatenate([x[:, :front], registers, x[:, front:]], axis=1)
    return _norm(params, config, "norm_pre", x) if config.pre_norm else x


def position_embedding(params: Params, config: ViTConfig, rows: int, columns: int) -> Array:
    """Return positions for a grid of ``rows`` x ``columns`` patches, shape (1, prefix + rows * columns, D).

    The trained grid is used as it is; for any other, its patch part is resized by the rule ``config.pos_resize``. The
    positions of class and distillation token do not change.

    Source: ``interpolate_pos_encoding`` of transformers' ViT, DeiT, Dinov2, Dinov2WithRegisters, CLIP and SigLIP,
    ``resize_positional_embeddings`` of its Siglip2, and facebookresearch/dinov2,
    dinov2/models/vision_transformer.py.
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


def rotary_positions(config: ViTConfig, rows: int, columns: int, dtype: np.dtype[np.floating]) -> Rotation:
    """Return cos and sin of the angles by which queries and keys of patches turn, each (rows * columns, d / 2)."""
    angles = rotary_angles(rows, columns, config.head_dim, theta=config.rope_theta)
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)


def attention_inputs(
    params: Params, config: ViTConfig, block: str, x: Array, rotation: Rotation | None = None
) -> tuple[Array, Array, Array]:
    """Return query, key and value of a block, each of shape (B, H, N, d), with rotary positions if there are such."""
    qkv = _linear(params, f"{block}.attn.qkv", _norm(params, config, f"{block}.norm1", x))  # (B, N, 3 D)
    query, key, value = (split_heads(part, config.num_heads) for part in np.split(qkv, 3, axis=-1))
    if rotation is not None:
        query, key = rotate(query, *rotation), rotate(key, *rotation)
    return query, key, value


def feed_forward(params: Params, config: ViTConfig, block: str, x: Array) -> Array:
    """Return what the feed-forward branch adds to each token, before LayerScale; shape (B, N, D)."""
    normed = _norm(params, config, f"{block}.norm2", x)
    if config.mlp_layer == "swiglu":
        gate, up = np.split(_linear(params, f"{block}.mlp.w12", normed), 2, axis=-1)  # each (B, N, F)
        return _linear(params, f"{block}.mlp.w3", silu(gate) * up)
    return two_layers(params, config, f"{block}.mlp", normed)


def two_layers(params: Params, config: ViTConfig, name: str, x: Array) -> Array:
    """Return the usual feed-forward: a wide linear layer, an activation, and a linear layer back to x's shape."""
    hidden = _linear(params, f"{name}.fc1", x)  # (B, N, F)
    return _linear(params, f"{name}.fc2", ACTIVATIONS[config.mlp_layer](hidden, out=hidden))


def features(params: Params, config: ViTConfig, tokens: Tokens, rule: str) -> Array:
    """Turn the tokens of each image into one vector by any rule of :data:`POOLINGS`.

    Raises
    ------
    ConfigError
        If there is no such rule, or this model cannot follow it.
    """
    check_pooling(rule, config)
    return image_embedding(params, config, tokens) if rule == "embedding" else pool(tokens, rule)


def image_embedding(params: Params, config: ViTConfig, tokens: Tokens) -> Array:
    """Return the model's own embedding of each image: what CLIP and SigLIP compare with texts.

    The attention pool if the model has one, else the class token; then the projection if it has one.

    Returns
    -------
    shape (B, embedding_dim), or (B, D) where nothing is projected
    """
    pooled = attention_pool(params, config, tokens) if config.attention_pool else tokens.cls_token.copy()  # (B, D)
    return linear(pooled, params["projection.weight"]) if config.embedding_dim else pooled


def attention_pool(params: Params, config: ViTConfig, tokens: Tokens) -> Array:
    """Return what the learned query finds in all tokens, after a feed-forward of its own; shape (B, D)."""
    x = pool_by_attention(params, "attn_pool", tokens.all, num_heads=config.num_heads)  # (B, 1, D)
    x = x + two_layers(params, config, "attn_pool.mlp", _norm(params, config, "attn_pool.norm", x))
    return x[:, 0]


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
    logits = linear(pool(tokens, config.head_input), params["head.weight"], params["head.bias"])
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


def _linear(params: Params, name: str, x: Array) -> Array:
    return linear(x, params[f"{name}.weight"], params.get(f"{name}.bias"))


def _norm(params: Params, config: ViTConfig, name: str, x: Array) -> Array:
    if config.norm_layer == "rmsnorm":
        return rms_norm(x, params[f"{name}.weight"], eps=config.norm_eps)
    return layer_norm(x, params[f"{name}.weight"], params[f"{name}.bias"], eps=config.norm_eps)


def _layer_scale(params: Params, name: str, branch: Array) -> Array:
    gamma = params.get(f"{name}.gamma")
    return branch if gamma is None else branch * gamma


def _ignore(name: str, tokens: Array) -> None:
    pass
