"""Products with packed weights are those of BLAS but for rounding, for any number of rows and columns."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed: pip install 'vitseek[numba]'")

from vitseek.engines import numba_products
from vitseek.engines.numba_kernels import CompiledKernels
from vitseek.engines.numba_products import CHUNK_ROWS, INNER_LIMIT, PANEL, TILE_ROWS

Array = np.ndarray

# Largest error as a share of the sum of magnitudes, measured over the sizes below: 4.3 roundings of 2^-24, as BLAS's.
ROUNDING = 16 * 2.0**-24

pytestmark = pytest.mark.skipif(
    not numba_products.worthwhile(), reason="this processor has no AVX-512: products stay with BLAS"
)


def product(x: Array, weight: Array) -> Array:
    out = np.full((len(x), weight.shape[1]), np.nan, np.float32)
    numba_products.multiply(x, numba_products.pack(weight), out=out)
    return out


def close(found: Array, x: Array, weight: Array) -> None:
    wanted = x.astype(np.float64) @ weight
    sums = np.abs(x).astype(np.float64) @ np.abs(weight)
    assert found.dtype == np.float32
    np.testing.assert_array_less(np.abs(found - wanted), ROUNDING * sums + 1e-30)


@pytest.mark.parametrize("rows", [*range(1, 2 * TILE_ROWS + 2), CHUNK_ROWS - 1, CHUNK_ROWS + 1, 2 * CHUNK_ROWS + 3])
def test_any_number_of_rows(rows: int, rng: np.random.Generator) -> None:
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((rows, 31), (31, 2 * PANEL + 5)))
    close(product(x, weight), x, weight)


@pytest.mark.parametrize("columns", [1, 2, PANEL - 1, PANEL, PANEL + 1, 3 * PANEL, 7 * PANEL - 1])
def test_any_number_of_columns(columns: int, rng: np.random.Generator) -> None:
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((13, 31), (31, columns)))
    close(product(x, weight), x, weight)


@pytest.mark.parametrize("inner", [1, 2, 7, INNER_LIMIT - 1, INNER_LIMIT, INNER_LIMIT + 1, 3 * INNER_LIMIT + 5])
def test_any_inner_dimension(inner: int, rng: np.random.Generator) -> None:
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((13, inner), (inner, PANEL + 5)))
    close(product(x, weight), x, weight)


def test_rows_may_be_a_part_of_wider_ones_and_nothing_beside_them_is_touched(rng: np.random.Generator) -> None:
    wide, weight = rng.standard_normal((17, 61), dtype=np.float32), rng.standard_normal((31, 101), dtype=np.float32)
    target = np.full((19, 131), 7, np.float32)
    numba_products.multiply(wide[:, 11:42], numba_products.pack(weight), out=target[1:18, 13:114])
    close(target[1:18, 13:114].copy(), wide[:, 11:42], weight)
    target[1:18, 13:114] = 7
    assert (target == 7).all()


def test_no_rows_are_no_work(rng: np.random.Generator) -> None:
    assert product(np.empty((0, 31), np.float32), rng.standard_normal((31, 53), dtype=np.float32)).shape == (0, 53)


def test_nan_and_infinity_stay_in_their_row_or_column(rng: np.random.Generator) -> None:
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((11, 31), (31, PANEL + 7)))
    x[3, 5], x[7, 2] = np.nan, np.inf
    weight[4, PANEL + 1] = np.nan
    with np.errstate(invalid="ignore"):
        wanted = x @ weight
    found = product(x, weight)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(wanted))


def test_several_threads_get_what_one_gets(rng: np.random.Generator) -> None:
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((101, 31), (31, 211)))
    panels, wanted = numba_products.pack(weight), product(x, weight)

    def once(_: int) -> Array:
        numba_products.multiply(x, panels, out=(out := np.empty((101, 211), np.float32)))
        return out

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(once, range(16)):
            np.testing.assert_array_equal(found, wanted)


def test_only_weights_that_were_packed_and_rows_that_lie_together_leave_blas(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, other = rng.standard_normal((2, 31, 53), dtype=np.float32)
    x = rng.standard_normal((13, 31), dtype=np.float32)
    kernels, out = CompiledKernels([packed], threads=2), np.empty((13, 53), np.float32)
    calls: list[int] = []
    usual = numba_products.multiply
    monkeypatch.setattr(numba_products, "multiply", lambda *a, out: (calls.append(1), usual(*a, out=out)))
    for rows, weight, count in ((x, packed, 1), (x, other, 1), (np.asfortranarray(x), packed, 1)):
        kernels.multiply(rows, weight, out=out)
        close(out, rows, weight)
        assert len(calls) == count


def test_without_the_registers_everything_stays_with_blas(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, x = rng.standard_normal((31, 53), dtype=np.float32), rng.standard_normal((13, 31), dtype=np.float32)
    monkeypatch.setattr(numba_products, "worthwhile", lambda: False)
    monkeypatch.setattr(numba_products, "multiply", lambda *a, out: pytest.fail("not here"))
    CompiledKernels([weight]).multiply(x, weight, out=(out := np.empty((13, 53), np.float32)))
    np.testing.assert_array_equal(out, x @ weight)
