"""Bicubic and bilinear resizing: what holds of any such filter, known numbers, and PyTorch where it is installed."""

from typing import get_args

import numpy as np
import pytest

from vitseek.nn.resample import A_ANTIALIAS, A_PLAIN, Method, cubic_kernel, resize_grid, resize_weights, triangle_kernel

METHODS = get_args(Method)
SIZES = [(5, 7), (7, 5), (13, 2), (37, 16), (16, 37), (11, 11), (1, 3), (3, 1)]


@pytest.mark.parametrize("a", [A_PLAIN, A_ANTIALIAS])
def test_kernel_is_one_at_the_sample_zero_at_the_others_and_continuous(a: float) -> None:
    np.testing.assert_allclose(cubic_kernel(np.array([0.0, 1, -1, 2, -2, 5]), a), [1, 0, 0, 0, 0, 0], atol=1e-15)
    x = np.linspace(-3, 3, 60_001)
    assert np.abs(np.diff(cubic_kernel(x, a))).max() < 2e-4
    shifts = np.linspace(0, 1, 101)[:, None] + np.arange(-2, 2)
    np.testing.assert_allclose(cubic_kernel(shifts, a).sum(axis=1), 1, atol=1e-14)


def test_triangle_is_one_at_the_sample_and_zero_at_the_others() -> None:
    np.testing.assert_array_equal(triangle_kernel(np.array([0.0, 0.25, -0.5, 1, -1, 7])), [1, 0.75, 0.5, 0, 0, 0])


def test_bilinear_halving_weighs_four_samples_by_a_widened_triangle() -> None:
    # Centre 4 of an axis of 8, triangle of half-width 2: distances 1.5, 0.5, 0.5, 1.5 give 1/4, 3/4, 3/4, 1/4 of 2.
    row = resize_weights(8, 4, method="bilinear-antialias")[1]
    np.testing.assert_allclose(row, [0, 1 / 8, 3 / 8, 3 / 8, 1 / 8, 0, 0, 0], atol=1e-15)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_a_constant_stays_constant(before: int, after: int, method: Method) -> None:
    matrix = resize_weights(before, after, method=method)
    assert matrix.shape == (after, before)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-14)
    # Seen from the other end, everything is mirrored.
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_size_changes_nothing(method: Method) -> None:
    np.testing.assert_array_equal(resize_weights(11, 11, method=method), np.eye(11))


def test_doubling_uses_the_weights_at_a_quarter() -> None:
    # Keys' kernel with a = -0.75 at distances 1.25, 0.25, 0.75, 1.75.
    row = resize_weights(7, 14)[7]
    np.testing.assert_allclose(row[2:6], [-0.10546875, 0.87890625, 0.26171875, -0.03515625], atol=1e-15)
    np.testing.assert_array_equal(row[[0, 1, 6]], 0)


def test_only_antialiasing_looks_at_all_samples_when_shrinking() -> None:
    assert np.count_nonzero(resize_weights(37, 2)[0]) == 4
    assert np.count_nonzero(np.abs(resize_weights(37, 2, method="bicubic-antialias")[0]) > 1e-9) > 20


@pytest.mark.parametrize("method", METHODS)
def test_axes_are_resized_one_after_the_other(method: Method, rng: np.random.Generator) -> None:
    grid = rng.standard_normal((5, 7, 3))
    rows, columns = resize_weights(5, 11, method=method), resize_weights(7, 2, method=method)
    wanted = np.einsum("ri,cj,ijd->rcd", rows, columns, grid)
    np.testing.assert_allclose(resize_grid(grid, (11, 2), method=method), wanted, atol=1e-14)
    assert resize_grid(grid.astype(np.float32), (11, 2)).dtype == np.float32


@pytest.mark.parity
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("rows", "columns"), [(7, 3), (2, 11), (16, 41), (1, 5)])
@pytest.mark.parametrize("grid", [(5, 13), (37, 37), (1, 2)])
def test_pytorch_gives_the_same(
    grid: tuple[int, int], rows: int, columns: int, method: Method, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    vectors = rng.standard_normal((*grid, 3))
    tensor = torch.from_numpy(vectors).permute(2, 0, 1)[None]

    def resized(**where: object) -> np.ndarray:
        mode, _, antialias = method.partition("-")
        options = {"mode": mode, "align_corners": False, "antialias": bool(antialias), **where}
        return torch.nn.functional.interpolate(tensor, **options)[0].permute(1, 2, 0).numpy()

    ours = resize_grid(vectors, (rows, columns), method=method)
    np.testing.assert_allclose(ours, resized(size=(rows, columns)), atol=1e-13)
    # facebookresearch/dinov2: scale_factor=(size + 0.1) / grid
    factors = ((rows + 0.1) / grid[0], (columns + 0.1) / grid[1])
    ours = resize_grid(vectors, (rows, columns), method=method, offset=0.1)
    np.testing.assert_allclose(ours, resized(scale_factor=factors), atol=1e-13)
