"""Terms and spaces on one scale: combined vectors against the sum of standard scores, and fusion against its oracle."""

import numpy as np
import pytest

from vitseek.errors import UsageError
from vitseek.search.exact import top_k
from vitseek.search.fusion import CALIBRATION_ROWS, RANK_OFFSET, Side, combine, fuse, spread

N, D, E = 211, 17, 23


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def matrix(rng):
    return unit(rng.normal(size=(N, D)) + rng.normal(size=D))


@pytest.fixture
def other(rng):
    return unit(rng.normal(size=(N, E)))


def standard(matrix, vector):
    scores = matrix.astype(np.float64) @ vector.astype(np.float64)
    return (scores - scores.mean()) / scores.std()


def test_a_single_term_is_searched_as_it_is(matrix):
    query = matrix[3]
    assert np.array_equal(combine([query], [0.01], matrix), query)
    assert np.array_equal(combine([query], [-7], matrix), -query)


def test_a_combined_vector_ranks_by_the_weighted_sum_of_standard_scores(matrix, rng):
    queries = unit(rng.normal(size=(3, D)))
    weights = [1.0, -0.5, 2.0]
    combined = combine(list(queries), weights, matrix)
    assert np.linalg.norm(combined) == pytest.approx(1, abs=1e-6)
    wanted = sum(w * standard(matrix, q) for w, q in zip(weights, queries, strict=True))
    _, rows = top_k(matrix, combined[None], N)
    np.testing.assert_array_equal(rows[0], np.argsort(-wanted, kind="stable"))


def test_words_with_small_scores_count_as_much_as_a_picture(rng):
    # Pictures spread around a common direction; words lie far from all, on the other side of the gap.
    pictures = unit(rng.normal(size=(N, D)) + 2 * np.eye(D)[0])
    picture, words = pictures[5], unit(0.15 * rng.normal(size=D) + np.eye(D)[1])
    combined = combine([picture, words], [1, 1], pictures)
    shares = [np.corrcoef(pictures @ combined, pictures @ term)[0, 1] for term in (picture, words)]
    assert abs(shares[0] - shares[1]) < 1e-5  # as they are equally heavy, the combination is equally like both
    plain = pictures @ (picture + words)
    plain_shares = [np.corrcoef(plain, pictures @ term)[0, 1] for term in (picture, words)]
    assert abs(plain_shares[0] - plain_shares[1]) > 0.01


def test_terms_that_cancel_each_other_are_refused(matrix):
    with pytest.raises(UsageError, match="cancel each other"):
        combine([matrix[1], matrix[2], matrix[1], matrix[2]], [1, 2, -1, -2], matrix)


def test_a_gallery_of_one_picture_has_a_spread_to_divide_by(matrix):
    assert spread(matrix[:1], matrix[0]).deviation == 1
    assert spread(np.repeat(matrix[:1], 5, axis=0), matrix[2]).deviation == 1
    assert spread(matrix[:0], matrix[0]) == (0, 1)


def test_broken_rows_do_not_spoil_the_spread(matrix):
    broken = matrix.copy()
    broken[7, 3] = np.nan
    good = np.delete(matrix, 7, axis=0)
    assert spread(broken, matrix[0]) == pytest.approx(spread(good, matrix[0]), abs=1e-6)


def test_a_large_gallery_is_calibrated_on_a_sample(rng):
    large = unit(rng.normal(size=(2 * CALIBRATION_ROWS + 7, 11)))
    found = spread(large, large[0])
    exact = (large.astype(np.float64) @ large[0]).std()
    assert found.deviation == pytest.approx(exact, rel=0.03)
    assert found == spread(large, large[0])


def sides(matrix, other, rng, balance=0.3):
    ids = np.arange(N) * 3 + 1
    first, second = unit(rng.normal(size=D)), unit(rng.normal(size=E))
    return [Side(ids, matrix, first, 1 - balance), Side(ids, other, second, balance)]


def test_fused_scores_are_those_of_an_exact_search_in_both_spaces_joined(matrix, other, rng):
    pair = sides(matrix, other, rng)
    ids, scores = fuse(pair, 31)
    wanted = 0.7 * standard(matrix, pair[0].vector) + 0.3 * standard(other, pair[1].vector)
    np.testing.assert_allclose(scores, np.sort(wanted)[::-1][:31], atol=1e-5)
    # the oracle: one search over rows set side by side, with the query scaled by weight and spread
    joined = np.concatenate([matrix, other], axis=1) / np.float32(np.sqrt(2))
    query = [side.weight / spread(side.matrix, side.vector).deviation * side.vector for side in pair]
    _, rows = top_k(joined, unit(np.concatenate(query))[None], 31)
    np.testing.assert_array_equal(ids, pair[0].ids[rows[0]])


