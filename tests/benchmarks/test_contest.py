"""Contestants that take turns in processes of their own: what fails is skipped with its reason, the rest is timed."""

import os
import time

import numpy as np
import pytest
from benchmarks.contest import Contestant, Limits, WorkerFailed, call, contest

FAKES = "tests.benchmarks.fakes"
LIMITS = Limits(start_s=60, run_s=60)


def fake(name: str, make: str, **arguments: object) -> Contestant:
    return Contestant(name=name, make=f"{FAKES}:{make}", arguments=arguments)


def held(contestants, **options):
    said: list[str] = []
    options = {"rounds": 2, "rest_s": 0.0, "limits": LIMITS, "say": said.append, **options}
    return contest(contestants, **options), said


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_contestants_are_timed_once_a_round_and_say_what_they_used():
    outcomes, said = held(
        [fake("quick", "doubled", numbers=[1, 3]), fake("slow", "doubled", numbers=[1], seconds=0.05)]
    )
    quick, slow = outcomes.values()
    assert [quick.name, slow.name] == ["quick", "slow"]
    assert len(quick.wall_s[""]) == len(slow.processor_s[""]) == 2
    assert min(slow.wall_s[""]) >= 0.05
    assert max(slow.processor_s[""]) < 0.05  # it sleeps
    assert quick.versions == {"fakes": "1.3"}
    assert quick.outputs[""].tolist() == [2, 6]
    assert (quick.skipped, said) == ("", [])


def test_ratios_are_medians_of_each_rounds_own():
    outcomes, _ = held([fake("a", "doubled", numbers=[1]), fake("b", "doubled", numbers=[1])])
    a, b = outcomes.values()
    a.wall_s[""], b.wall_s[""] = [1.0, 2.0, 10.0], [3.0, 4.0, 80.0]
    assert a.times_faster(b) == 3.0
    assert a.median_s() == 2.0


def test_a_contestant_can_have_several_runs_and_report_figures_of_its_own():
    outcomes, _ = held([fake("several", "several")])
    outcome = outcomes["several"]
    assert {key: len(times) for key, times in outcome.wall_s.items()} == {"one": 2, "facts": 2}
    assert outcome.facts["facts"] == [{"images": 7.0}] * 2
    assert list(outcome.outputs) == ["one"]


def test_short_runs_are_repeated_and_their_mean_counts():
    outcomes, _ = held([fake("counts", "counting")], turn_s=0.2, rounds=1)
    outcome = outcomes["counts"]
    assert outcome.facts[""][0]["runs"] >= 5
    assert 0.02 <= outcome.wall_s[""][0] < 0.2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        ("raising", "RuntimeError: no such weights"),
        ("unavailable", "computes float32 only"),
        ("not_installed", "a_package_that_nobody_has is not installed"),
        ("dying", "died while loading and warming up (killed by SIGABRT): out of luck"),
    ],
)
def test_who_fails_is_skipped_with_the_reason_and_the_others_go_on(make, reason):
    outcomes, said = held([fake("broken", make), fake("fine", "doubled", numbers=[5])])
    assert outcomes["broken"].skipped.startswith(reason)
    assert outcomes["broken"].wall_s == {}
    assert said[0].startswith(f"broken skipped: {reason}")
    assert len(outcomes["fine"].wall_s[""]) == 2


def test_who_fails_in_a_later_round_has_no_times_either():
    outcomes, _ = held([fake("broken", "breaking_later"), fake("fine", "doubled", numbers=[5])])
    assert outcomes["broken"].skipped == "StopIteration"
    assert outcomes["broken"].wall_s == {}
    assert len(outcomes["fine"].wall_s[""]) == 2


def test_who_computes_something_else_is_not_timed():
    def check(outputs):
        wanted = outputs["right"][""]
        return {name: "computes something else" for name in outputs if not np.array_equal(outputs[name][""], wanted)}

    outcomes, _ = held(
        [fake("right", "doubled", numbers=[1, 2]), fake("wrong", "doubled", numbers=[1, 2], factor=2.5)], check=check
    )
    assert outcomes["wrong"].skipped == "computes something else"
    assert outcomes["wrong"].wall_s == {}
    assert outcomes["wrong"].outputs[""].tolist() == [2.5, 5]
    assert len(outcomes["right"].wall_s[""]) == 2


def test_who_hangs_at_the_start_is_given_up():
    start = time.monotonic()
    outcomes, _ = held([fake("hangs", "hanging_at_start")], limits=Limits(start_s=3, run_s=60))
    assert outcomes["hangs"].skipped == "still loading and warming up after 3 s"
    assert time.monotonic() - start < 30


def test_who_hangs_in_its_turn_is_killed_and_the_others_finish(tmp_path):
    hanging = fake("hangs", "hanging_later", pid_file=str(tmp_path / "pid"))
    outcomes, _ = held([hanging, fake("fine", "doubled", numbers=[5])], limits=Limits(start_s=60, run_s=1))
    assert outcomes["hangs"].skipped == "still running after 1 s"
    assert len(outcomes["fine"].wall_s[""]) == 2
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_no_worker_is_left_when_the_contest_is_interrupted(tmp_path):
    def check(outputs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        held([fake("waits", "hanging_later", pid_file=str(tmp_path / "pid"))], check=check)
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_what_is_known_to_be_missing_is_never_started():
    absent = Contestant(name="absent", make="nowhere:nothing", needs=("a_package_that_nobody_has",))
    known = Contestant(name="known", make="nowhere:nothing", skipped="its export failed")
    outcomes, _ = held([absent, known])
    assert outcomes["absent"].skipped == "a_package_that_nobody_has not installed"
    assert outcomes["known"].skipped == "its export failed"


def test_who_may_not_fit_into_memory_is_not_started():
    outcomes, _ = held([Contestant(name="huge", make=f"{FAKES}:several", needs_bytes=1 << 60)])
    assert "GiB of memory are free, and it may take 1073741824.0" in outcomes["huge"].skipped


def test_two_contestants_of_one_name_are_refused():
    with pytest.raises(ValueError, match="different names"):
        held([fake("twin", "several"), fake("twin", "several")])


def test_each_worker_reports_its_own_memory_and_not_its_neighbours():
    outcomes, _ = held([fake("large", "large", mebibytes=200), fake("small", "doubled", numbers=[5])])
    more = outcomes["large"].peak_bytes - outcomes["small"].peak_bytes
    assert 190 << 20 < more < 260 << 20
    assert outcomes["large"].own_bytes - outcomes["small"].own_bytes > 190 << 20


def test_a_worker_that_computes_while_it_waits_is_named():
    outcomes, said = held([fake("spins", "spinning"), fake("fine", "doubled", numbers=[5])], rest_s=0.3)
    assert outcomes["spins"].idle_share > 0.2
    assert outcomes["fine"].idle_s < 0.1
    assert any(line.startswith("spins computes while it waits") for line in said)


def test_a_function_is_called_in_a_process_of_its_own():
    assert call(f"{FAKES}:added", {"a": 3, "b": 4}) == 7
    with pytest.raises(WorkerFailed, match="TypeError"):
        call(f"{FAKES}:added", {"a": 3})
    with pytest.raises(WorkerFailed, match="still working after 1 s"):
        call(f"{FAKES}:hanging_at_start", {}, limit_s=1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux can bind a process to cores")
def test_a_worker_gets_the_cores_that_it_is_given():
    assert call(f"{FAKES}:cores_and_threads", {}, cores=1) == [1, "1"]
