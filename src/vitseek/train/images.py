"""Reading and decoding the images of a run, with what had to be left out told and written down."""

from collections.abc import Sequence
from pathlib import Path

from vitseek.train.data import Pictures, load_pictures, storage_side
from vitseek.train.options import RunOptions
from vitseek.train.smoke import draw_pictures
from vitseek.train.sources import ImageList, Skipped, check_every_class_has_images
from vitseek.train.task import Reporter
from vitseek.train.team import Team

SKIPPED = "skipped.txt"
SHOWN = 3  # skipped files in a message; the file has all of them


def data_of(options: RunOptions, team: Team, reporter: Reporter) -> Path:
    """The run's data; without any, pictures are drawn into its folder."""
    if options.data is not None:
        return options.data
    folder = options.out / "pictures"
    if team.leads:
        reporter.note(f"no --data: drawing pictures of shapes in {folder}")
    team.in_turn(lambda: draw_pictures(folder, seed=options.seed))
    return folder


def decoded(
    images: ImageList,
    source: Path,
    options: RunOptions,
    team: Team,
    reporter: Reporter,
    *,
    size_px: int,
    min_scale: float,
) -> tuple[ImageList, Pictures]:
    """Decode what can be decoded, and tell what cannot.

    Raises
    ------
    TrainingError
        If nothing is left, or nothing of a class.
    """
    readable, pictures = load_pictures(
        images,
        short_side_px=storage_side(size_px, min_scale),
        limit_mb=options.cache_mb,
        told=lambda done, total: reporter.progress(f"reading {source.name}", done, total) if team.leads else None,
    )
    if team.leads:
        tell_skipped(readable.skipped, options.out, reporter)
    check_every_class_has_images(readable, source)
    return readable, pictures


def tell_skipped(skipped: Sequence[Skipped], out: Path, reporter: Reporter) -> None:
    """Say how many files were left out and why; the run's folder gets the whole list."""
    if not skipped:
        return
    out.mkdir(parents=True, exist_ok=True)
    known = (out / SKIPPED).read_text(encoding="utf-8").splitlines() if (out / SKIPPED).is_file() else []
    lines = [f"{file.path}: {file.reason}".replace("\n", " ") for file in skipped]
    every = list(dict.fromkeys([*known, *lines]))
    (out / SKIPPED).write_text("\n".join(every) + "\n", encoding="utf-8", errors="backslashreplace")
    more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    reporter.note(f"{len(lines)} images left out ({'; '.join(lines[:SHOWN])}{more}); all are listed in {out / SKIPPED}")
