from itertools import pairwise

import pytest

from vitseek.train.schedule import cosine, linear, warmup_cosine


def test_warm_up_rises_in_a_line_to_the_peak_and_the_cosine_ends_at_the_end() -> None:
    rates = [warmup_cosine(step, warmup=5, total=17, peak=0.5, end=0.01) for step in range(17)]
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert rates[5] == pytest.approx(0.5)
    assert rates[16] == pytest.approx(0.01)
    assert all(later <= earlier for earlier, later in pairwise(rates[5:]))


def test_a_run_without_warm_up_starts_at_the_peak() -> None:
    assert warmup_cosine(0, warmup=0, total=7, peak=0.3, end=0.0) == pytest.approx(0.3)


def test_a_run_that_is_all_warm_up_divides_by_nothing() -> None:
    assert warmup_cosine(6, warmup=7, total=7, peak=0.7, end=0.0) == pytest.approx(0.7)


def test_cosine_and_line_pass_their_middle_halfway_and_stay_at_their_ends() -> None:
    for curve in (cosine, linear):
        assert curve(3.5, 7, 0.2, 0.8) == pytest.approx(0.5)
        assert curve(-1, 7, 0.2, 0.8) == pytest.approx(0.2)
        assert curve(99, 7, 0.2, 0.8) == pytest.approx(0.8)
        assert curve(0, 0, 0.2, 0.8) == pytest.approx(0.8)
    assert cosine(1, 7, 0.0, 1.0) < linear(1, 7, 0.0, 1.0)
