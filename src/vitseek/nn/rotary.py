"""Rotary positions on a grid: queries and keys are turned, so that their product tells how far apart two patches are.

A head of d channels is d / 2 pairs. A quarter of the channels' frequencies serve the row, as many the column, and pair
i is turned by 2π · coordinate · frequency. Coordinates are those of the patch centres, from -1 to 1 along each side
whatever its length, so nothing has to be resized for another image size.

Papers: "RoFormer" (Su et al., 2021); the axial form for images, "Rotary Position Embedding for Vision Transformer"
(Heo et al., 2024); coordinates and frequencies as DINOv3 (Siméoni et al., 2025) has them. Source of the channel order:
facebookresearch/dinov3, dinov3/layers/rope_position_encoding.py, and transformers' DINOv3ViT: pair i is the channels
i and i + d / 2, and the pairs of the row come before those of the column.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def rotary_angles(rows: int, columns: int, head_dim: int, *, theta: float) -> Array:
    """Return the angle of every pair of channels of every patch.

    Parameters
    ----------
    head_dim
        A multiple of 4.
    theta
        Base of the frequencies theta^(-4 k / head_dim), k = 0, 1, …

    Returns
    -------
    shape (rows * columns, head_dim / 2), float64, in radians; patches row by row
    """
    frequencies = theta ** -(np.arange(head_dim // 4) * 4 / head_dim)  # (d / 4,)
    along = [(2 * np.arange(count) + 1) / count - 1 for count in (rows, columns)]  # centres of the patches, -1 … 1
    centres = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(rows * columns, 2, 1)  # (P, 2, 1)
    return (2 * math.pi * centres * frequencies).reshape(rows * columns, head_dim // 2)


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Turn the pairs of channels of the last P tokens; those before them (class token, registers) stay.

    Parameters
    ----------
    x : shape (..., N, d)
        Queries or keys of a head.
    cos, sin : shape (P, d / 2)
        Of :func:`rotary_angles`.

    Returns
    -------
    x's shape and dtype
    """
    prefix, half = x.shape[-2] - cos.shape[0], x.shape[-1] // 2
    turned = x.copy()
    first, second = x[..., prefix:, :half], x[..., prefix:, half:]  # (..., P, d / 2)
    turned[..., prefix:, :half] = first * cos - second * sin
    turned[..., prefix:, half:] = second * cos + first * sin
    return turned
