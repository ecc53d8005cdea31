import os
import pickle
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.errors import TrainingError, UsageError  # noqa: E402
from vitseek.train import checkpoint as checkpoints  # noqa: E402
from vitseek.train.checkpoint import BEST, LAST, Checkpoint  # noqa: E402
from vitseek.train.files import write_atomically  # noqa: E402


def _checkpoint(step: int, width: int = 7) -> Checkpoint:
    model = torch.nn.Linear(width, 5)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3, width)).sum().backward()
    optimizer.step()
    return Checkpoint(
        recipe="supervised",
        options={"lr": 0.1, "out": "runs/x"},
        card={"config": {}, "labels": ["a"]},
        step=step,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        sums={"loss": 0.5},
        best=0.25,
    )


def test_everything_in_a_checkpoint_comes_back(tmp_path: Path) -> None:
    wanted = _checkpoint(11)
    checkpoints.save(tmp_path / LAST, wanted)
    came = checkpoints.load(tmp_path)
    assert (came.recipe, came.options, came.card, came.step, came.sums, came.best) == (
        "supervised", wanted.options, wanted.card, 11, {"loss": 0.5}, 0.25,
    )  # fmt: skip
    assert all(torch.equal(came.model[name], value) for name, value in wanted.model.items())
    assert torch.equal(came.optimizer["state"][0]["exp_avg"], wanted.optimizer["state"][0]["exp_avg"])


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 4 KiB: writing fails as on a full disk, for root too.

    Around the one call only: the limit holds for the whole process, and so for the file that pytest prints to.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_without_disk_the_message_names_the_last_good_checkpoint_which_stays(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / LAST, _checkpoint(11))
    with (
        pytest.raises(TrainingError, match=r"no disk left in .*The one before it is kept: .*last.pt. Make room"),
        small_files(),
    ):
        checkpoints.save(tmp_path / LAST, _checkpoint(13, width=997))
    assert checkpoints.load(tmp_path).step == 11
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


@pytest.mark.hostile
def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        checkpoints.save(disk / LAST, _checkpoint(11))
        with pytest.raises(TrainingError, match=r"no disk left in .*The one before it is kept"):
            checkpoints.save(disk / LAST, _checkpoint(13, width=9973))
        assert checkpoints.load(disk).step == 11
        assert [path.name for path in disk.iterdir()] == [LAST]
        with pytest.raises(TrainingError, match=r"no disk left for a checkpoint: .* MiB free, and two .* need 2 MiB"):
            checkpoints.check_room(disk, torch.nn.Linear(9973, 9))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_best_checkpoint_survives_later_ones(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / LAST, _checkpoint(11))
    checkpoints.keep_best(tmp_path)
    checkpoints.save(tmp_path / LAST, _checkpoint(13))
    assert (checkpoints.load(tmp_path / BEST).step, checkpoints.load(tmp_path / LAST).step) == (11, 13)
    checkpoints.keep_best(tmp_path)
    assert checkpoints.load(tmp_path / BEST).step == 13


def test_a_torn_checkpoint_is_told_as_such(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / LAST, _checkpoint(11))
    (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:999])
    with pytest.raises(TrainingError, match=r"cannot be read as a checkpoint: .* Is it cut off"):
        checkpoints.load(tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {marker}",)

    torch.save({"format": "vitseek-train", "model": Attack()}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Attack(), protocol=2))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(TrainingError, match="cannot be read as a checkpoint"):
            checkpoints.load(tmp_path / name)
    assert not marker.exists()


def test_files_of_others_and_of_the_future_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    torch.save({"format": "vitseek-train", "version": 2}, tmp_path / "newer.pt")
    with pytest.raises(TrainingError, match="is not a checkpoint of `vitseek train`"):
        checkpoints.load(tmp_path / "other.pt")
    with pytest.raises(TrainingError, match=r"written by a newer vitseek .checkpoint version 2.; update"):
        checkpoints.load(tmp_path / "newer.pt")
    with pytest.raises(UsageError, match=r"no checkpoint at .*nowhere"):
        checkpoints.load(tmp_path / "nowhere")


def test_another_architecture_is_told_with_all_differences_at_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.LayerNorm(5))
    state = {"0.weight": torch.zeros(5, 11), "0.bias": torch.zeros(5), "2.weight": torch.zeros(3)}
    with pytest.raises(TrainingError) as caught:
        checkpoints.restore(model, state, Path("x/last.pt"))
    message = str(caught.value)
    assert "x/last.pt is a checkpoint of another architecture" in message
    assert "missing: 1.bias, 1.weight" in message
    assert "not of this model: 2.weight" in message
    assert "0.weight (5, 11) instead of (5, 7)" in message


def test_a_writer_that_fails_for_another_reason_is_not_called_a_full_disk(tmp_path: Path) -> None:
    def write(partial: Path) -> None:
        partial.write_text("half")
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        write_atomically(tmp_path / "x", write)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"cannot write .*No such file or directory"):
        checkpoints.save(tmp_path / "gone" / LAST, _checkpoint(1))
