"""Layers against naive loops."""

import math

import numpy as np
import pytest

from vitseek.errors import ShapeError
from vitseek.nn.attention import attention, attention_weights, row_blocks, split_heads
from vitseek.nn.layers import layer_norm, linear, patchify, rms_norm


def test_linear_is_a_product_with_the_transposed_weight(rng: np.random.Generator) -> None:
    x, weight, bias = rng.standard_normal((2, 5, 7)), rng.standard_normal((3, 7)), rng.standard_normal(3)
    wanted = [
        [[math.fsum(a * b for a, b in zip(row, out, strict=True)) for out in weight] for row in rows] for rows in x
    ]
    np.testing.assert_allclose(linear(x, weight), wanted, atol=1e-14)
    np.testing.assert_allclose(linear(x, weight, bias), np.array(wanted) + bias, atol=1e-14)


def test_layer_norm_uses_the_population_variance(rng: np.random.Generator) -> None:
    x, weight, bias = rng.standard_normal((2, 5, 7)) + 3, rng.standard_normal(7), rng.standard_normal(7)
    wanted = np.empty_like(x)
    for place in np.ndindex(2, 5):
        row = x[place].tolist()
        mean = math.fsum(row) / 7
        variance = math.fsum((value - mean) ** 2 for value in row) / 7
        wanted[place] = (x[place] - mean) / math.sqrt(variance + 1e-3) * weight + bias
    np.testing.assert_allclose(layer_norm(x, weight, bias, eps=1e-3), wanted, atol=1e-14)


def test_rms_norm_divides_by_the_root_of_the_mean_square(rng: np.random.Generator) -> None:
    x, weight = rng.standard_normal((2, 5, 7)) + 3, rng.standard_normal(7)
    for place in np.ndindex(2, 5):
        row = x[place].tolist()
        root = math.sqrt(math.fsum(value * value for value in row) / 7 + 1e-3)
        wanted = np.array([value / root for value in row]) * weight
        np.testing.assert_allclose(rms_norm(x, weight, eps=1e-3)[place], wanted, atol=1e-14)


def test_float32_stays_float32(rng: np.random.Generator) -> None:
    x, weight = rng.standard_normal((1, 5, 7), dtype=np.float32), rng.standard_normal((7, 7), dtype=np.float32)
    assert layer_norm(x, weight[0], weight[1], eps=1e-6).dtype == np.float32
    assert rms_norm(x, weight[0], eps=1e-6).dtype == np.float32
    assert linear(x, weight, weight[0]).dtype == np.float32
    heads = split_heads(x, 7)
    assert attention(heads, heads, heads).dtype == np.float32
    assert attention_weights(heads, heads).dtype == np.float32


def test_patches_come_row_by_row_in_the_order_of_a_convolution_kernel(rng: np.random.Generator) -> None:
    pixels = rng.standard_normal((2, 3, 10, 15))
    patches = patchify(pixels, 5)
    assert patches.shape == (2, 6, 75)
    for image, row, column in np.ndindex(2, 2, 3):
        cut = pixels[image, :, 5 * row : 5 * row + 5, 5 * column : 5 * column + 5]
        np.testing.assert_array_equal(patches[image, 3 * row + column], cut.ravel())


@pytest.mark.parametrize("shape", [(1, 3, 11, 15), (1, 3, 10, 14), (1, 3, 0, 5)])
def test_a_side_that_is_not_whole_patches_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="does not divide into 5 px patches"):
        patchify(np.zeros(shape), 5)


def naive_attention(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    batch, heads, tokens, width = query.shape
    out = np.zeros((batch, tokens, heads, width))
    for image, head, row in np.ndindex(batch, heads, tokens):
        scores = [float(query[image, head, row] @ other) / math.sqrt(width) for other in key[image, head]]
        exponentials = [math.exp(score) for score in scores]
        for share, vector in zip(exponentials, value[image, head], strict=True):
            out[image, row, head] += share / sum(exponentials) * vector
    return out.reshape(batch, tokens, heads * width)


@pytest.mark.parametrize("limit", [1 << 17, 40, 1])
def test_attention_does_not_depend_on_how_its_rows_are_cut(
    limit: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitseek.nn.attention.SCORES_LIMIT", limit)
    query, key, value = rng.standard_normal((3, 2, 5, 13, 3))
    np.testing.assert_allclose(attention(query, key, value), naive_attention(query, key, value), atol=1e-13)


def test_heads_are_neighbouring_channels(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 5, 21))
    heads = split_heads(x, 3)
    assert heads.shape == (2, 3, 5, 7)
    np.testing.assert_array_equal(heads[1, 2, 4], x[1, 4, 14:21])


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (257, 257), (1370, 1370), (3, 1 << 18)])
def test_row_blocks_cover_every_row_once(rows: int, columns: int) -> None:
    found = [row for block in row_blocks(rows, columns) for row in range(block.start, block.stop)]
    assert found == list(range(rows))
    assert all((block.stop - block.start) * columns <= max(1 << 17, columns) for block in row_blocks(rows, columns))
