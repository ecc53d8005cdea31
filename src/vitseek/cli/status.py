"""`vitseek status`: what a gallery holds and whether it is well."""

from typing import TYPE_CHECKING, Annotated

import typer

from vitseek.cli.common import GalleryOption, JsonOption, note, print_json, printable, stdout

if TYPE_CHECKING:
    from vitseek.gallery.records import GalleryStatus

SHOWN_LABELS = 8
SHOWN_PROBLEMS = 5


def status(
    gallery: GalleryOption = None,
    unreadable: Annotated[bool, typer.Option("--unreadable", help="List every unreadable file and why.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read the whole index; exit status 1 if it is damaged.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a gallery holds: images, folders, models, labels, unreadable files.

    \b
    Examples:
      vitseek status
      vitseek status --gallery photos --json
      vitseek status --unreadable
      vitseek status --check
    """
    from vitseek.gallery.gallery import Gallery

    with Gallery(Gallery.locate(gallery, report=note), create=False) as opened:
        facts = opened.status()
        damage = opened.check() if check else []
        problems = [(record.path, record.reason) for record in opened.unreadable()] if unreadable else []
    if as_json:
        document = facts.to_dict()
        if check:
            document["damage"] = damage
        if unreadable:
            document["problems"] = [{"path": str(path), "reason": reason} for path, reason in problems]
        print_json(document)
    elif unreadable:
        for path, reason in problems:
            _line(f"{path}: {reason}")
        if not problems:
            note("every file can be read")
    else:
        _show(facts)
    if check:
        for text in damage:
            note(f"damage: {text}")
        if damage:
            note("recover with: vitseek index --rebuild")
            raise typer.Exit(1)
        note("the index holds together")


def _show(facts: "GalleryStatus") -> None:
    left_out = [f"{facts.unreadable:,} unreadable"] * bool(facts.unreadable)
    left_out += [f"{facts.removed:,} removed by you"] * bool(facts.removed)
    _line(f"Gallery  {facts.path}")
    _line(f"Images   {facts.images:,}" + (f" ({', '.join(left_out)})" if left_out else ""))
    for title, root in zip(_titles("Folders"), facts.roots, strict=False):
        state = "" if root.online else ", offline: its images stay in the gallery"
        _line(f"{title}{root.path}: {root.images:,} images{state}")
    for title, space in zip(_titles("Models"), facts.spaces, strict=False):
        parts = [f"{space.dim}-d", f"{space.images:,} of {facts.images:,} images"]
        parts += ["searched by default"] * space.default
        parts += ["understands words"] * space.words
        parts += ["imported"] * (space.source is None)
        if space.images < facts.images and space.source is not None:
            parts.append(f"fill with: vitseek index --model {space.source}")
        _line(f"{title}{space.name}: {', '.join(parts)}")
    for title, (source, counts) in zip(_titles("Labels"), facts.labels_by_source.items(), strict=False):
        most = [f"{label} {count:,}" for label, count in list(counts.items())[:SHOWN_LABELS]]
        rest = len(counts) - len(most)
        by = next((f" by {one.model}" for one in reversed(facts.predictions) if one.source == source and one.model), "")
        _line(f"{title}{source}{by}: {', '.join(most)}" + (f" and {rest:,} more" if rest else ""))
    for unfinished in (one for one in facts.predictions if one.finished is None):
        note(f"the pass of {unfinished.source!r} that began {unfinished.started} has not finished: run it again")
    run = facts.last_run
    last = "never run"
    if run:
        last = f"last run {run['finished']}" if run["finished"] else f"the run of {run['started']} did not finish"
    _line(f"Index    {facts.disk_bytes / 1e6:,.1f} MB, schema {facts.schema}, {last}")
    if facts.writer:
        _line(f"Writing  {facts.writer}")
    for problem in facts.problems[:SHOWN_PROBLEMS]:
        note(f"unreadable: {problem.path}: {problem.reason}")
    if facts.unreadable > SHOWN_PROBLEMS:
        note(f"… and {facts.unreadable - SHOWN_PROBLEMS:,} more: vitseek status --unreadable")


def _titles(first: str) -> list[str]:
    return [f"{first:<9}", *[" " * 9] * 1000]


def _line(text: str) -> None:
    stdout().print(printable(text), markup=False, soft_wrap=True)