def test_fused_ranks_are_reciprocal_and_first_everywhere_gives_one(matrix, other, rng):
    pair = sides(matrix, other, rng)
    ids, scores = fuse(pair, N, fusion="ranks")
    ranks = []
    for side in pair:
        order = np.argsort(-(side.matrix @ side.vector), kind="stable")
        ranks.append(np.empty(N))
        ranks[-1][order] = np.arange(1, N + 1)
    wanted = 0.7 * (RANK_OFFSET + 1) / (RANK_OFFSET + ranks[0]) + 0.3 * (RANK_OFFSET + 1) / (RANK_OFFSET + ranks[1])
    np.testing.assert_allclose(scores, np.sort(wanted)[::-1], atol=1e-12)
    assert set(ids.tolist()) == set(pair[0].ids.tolist())
    same = [Side(pair[0].ids, matrix, pair[0].vector, 1.0), Side(pair[0].ids, matrix, pair[0].vector, 0.5)]
    assert fuse(same, 1, fusion="ranks")[1][0] == pytest.approx(1)


@pytest.mark.parametrize("fusion", ["scores", "ranks"])
def test_copies_tie_and_come_in_the_order_of_their_ids(matrix, other, rng, fusion):
    matrix[[5, 90, 41]], other[[5, 90, 41]] = matrix[5], other[5]
    pair = sides(matrix, other, rng)
    ids, scores = fuse(pair, N, fusion=fusion)
    place = ids.tolist().index(5 * 3 + 1)
    assert ids[place : place + 3].tolist() == [16, 124, 271]
    assert len(set(scores[place : place + 3].tolist())) == 1


@pytest.mark.parametrize("fusion", ["scores", "ranks"])
def test_the_best_few_are_the_first_of_all(matrix, other, rng, fusion):
    pair = sides(matrix, other, rng)
    everything = fuse(pair, N, fusion=fusion)
    for k in (1, 7, N, N + 5):
        ids, scores = fuse(pair, k, fusion=fusion)
        assert ids.tolist() == everything[0][:k].tolist()
        np.testing.assert_allclose(scores, everything[1][:k], atol=1e-12)


def test_an_image_of_one_space_only_counts_as_average_in_the_other(matrix, other, rng):
    first, second = sides(matrix, other, rng)
    short = Side(second.ids[::2], second.matrix[::2], second.vector, second.weight)
    ids, scores = fuse([first, short], N)
    wanted = 0.7 * standard(matrix, first.vector)
    wanted[::2] += 0.3 * standard(short.matrix, short.vector)
    np.testing.assert_allclose(scores, np.sort(wanted)[::-1], atol=1e-5)
    assert len(ids) == N
    only_second = Side(np.array([7777]), second.matrix[:1], second.vector, 0.3)
    assert 7777 in fuse([first, only_second], N + 1)[0]


def test_ranks_without_a_vector_have_no_share(matrix, other, rng):
    first, second = sides(matrix, other, rng)
    short = Side(second.ids[:1], second.matrix[:1], second.vector, second.weight)
    ids, scores = fuse([first, short], N, fusion="ranks")
    held = ids.tolist().index(int(second.ids[0]))
    rank = 1 + int((matrix @ first.vector > (matrix @ first.vector)[0]).sum())
    assert scores[held] == pytest.approx(0.7 * 61 / (60 + rank) + 0.3)


def test_a_filter_leaves_the_calibration_as_it_is(matrix, other, rng):
    pair = sides(matrix, other, rng)
    among = pair[0].ids[10:60]
    ids, scores = fuse(pair, N, among=among)
    everything = dict(zip(*(part.tolist() for part in fuse(pair, N)), strict=True))
    assert set(ids.tolist()) == set(among.tolist())
    assert scores.tolist() == pytest.approx([everything[number] for number in ids.tolist()])
    assert len(fuse(pair, 5, among=np.empty(0, np.int64))[0]) == 0


def test_broken_rows_count_as_missing(matrix, other, rng):
    broken = matrix.copy()
    broken[4] = np.nan
    pair = sides(broken, other, rng)
    ids, scores = fuse(pair, N)
    place = ids.tolist().index(4 * 3 + 1)
    assert scores[place] == pytest.approx(0.3 * standard(other, pair[1].vector)[4], abs=1e-5)


def test_another_way_to_fuse_is_refused(matrix, other, rng):
    with pytest.raises(UsageError, match="scores or ranks"):
        fuse(sides(matrix, other, rng), 3, fusion="votes")
