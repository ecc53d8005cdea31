"""`vitseek index`: bring a gallery up to date with its folders."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitseek.cli.common import (
    GalleryOption,
    JsonOption,
    ModelOption,
    OfflineOption,
    note,
    print_json,
    printable,
    progress_bar,
    stdout,
    warn,
)
from vitseek.errors import GalleryEmptyError, UsageError

if TYPE_CHECKING:
    from vitseek.gallery.lock import Holder
    from vitseek.gallery.records import IndexProgress, IndexReport, Problem

SHOWN_PROBLEMS = 5
DOWNLOAD_LINE_EVERY_S = 3.0
LINE_EVERY_S = 15.0  # where no bar can be drawn, as in a log
INTERRUPTED = 130


def index(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Folders to index, or parts of a gallery; by default all it holds."),
    ] = None,
    gallery: GalleryOption = None,
    model: ModelOption = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What computes the features: numpy (the default), numba, onnx, openvino or torch (a GPU).",
        ),
    ] = None,
    speed: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="exact; or fast or faster, in a space of its own: bfloat16 or eight bits where OpenVINO is installed, "
            "else merged tokens. `vitseek tune` measures what they cost here.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In detail: float32, bfloat16, int8 or int8-static."),
    ] = None,
    reduction: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In detail: none, or tokens left out, as merge-16 or prune-0.7."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="PX", help="In detail: side of the pictures that the model sees.")
    ] = None,
    labels_from_folders: Annotated[
        bool | None,
        typer.Option(help="The first folder below PATH becomes a label (remembered).", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images in one forward pass.")] = 16,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads that read and decode; one a core by default.")
    ] = None,
    forget_missing: Annotated[
        bool, typer.Option("--forget-missing", help="An empty folder or a lost mount means deleted images.")
    ] = False,
    restore_removed: Annotated[
        bool, typer.Option("--restore-removed", help="Take back what `vitseek remove` took out.")
    ] = False,
    retry_unreadable: Annotated[
        bool, typer.Option("--retry-unreadable", help="Try unreadable files again although they did not change.")
    ] = False,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read every file again, not only its size and times.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Recover a damaged index: it is set aside, its labels and vectors saved.")
    ] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for another writer.")
    ] = 10.0,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Index images: what is new or changed is embedded, what was renamed keeps its vector, what was deleted leaves.

    The index lies in PATH/.vitseek, or in DIR/.vitseek with --gallery DIR, which several folders need. Stop at any
    time with Ctrl-C: what was saved stays, and the same command goes on. Image files are only ever read.

    \b
    Examples:
      vitseek index photos
      vitseek index photos --labels-from-folders --model dinov2-small
      vitseek index photos /mnt/archive --gallery ~/pictures
      vitseek index photos --speed fast
      vitseek index                        all folders of the gallery here, above, or last used
    """
    from vitseek.gallery.gallery import Gallery
    from vitseek.gallery.place import Layout
    from vitseek.gallery.shortcuts import Shortcuts, check

    check(Shortcuts.of(speed, engine=engine, precision=precision, reduction=reduction, size_px=size))
    folder, roots = _which_gallery(paths or [], gallery)
    is_new = not Layout(folder).exists()
    if rebuild:
        _rebuild(folder)
    last = _Watch()
    with Gallery(
        folder,
        roots=roots,
        model=model,
        offline=offline or None,
        downloading=_download_teller(),
        engine=engine,
        speed=speed,
        precision=precision,
        reduction=reduction,
        size_px=size,
        lock_timeout_s=wait_s,
        waiting=_waiting,
    ) as opened:
        try:
            with progress_bar() as bar:
                task = bar.add_task("Looking", total=None, rate="")
                show = _shower(bar.update, task, drawn=bar.console.is_terminal)
                report = opened.index(
                    paths or None,
                    batch_size=batch_size,
                    workers=workers,
                    labels_from_folders=labels_from_folders,
                    forget_missing=forget_missing,
                    restore_removed=restore_removed,
                    retry_unreadable=retry_unreadable,
                    rehash=rehash,
                    progress=last.then(show),
                )
        except KeyboardInterrupt:
            note(f"interrupted: {last.done:,} of {last.total:,} files are done and saved; the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(report.to_dict())
    else:
        _summarise(report)
    if report.images == 0:
        if is_new and not report.unreadable:
            Layout(folder).delete()  # nothing is in it, and a folder without images should not look like a gallery
        raise GalleryEmptyError(_why_empty(report))


def _which_gallery(paths: list[Path], gallery: Path | None) -> tuple[Path, list[Path] | None]:
    """The gallery folder, and the folders to index if it is to be made."""
    from vitseek.gallery.gallery import Gallery
    from vitseek.gallery.place import VARIABLE, Layout

    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist. Is the disk mounted, and the name right?")
    named = gallery or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is not None:
        named = named.expanduser()
        if not named.exists() and paths:
            named.mkdir(parents=True)
        return named, None if Layout(named).exists() else paths or None
    if not paths:
        return Gallery.locate(report=note), None
    above = {_holding(path.absolute()) for path in paths}
    if len(above) == 1 and (found := above.pop()) is not None:
        return found, None
    if len(paths) > 1:
        raise UsageError(
            f"{len(paths)} folders need one place for their index: add --gallery DIR, "
            "an empty folder of your choice or one of them"
        )
    if not paths[0].is_dir():
        raise UsageError(f"{paths[0]} is a file and in no gallery. Index its folder: vitseek index {paths[0].parent}")
    return paths[0], None


def _holding(path: Path) -> Path | None:
    """The gallery that lies at a path or above it."""
    from vitseek.gallery.place import Layout

    return next((folder for folder in (path, *path.parents) if Layout(folder).exists()), None)


def _rebuild(folder: Path) -> None:
    from vitseek.gallery.recovery import recover

    saved = recover(folder)
    note(
        f"the old index is set aside as {saved.aside}; saved from it: {saved.images:,} images, "
        f"{saved.vectors:,} vectors, {saved.labels:,} labels"
    )
    for problem in saved.problems:
        warn(problem)


def _waiting(other: "Holder | None") -> None:
    note(f"waiting for {other or 'another process'} …")


def _download_teller() -> "Callable[[str, int, int | None], None]":
    """Says every few seconds how far a download is; the progress bar belongs to the images."""
    spoken = 0.0

    def tell(name: str, done: int, total: int | None) -> None:
        nonlocal spoken
        if time.monotonic() - spoken > DOWNLOAD_LINE_EVERY_S:
            spoken = time.monotonic()
            note(f"downloading {name}: {done / 1e6:,.0f}" + (f" of {total / 1e6:,.0f} MB" if total else " MB"))

    return tell


class _Watch:
    """Remembers the last progress, for the message after Ctrl-C."""

    done = total = 0

    def then(self, show: "Callable[[IndexProgress], None]") -> "Callable[[IndexProgress], None]":
        def watch(progress: "IndexProgress") -> None:
            self.done, self.total = progress.saved, progress.total or 0
            show(progress)

        return watch


def _shower(update: Callable[..., None], task: int, *, drawn: bool) -> "Callable[[IndexProgress], None]":
    spoken = time.monotonic()

    def show(progress: "IndexProgress") -> None:
        nonlocal spoken
        rate = f"{progress.images_per_s:,.1f} images/s" if progress.images_per_s else ""
        title = {"scan": "Looking", "index": "Indexing", "finish": "Finishing"}[progress.phase]
        update(task, description=title, completed=progress.done, total=progress.total, rate=rate)
        if not drawn and time.monotonic() - spoken > LINE_EVERY_S:
            spoken = time.monotonic()
            left = f", {_duration(progress.remaining_s)} left" if progress.remaining_s else ""
            note(f"{title.lower()}: {progress.done:,} of {progress.total or '?':,} files, {rate or 'starting'}{left}")

    return show


def _summarise(report: "IndexReport") -> None:
    console = stdout()
    counts = (
        ("new", report.new),
        ("changed", report.changed),
        ("renamed", report.renamed),
        ("removed", report.removed),
        ("restored", report.restored),
        ("given a vector", report.filled),
        ("unchanged", report.unchanged),
    )
    model = f" ({report.space})" if report.space else ""
    lines = [f"{report.gallery}: {_count(report.images, 'image')} can be searched{model}"]
    facts = [f"{count:,} {word}" for word, count in counts if count]
    if report.duplicates:
        facts.append(f"{report.duplicates:,} of the new are copies of others")
    speed = f", {report.images_per_s:,.1f} images/s" if report.images_per_s else ""
    lines.append(f"  {', '.join(facts) or 'nothing to do'}; {_duration(report.seconds)}{speed}")
    for line in lines:
        console.print(printable(line), markup=False, soft_wrap=True)
    if report.unreadable:
        warn(f"{_count(report.unreadable, 'file')} cannot be used:")
        _list(report.problems, report.unreadable, "vitseek status --unreadable")
    for problem in report.offline:
        warn(
            f"{problem.path} {problem.reason}: its images stay in the gallery. "
            "If they are gone for good: vitseek index --forget-missing, or vitseek remove that folder"
        )
    if report.unseen:
        places = _count(len(report.unseen), "place")
        warn(f"{places} could not be looked into; {_count(report.kept, 'image')} there stay in the gallery:")
        _list(report.unseen, len(report.unseen), None)
    for text in report.notes:
        note(text)


def _list(problems: "list[Problem]", total: int, more: str | None) -> None:
    for problem in problems[:SHOWN_PROBLEMS]:
        note(f"  {problem.path}: {problem.reason}")
    if total > min(len(problems), SHOWN_PROBLEMS):
        rest = total - min(len(problems), SHOWN_PROBLEMS)
        note(f"  … and {rest:,} more" + (f": {more}" if more else ""))


def _why_empty(report: "IndexReport") -> str:
    if report.offline:
        return f"gallery {report.gallery} has no usable image: {report.offline[0].path} {report.offline[0].reason}"
    if report.unreadable:
        reason = f"{report.problems[0].path.name}: {report.problems[0].reason}"
        return f"no image in {report.gallery} can be used ({_count(report.unreadable, 'file')} failed, as {reason})"
    if report.other_files:
        return (
            f"no image in {report.gallery}: it holds {_count(report.other_files, 'other file')}, "
            "without the suffix of an image such as .jpg or .png"
        )
    return f"no image in {report.gallery}: it is empty (hidden files and folders are left out)"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
