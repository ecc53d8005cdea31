"""What a recipe hands to the loop: a module, its images, a step function and an evaluate function.

A recipe is one file with ``build(options, team, reporter) -> Task``. The loop (:func:`vitseek.train.loop.fit`) does the
rest: order, precision, accumulation, clipping, schedules, metrics, checkpoints, resume, several processes.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from vitseek.train.data import Batch, Sample
from vitseek.train.groups import Group
from vitseek.train.options import RunOptions


@dataclasses.dataclass(frozen=True)
class Clock:
    """Where the run stands. ``step`` counts from 0 and over all epochs; it is the step under way."""

    step: int
    steps_per_epoch: int
    total_steps: int
    seed: int
    rank: int

    @property
    def epoch(self) -> int:
        """The epoch under way, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def epochs(self) -> float:
        """Epochs done, with the part of the one under way."""
        return self.step / self.steps_per_epoch

    def rng(self, purpose: int = 0) -> np.random.Generator:
        """A generator for this step and this process: the same after a resume. ``purpose`` tells several apart."""
        return np.random.default_rng((self.seed, self.step, self.rank, purpose))


class Reporter(Protocol):
    """Who shows a run to its user; the command line has one, tests have :class:`Silence`."""

    def note(self, text: str) -> None:
        """One line worth keeping."""

    def progress(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Show how far a piece of work is."""


class Silence:
    """A reporter that says nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def progress(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Show nothing."""


@dataclasses.dataclass(frozen=True)
class Card:
    """What a checkpoint says about its model, so that export can write the runtime's files.

    Parameters
    ----------
    config, preprocessing
        ``ViTConfig.to_dict()`` and ``ImagePreprocessing.to_dict()``.
    prefix
        Where the exported module's parameters are in the checkpoint's state: ``"teacher."``, or empty.
    text
        ``TextConfig.to_dict()`` where there is a text tower: everything in the checkpoint outside ``prefix`` belongs to
        the exported model, too, under its own name (``text.*``, ``projection.weight``, ``logit_scale``).
    tokenizer
        File in the run's folder that the text tower's numbers come from.
    notes
        Anything else that belongs into ``config.json``, by key.
    """

    config: dict[str, Any]
    preprocessing: dict[str, Any]
    pooling: str = "cls"
    labels: tuple[str, ...] = ()
    prefix: str = ""
    text: dict[str, Any] | None = None
    tokenizer: str | None = None
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        return {**dataclasses.asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "Card":
        """Read what :meth:`to_dict` wrote."""
        known = {name: value for name, value in document.items() if name != "parts"}  # in older files
        return cls(**{**known, "labels": tuple(document["labels"])})


Step = Callable[[nn.Module, Batch, Clock], dict[str, Tensor]]


@dataclasses.dataclass(kw_only=True)
class Task:
    """Everything that one run is made of.

    Parameters
    ----------
    recipe
        Name under which checkpoints say who wrote them.
    module
        All parameters and buffers that a checkpoint holds. What ``requires_grad`` is trained; a frozen teacher may be
        in it. Its ``forward`` is what is wrapped for several processes and mixed precision.
    data
        Training samples, asked for by ``(epoch, index)`` (:class:`vitseek.train.data.Augmented`).
    fingerprint
        Tells whether a resumed run sees the same images.
    step
        From the wrapped module, a batch on the device and the clock to scalar figures; ``"loss"`` is minimised, the
        others are written down. Compute through ``model(...)``, not through its sub-modules.
    evaluate
        From the bare module, in evaluation mode and without gradients, to scalar scores; after every epoch, on every
        process (share the work with the team, or repeat it).
    groups
        Parameter groups (:func:`vitseek.train.groups.parameter_groups`); by default, all at one rate.
    before_update, after_update
        Called with the bare module between backward pass and update, and after the update (an EMA).
    weight_decay
        From the clock to the decay of the groups that decay, if it changes.
    best
        The score by which the best checkpoint is kept; up is better. Without it the last one is the best.
    finish
        Called once at the end with the bare module; returns pictures that it wrote.
    betas
        AdamW's.
    optimizer
        From parameter groups and learning rate to another optimizer than AdamW.
    """

    recipe: str
    options: RunOptions
    module: nn.Module
    card: Card
    data: Dataset[Sample]
    step: Step
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None
    fingerprint: str = ""
    groups: list[Group] | None = None
    before_update: Callable[[nn.Module, Clock], None] | None = None
    after_update: Callable[[nn.Module, Clock], None] | None = None
    weight_decay: Callable[[Clock], float] | None = None
    best: str | None = None
    finish: Callable[[nn.Module, Path], list[Path]] | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    optimizer: Callable[[list[Group], float], Optimizer] | None = None
