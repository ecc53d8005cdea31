"""What each shortcut costs and gains on the gallery's own pictures.

A sample of the gallery is embedded exactly and by each contestant in turn, batch by batch, so that a busy machine slows
both alike. Within the sample every picture asks for its ten nearest others: how many of them are the same is the
agreement. Nothing is written to the gallery.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.available import ALL_TOKENS, ENGINES, ENGINES_OF, PRECISIONS, is_installed
from vitseek.errors import ConfigError, ImageError, MissingExtraError, UsageError
from vitseek.evaluate.retrieval import evaluate_leave_one_out
from vitseek.gallery.shortcuts import MERGED_FAST, MERGED_FASTER, Shortcuts

if TYPE_CHECKING:
    from vitseek.engines.calibration import Calibration
    from vitseek.engines.model import Model

Array = NDArray[np.float32]
Load = Callable[..., "Model"]

NEAREST = 10
LEAST_PICTURES = 3 * NEAREST  # with fewer, ten others are most of what there is
BATCH = 8
ROUNDS = 6  # batches that are timed, and as many exact ones between them
AGREEMENT, LOST_PRECISION = 0.95, 0.005  # what a recommended shortcut keeps of the top 10, and may lose of the mAP
SMALLER = 0.75  # of the side of the model's pictures


@dataclass(frozen=True, slots=True)
class Measured:
    """One contestant.

    Parameters
    ----------
    options
        How it is asked for, as options of ``vitseek index``; empty for the exact one.
    images_per_s
        Of the model alone: pictures are decoded before.
    faster
        How many times as fast as exact; the median of the ratios of neighbouring batches.
    agreement
        Share of the ten nearest pictures that are those of the exact features.
    mean_average_precision
        By the labels of the sample; ``None`` without labels of at least two kinds.
    problem
        Why it could not be measured; everything else is empty then.
    """

    options: str
    images_per_s: float | None = None
    faster: float | None = None
    agreement: float | None = None
    mean_average_precision: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """All contestants, the exact one first, and which to take."""

    model: str
    images: int
    rows: list[Measured]
    recommended: str

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self)


def contestants(size_px: int, patch_px: int) -> list[Shortcuts]:
    """What is worth a try with the engines that are installed; the exact one is not among them."""
    found = [Shortcuts(engine=name) for name in ENGINES if name != "numpy" and is_installed(name)]
    found += [
        Shortcuts(precision=precision, engine=engine)
        for precision in ENGINES_OF
        if precision != "float32"
        for engine in ENGINES
        if precision in PRECISIONS[engine] and is_installed(engine)
    ]
    merged = [Shortcuts(reduction=reduction) for reduction in (MERGED_FAST, MERGED_FASTER)]
    best = [shortcuts for shortcuts in found if shortcuts.precision in ("bfloat16", "int8-static")]
    found += merged
    found += [Shortcuts(one.engine, one.precision, MERGED_FAST) for one in best if one.engine not in ALL_TOKENS]
    smaller = round(size_px * SMALLER / patch_px) * patch_px
    return [*found, Shortcuts(size_px=smaller)]


def tune(
    load: Load,
    pictures: Sequence[Path],
    labels: Sequence[str | None],
    *,
    chosen: Iterable[Shortcuts] | None = None,
    agreement: float = AGREEMENT,
    progress: Callable[[str, int, int], None] | None = None,
) -> Tuning:
    """Measure shortcuts on pictures.

    Parameters
    ----------
    load
        ``vitseek.load`` for one model: takes engine, precision, calibration, reduction and size_px.
    pictures, labels
        A sample of the gallery, and what each shows; ``None`` where that is not known. Those that cannot be used are
        left out.
    chosen
        What to measure; by default :func:`contestants`.
    agreement
        What the recommended one must keep of the exact top 10.
    progress
        Called with what is being measured, its number, and how many there are.

    Raises
    ------
    UsageError
        If there are too few usable pictures.
    """
    if not 0 < agreement <= 1:
        raise UsageError(f"the agreement to keep is a share between 0 and 1, not {agreement:g}")
    exact = load()
    decoded = _Decoded(exact, pictures, labels)
    plans = list(contestants(exact.preprocessing.size_px, exact.config.patch_size) if chosen is None else chosen)
    tell = progress or (lambda *_: None)
    tell("exact", 0, len(plans) + 1)
    wanted = _features(exact, decoded.pixels)
    rows = [_row("", wanted, wanted, decoded.labels, _speed(exact, exact, decoded.pixels, decoded.pixels))]
    calibration: Calibration | None = None
    for number, plan in enumerate(plans, 1):
        tell(plan.words(), number, len(plans) + 1)
        try:
            if plan.precision == "int8-static" and calibration is None:
                calibration = exact.calibrate(decoded.pictures)
            rows.append(_measure(load, plan, exact, decoded, wanted, calibration))
        except (ConfigError, MissingExtraError) as error:
            rows.append(Measured(plan.words(), problem=str(error)))
    return Tuning(exact.name, len(decoded.pixels), rows, _recommended(rows, agreement))


class _Decoded:
    """The usable pictures of a sample as pixels; other sizes are made when asked for."""

    def __init__(self, model: Model, pictures: Sequence[Path], labels: Sequence[str | None]) -> None:
        kept: list[tuple[Path, str | None]] = []
        pixels: list[Array] = []
        for picture, label in zip(pictures, labels, strict=True):
            try:
                one = model.preprocess(picture)
            except ImageError:
                continue
            if not pixels or one.shape == pixels[0].shape:  # batches are of one size
                pixels.append(one)
                kept.append((picture, label))
        if len(pixels) < LEAST_PICTURES:
            raise UsageError(
                f"{len(pixels)} usable pictures of one size are too few to measure with: at least {LEAST_PICTURES} are "
                "needed, because agreement is about the ten nearest"
            )
        self.pictures = [picture for picture, _ in kept]
        self.labels = [label for _, label in kept]
        self.pixels = np.stack(pixels)

    def at(self, model: Model, usual: Model) -> Array:
        """The pixels as a model wants them."""
        if model.preprocessing == usual.preprocessing:
            return self.pixels
        return np.stack([model.preprocess(picture) for picture in self.pictures])


def _measure(
    load: Load, plan: Shortcuts, exact: Model, decoded: _Decoded, wanted: Array, calibration: Calibration | None
) -> Measured:
    model = load(
        engine=plan.engine,
        precision=plan.precision or "float32",
        calibration=calibration if plan.precision == "int8-static" else None,
        reduction=plan.reduction or "none",
        size_px=plan.size_px,
    )
    pixels = decoded.at(model, exact)
    found = _features(model, pixels)
    if model.late_notes:
        return Measured(plan.words(), problem=" ".join(model.late_notes))
    return _row(plan.words(), found, wanted, decoded.labels, _speed(model, exact, pixels, decoded.pixels))


def _row(
    options: str, found: Array, wanted: Array, labels: Sequence[str | None], speed: tuple[float, float]
) -> Measured:
    return Measured(options, *speed, agreement_of(found, wanted), _precision(found, labels))


def _features(model: Model, pixels: Array) -> Array:
    return np.concatenate([model.embed_pixels(pixels[first : first + BATCH]) for first in range(0, len(pixels), BATCH)])


def _speed(model: Model, exact: Model, pixels: Array, usual: Array) -> tuple[float, float]:
    """Images a second, and the ratio to exact, batch against batch in turn."""
    own, theirs = [], []
    for number in range(ROUNDS):
        first = number * BATCH % max(1, len(pixels) - BATCH)
        part = slice(first, first + BATCH)
        theirs.append(_seconds(exact, usual[part]))
        own.append(_seconds(model, pixels[part]))
    count = min(BATCH, len(pixels))
    faster = statistics.median(slow / fast for slow, fast in zip(theirs, own, strict=True))
    return count / statistics.median(own), 1.0 if model is exact else faster


def _seconds(model: Model, pixels: Array) -> float:
    start = time.perf_counter()
    model.embed_pixels(pixels)
    return time.perf_counter() - start


def agreement_of(found: Array, wanted: Array) -> float:
    """The mean share of each row's :data:`NEAREST` other rows that both sets of features name."""
    ours, theirs = (_nearest(features) for features in (found, wanted))
    same = [len(set(left) & set(right)) for left, right in zip(ours.tolist(), theirs.tolist(), strict=True)]
    return float(np.mean(same)) / NEAREST


def _nearest(features: Array) -> NDArray[np.intp]:
    """The nearest others of each row by cosine, (n, NEAREST)."""
    units = features.astype(np.float64)
    units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    scores = units @ units.T
    np.fill_diagonal(scores, -np.inf)
    nearest: NDArray[np.intp] = np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST]
    return nearest


def _precision(features: Array, labels: Sequence[str | None]) -> float | None:
    """Mean average precision, each labelled picture against all other labelled ones."""
    known = [place for place, label in enumerate(labels) if label is not None]
    kinds = [label for label in labels if label is not None]
    if len(set(kinds)) < 2 or len(known) < LEAST_PICTURES:
        return None
    return evaluate_leave_one_out(features[known], kinds).mean_average_precision


def _recommended(rows: Sequence[Measured], agreement: float) -> str:
    """The options of the fastest that keeps enough."""
    exact = rows[0]
    able = [row for row in rows if row.agreement is not None and row.agreement >= agreement and _keeps(row, exact)]
    return max(able, key=lambda row: row.faster or 0).options


def _keeps(row: Measured, exact: Measured) -> bool:
    if row.mean_average_precision is None or exact.mean_average_precision is None:
        return True
    return row.mean_average_precision >= exact.mean_average_precision - LOST_PRECISION
