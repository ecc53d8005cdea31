"""Checkpoints of a run: written whole or not at all, read without running any code.

A checkpoint holds everything that the next step depends on: parameters and buffers, the optimizer's moments, the
gradient scaler, the number of the step, the sums of the unfinished epoch, and the options. Random numbers are drawn
from (seed, step), never from a running generator, so there is no generator's state to keep.
"""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitseek.errors import TrainingError, UsageError
from vitseek.train.files import write_atomically

FORMAT, VERSION = "vitseek-train", 1
LAST, BEST = "last.pt", "best.pt"
LISTED = 8  # names in a message before "and N more"


@dataclasses.dataclass
class Checkpoint:
    """One state of a run.

    Parameters
    ----------
    recipe, options
        Which recipe wrote it, with which options (:meth:`RunOptions.to_dict`).
    card
        What export needs: model configuration, preprocessing, labels (see :class:`vitseek.train.task.Card`).
    step
        Steps done.
    sums
        Sums of the figures of the epoch under way, with their number under ``"count"``.
    model, optimizer, scaler
        State dictionaries; ``scaler`` is empty without float16.
    data
        Fingerprint of the training images.
    best
        Best value so far of the metric that the recipe is judged by.
    """

    recipe: str
    options: dict[str, Any]
    card: dict[str, Any]
    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any] = dataclasses.field(default_factory=dict)
    scaler: dict[str, Any] = dataclasses.field(default_factory=dict)
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    data: str = ""
    best: float | None = None


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the place of the one before.

    Raises
    ------
    TrainingError
        If there is no disk left; the one before is still there, and the message says so.
    """
    fields = {field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}
    document = {"format": FORMAT, "version": VERSION, **fields}

    def write(partial: Path) -> None:
        with partial.open("wb") as file:  # an open file: its errors say "no space left", torch's own do not
            torch.save(document, file)

    write_atomically(path, write)


def keep_best(folder: Path) -> None:
    """Make the last checkpoint the best one, too: a second name for the same file where the disk allows it."""

    def write(partial: Path) -> None:
        partial.unlink(missing_ok=True)
        try:
            os.link(folder / LAST, partial)
        except OSError:  # a file system without hard links
            shutil.copyfile(folder / LAST, partial)

    write_atomically(folder / BEST, write)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint, from its file or its run's folder; tensors and plain values only, nothing is executed.

    Raises
    ------
    UsageError
        If there is no such file.
    TrainingError
        If it is cut off, of another program, or of a newer version.
    """
    path = path / LAST if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"no checkpoint at {path}; give a run's folder or one of its .pt files")
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken or foreign file
        reason = str(error).split("\n")[0]
        raise TrainingError(f"{path} cannot be read as a checkpoint: {reason}. Is it cut off?") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TrainingError(f"{path} is not a checkpoint of `vitseek train`")
    if document["version"] > VERSION:
        raise TrainingError(f"{path} was written by a newer vitseek (checkpoint version {document['version']}); update")
    return Checkpoint(**{field.name: document[field.name] for field in dataclasses.fields(Checkpoint)})


def restore(module: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Copy a state into a module; every mismatch is told in one error.

    Raises
    ------
    TrainingError
        If the checkpoint is of another architecture.
    """
    own = module.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if own[name].shape != state[name].shape
    ]
    if missing or extra or misshapen:
        facts = (("missing", missing), ("not of this model", extra), ("of another shape", misshapen))
        lines = "".join(f"\n  {what}: {_some(names)}" for what, names in facts if names)
        raise TrainingError(
            f"{source} is a checkpoint of another architecture:{lines}\n"
            "Give the model options that it was trained with, or start anew in another --out"
        )
    module.load_state_dict(state)


def check_room(folder: Path, module: nn.Module) -> None:
    """Refuse to start a run whose checkpoints will not fit on the disk.

    Raises
    ------
    TrainingError
        Saying how much is needed and how much there is.
    """
    trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    every = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    needed = 2 * (every + 2 * trained)  # AdamW's two moments; the old file stays until the new one is whole
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"no disk left for a checkpoint: {folder} has {free / 2**20:.0f} MiB free, and two checkpoints of this "
            f"model need {needed / 2**20:.0f} MiB. Make room, or choose another --out"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
