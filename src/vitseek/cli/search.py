"""`vitseek search`: the most similar images of a gallery."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitseek.cli.common import GalleryOption, JsonOption, ModelOption, OfflineOption, note, print_json, stdout, warn
from vitseek.errors import UnreadableImageError, UsageError

if TYPE_CHECKING:
    from vitseek.search.results import Match, Result

STDIN = "-"


def search(
    queries: Annotated[list[str], typer.Argument(metavar="QUERY...", help="Image files; - reads one from stdin.")],
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="Matches for each query.")] = 10,
    where: Annotated[
        str | None, typer.Option(metavar="FILTER", help="Only images that pass, such as 'label:dress width>=800'.")
    ] = None,
    gallery: GalleryOption = None,
    model: ModelOption = None,
    exclude_query: Annotated[
        bool, typer.Option("--exclude-query", help="Leave out the query itself and its copies.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="PICTURE", help="Save query and matches as one .png, .jpg or .webp.")
    ] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values with a header.")] = False,
    as_paths: Annotated[bool, typer.Option("--paths", help="Print the paths only, each once, one a line.")] = False,
    null: Annotated[bool, typer.Option("--null", "-0", help="With --paths: end each by NUL, for xargs -0.")] = False,
    offline: OfflineOption = False,
) -> None:
    """Find the images of a gallery that are most similar to a picture.

    The score is the cosine of the two feature vectors: 1 for the same picture, about 0 for unrelated ones.
    Without --gallery, the index of this folder or of one above it is searched, or else the last used one. The exit
    status is 1 when nothing is found. Filters are explained in docs/search.md.

    \b
    Examples:
      vitseek search cat.jpg
      vitseek search cat.jpg dog.jpg -k 20 --where 'date>=2024 not label:draft'
      vitseek search cat.jpg --exclude-query --save similar.png
      vitseek search cat.jpg --paths -0 | xargs -0 cp -t similar/
    """
    if sum((as_json, as_csv, as_paths)) > 1:
        raise UsageError("only one of --json, --csv and --paths can be printed")
    if null and not as_paths:
        raise UsageError("--null belongs to --paths")
    # What the call itself gets wrong is said at once, before a model is loaded.
    if where is not None:
        from vitseek.search.where import parse

        parse(where)
    if save is not None:
        from vitseek.search.montage import check_target

        check_target(save)
    pictures = _pictures(queries)

    from vitseek.gallery.gallery import Gallery
    from vitseek.search.results import Result

    folder = Gallery.locate(gallery, report=note)
    with Gallery(folder, create=False, model=model, offline=offline or None) as opened:
        found = opened.search(pictures, k=k, where=where, exclude_query=exclude_query)
        results = [Result(query, matches) for query, matches in zip(queries, found, strict=True)]
        space = opened.space()
        searched = opened.count(where)

    if as_json:
        from vitseek.search.results import document

        print_json(document(results, gallery=folder, model=space.key.model, where=where))
    elif as_csv:
        from vitseek.search.results import write_csv

        write_csv(results, sys.stdout.buffer)
    elif as_paths:
        _print_paths(results, null=null)
    else:
        passing = f"that pass the filter in {folder.name}" if where else f"in {folder.name}"
        for result in results:
            print_table(result.query, result.matches, f"of {searched:,} {passing} ({space.key.model})")
    sys.stdout.flush()

    _say_what_is_missing(results, k, searched, filtered=where is not None, excluded=exclude_query)
    if save is not None:
        from vitseek.search.montage import Panel, montage

        panels = [Panel(_title(r.query), picture, r.matches) for picture, r in zip(pictures, results, strict=True)]
        for problem in montage(panels, save):
            warn(problem)
        note(f"saved {save}")
    if not any(result.matches for result in results):
        raise typer.Exit(1)


def print_table(query: str, matches: "Sequence[Match]", origin: str) -> None:
    """One query's matches on stdout, under a line that says what was searched."""
    from rich.text import Text

    from vitseek.search.results import one_line, table

    console = stdout()
    if not console.is_terminal:
        console.width = 10_000  # in a pipe nothing is folded
    count = f"best {len(matches):,}" if matches else "none"
    title = Text(f"{one_line(_title(query))}: {count} {origin}", style="bold")
    console.print(title, soft_wrap=True)
    if matches:
        console.print(table(matches, links=console.is_terminal))
    console.print()


def _pictures(queries: list[str]) -> list[str | bytes]:
    """The queries as the gallery takes them; what is no file is refused with a way out."""
    if queries.count(STDIN) > 1:
        raise UsageError("stdin ('-') holds one picture: give it once")
    return [_stdin() if query == STDIN else existing_file(query) for query in queries]


def _stdin() -> bytes:
    if sys.stdin.isatty():
        raise UsageError("'-' reads a picture from stdin, but nothing is piped in: name a file, or use < cat.jpg")
    data = sys.stdin.buffer.read()
    if not data:
        raise UnreadableImageError("stdin", "nothing came; '-' reads a picture from it")
    return data


def existing_file(query: str) -> str:
    """A query that is a file; anything else is refused with a way out."""
    if query.startswith(("http://", "https://")):
        raise UnreadableImageError(query, "a query is a file on this machine, not an address; download it first")
    path = Path(query)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:  # no right to look, a name that is too long
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnreadableImageError(query, f"it cannot be read: {reason}") from error
    if is_folder:
        raise UnreadableImageError(query, "this is a folder; a query is an image file")
    if not exists:
        words = "; search by words is not part of this version" if " " in query or not path.suffix else ""
        raise UnreadableImageError(query, f"there is no such file; a query is an image file{words}")
    return query


def _title(query: str) -> str:
    return "stdin" if query == STDIN else query


def _print_paths(results: "list[Result]", *, null: bool) -> None:
    from vitseek.search.results import one_line, write_paths

    for path in write_paths(results, sys.stdout.buffer, null=null):
        warn(f"the name of {one_line(str(path))} has a line break: with --paths -0 no reader takes it for two")


def _say_what_is_missing(results: "list[Result]", k: int, searched: int, *, filtered: bool, excluded: bool) -> None:
    fewest = min(len(result.matches) for result in results)
    if fewest >= k:
        return
    if filtered:
        found = (
            "no image passes" if not searched else "only 1 image passes" if searched == 1 else "only {:,} images pass"
        )
        fact = f"{found.format(searched)} the filter"
    else:
        fact = f"the gallery holds {searched:,} image{'s' * (searched != 1)}"
    left_out = ", and the query is left out" if excluded and fewest < searched else ""
    note(f"{fact}{left_out}; {k:,} were asked for")
