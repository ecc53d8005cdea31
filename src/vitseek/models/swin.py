"""The Swin Transformer, read from top to bottom as in the paper (Liu et al., 2021), one shape a line.

Attention stays within windows of a few tokens; every other block shifts the windows by half, so that neighbours in
different windows meet; between stages 2 x 2 tokens are merged into one. The parameters are a mapping of arrays under
timm's names; nothing is changed in place but arrays made here. This is the reference: the engine
(:mod:`vitseek.engines.swin_engine`) computes the same faster and is tested against it.

Shapes: B images, a grid of rows x columns tokens, D width of the stage, W windows of all images, w tokens along a
window, H heads, d = D / H, F feed-forward width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import ConfigError, DTypeError, ShapeError
from vitseek.models.swin_config import VARIANTS as VARIANTS
from vitseek.models.swin_config import SwinConfig as SwinConfig
from vitseek.models.swin_config import block_name
from vitseek.models.swin_config import swin_parameter_shapes as swin_parameter_shapes
from vitseek.models.tokens import Tokens, pool
from vitseek.models.tokens import resolve_blocks as resolve_blocks
from vitseek.nn.activations import gelu, softmax
from vitseek.nn.attention import split_heads
from vitseek.nn.layers import layer_norm, linear, patchify
from vitseek.nn.windows import (
    PADDING,
    cyclic_shift,
    merge_patches,
    pad_grid,
    partition,
    relative_position_bias,
    reverse,
    shift_mask,
    window_slots,
)

Array = NDArray[np.floating]
Params = Mapping[str, Array]
Stages = Callable[[str, Array], None]

MERGE_EPS = 1e-5  # torch's default, which no config of microsoft, timm or transformers changes in these two norms


def forward_features(
    params: Params,
    config: SwinConfig,
    pixels: Array,
    *,
    attention_blocks: Sequence[int] = (),
    stages: Stages | None = None,
) -> Tokens:
    """Turn normalised pixels into tokens after the final LayerNorm.

    Parameters
    ----------
    params
        Arrays under the names and shapes of :func:`swin_parameter_shapes`.
    pixels : shape (B, 3, height, width)
        Any size; what is missing to whole patches, windows and pairs is filled with zeros, as transformers does it.
    attention_blocks
        Blocks, counted through all stages, whose attention weights to keep; negative numbers count from the last.
        Their N is the number of tokens in that stage, and pairs in different windows get 0.
    stages
        Called with a name and tokens of shape (B, N, D) after each step: ``"embed"``, ``"block.0"`` …, ``"merge.1"``
        before the first block of stage 1 …, ``"norm"``.

    Returns
    -------
    Tokens, in the dtype of ``pixels``; there is no class token

    Raises
    ------
    ShapeError, DTypeError
        If ``pixels`` has another shape, or not the parameters' dtype.
    """
    check_pixels(pixels, dtype=params["patch_embed.proj.weight"].dtype)
    wanted = resolve_blocks(attention_blocks, config.depth)
    kept: dict[int, Array] = {}

    def tell(name: str, grid: Array) -> None:
        if stages is not None:
            stages(name, flat(grid))

    x = embed_patches(params, config, pixels)  # (B, rows, columns, C)
    tell("embed", x)
    for index, (stage, place) in enumerate(config.blocks()):
        if stage and not place:
            x = merge(params, f"layers.{stage}.downsample", x)  # (B, rows / 2, columns / 2, 2 D)
            tell(f"merge.{stage}", x)
        block, rows, columns = block_name(stage, place), *x.shape[1:3]
        branch, weights = window_attention(params, config, stage, place, x)
        if index in wanted:
            kept[index] = spread_weights(weights, *window_and_shift(config, place, rows, columns), rows, columns)
        x = x + branch  # (B, rows, columns, D)
        x = x + feed_forward(params, config, block, x)
        tell(f"block.{index}", x)
    x = layer_norm(x, params["norm.weight"], params["norm.bias"], eps=config.norm_eps)
    tell("norm", x)
    return Tokens(
        all=flat(x),
        grid=(x.shape[1], x.shape[2]),
        class_token=False,
        attention={index: kept[index] for index in wanted},
    )


def embed_patches(params: Params, config: SwinConfig, pixels: Array) -> Array:
    """Project patches and normalise them, shape (B, rows, columns, C); there are no positions to add."""
    whole = pad_pixels(pixels, config.patch_size)
    kernel = params["patch_embed.proj.weight"].reshape(config.embed_dim, -1)  # (C, 3 p p)
    patches = linear(patchify(whole, config.patch_size), kernel, params["patch_embed.proj.bias"])
    normed = layer_norm(patches, params["patch_embed.norm.weight"], params["patch_embed.norm.bias"], eps=MERGE_EPS)
    return normed.reshape(len(pixels), *(side // config.patch_size for side in whole.shape[2:]), config.embed_dim)


def merge(params: Params, name: str, x: Array) -> Array:
    """Put 2 x 2 tokens of width D into one of width 2 D."""
    merged = merge_patches(x)  # (B, rows / 2, columns / 2, 4 D)
    normed = layer_norm(merged, params[f"{name}.norm.weight"], params[f"{name}.norm.bias"], eps=MERGE_EPS)
    return linear(normed, params[f"{name}.reduction.weight"])


def window_and_shift(config: SwinConfig, place: int, rows: int, columns: int) -> tuple[int, int]:
    """Return the window's side and shift for a block on a grid of ``rows`` x ``columns``.

    Where a side of the grid is no longer than the window, one window reaches across it: there is nothing to shift, and
    a longer window shrinks to that side. The shrunk window takes its biases from the middle of the table (transformers
    stops there with an error, because its table does not fit).
    """
    shorter = min(rows, columns)
    if shorter <= config.window_size:
        return shorter, 0
    return config.window_size, config.window_size // 2 if place % 2 else 0


def window_attention(
    params: Params, config: SwinConfig, stage: int, place: int, x: Array
) -> tuple[Array, Array]:  # fmt: skip
    """Return what (shifted) window attention adds to each token, and its weights.

    Padding comes after the norm, as zeros, and takes part in attention like any token.

    Returns
    -------
    (B, rows, columns, D), and (W, H, w², w²)
    """
    block, (rows, columns) = block_name(stage, place), x.shape[1:3]
    window, shift = window_and_shift(config, place, rows, columns)
    normed = layer_norm(x, params[f"{block}.norm1.weight"], params[f"{block}.norm1.bias"], eps=config.norm_eps)
    padded = pad_grid(normed, window)
    windows = partition(cyclic_shift(padded, shift), window)  # (W, w², D)
    qkv = linear(windows, params[f"{block}.attn.qkv.weight"], params.get(f"{block}.attn.qkv.bias"))  # (W, w², 3 D)
    query, key, value = (split_heads(part, config.num_heads[stage]) for part in np.split(qkv, 3, axis=-1))

    scores: Array = query @ np.swapaxes(key, -1, -2)  # (W, H, w², w²)
    scores *= scores.dtype.type(1 / math.sqrt(query.shape[-1]))
    table = params[f"{block}.attn.relative_position_bias_table"]
    scores += relative_position_bias(table, window, config.window_size)
    if shift:
        mask = shift_mask(
            padded.shape[1], padded.shape[2], window, shift, scores.dtype
        )  # (windows of an image, w², w²)
        by_image = scores.reshape(len(x), -1, *scores.shape[1:])
        by_image += mask[:, None]  # for all heads; by_image is a view
    weights = softmax(scores, out=scores)

    mixed: Array = (weights @ value).transpose(0, 2, 1, 3).reshape(windows.shape)  # (W, w², D), the heads side by side
    mixed = linear(mixed, params[f"{block}.attn.proj.weight"], params[f"{block}.attn.proj.bias"])
    grid = cyclic_shift(reverse(mixed, window, padded.shape[1], padded.shape[2]), -shift)
    return grid[:, :rows, :columns], weights


def feed_forward(params: Params, config: SwinConfig, block: str, x: Array) -> Array:
    """Return what the feed-forward branch adds to each token; x's shape."""
    normed = layer_norm(x, params[f"{block}.norm2.weight"], params[f"{block}.norm2.bias"], eps=config.norm_eps)
    hidden = linear(normed, params[f"{block}.mlp.fc1.weight"], params[f"{block}.mlp.fc1.bias"])  # (..., F)
    return linear(gelu(hidden, out=hidden), params[f"{block}.mlp.fc2.weight"], params[f"{block}.mlp.fc2.bias"])


