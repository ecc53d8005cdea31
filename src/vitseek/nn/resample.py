"""Bicubic and bilinear resizing as PyTorch does it, written as one weight matrix per axis.

``torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`` has two faces, and both are in use:

- plain: Keys' cubic kernel with a = -0.75 over four neighbours, whatever the scale; beyond the edge, the edge repeats;
- ``antialias=True``: the kernel of Pillow, a = -0.5, widened by the scale when shrinking; what lies beyond the edge
  is left out and the rest scaled up to 1. It differs from plain also when enlarging, because of a.

``mode="bilinear"`` is in use with ``antialias=True`` only: the same with a triangle for a kernel.

Source: PyTorch, aten/src/ATen/native/cpu/UpSampleKernel.cpp; Keys, "Cubic convolution interpolation for digital image
processing", 1981.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

A_PLAIN = -0.75  # of PyTorch and OpenCV
A_ANTIALIAS = -0.5  # of Pillow; Keys' own choice
SUPPORT = 2  # the cubic kernel is zero beyond a distance of 2
TRIANGLE_SUPPORT = 1


Method = Literal["bicubic", "bicubic-antialias", "bilinear-antialias"]


def resize_grid(grid: Array, size: tuple[int, int], *, method: Method = "bicubic", offset: float = 0.0) -> Array:
    """Resize a grid of vectors.

    Parameters
    ----------
    grid : shape (rows, columns, D)
    size
        (rows, columns) of the result.
    method
        See the module.
    offset
        Added to the wanted size when the scale is worked out, but not to the size: facebookresearch's DINO and DINOv2
        pass ``scale_factor=(size + 0.1) / grid`` to guard against rounding, and so sample at slightly other places.

    Returns
    -------
    shape (*size, D), grid's dtype
    """
    rows, columns = (
        resize_weights(before, after, method=method, scale=before / (after + offset))
        for before, after in zip(grid.shape[:2], size, strict=True)
    )
    # In float64, rounded once: PyTorch places the samples in float32, which costs up to 1e-5 of a unit-variance grid.
    half = np.tensordot(rows, grid, axes=(1, 0))  # (R, columns, D)
    return np.tensordot(columns, half, axes=(1, 1)).transpose(1, 0, 2).astype(grid.dtype, order="C")  # (R, C, D)


def resize_weights(before: int, after: int, *, method: Method = "bicubic", scale: float | None = None) -> Array:
    """Return the matrix that resizes an axis of ``before`` samples to ``after``.

    Parameters
    ----------
    scale
        Step between samples, in input pixels; ``before / after`` if not given.

    Returns
    -------
    shape (after, before), float64; every row sums to 1
    """
    if scale is None:
        scale = before / after
    if method != "bicubic":
        return _antialiased_weights(before, after, method, scale)
    matrix = np.zeros((after, before))
    for index in range(after):
        centre = scale * (index + 0.5)  # in input pixels, whose centres are at 0.5, 1.5, …
        nearest = int(np.floor(centre - 0.5))
        taps = np.arange(nearest - 1, nearest + 3)
        weights = cubic_kernel(taps + 0.5 - centre, A_PLAIN)
        np.add.at(matrix[index], np.clip(taps, 0, before - 1), weights)
    return matrix


def _antialiased_weights(before: int, after: int, method: Method, scale: float) -> Array:
    cubic = method == "bicubic-antialias"
    support, stretch = SUPPORT if cubic else TRIANGLE_SUPPORT, max(scale, 1.0)
    matrix = np.zeros((after, before))
    for index in range(after):
        centre = scale * (index + 0.5)
        first = max(int(centre - support * stretch + 0.5), 0)
        last = min(int(centre + support * stretch + 0.5), before)
        taps = np.arange(first, last)
        distance = (taps - centre + 0.5) / stretch
        weights = cubic_kernel(distance, A_ANTIALIAS) if cubic else triangle_kernel(distance)
        matrix[index, taps] = weights / weights.sum()
    return matrix


def cubic_kernel(distance: Array, a: float) -> Array:
    """Return Keys' piecewise cubic at a signed distance in pixels: 1 at 0, 0 at ±1 and from ±2 on."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x < 1, near, np.where(x < SUPPORT, far, 0.0))


def triangle_kernel(distance: Array) -> Array:
    """Return the triangle at a signed distance in pixels: 1 at 0, 0 from ±1 on."""
    triangle: Array = np.maximum(1 - np.abs(distance), 0.0)
    return triangle
