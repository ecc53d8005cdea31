"""Two processes over gloo: they agree with each other, and with one process that has the whole batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.train import checkpoint as checkpoints  # noqa: E402
from vitseek.train.metrics import read_rows  # noqa: E402
from vitseek.train.smoke import draw_pictures  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _train(arguments: list[str], processes: int, launcher: str = "torchrun") -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = ["-m", "vitseek", "train", *arguments, "--device", "cpu", "--json"]
    if processes == 1 and launcher == "torchrun":
        command = [sys.executable, *program]
    elif launcher == "torchrun":
        head = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--master_addr=127.0.0.1"]
        command = [sys.executable, *head, f"--master_port={port}", *program]
    else:
        head = ["-m", "accelerate.commands.launch", "--cpu", f"--num_processes={processes}", "--num_machines=1"]
        command = [sys.executable, *head, "--mixed_precision=no", f"--main_process_port={port}", *program]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    return subprocess.run(command, capture_output=True, text=True, timeout=800, env=environment, check=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "pictures", seed=1, per_class=6)


RECIPES = {
    "supervised": ["--epochs", "2", "--batch-size", "8"],
    "dino": ["--epochs", "2", "--batch-size", "8", "--local-crops", "1", "--drop-path", "0"],
    "clip": ["--epochs", "2", "--batch-size", "8", "--text-depth", "1"],
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_learn_what_one_learns(recipe: str, pictures: Path, tmp_path: Path) -> None:
    data = pictures / "captions.csv" if recipe == "clip" else pictures
    common = [recipe, "--smoke", "--data", str(data), "--depth", "1", *RECIPES[recipe]]
    for processes in (1, 2):
        done = _train([*common, "--out", str(tmp_path / str(processes))], processes)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["recipe"] == recipe  # one document, from one process
    alone, together = (checkpoints.load(tmp_path / str(n)).model for n in (1, 2))
    # The loss of the first step is computed from the same weights; later ones feel rounding through AdamW's signs.
    first, second = (read_rows(tmp_path / str(n) / "steps.csv") for n in (1, 2))
    assert first[0]["loss"] == pytest.approx(second[0]["loss"], abs=1e-5)
    assert first[0]["grad_norm"] == pytest.approx(second[0]["grad_norm"], rel=1e-3)
    assert [row["loss"] for row in first] == pytest.approx([row["loss"] for row in second], abs=0.02)
    assert max(float((alone[name] - together[name]).abs().max()) for name in alone) < 0.01


def test_processes_end_with_equal_weights(pictures: Path, tmp_path: Path) -> None:
    # Mixup draws other pairs on every process, so only averaged gradients can keep the weights equal.
    script = tmp_path / "check.py"
    script.write_text(
        "import os, sys, torch\n"
        "from pathlib import Path\n"
        "from vitseek.train.run import build, options_for\n"
        "from vitseek.train.loop import fit\n"
        "from vitseek.train.team import Team\n"
        "data, out = map(Path, sys.argv[1:])\n"
        "given = {'data': data, 'out': out, 'epochs': 1, 'batch_size': 8, 'mixup': 0.8, 'drop_path': 0.2}\n"
        "options = options_for('supervised', given, smoke=True)\n"
        "team = Team.join(options)\n"
        "task = build('supervised', options, team)\n"
        "fit(task, team)\n"
        "total = torch.stack([p.detach().double().sum() for p in task.module.parameters()])\n"
        "every = team.gather(total[None])\n"
        "assert team.size == 2 and torch.equal(every[0], every[1]), every\n"
        "print('equal', team.rank, flush=True)\n"
        "team.leave()\n"
        "os._exit(0)\n"  # as the command does: see vitseek.cli.train
    )
    head = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *head, str(script), str(pictures), str(tmp_path / "run")],
        capture_output=True, text=True, timeout=800, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("equal") == 2


def test_accelerate_launch_starts_a_run(tmp_path: Path) -> None:
    # On CPUs accelerate starts several processes through MPI alone; torchrun needs nothing more.
    arguments = ["mae", "--smoke", "--epochs", "1", "--out", str(tmp_path / "mae")]
    launched = _train(arguments, 1, "accelerate")
    assert launched.returncode == 0, launched.stderr
    assert "1 process on cpu" in launched.stderr


def test_a_batch_that_cannot_be_shared_is_told_by_every_process_and_ends_them(pictures: Path, tmp_path: Path) -> None:
    arguments = ["supervised", "--smoke", "--data", str(pictures), "--batch-size", "7", "--out", str(tmp_path / "run")]
    done = _train(arguments, 2)
    assert done.returncode != 0
    assert "--batch-size 7 cannot be split over 2 processes and 1 parts; use 6" in done.stderr