def classify(params: Params, config: SwinConfig, tokens: Tokens) -> Array:
    """Return the logits of the checkpoint's own classes, shape (B, num_classes), from the mean of all tokens.

    Raises
    ------
    ConfigError
        If the model has no head.
    """
    if not config.num_classes:
        raise ConfigError("this model has no classification head: load a checkpoint with one, or use its features")
    return linear(pool(tokens, "patch-mean"), params["head.fc.weight"], params["head.fc.bias"])


def spread_weights(weights: Array, window: int, shift: int, rows: int, columns: int) -> Array:
    """Write the attention weights of windows, shape (W, H, w², w²), as one map an image, shape (B, H, N, N).

    The columns of padding are left out: where there is some, the rows of the map sum to less than 1.
    """
    slots = window_slots(rows, columns, window, shift)  # (windows, w²)
    heads = weights.shape[1]
    spread = np.zeros((len(weights) // len(slots), heads, rows * columns, rows * columns), dtype=weights.dtype)
    for image, own in enumerate(weights.reshape(-1, *slots.shape[:1], *weights.shape[1:])):
        for tokens, one in zip(slots, own, strict=True):  # one: (H, w², w²)
            here = np.flatnonzero(tokens != PADDING)
            spread[image][:, tokens[here, None], tokens[here]] = one[:, here[:, None], here]
    return spread


def pad_pixels(pixels: Array, patch_size: int) -> Array:
    """Add zeros at the bottom and the right until both sides are whole patches."""
    below, right = (-side % patch_size for side in pixels.shape[2:])
    return np.pad(pixels, ((0, 0), (0, 0), (0, below), (0, right))) if below or right else pixels


def flat(grid: Array) -> Array:
    """View a grid, shape (B, rows, columns, D), as tokens row by row, shape (B, N, D)."""
    return grid.reshape(grid.shape[0], -1, grid.shape[3])


def check_pixels(pixels: Array, *, dtype: np.dtype[np.floating]) -> None:
    """Raise ShapeError or DTypeError unless ``pixels`` is what a model with parameters of ``dtype`` takes."""
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not all(pixels.shape[2:]):
        raise ShapeError(f"pixels must have the shape (batch, 3, height, width), not {pixels.shape}")
    if pixels.dtype != dtype or dtype not in (np.float32, np.float64):
        raise DTypeError(
            f"pixels are {pixels.dtype} and the parameters {dtype}: make both float32 (or both float64, for tests)"
        )
