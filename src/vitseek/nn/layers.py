"""The layers of a Vision Transformer that are not attention: linear, the two norms, patches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import ShapeError

Array = NDArray[np.floating]


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Return ``x @ weight.T + bias``; the weight is (out, in), as in PyTorch.

    Parameters
    ----------
    x : shape (..., in)
    weight : shape (out, in)
    bias : shape (out,)

    Returns
    -------
    shape (..., out)
    """
    y: Array = x @ weight.T
    if bias is not None:
        y += bias
    return y


def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
    """Give every token mean 0 and variance 1, then scale and shift its channels (Ba et al., 2016).

    Parameters
    ----------
    x : shape (..., D)
    weight, bias : shape (D,)
    eps
        Added to the variance.

    Returns
    -------
    x's shape and dtype
    """
    centred: Array = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)  # (..., 1)
    centred /= np.sqrt(variance + x.dtype.type(eps))
    centred *= weight
    centred += bias
    return centred


def rms_norm(x: Array, weight: Array, *, eps: float) -> Array:
    """Give every token mean square 1, then scale its channels; nothing is centred (Zhang and Sennrich, 2019).

    Parameters
    ----------
    x : shape (..., D)
    weight : shape (D,)
    eps
        Added to the mean square.

    Returns
    -------
    x's shape and dtype
    """
    mean_square = np.mean(x * x, axis=-1, keepdims=True)  # (..., 1)
    scaled: Array = x / np.sqrt(mean_square + x.dtype.type(eps))
    scaled *= weight
    return scaled


def patchify(pixels: Array, patch_size: int) -> Array:
    """Cut images into flat patches, so that a convolution with stride = kernel becomes one matrix product.

    Parameters
    ----------
    pixels : shape (B, C, height, width)
        Both sides are multiples of ``patch_size``.

    Returns
    -------
    shape (B, rows * columns, C * patch_size * patch_size)
        Patches row by row; in a patch channel, then row, then column: the order of a convolution kernel.

    Raises
    ------
    ShapeError
        If a side is not a multiple of the patch.
    """
    batch, channels, height, width = pixels.shape
    if height % patch_size or width % patch_size or not height or not width:
        raise ShapeError(
            f"an image of {height} x {width} px (height x width) does not divide into {patch_size} px patches: "
            f"resize or crop it to multiples of {patch_size} px"
        )
    rows, columns = height // patch_size, width // patch_size
    split = pixels.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return split.transpose(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * patch_size * patch_size)
