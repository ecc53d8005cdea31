"""Exact search against an oracle that scores everything and sorts it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitseek.errors import ShapeError, UsageError
from vitseek.search import exact
from vitseek.search.exact import top_k

# Vectors of 16 times ±1/4 have length one exactly, and all their products are multiples of 1/8: scores are exact
# in any order of summation, and ties are everywhere.
WIDTH = 16


def sign_vectors(rng, count):
    return (rng.integers(0, 2, (count, WIDTH)) / 2 - 0.25).astype(np.float32)


def unit_vectors(rng, count, width=37):
    vectors = rng.standard_normal((count, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def oracle(matrix, queries, k, rows=None):
    """Score every row in float64, round to float32, sort all of it, cut at k."""
    rows = sorted(set(range(len(matrix)) if rows is None else rows.tolist()))
    usable = [row for row in rows if np.isfinite(matrix[row]).all()]
    all_scores, all_rows = [], []
    for query in queries.astype(np.float64):
        scored = [(np.float32((matrix[row].astype(np.float64) * query).sum()), row) for row in usable]
        best = sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:k]
        all_scores.append([score for score, _ in best])
        all_rows.append([row for _, row in best])
    shape = (len(queries), min(k, len(usable)))
    return np.array(all_scores, np.float32).reshape(shape), np.array(all_rows, np.int64).reshape(shape)


def assert_same(found, wanted):
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_array_equal(found[0], wanted[0])


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 67),
    num_queries=st.integers(1, 13),
    k=st.integers(1, 71),
    filtered=st.booleans(),
    broken=st.booleans(),
    chunk=st.sampled_from([1, 7, 53, 10_000]),
    few=st.sampled_from([0, 8]),
    gather=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_results_equal_a_full_sort_with_ties_and_any_block_size(
    seed, count, num_queries, k, filtered, broken, chunk, few, gather
):
    rng = np.random.default_rng(seed)
    matrix, queries = sign_vectors(rng, count), sign_vectors(rng, num_queries)
    if broken and count:
        bad = rng.integers(0, count, 3)
        matrix[bad, rng.integers(0, WIDTH, 3)] = [np.nan, np.inf, -np.inf]
    rows = rng.integers(0, count, rng.integers(0, 2 * count + 1)) if filtered and count else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "CHUNK_SCORES", chunk)
        patch.setattr(exact, "TILE_BYTES", 4 * WIDTH * 11)
        patch.setattr(exact, "FEW_QUERIES", few)
        patch.setattr(exact, "GATHER_BELOW", gather)
        patch.setattr(exact, "RESCORED_ROWS", 5)
        assert_same(top_k(matrix, queries, k, rows=rows), oracle(matrix, queries, k, rows))


@pytest.mark.parametrize("num_queries", [1, 3, 11])
def test_real_valued_scores_agree_with_the_full_sort(rng, num_queries):
    matrix, queries = unit_vectors(rng, 5003), unit_vectors(rng, num_queries)
    scores, rows = top_k(matrix, queries, 29)
    wanted_scores, wanted_rows = oracle(matrix, queries, 29)
    np.testing.assert_array_equal(rows, wanted_rows)
    np.testing.assert_allclose(scores, wanted_scores, rtol=0, atol=6e-8)  # one rounding to float32
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64


def test_equal_vectors_tie_exactly_wherever_they_lie(rng):
    # sgemv and sgemm round a row differently at the end of a block; the order must not show it.
    matrix = unit_vectors(rng, 4099, width=383)
    copies = np.array([0, 1, 2, 63, 64, 65, 1023, 2048, 4097, 4098])
    matrix[copies] = matrix[1]
    queries = unit_vectors(rng, 11, width=383)
    queries[0] = matrix[1]
    for few in (queries[:1], queries):
        scores, rows = top_k(matrix, few, 10)
        np.testing.assert_array_equal(rows[0], copies)
        assert len(set(scores[0].tolist())) == 1


def test_a_tie_at_the_last_place_goes_to_the_earlier_row(rng):
    matrix = np.repeat(sign_vectors(rng, 1), 23, axis=0)
    _, rows = top_k(matrix, matrix[:1], 5)
    np.testing.assert_array_equal(rows, [[0, 1, 2, 3, 4]])


def test_a_score_does_not_depend_on_the_company(rng):
    matrix, queries = unit_vectors(rng, 997, width=383), unit_vectors(rng, 13, width=383)
    together_scores, together_rows = top_k(matrix, queries, 7)
    for i in range(len(queries)):
        alone_scores, alone_rows = top_k(matrix[together_rows[i]], queries[i : i + 1], 7)
        np.testing.assert_array_equal(alone_rows[0], np.arange(7))
        np.testing.assert_array_equal(alone_scores[0], together_scores[i])


def test_near_ties_that_the_float32_pass_orders_wrongly_are_ranked_right(rng):
    query = unit_vectors(rng, 1, width=383)
    matrix = (query * 0.7 + rng.standard_normal((101, 383)) * 3e-6).astype(np.float32)
    _, wanted = oracle(matrix, query, 29)
    one_pass = np.argsort(-(matrix @ query[0]), kind="stable")[:29]
    assert not np.array_equal(one_pass, wanted[0]), "the case must be one that needs the second scoring"
    np.testing.assert_array_equal(top_k(matrix, query, 29)[1], wanted)


def test_rows_with_nan_or_infinity_are_never_returned(rng):
    matrix = unit_vectors(rng, 17)
    matrix[3, 5], matrix[7, 0], matrix[11] = np.nan, -np.inf, np.nan
    for num_queries in (1, 13):
        scores, rows = top_k(matrix, unit_vectors(rng, num_queries), 17)
        assert rows.shape == (num_queries, 14)
        assert np.isfinite(scores).all()
        assert not set(rows.ravel()) & {3, 7, 11}


def test_a_matrix_of_nan_gives_no_result(rng):
    scores, rows = top_k(np.full((5, 37), np.nan, np.float32), unit_vectors(rng, 2), 3)
    assert scores.shape == rows.shape == (2, 0)


def test_a_score_never_passes_one(rng):
    matrix = unit_vectors(rng, 2003, width=191)
    scores, rows = top_k(matrix, matrix, 1)
    np.testing.assert_array_equal(rows[:, 0], np.arange(2003))
    assert scores.max() == 1
    assert scores.min() > 1 - 1e-6


@pytest.mark.parametrize("shape", [(0, 37), (0, 0)])
def test_an_empty_matrix_gives_empty_results(shape):
    scores, rows = top_k(np.empty(shape, np.float32), np.zeros((3, shape[1]), np.float32), 5)
    assert scores.shape == rows.shape == (3, 0)


def test_no_query_gives_no_rows_of_results(rng):
    scores, rows = top_k(unit_vectors(rng, 5), np.empty((0, 37), np.float32), 3)
    assert scores.shape[0] == rows.shape[0] == 0


def test_k_beyond_the_matrix_returns_everything_in_order(rng):
    matrix = unit_vectors(rng, 7)
    assert_same(top_k(matrix, matrix[:1], 10**12), oracle(matrix, matrix[:1], 7))


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(rng, k):
    with pytest.raises(UsageError, match=f"at least 1, but it is {k}"):
        top_k(unit_vectors(rng, 3), unit_vectors(rng, 1), k)


def test_another_width_is_refused_with_both_shapes(rng):
    with pytest.raises(ShapeError, match=r"\(3, 37\).*\(1, 41\)"):
        top_k(unit_vectors(rng, 3), unit_vectors(rng, 1, width=41), 1)
    with pytest.raises(ShapeError, match=r"\(37,\)"):
        top_k(unit_vectors(rng, 3), unit_vectors(rng, 1)[0], 1)


def test_a_query_with_nan_is_refused_by_its_number(rng):
    queries = unit_vectors(rng, 5)
    queries[3, 2] = np.nan
    with pytest.raises(UsageError, match="query 3 holds NaN"):
        top_k(unit_vectors(rng, 3), queries, 1)


@pytest.mark.parametrize("rows", [[-1, 2], [2, 7]])
def test_a_row_outside_the_matrix_is_refused(rng, rows):
    with pytest.raises(ShapeError, match="rows 0 to 6"):
        top_k(unit_vectors(rng, 7), unit_vectors(rng, 1), 1, rows=np.array(rows))


def test_a_mask_instead_of_row_numbers_is_refused(rng):
    with pytest.raises(ShapeError, match="bool"):
        top_k(unit_vectors(rng, 3), unit_vectors(rng, 1), 1, rows=np.array([True, False, True]))


def test_an_empty_selection_gives_no_result(rng):
    scores, rows = top_k(unit_vectors(rng, 7), unit_vectors(rng, 2), 3, rows=np.array([], np.int64))
    assert scores.shape == rows.shape == (2, 0)


def test_a_memory_mapped_matrix_is_read_and_not_changed(tmp_path, rng):
    matrix = unit_vectors(rng, 101)
    np.save(tmp_path / "m.npy", matrix)
    mapped = np.load(tmp_path / "m.npy", mmap_mode="r")
    queries = unit_vectors(rng, 3)
    scores, rows = top_k(mapped, queries, 5)
    assert_same((scores, rows), top_k(matrix, queries, 5))
    assert type(scores) is np.ndarray
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), matrix)


def test_memory_does_not_grow_with_the_number_of_scores(rng):
    import tracemalloc

    matrix, queries = unit_vectors(rng, 20_011, width=7), unit_vectors(rng, 211, width=7)
    tracemalloc.start()
    top_k(matrix, queries, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    all_scores = len(matrix) * len(queries) * 4
    assert all_scores > 16_000_000
    assert peak < all_scores  # three buffers of a chunk, not the whole (q, n)
