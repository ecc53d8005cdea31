"""The question "gpu": what a line says, and the whole of it, tiny, on the processor."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'vitseek[torch]'")

from benchmarks.gpu import OURS, PEER, PRODUCTS, Card, Runner, line, readied

ROOT = Path(__file__).resolve().parents[2]
MINE = OURS["bfloat16"]


def test_a_line_holds_a_contestant_against_the_peer_and_the_products_of_the_same_rounds():
    times = {MINE: [0.5, 0.25, 0.5], PEER: [1.0, 0.25, 1.0], PRODUCTS: [0.25, 0.125, 0.4]}
    cells = line(Runner(MINE, lambda: None, memory_bytes=3 << 20, first_s=1.26), times, 4)
    assert cells == {
        "engine": MINE, "images/s": "8.0", "best": "16.0", "ratio": "2.00", "of the ceiling": "50%",
        "memory": "3 MiB", "first": "1.3 s", "skipped": "",
    }  # fmt: skip
    assert line(Runner(PRODUCTS, lambda: None), times, 4)["of the ceiling"] == "–"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: lambda: np.ones((2, 3), np.float32) * 1.1, "features are 0.1 of their length from NumPy's"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_contestant_that_is_wrong_or_fails_has_a_reason_and_no_figures(make, reason):
    import torch

    runner = readied(Card(torch, "cpu"), PEER, make, np.ones((2, 3), np.float32), 0.05)
    assert runner.skipped == reason
    assert line(runner, {}, 2)["images/s"] == "–"


class Ledger:
    """A card whose memory is what is written down: held when asked for, and the most since."""

    def __init__(self, held: list[int], most: list[int]) -> None:
        self.held, self.peaks = iter(held), iter(most)

    def begin(self) -> int:
        return next(self.held)

    def most(self) -> int:
        return next(self.peaks)


def test_memory_counts_what_a_contestant_holds_from_earlier_batches_and_not_what_others_hold():
    wanted = np.ones((2, 3), np.float32)
    card = Ledger(held=[100, 130, 900, 950], most=[170, 1000])
    first, second = (readied(card, MINE, lambda: lambda: wanted, wanted, 0.05, kept_bytes=kept) for kept in (0, 30))
    assert (first.memory_bytes, first.kept_bytes) == (70, 30)  # it keeps weights and a recording
    assert (second.memory_bytes, second.kept_bytes) == (130, 80)  # 100 more at most, 50 of which stay


@pytest.mark.parity
def test_everything_runs_tiny_on_the_processor_and_is_kept(tmp_path):
    file = tmp_path / "gpu.csv"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--csv", str(file)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["engine"] for row in rows[:4]] == [*OURS.values(), PEER, PRODUCTS]
    assert not any(row["skipped"] for row in rows)
    assert len(rows) == 2 * 4 + 1
    assert float(rows[-1]["whole [images/s]"]) > 0
