"""`vitseek demo`: a gallery, one search, the web page — everything once, without a network."""

import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitseek.cli.common import ModelOption, note, printable, progress_bar, stdout, warn
from vitseek.cli.search import existing_file, print_table
from vitseek.errors import GalleryEmptyError, GalleryNotFoundError, UsageError

if TYPE_CHECKING:
    from vitseek.gallery.gallery import Gallery
    from vitseek.gallery.records import IndexProgress
    from vitseek.search.results import Match

PER_KIND = 20
SAMPLE_FOLDER = Path("demo-gallery")
SAMPLE_PARTS = {"pictures", "queries", "result.png"}
USUAL_PORT = 8000
WEB_MODULES = ("django", "ninja", "waitress", "whitenoise")


@dataclass(frozen=True)
class _Query:
    """What the demo searches with, and what it expects to find."""

    picture: Path
    kind: str | None
    inside: bool  # is itself in the gallery, so it is left out of its own results
    others: tuple[Path, ...] = ()  # more pictures of known kinds that are not in the gallery


def demo(
    gallery: Annotated[
        Path | None, typer.Option("--gallery", metavar="DIR", help="Use the pictures of this folder instead.")
    ] = None,
    query: Annotated[str | None, typer.Option(metavar="PICTURE", help="Search with this picture.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="Matches to show.")] = 10,
    model: ModelOption = None,
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where the sample pictures and the result go.")
    ] = SAMPLE_FOLDER,
    save: Annotated[
        Path | None, typer.Option(metavar="PICTURE", help="Save the result here; by default in the sample folder.")
    ] = None,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Start the web page at the end.")] = True,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the page; by default 8000, or a free one if it is taken."),
    ] = None,
) -> None:
    """Show what vitseek does: draw a sample gallery, index it, search it, open the web page.

    The 240 sample pictures of twelve kinds are drawn, not downloaded. They go to demo-gallery/pictures, some others
    that are not in the gallery to demo-gallery/queries, to search with. With --gallery a folder of your own is used:
    its index is made in DIR/.vitseek, the pictures are only read.

    \b
    Examples:
      vitseek demo
      vitseek demo --no-serve -k 20
      vitseek demo --gallery ~/Pictures --query cat.jpg
    """
    if save is not None:
        from vitseek.search.montage import check_target

        check_target(save)
    if query is not None:
        existing_file(query)
    if gallery is not None and not gallery.is_dir():
        raise GalleryNotFoundError(f"--gallery names {gallery}, which is not a folder. Is the disk mounted?")

    pictures = gallery if gallery is not None else folder / "pictures"
    if gallery is None:
        _check_sample_folder(folder)
        _draw(pictures)
        save = save or folder / "result.png"

    from vitseek.gallery.gallery import Gallery
    from vitseek.gallery.place import Layout

    indexed_before = Layout(pictures).exists()  # then whether folders are labels was decided before
    with Gallery(pictures, model=model) as opened:
        _index(opened, labels_from_folders=None if indexed_before else True)
        chosen = _chosen(opened, query, None if gallery is not None else folder / "queries")
        matches = opened.search(chosen.picture, k=k, exclude_query=chosen.inside)
        _show(opened, chosen, matches)
        if chosen.others:
            _show_all_kinds(opened, chosen.others, k)
        if save is not None:
            _save(chosen.picture, matches, save)
        _say_what_next(opened.path, chosen)
        if serve:
            _serve(opened, port, browser=browser)


# -- the sample


