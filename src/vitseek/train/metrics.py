"""What a run writes down: two CSV files, TensorBoard events, and a picture of the curves.

``steps.csv`` has a row a step (loss, learning rate, gradient norm …), ``metrics.csv`` a row an epoch. A resumed run
drops the rows after its checkpoint, so that the files read as if it had never stopped.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from vitseek.train.files import write_atomically

STEPS, EPOCHS, CURVES = "steps.csv", "metrics.csv", "curves.png"
SMOOTHED_PART = 0.05  # of the steps, that the thick loss curve averages over


class Metrics:
    """Writes the figures of a run to its folder; a context manager.

    Parameters
    ----------
    folder
        The run's folder; TensorBoard events go to ``tensorboard/`` in it.
    last_step
        Steps that the run has done already: later rows are dropped.
    """

    def __init__(self, folder: Path, *, last_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self.steps = [row for row in read_rows(folder / STEPS) if row["step"] <= last_step]
        self.epochs = [row for row in read_rows(folder / EPOCHS) if row["step"] <= last_step]
        self._unwritten = 0
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=last_step + 1 if last_step else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._board.close()

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Note one step; the file follows with the next :meth:`flush`."""
        self.steps.append({"step": step, **figures})
        for name, value in figures.items():
            self._board.add_scalar(f"step/{name}", value, step)

    def epoch(self, step: int, figures: Mapping[str, float]) -> None:
        """Note one epoch, and write both files."""
        self.epochs.append({"step": step, **figures})
        for name, value in figures.items():
            if name != "epoch":
                self._board.add_scalar(f"epoch/{name}", value, step)
        self.flush()

    def flush(self) -> None:
        """Write both CSV files; a crash leaves the old ones or the new ones, never half a file."""
        write_rows(self.folder / STEPS, self.steps)
        write_rows(self.folder / EPOCHS, self.epochs)
        self._board.flush()

    def picture(self, name: str, path: Path, step: int) -> None:
        """Show a picture file in TensorBoard, too."""
        from PIL import Image

        self._board.add_image(name, np.asarray(Image.open(path).convert("RGB")), step, dataformats="HWC")


def read_rows(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics file as numbers, empty cells left out; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def write_rows(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write rows under the union of their columns, in the order in which the columns came up."""
    columns = list(dict.fromkeys(name for row in rows for name in row))

    def write(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)

    write_atomically(path, write)


def draw_curves(folder: Path, title: str) -> Path:
    """Draw the loss of every step and the scores of every epoch from the CSV files of a run.

    Scores are the columns of ``metrics.csv`` that lie between 0 and 1 and name an accuracy, a recall or k-NN; a column
    named ``val_loss`` joins the loss.

    Returns
    -------
    The picture: ``curves.png`` in the folder.
    """
    from matplotlib.figure import Figure

    steps, epochs = read_rows(folder / STEPS), read_rows(folder / EPOCHS)
    scores = [n for n in dict.fromkeys(k for row in epochs for k in row) if any(w in n for w in SCORE_WORDS)]
    figure = Figure(figsize=(11 if scores else 6, 4), layout="constrained")
    axes: Any = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
    numbers, losses = np.array([r["step"] for r in steps]), np.array([r["loss"] for r in steps])
    axes[0].plot(numbers, losses, color="tab:blue", alpha=0.25, linewidth=0.8, label="loss of a step")
    axes[0].plot(numbers, _smoothed(losses), color="tab:blue", label="loss, averaged")
    if checked := [row for row in epochs if "val_loss" in row]:
        axes[0].plot(
            [row["step"] for row in checked], [row["val_loss"] for row in checked], "o-", color="tab:orange",
            markersize=3, label="loss on validation images",
        )  # fmt: skip
    axes[0].set(title=title, xlabel="step", ylabel="loss")
    axes[0].legend()
    if scores:
        for name in scores:
            known = [row for row in epochs if name in row]
            axes[1].plot([row["epoch"] for row in known], [row[name] for row in known], "o-", markersize=3, label=name)
        axes[1].set(title="scores on held-out images", xlabel="epoch", ylim=(0, 1))
        axes[1].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
    path = folder / CURVES
    write_atomically(path, lambda partial: figure.savefig(partial, dpi=120, format="png"))
    return path


SCORE_WORDS = ("accuracy", "recall", "knn")


def _smoothed(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Running mean of the last few values, fewer at the start."""
    window = max(1, math.ceil(SMOOTHED_PART * len(values)))
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _cell(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
