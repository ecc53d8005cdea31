"""The training loop that every recipe shares.

A step is: forward and backward over the parts of a batch, a check that all numbers are finite, clipping, AdamW. An
epoch ends with an evaluation, a row of figures and a checkpoint. SIGINT and SIGTERM end the run after the step under
way, with a checkpoint. A run that is resumed gives the same weights, bit for bit on a CPU, as one that never stopped:
order, augmentation, dropout and learning rate are functions of the step.
"""

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from torch import Tensor

from vitseek.errors import TrainingError, TrainingInterrupted, UsageError
from vitseek.train import checkpoint as checkpoints
from vitseek.train.checkpoint import BEST, LAST, Checkpoint
from vitseek.train.data import Batch, Order, batches
from vitseek.train.groups import parameter_groups
from vitseek.train.metrics import Metrics, draw_curves
from vitseek.train.schedule import warmup_cosine
from vitseek.train.task import Clock, Reporter, Silence, Task
from vitseek.train.team import Team


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a finished run leaves.

    ``scores`` are the last epoch's figures, ``best`` the best value of the recipe's metric and ``checkpoint`` the file
    that has it; ``pictures`` are curves and what the recipe drew. ``leads`` says whether this process wrote them.
    """

    folder: Path
    checkpoint: Path
    steps: int
    scores: dict[str, float]
    best: float | None
    pictures: list[Path]
    leads: bool = True


def fit(task: Task, team: Team, reporter: Reporter | None = None, *, resume: bool = False) -> Outcome:
    """Train until the last epoch.

    Parameters
    ----------
    resume
        Go on from ``last.pt`` in the run's folder; else the folder must not hold a run.

    Raises
    ------
    UsageError
        If there is a run in the folder, or none to resume.
    TrainingError
        If the loss or a gradient is not finite (the last good checkpoint stays), if the checkpoint is of another
        architecture, or if there is no disk left.
    TrainingInterrupted
        After SIGINT or SIGTERM, when the checkpoint is written.
    """
    task.options.check()
    return _Run(task, team, reporter or Silence(), resume).train()


def check_folder(out: Path, resume: bool) -> None:
    """Refuse to overwrite a run, or to resume what is not there.

    Raises
    ------
    UsageError
        Saying which of the two.
    """
    there = (out / LAST).is_file()
    if there and not resume:
        raise UsageError(f"{out} holds a run already: go on with --resume, or choose another --out")
    if resume and not there:
        raise UsageError(f"no run to resume in {out}: there is no {LAST}. Start it without --resume")


class _Run:
    """One run under way: what changes from step to step."""

    def __init__(self, task: Task, team: Team, reporter: Reporter, resume: bool) -> None:
        self.task, self.team, self.reporter, self.options = task, team, reporter, task.options
        self.out = task.options.out
        self.bare = task.module.to(team.device)
        self.order = Order(
            len(task.data),  # type: ignore[arg-type]
            self.options.batch_size,
            seed=self.options.seed,
            accumulate=self.options.accumulate,
            rank=team.rank,
            size=team.size,
        )
        if self.order.batch_size < self.options.batch_size and team.leads:
            reporter.note(f"{self.order.count} images make a batch of {self.order.batch_size}, not of more")
        self.total = self.order.steps * self.options.epochs
        groups = task.groups if task.groups is not None else parameter_groups(self.bare, self.options.weight_decay)
        if not groups:
            raise UsageError("nothing to train: every parameter is frozen")
        optimizer: torch.optim.Optimizer
        if task.optimizer is not None:
            optimizer = task.optimizer(groups, self.options.lr)
        else:
            optimizer = torch.optim.AdamW(groups, lr=self.options.lr, betas=task.betas)
        self.step, self.best, self.sums = 0, None, {}  # type: int, float | None, dict[str, float]
        found = team.in_turn(lambda: self._open(resume))
        self.model, self.optimizer = team.prepare(self.bare, optimizer)
        if found:
            self._restore(found)
        self.saved_at = time.monotonic()

    def _open(self, resume: bool) -> Checkpoint | None:
        """Make the folder, or find the run in it."""
        last = self.out / LAST
        if self.team.leads:
            check_folder(self.out, resume)
        if not resume:
            try:
                self.out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"cannot make the folder {self.out}: {error.strerror or error}") from error
            checkpoints.check_room(self.out, self.bare)
            return None
        return checkpoints.load(last)

    def _restore(self, found: Checkpoint) -> None:
        if found.recipe != self.task.recipe:
            raise UsageError(
                f"{self.out} holds a run of {found.recipe}, not of {self.task.recipe}: choose another --out"
            )
        checkpoints.restore(self.bare, found.model, self.out / LAST)
        rates = [(group["lr_scale"], group["weight_decay"], group["decays"]) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(found.optimizer)
        for group, (scale, decay, decays) in zip(self.optimizer.param_groups, rates, strict=True):
            group.update(lr_scale=scale, weight_decay=decay, decays=decays)  # the command line may have changed them
        scaler = self.team.accelerator.scaler
        if scaler is not None and found.scaler:
            scaler.load_state_dict(found.scaler)
        self.step, self.best, self.sums = found.step, found.best, dict(found.sums)
        if self.step % self.order.steps and found.options["batch_size"] != self.options.batch_size:
            raise UsageError(
                f"{self.out} stopped within an epoch: go on with --batch-size {found.options['batch_size']} "
                "and change it in a new run"
            )
        if found.data != self.task.fingerprint and self.team.leads:
            self.reporter.note("the training images differ from those before: the run goes on, but is not the same run")
        if self.team.leads:
            self.reporter.note(
                f"resumed after step {self.step} of {self.total} (epoch {self.step / self.order.steps:g})"
            )

    def train(self) -> Outcome:
        """Go through the epochs that are left."""
        metrics = Metrics(self.out, last_step=self.step) if self.team.leads else None
        with contextlib.ExitStack() as stack:
            if metrics:
                stack.enter_context(metrics)
            stopped = stack.enter_context(_stop_signals())
            while self.step < self.total:
                self._epoch(metrics, stopped)
            pictures: list[Path] = []
            self.bare.eval()
            if self.team.leads and metrics:
                if metrics.steps:
                    pictures.append(draw_curves(self.out, f"{self.task.recipe}: loss"))
                if self.task.finish is not None:
                    pictures += self.task.finish(self.bare, self.out)
                for picture in pictures:
                    metrics.picture(picture.stem, picture, self.step)
            scores = dict(metrics.epochs[-1]) if metrics and metrics.epochs else {}
        self.team.wait()
        self.team.accelerator.free_memory()  # a second run in this process must not meet this one's optimizer
        chosen = self.out / (BEST if self.best is not None else LAST)
        return Outcome(self.out, chosen, self.step, scores, self.best, pictures, self.team.leads)

    def _epoch(self, metrics: Metrics | None, stopped: threading.Event) -> None:
        epoch, first = divmod(self.step, self.order.steps)
        self.bare.train()
        parts = batches(self.task.data, self.order, epoch, first, self.options.workers)
        started, begun = time.monotonic(), self.step
        for _ in range(first, self.order.steps):
            figures, stop = self._step(parts, stopped)
            for name, value in figures.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.sums["count"] = self.sums.get("count", 0.0) + 1
            self.step += 1
            if metrics:
                metrics.step(self.step, figures)
                rate = (self.step - begun) * self.order.batch_size / (time.monotonic() - started)
                self.reporter.progress(
                    f"epoch {epoch + 1}/{self.options.epochs}", self.step % self.order.steps or self.order.steps,
                    self.order.steps, f"loss {figures['loss']:.4f}  {rate:.0f} img/s",
                )  # fmt: skip
            if self.step % self.order.steps == 0:
                break  # the epoch is complete: first its evaluation, then a stop
            if stop or time.monotonic() - self.saved_at > 60 * self.options.save_minutes:
                self._save(metrics)
            if stop:
                self._interrupt()
        row = {"epoch": epoch + 1.0}
        row.update({f"train_{n}": v / self.sums["count"] for n, v in self.sums.items() if n not in ("count", "lr")})
        row["lr"] = figures["lr"]
        row["images_per_s"] = round((self.step - begun) * self.order.batch_size / (time.monotonic() - started), 1)
        if (epoch + 1) % self.options.evaluate_every == 0 or self.step == self.total:
            row.update(self._evaluate())
        self.sums = {}
        score = row.get(self.task.best or "", -math.inf)
        improved = score > (-math.inf if self.best is None else self.best)
        if improved:
            self.best = score
        if metrics:
            metrics.epoch(self.step, row)
        self._save(metrics)
        if self.team.leads and improved:
            checkpoints.keep_best(self.out)
        if metrics:
            shown = "  ".join(f"{n} {v:.4g}" for n, v in row.items() if n not in ("epoch", "train_grad_norm"))
            self.reporter.note(f"epoch {epoch + 1}/{self.options.epochs}  {shown}")
        if stop and self.step < self.total:
            self._interrupt()

    def _interrupt(self) -> NoReturn:
        raise TrainingInterrupted(
            f"stopped after step {self.step} of {self.total}; everything is in {self.out / LAST}. "
            f"Go on with: vitseek train {self.task.recipe} --out {self.out} --resume"
        )

    def _evaluate(self) -> dict[str, float]:
        if self.task.evaluate is None:
            return {}
        self.bare.eval()
        with torch.no_grad(), self.team.autocast():
            scores = self.task.evaluate(self.bare)
        self.bare.train()
        return {name: float(value) for name, value in scores.items()}

    def _step(self, parts: Iterator[Batch], stopped: threading.Event) -> tuple[dict[str, float], bool]:
        clock = Clock(self.step, self.order.steps, self.total, self.options.seed, self.team.rank)
        torch.manual_seed(int(clock.rng().integers(2**63)))  # dropout and the like: a function of the step
        rate = self._set_rates(clock)
        figures: dict[str, Tensor] = {}
        accumulate = self.options.accumulate
        for part in range(accumulate):
            batch = {name: _to(value, self.team.device) for name, value in next(parts).items()}
            last = part == accumulate - 1
            with contextlib.nullcontext() if last else self.team.accelerator.no_sync(self.model):
                with self.team.autocast():
                    found = self.task.step(self.model, batch, clock)
                self.team.accelerator.backward(found["loss"] / accumulate)
            for name, value in found.items():
                figures[name] = (
                    figures.get(name, torch.zeros((), device=self.team.device)) + value.detach() / accumulate
                )
        if self.task.before_update is not None:
            self.task.before_update(self.bare, clock)
        norm = self._gradient_norm()
        agreed, stop = self._agree(figures, norm, stopped, clock)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.task.after_update is not None:
            self.task.after_update(self.bare, clock)
        return {**agreed, "grad_norm": float(norm), "lr": rate}, stop

    def _set_rates(self, clock: Clock) -> float:
        rate = warmup_cosine(
            clock.step,
            warmup=self.options.warmup_epochs * clock.steps_per_epoch,
            total=clock.total_steps,
            peak=self.options.lr,
            end=self.options.min_lr,
        )
        decay = self.task.weight_decay(clock) if self.task.weight_decay is not None else None
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
            if decay is not None and group["decays"]:
                group["weight_decay"] = decay
        return rate

    def _gradient_norm(self) -> Tensor:
        limit = self.options.clip_grad or math.inf
        trained = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm: Tensor = self.team.accelerator.clip_grad_norm_(trained, limit)
        return norm

    def _agree(
        self, figures: dict[str, Tensor], norm: Tensor, stopped: threading.Event, clock: Clock
    ) -> tuple[dict[str, float], bool]:
        """Average the figures over the processes; stop all of them if one has a number that is not finite.

        In float16 a gradient may overflow: the scaler leaves that update out and tries a smaller scale.
        """
        finite = math.isfinite(float(figures["loss"])) and (self.team.precision == "fp16" or math.isfinite(float(norm)))
        told = torch.stack([*figures.values()]).float()
        flags = torch.tensor([float(not finite), float(stopped.is_set())], device=told.device)
        told, flags = self.team.mean(told), self.team.sum(flags)
        if flags[0] > 0:
            kept = self.out / LAST
            what = "loss" if not math.isfinite(float(figures["loss"])) else "gradient"
            value = figures["loss"] if what == "loss" else norm
            good = f"The last good checkpoint is kept: {kept}" if kept.exists() else "No checkpoint was written yet"
            raise TrainingError(
                f"the {what} became {float(value):g} at step {clock.step + 1} (epoch {clock.epoch + 1}), so the run "
                f"stopped before it could spoil the weights. {good}. "
                f"Try a lower --lr than {self.options.lr:g}, a longer --warmup-epochs or a smaller --clip-grad"
                + (", and go on with --resume" if kept.exists() else "")
            )
        named = dict(zip(figures, told.tolist(), strict=True))
        return named, bool(flags[1] > 0)

    def _save(self, metrics: Metrics | None) -> None:
        self.team.wait()
        if not self.team.leads:
            return
        scaler = self.team.accelerator.scaler
        state = {name: value.detach().cpu() for name, value in self.bare.state_dict().items()}
        if broken := [n for n, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]:
            raise TrainingError(
                f"after step {self.step} the weights {', '.join(broken[:4])} are not finite; they are not saved. "
                + (f"The last good checkpoint is kept: {self.out / LAST}. " if (self.out / LAST).exists() else "")
                + f"Try a lower --lr than {self.options.lr:g}"
            )
        checkpoints.save(
            self.out / LAST,
            Checkpoint(
                recipe=self.task.recipe,
                options=self.options.to_dict(),
                card=self.task.card.to_dict(),
                step=self.step,
                model=state,
                optimizer=_plain(self.optimizer.state_dict()),
                scaler=scaler.state_dict() if scaler is not None else {},
                sums=dict(self.sums),
                data=self.task.fingerprint,
                best=self.best,
            ),
        )
        if metrics:
            metrics.flush()
        self.saved_at = time.monotonic()


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Ask for a stop after the step on the first SIGINT or SIGTERM; the second SIGINT stops at once."""
    asked = threading.Event()

    def stop(number: int, _frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's business
        yield asked
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value


def _plain(value: Any) -> Any:
    """A copy with tensors on the CPU: what ``torch.load(weights_only=True)`` takes."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(part) for part in value)
    return value


__all__ = ["Outcome", "check_folder", "fit"]
