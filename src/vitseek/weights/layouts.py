"""What brings an array of a checkpoint into the canonical shape, where stacking parts is not enough.

Each takes the stacked array and returns a view of it, or a copy where there is no other way. A shape that does not fit
is a ValueError, which the loader reports with the name and the shape that the file has.
"""

import math

import numpy as np

from vitseek.weights.arrays import AnyArray


def token(array: AnyArray) -> AnyArray:
    """(D,) or (1, D) -> (1, 1, D): a class token."""
    return array.reshape(1, 1, array.shape[-1])


def positions(array: AnyArray) -> AnyArray:
    """(N, D) -> (1, N, D): a position embedding; (1, N, D) stays."""
    return array.reshape(1, *array.shape[-2:])


def transposed(array: AnyArray) -> AnyArray:
    """(in, out) -> (out, in): a projection that is multiplied from the other side."""
    return array.transpose(1, 0)


def scalar(array: AnyArray) -> AnyArray:
    """(1,) or () -> (): a temperature."""
    return array.reshape(())


def patches_to_kernel(array: AnyArray) -> AnyArray:
    """(D, p p 3) -> (D, 3, p, p): a linear layer on patches whose colours come last, as the kernel of a convolution."""
    width, length = array.shape
    side = math.isqrt(length // 3)
    return array.reshape(width, side, side, 3).transpose(0, 3, 1, 2)


def first_third(array: AnyArray) -> AnyArray:
    """The query's rows of a packed query, key and value."""
    return array[: array.shape[0] // 3]


def other_thirds(array: AnyArray) -> AnyArray:
    """The rows of key and value."""
    return array[array.shape[0] // 3 :]


def without_key_bias(array: AnyArray) -> AnyArray:
    """A packed bias whose middle third does not count: DINOv3 masks the key's."""
    query, _, value = np.split(array, 3)
    return np.concatenate([query, np.zeros_like(query), value])