def _check_sample_folder(folder: Path) -> None:
    """Never draw between somebody's own files."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the sample pictures: vitseek demo --folder DIR")
    foreign = (
        sorted(entry.name for entry in folder.iterdir() if entry.name not in SAMPLE_PARTS) if folder.exists() else []
    )
    if foreign:
        others = f"{printable(foreign[0])}{', …' if len(foreign) > 1 else ''}"
        raise UsageError(
            f"{folder} holds other files ({others}), so no pictures are drawn there. "
            "Name another place: vitseek demo --folder DIR"
        )


def _draw(pictures: Path) -> None:
    from vitseek.sample.gallery import KINDS, draw_gallery

    if all(len(list((pictures / kind).glob(f"{kind}-*"))) >= PER_KIND for kind in KINDS):
        note(f"The sample pictures are in {pictures} already.")
        return
    note(f"Drawing {PER_KIND * len(KINDS)} pictures of {len(KINDS)} kinds in {pictures} …")
    with progress_bar() as bar:
        task = bar.add_task("Drawing", total=PER_KIND * len(KINDS), rate="")
        draw_gallery(pictures, per_kind=PER_KIND, progress=lambda done, _: bar.update(task, completed=done))


def _held_out(queries: Path) -> dict[str, Path]:
    """One picture of each kind that is not in the gallery: the number after its last one."""
    from vitseek.sample.gallery import KINDS, draw

    drawn = {}
    queries.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        drawn[kind] = queries / f"{kind}.png"
        if not drawn[kind].is_file():
            draw(kind, PER_KIND).save(drawn[kind])
    return drawn


# -- index, search, show


def _index(gallery: "Gallery", *, labels_from_folders: bool | None) -> None:
    note(f"Indexing {gallery.path} …")
    with progress_bar() as bar:
        task = bar.add_task("Indexing", total=None, rate="")

        def show(progress: "IndexProgress") -> None:
            rate = f"{progress.images_per_s:,.1f} images/s" if progress.images_per_s else ""
            bar.update(task, completed=progress.done, total=progress.total, rate=rate)

        report = gallery.index(labels_from_folders=labels_from_folders, progress=show)
    if report.unreadable:
        warn(f"{report.unreadable:,} files cannot be read: vitseek status --gallery {gallery.path} --unreadable")
    if not report.images:
        raise GalleryEmptyError(f"there is no usable image in {gallery.path}: name another folder with --gallery DIR")
    speed = f", {report.images_per_s:,.1f} images/s" if report.images_per_s else ""
    note(f"{report.images:,} images, {report.new:,} of them new; {report.seconds:.1f} s{speed}; model {report.space}")


def _chosen(gallery: "Gallery", query: str | None, queries: Path | None) -> _Query:
    if query is not None:
        return _Query(Path(query), kind=None, inside=False)
    if queries is not None:
        drawn = _held_out(queries)
        first = next(iter(drawn))
        return _Query(drawn[first], first, inside=False, others=tuple(drawn.values()))
    # In a folder of one's own, the picture in the middle stands for any other.
    record = next(gallery.images(limit=1, offset=gallery.count() // 2))
    kind = record.labels[0] if len(record.labels) == 1 else None
    return _Query(record.path, kind, inside=True)


def _show(gallery: "Gallery", query: _Query, matches: "Sequence[Match]") -> None:
    sys.stdout.flush()
    print_table(
        str(query.picture), matches, f"of {gallery.count():,} in {gallery.path.name} ({gallery.space().key.model})"
    )
    if query.kind is not None and matches:
        same = _of_kind(matches, query.kind)
        stdout().print(f"{same} of the {len(matches)} are of the query's kind, {printable(query.kind)}.", markup=False)


def _show_all_kinds(gallery: "Gallery", queries: Sequence[Path], k: int) -> None:
    found = gallery.search(list(queries), k=k)
    counts = Counter({path.stem: _of_kind(matches, path.stem) for path, matches in zip(queries, found, strict=True)})
    total, asked = counts.total(), sum(len(matches) for matches in found)
    fewest = [f"{kind} {count}" for kind, count in sorted(counts.items(), key=lambda item: item[::-1])[:3]]
    detail = f" (fewest: {', '.join(fewest)} of {len(found[0])})" if total < asked else ""
    sentence = (
        f"With a new picture of each of the {len(queries)} kinds: {total} of {asked} are of the query's kind{detail}."
    )
    stdout().print(sentence, markup=False, soft_wrap=True)


def _of_kind(matches: "Sequence[Match]", kind: str) -> int:
    return sum(kind in match.labels for match in matches)


def _save(picture: Path, matches: "Sequence[Match]", target: Path) -> None:
    from vitseek.search.montage import Panel, montage

    for problem in montage([Panel(picture.name, picture, matches)], target):
        warn(problem)
    note(f"Query and matches as one picture: {target}")


def _say_what_next(pictures: Path, query: _Query) -> None:
    note(f"Search again:  vitseek search {_shell(query.picture)} --gallery {_shell(pictures)}")


def _shell(path: Path) -> str:
    import shlex

    from vitseek.search.results import shown_path

    return shlex.quote(shown_path(path))


# -- the page


def _serve(gallery: "Gallery", port: int | None, *, browser: bool) -> None:
    if missing := [name for name in WEB_MODULES if find_spec(name) is None]:
        warn(
            f"the web page needs packages that are not installed ({', '.join(missing)}). To see it: "
            f"pip install 'vitseek[web]', then: vitseek serve --gallery {_shell(gallery.path)} --open"
        )
        return
    from vitseek.web.options import WebOptions
    from vitseek.web.server import serve

    options = WebOptions(port=_free_port() if port is None else port)
    open_browser = browser and can_show_a_browser()
    if browser and not open_browser:
        note("No display here: open the address below in a browser yourself.")
    serve(gallery, options, open_browser=open_browser, say=note, warn=warn)


def _free_port() -> int:
    """The usual port, or 0 (any free one) when another program has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", USUAL_PORT))
        except OSError:
            return 0
    return USUAL_PORT


def can_show_a_browser(environ: Callable[[str], str | None] = os.environ.get, platform: str = sys.platform) -> bool:
    """Whether a person sits in front of this machine's screen: not in CI, not over ssh, not without a display."""
    if environ("CI") or environ("SSH_CONNECTION"):
        return False
    if platform.startswith(("linux", "freebsd")):
        return bool(environ("DISPLAY") or environ("WAYLAND_DISPLAY") or environ("WSL_DISTRO_NAME"))
    return True
