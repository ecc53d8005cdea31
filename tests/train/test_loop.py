"""The loop, with a module of a few numbers and with the real recipes."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.errors import TrainingError, TrainingInterrupted, UsageError  # noqa: E402
from vitseek.train import checkpoint as checkpoints  # noqa: E402
from vitseek.train.checkpoint import LAST  # noqa: E402
from vitseek.train.loop import fit  # noqa: E402
from vitseek.train.metrics import read_rows  # noqa: E402
from vitseek.train.run import build, options_for, run  # noqa: E402
from vitseek.train.task import Clock, Silence, Task  # noqa: E402
from vitseek.train.team import Team  # noqa: E402

Options = Callable[..., Any]
RANDOM = {"mixup": 0.8, "cutmix": 1.0, "randaugment": 2, "erasing": 0.3, "drop_path": 0.2}


class Notes(Silence):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def _task(options: Any) -> tuple[Task, Team]:
    team = Team.join(options)
    return build("supervised", options, team), team


def _interrupt_at(task: Task, step: int, number: int = signal.SIGINT) -> None:
    inner = task.step

    def interrupted(model: Any, batch: Any, clock: Clock) -> Any:
        if clock.step == step:
            os.kill(os.getpid(), number)
        return inner(model, batch, clock)

    task.step = interrupted


def _state(folder: Path) -> dict[str, Any]:
    return checkpoints.load(folder / LAST).model


def _assert_same(first: Path, second: Path) -> None:
    a, b = checkpoints.load(first / LAST), checkpoints.load(second / LAST)
    assert a.step == b.step
    assert all(torch.equal(a.model[name], b.model[name]) for name in a.model)
    for number, moments in a.optimizer["state"].items():
        assert all(torch.equal(value, b.optimizer["state"][number][name]) for name, value in moments.items())
    assert (first / "steps.csv").read_text() == (second / "steps.csv").read_text()
    ignored = "images_per_s"
    rows = [
        [{n: v for n, v in row.items() if n != ignored} for row in read_rows(f / "metrics.csv")]
        for f in (first, second)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("stop_at", [3, 1, 4])
def test_a_resumed_run_equals_one_that_never_stopped_bit_for_bit(small: Options, tmp_path: Path, stop_at: int) -> None:
    # 18 training images in batches of 5: three steps an epoch. Step 3 is after the first epoch, 1 and 4 are within one.
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    fit(*_task(small("supervised", out=straight, **RANDOM)))
    task, team = _task(small("supervised", out=resumed, **RANDOM))
    _interrupt_at(task, stop_at - 1)
    with pytest.raises(TrainingInterrupted, match=rf"stopped after step {stop_at} of 6; .*--out .*resumed --resume"):
        fit(task, team)
    assert checkpoints.load(resumed).step == stop_at
    run("supervised", options_for("supervised", {"out": resumed}, resume=True), resume=True)
    _assert_same(straight, resumed)


def test_one_epoch_then_another_equals_two(small: Options, tmp_path: Path) -> None:
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    run("supervised", small("supervised", out=straight, **RANDOM))
    task, team = _task(small("supervised", out=resumed, **RANDOM))
    _interrupt_at(task, 2, signal.SIGTERM)
    with pytest.raises(TrainingInterrupted):
        fit(task, team)
    assert len(read_rows(resumed / "metrics.csv")) == 1
    run("supervised", options_for("supervised", {"out": resumed}, resume=True), resume=True)
    _assert_same(straight, resumed)


def test_the_second_ctrl_c_stops_at_once(small: Options, tmp_path: Path) -> None:
    task, team = _task(small("supervised"))
    _interrupt_at(task, 0)
    inner = task.step

    def twice(model: Any, batch: Any, clock: Clock) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return inner(model, batch, clock)

    task.step = twice
    with pytest.raises(KeyboardInterrupt):
        fit(task, team)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    small: Options, tmp_path: Path
) -> None:
    task, team = _task(small("supervised", save_minutes=1e-9))
    inner, good = task.step, {}

    def poisoned(model: Any, batch: Any, clock: Clock) -> Any:
        found = inner(model, batch, clock)
        if clock.step == 4:
            good.update({name: value.clone() for name, value in task.module.state_dict().items()})
            return {**found, "loss": found["loss"] * float("nan")}
        return found

    task.step = poisoned
    with pytest.raises(TrainingError) as caught:
        fit(task, team)
    message = str(caught.value)
    assert "the loss became nan at step 5 (epoch 2)" in message
    assert f"The last good checkpoint is kept: {tmp_path / 'run' / LAST}" in message
    assert "Try a lower --lr" in message
    kept = checkpoints.load(tmp_path / "run")
    assert kept.step == 4
    assert all(torch.equal(kept.model[name], value) for name, value in good.items())


def test_a_gradient_that_is_no_number_never_reaches_the_weights(small: Options, tmp_path: Path) -> None:
    task, team = _task(small("supervised"))
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    inner = task.step

    def overflowing(model: Any, batch: Any, clock: Clock) -> Any:
        loss = inner(model, batch, clock)["loss"]
        return {"loss": loss + (loss - loss.detach()).abs().sqrt() * 1e-3}  # its slope at 0 is infinite

    task.step = overflowing
    with pytest.raises(TrainingError, match=r"the gradient became (nan|inf) at step 1 .* No checkpoint was written"):
        fit(task, team)
    assert all(torch.equal(task.module.state_dict()[name], value) for name, value in before.items())


def test_gradients_are_clipped_to_the_limit(small: Options) -> None:
    task, team = _task(small("supervised", clip_grad=0.01, epochs=1))
    norms: list[float] = []

    def look(_module: Any, _clock: Clock) -> None:
        trained = [p.grad.norm() for p in task.module.parameters() if p.grad is not None]
        norms.append(float(torch.stack(trained).norm()))

    task.before_update, after = look, []
    step = torch.optim.AdamW.step

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        after.append(float(torch.stack([g.norm() for g in grads]).norm()))
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", spy)
        fit(task, team)
    assert min(norms) > 0.02
    assert max(after) <= 0.01001


def test_a_batch_in_parts_learns_what_the_whole_batch_learns(small: Options, tmp_path: Path) -> None:
    given = {"batch_size": 6, "epochs": 1}
    run("supervised", small("supervised", out=tmp_path / "whole", **given))
    run("supervised", small("supervised", out=tmp_path / "parts", accumulate=3, **given))
    whole, parts = _state(tmp_path / "whole"), _state(tmp_path / "parts")
    # AdamW turns the sign of a gradient near 0 into a whole step, so rounding shows; 2e-3 is the learning rate.
    assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) < 2e-4
    losses = [[row["loss"] for row in read_rows(tmp_path / name / "steps.csv")] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_bfloat16_runs_on_a_cpu_and_keeps_float32_weights(small: Options, tmp_path: Path) -> None:
    run("supervised", small("supervised", out=tmp_path / "full"))
    run("supervised", small("supervised", out=tmp_path / "half", precision="bf16"))
    full, half = _state(tmp_path / "full"), _state(tmp_path / "half")
    assert {value.dtype for value in half.values()} == {torch.float32}
    assert any(not torch.equal(full[name], half[name]) for name in full)
    rows = read_rows(tmp_path / "half" / "metrics.csv")
    assert rows[-1]["train_loss"] == pytest.approx(
        read_rows(tmp_path / "full" / "metrics.csv")[-1]["train_loss"], rel=0.05
    )


def test_float16_needs_a_gpu(small: Options) -> None:
    with pytest.raises(UsageError, match="--precision fp16 needs a GPU"):
        Team.join(small("supervised", precision="fp16", device="cpu"))


def test_a_run_is_not_overwritten_and_what_is_not_there_not_resumed(small: Options, tmp_path: Path) -> None:
    run("supervised", small("supervised", epochs=1))
    with pytest.raises(UsageError, match="holds a run already: go on with --resume, or choose another --out"):
        run("supervised", small("supervised", epochs=1))
    with pytest.raises(UsageError, match=r"no run to resume in .*nothing: there is no last.pt"):
        options_for("supervised", {"out": tmp_path / "nothing"}, resume=True)
    with pytest.raises(UsageError, match="holds a run of supervised, not of mae"):
        options_for("mae", {"out": tmp_path / "run"}, resume=True)


def test_a_resumed_run_with_another_model_is_refused_with_the_differences(small: Options, tmp_path: Path) -> None:
    run("supervised", small("supervised", epochs=1))
    options = options_for("supervised", {"out": tmp_path / "run", "depth": 3, "epochs": 2}, resume=True)
    with pytest.raises(TrainingError, match=r"checkpoint of another architecture:\n  missing: blocks.2"):
        run("supervised", options, resume=True)


def test_changed_images_are_noted_on_resume(small: Options, tmp_path: Path, classes: Path) -> None:
    run("supervised", small("supervised", epochs=1))
    (classes / "red" / "0.png").unlink()
    notes = Notes()
    options = options_for("supervised", {"out": tmp_path / "run", "epochs": 2}, resume=True)
    run("supervised", options, notes, resume=True)
    assert any("the training images differ from those before" in line for line in notes.lines)


def test_metrics_curves_and_events_are_there_at_the_end(small: Options, tmp_path: Path) -> None:
    from PIL import Image

    outcome = run("supervised", small("supervised"))
    assert [row["step"] for row in read_rows(tmp_path / "run" / "steps.csv")] == [1, 2, 3, 4, 5, 6]
    rows = read_rows(tmp_path / "run" / "metrics.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"train_loss", "lr", "images_per_s", "val_loss", "val_accuracy"} <= rows[0].keys()
    assert outcome.scores == rows[-1]
    with Image.open(tmp_path / "run" / "curves.png") as curves:
        assert curves.width > 900
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
    assert outcome.checkpoint.is_file()


def test_evaluation_can_be_rarer_and_the_last_epoch_always_has_one(small: Options, tmp_path: Path) -> None:
    run("supervised", small("supervised", epochs=3, evaluate_every=2))
    assert ["val_loss" in row for row in read_rows(tmp_path / "run" / "metrics.csv")] == [False, True, True]


def test_a_run_without_data_says_what_to_give() -> None:
    with pytest.raises(UsageError, match=r"mae needs --data .or --smoke"):
        options_for("mae", {})
    with pytest.raises(UsageError, match="no recipe 'maee'"):
        options_for("maee", {})


def test_a_short_trial_warms_up_for_a_fifth_and_an_explicit_warm_up_is_kept() -> None:
    assert options_for("supervised", {"data": Path("x"), "epochs": 5}).warmup_epochs == 1.0
    assert options_for("supervised", {"data": Path("x"), "epochs": 5, "warmup_epochs": 3.0}).warmup_epochs == 3.0
