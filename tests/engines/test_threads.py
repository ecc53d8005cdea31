"""BLAS is limited while somebody computes, and only then."""

import threading

import pytest
from threadpoolctl import threadpool_info

from vitseek.engines import threads
from vitseek.engines.threads import BLAS, BlasGuard, default_threads, run_together


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_the_last_to_leave_restores_what_the_first_found() -> None:
    guard, usual = BlasGuard(), blas_threads()
    with guard.single_threaded():
        assert set(blas_threads()) <= {1}
        with guard.single_threaded():
            assert set(blas_threads()) <= {1}
        assert set(blas_threads()) <= {1}, "one user is still inside"
        if usual:
            assert guard.usual_threads() == min(usual)
    assert blas_threads() == usual


def test_the_limit_is_lifted_after_a_failure() -> None:
    usual = blas_threads()
    with pytest.raises(KeyError), BLAS.single_threaded():
        raise KeyError
    assert blas_threads() == usual


def test_default_threads_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_threads() >= 1
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    assert default_threads() == 1


@pytest.mark.parametrize(
    ("listed", "wanted"), [("2,1", 2), (" 1 , 4", 1), ("9,2", 3), ("0,2", 3), ("abc,2", 3), (",", 3), ("-1,2", 3)]
)
def test_the_outer_level_of_nested_openmp_threads_counts(
    listed: str, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    monkeypatch.setattr(BLAS, "usual_threads", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", listed)
    assert default_threads() == wanted


def test_jobs_run_at_once_and_the_first_in_the_calling_thread() -> None:
    together, names = threading.Barrier(3, timeout=30), []

    def job() -> None:
        together.wait()  # nobody passes unless all three run
        names.append(threading.current_thread())

    run_together([job, job, job])
    assert len(set(names)) == 3
    assert threading.current_thread() in names


def test_a_failure_is_raised_after_all_have_ended() -> None:
    woken, ended = threading.Event(), []

    def waiting() -> None:
        assert woken.wait(30)
        ended.append(True)

    def failing() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run_together([waiting, failing, waiting], on_failure=woken.set)
    assert ended == [True, True]
