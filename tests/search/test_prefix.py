"""The bounded search against the exact one, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitseek.errors import ShapeError, UsageError
from vitseek.search import prefix
from vitseek.search.exact import top_k
from vitseek.search.prefix import build, choose_width, principal_axes, search

WIDTH = 97


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def low_rank(rng, count, *, rank=11, noise=0.02, width=WIDTH):
    """Rows as a model makes them: most of their length lies in a few directions."""
    spread = rng.standard_normal((rank, width)) / np.sqrt(np.arange(1, rank + 1))[:, None]
    return unit(rng.standard_normal((count, rank)) @ spread + noise * rng.standard_normal((count, width)))


def built(matrix, width=31):
    return build(matrix, principal_axes(matrix), width)


def assert_same(found, wanted):
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_array_equal(found[0], wanted[0])


@pytest.fixture
def no_small_cases(monkeypatch):
    """Let the bound work on small matrices, too."""
    monkeypatch.setattr(prefix, "NOT_ENOUGH_TO_GAIN", 1)
    monkeypatch.setattr(prefix, "FIRST_ROWS", 61)
    monkeypatch.setattr(prefix, "LEAVE_TO_EXACT", 0.9)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(300, 2003),
    noise=st.sampled_from([0.0, 0.02, 0.3, 5.0]),
    k=st.integers(1, 23),
    filtered=st.booleans(),
    broken=st.booleans(),
    copies=st.booleans(),
    strange=st.booleans(),
)
def test_results_are_those_of_the_exact_search_whatever_the_rows(
    seed, count, noise, k, filtered, broken, copies, strange
):
    rng = np.random.default_rng(seed)
    matrix = low_rank(rng, count, noise=noise)
    if copies:
        matrix[rng.integers(0, count, count // 3)] = matrix[0]
    queries = np.concatenate([matrix[rng.integers(0, count, 2)], low_rank(rng, 1, noise=noise)])
    if strange:  # of another kind than the rows
        queries = unit(rng.standard_normal((3, WIDTH)))
    held = built(matrix)
    if broken:
        matrix = matrix.copy()
        matrix[rng.integers(0, count, 5), 3] = np.nan
        held.rows[~np.isfinite(matrix).all(axis=1), 5] = np.nan  # as build() would have written it
    rows = np.flatnonzero(rng.random(count) < 0.6) if filtered else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "NOT_ENOUGH_TO_GAIN", 1)
        patch.setattr(prefix, "FIRST_ROWS", 61)
        patch.setattr(prefix, "LEAVE_TO_EXACT", 0.9)
        assert_same(search(matrix, queries, k, held, rows=rows), top_k(matrix, queries, k, rows=rows))


@pytest.mark.usefixtures("no_small_cases")
def test_rows_with_nan_are_never_found():
    rng = np.random.default_rng(1)
    matrix = low_rank(rng, 1009)
    matrix[[3, 500]] = np.nan
    held = build(matrix, principal_axes(matrix), 31)

    assert_same(search(matrix, matrix[:3], 7, held), top_k(matrix, matrix[:3], 7))


def test_the_bound_never_lies_below_a_score():
    rng = np.random.default_rng(2)
    for noise in (0.0, 0.02, 1.0):
        matrix = low_rank(rng, 1013, noise=noise)
        query = low_rank(rng, 1, noise=noise)[0]
        scores = matrix.astype(np.float64) @ query.astype(np.float64)

        assert (built(matrix).bounds(query) - scores).min() > -1e-6


def test_few_rows_are_left_where_the_rows_have_a_short_prefix(monkeypatch):
    monkeypatch.setattr(prefix, "FIRST_ROWS", 61)
    rng = np.random.default_rng(3)
    matrix = low_rank(rng, 20_011)

    left = prefix._left_over(matrix, matrix[5], 10, built(matrix), None)

    assert left is not None
    assert 10 <= len(left) < 200


def test_vectors_without_a_short_prefix_are_not_worth_one():
    rng = np.random.default_rng(4)

    assert choose_width(unit(rng.standard_normal((5003, WIDTH))), np.eye(WIDTH, dtype=np.float32)) is None
    matrix = low_rank(rng, 5003)
    assert choose_width(matrix, principal_axes(matrix)) == 31


def test_a_matrix_that_is_too_small_has_no_prefix():
    rng = np.random.default_rng(5)
    matrix = low_rank(rng, 17)

    assert choose_width(matrix, principal_axes(matrix)) is None


def test_a_prefix_of_another_matrix_is_refused():
    rng = np.random.default_rng(6)
    matrix = low_rank(rng, 101)

    with pytest.raises(ShapeError, match="built for 101 rows"):
        search(low_rank(rng, 103), matrix[:1], 3, built(matrix))


def test_bad_queries_are_refused_as_by_the_exact_search():
    rng = np.random.default_rng(7)
    matrix = low_rank(rng, 101)
    held = built(matrix)

    with pytest.raises(UsageError, match="NaN"):
        search(matrix, np.full((1, WIDTH), np.nan, np.float32), 3, held)
    with pytest.raises(UsageError, match="at least 1"):
        search(matrix, matrix[:1], 0, held)
    with pytest.raises(ShapeError, match="same width"):
        search(matrix, matrix[:1, :7], 3, held)
