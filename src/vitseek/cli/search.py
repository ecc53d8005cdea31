"""`vitseek search`: the images of a gallery that match words, pictures, or both."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand

from vitseek.cli.common import (
    GalleryOption,
    JsonOption,
    ModelOption,
    OfflineOption,
    download_bar,
    note,
    print_json,
    stderr,
    stdout,
    warn,
)
from vitseek.errors import UnreadableImageError, UsageError

if TYPE_CHECKING:
    from vitseek.gallery.gallery import Gallery
    from vitseek.gallery.queries import Addresses
    from vitseek.gallery.spaces import Space
    from vitseek.preprocess.image import ImageSource
    from vitseek.search.fusion import Fusion
    from vitseek.search.query import Expression
    from vitseek.search.results import Match, Result

STDIN = "-"
LONGEST_TITLE = 200  # characters of a query that are repeated above its matches
MINUS = "\N{MINUS SIGN}"  # the grammar takes it for "-"; to click, an argument that begins with "-" is an option


class SearchCommand(TyperCommand):
    """Lets a query begin with a sign: ``vitseek search '- "snow"'``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [re.sub(r"^-(?=\s)", MINUS, argument) for argument in args])


COMMAND_CLASS = SearchCommand


def search(
    queries: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY...", help="Words, a file, an address, image:ID, or several joined by + and -; - reads stdin."
        ),
    ],
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="Matches for each query.")] = 10,
    where: Annotated[
        str | None, typer.Option(metavar="FILTER", help="Only images that pass, such as 'label:dress width>=800'.")
    ] = None,
    gallery: GalleryOption = None,
    model: ModelOption = None,
    space: Annotated[
        str | None, typer.Option(metavar="NAME", help="Search these vectors; `vitseek spaces` lists them.")
    ] = None,
    also: Annotated[
        str | None, typer.Option(metavar="NAME", help="Search these vectors too, and join both scores.")
    ] = None,
    balance: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="0..1", help="How much --also counts. [default: 0.5]")
    ] = None,
    fusion: Annotated[
        str | None, typer.Option(metavar="scores|ranks", help="How --also is joined. [default: scores]")
    ] = None,
    exclude_query: Annotated[
        bool, typer.Option("--exclude-query", help="Leave out the query's own pictures and their copies.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="PICTURE", help="Save query and matches as one .png, .jpg or .webp.")
    ] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values with a header.")] = False,
    as_paths: Annotated[bool, typer.Option("--paths", help="Print the paths only, each once, one a line.")] = False,
    null: Annotated[bool, typer.Option("--null", "-0", help="With --paths: end each by NUL, for xargs -0.")] = False,
    allow_private_addresses: Annotated[
        bool,
        typer.Option("--allow-private-addresses", help="Also fetch pictures from this machine and its own network."),
    ] = False,
    offline: OfflineOption = False,
) -> None:
    """Find the images of a gallery that match words, a picture, or a combination of both.

    Words need a model with a text tower (CLIP, SigLIP); they are searched in the space that has one. Put a query that
    holds spaces, + or - in quotes of the shell. The score is the cosine of the two feature vectors: 1 for the same
    picture, about 0 for unrelated ones; words have small ones. Without --gallery, the index of this folder or of one
    above it is searched, or else the last used one. The exit status is 1 when nothing is found. Queries and filters
    are explained in docs/search.md.

    \b
    Examples:
      vitseek search cat.jpg
      vitseek search "a red dress"
      vitseek search 'cat.jpg + "at night" - 0.5 "snow"'
      vitseek search https://example.org/cat.jpg --exclude-query --save similar.png
      vitseek search cat.jpg dog.jpg -k 20 --where 'date>=2024 not label:draft'
      vitseek search cat.jpg --also clip-vit-b32 --balance 0.3
      vitseek search "a red dress" --paths -0 | xargs -0 cp -t dresses/
    """
    if sum((as_json, as_csv, as_paths)) > 1:
        raise UsageError("only one of --json, --csv and --paths can be printed")
    if null and not as_paths:
        raise UsageError("--null belongs to --paths")
    if also is None and (balance is not None or fusion is not None):
        raise UsageError(f"{'--balance' if balance is not None else '--fusion'} belongs to --also SPACE")
    # What the call itself gets wrong is said at once, before a model is loaded.
    if where is not None:
        from vitseek.search.where import parse

        parse(where)
    if save is not None:
        from vitseek.search.montage import check_target

        check_target(save)
    asked = _expressions(queries)

    from vitseek.gallery.gallery import Gallery
    from vitseek.gallery.searching import SearchKeywords
    from vitseek.search.results import Result

    options = SearchKeywords(
        k=k, where=where, exclude_query=exclude_query, space=space, also=also,
        balance=0.5 if balance is None else balance, fusion=cast("Fusion", fusion or "scores"), report=note,
    )  # fmt: skip
    folder = Gallery.locate(gallery, report=note)
    with (
        download_bar() as downloading,
        Gallery(folder, create=False, model=model, offline=offline or None, downloading=downloading) as opened,
    ):
        pictured = _fetched(asked, allow_private=allow_private_addresses, offline=offline)
        found = opened.search(pictured, **options)
        spaces = [opened.spaces_of(query, **options) for query in pictured]
        results = [
            Result(text, matches, parsed=str(query), spaces=tuple(one.name for one in searched))
            for text, query, matches, searched in zip(queries, asked, found, spaces, strict=True)
        ]
        searched = opened.count(where)
        pictures = [_picture(opened, query) for query in pictured] if save is not None else []

    if as_json:
        from vitseek.search.results import document

        joined = None if also is None else {"method": options["fusion"], "balance": options["balance"]}
        print_json(document(results, gallery=folder, model=spaces[0][0].key.model, where=where, fusion=joined))
    elif as_csv:
        from vitseek.search.results import write_csv

        write_csv(results, sys.stdout.buffer)
    elif as_paths:
        _print_paths(results, null=null)
    else:
        passing = f"that pass the filter in {folder.name}" if where else f"in {folder.name}"
        for result, used in zip(results, spaces, strict=True):
            print_table(result.query, result.matches, f"of {searched:,} {passing} ({_named(used, options['balance'])})")
    sys.stdout.flush()

    _say_what_is_missing(results, k, searched, filtered=where is not None, excluded=exclude_query)
    if save is not None:
        _save(results, pictures, save)
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
    asked = one_line(_title(query))
    if len(asked) > LONGEST_TITLE:
        asked = f"{asked[: LONGEST_TITLE - 1]}…"
    title = Text(f"{asked}: {count} {origin}", style="bold")
    console.print(title, soft_wrap=True)
    if matches:
        console.print(table(matches, links=console.is_terminal))
    console.print()


def _expressions(queries: list[str]) -> "list[Expression]":
    """The queries as the gallery takes them; what does not parse, and what no gallery could find, is refused here."""
    from vitseek.search.query import Expression, Term, parse

    if queries.count(STDIN) > 1:
        raise UsageError("stdin ('-') holds one picture: give it once")
    found = []
    for query in queries:
        if query == STDIN:
            found.append(Expression((Term(1.0, "picture", _stdin(), name="stdin"),)))
            continue
        parsed = parse(query)
        for term in parsed.active:
            if term.kind == "file":
                existing_file(term.value)
        found.append(parsed)
    return found


def _stdin() -> bytes:
    if sys.stdin.isatty():
        raise UsageError("'-' reads a picture from stdin, but nothing is piped in: name a file, or use < cat.jpg")
    data = sys.stdin.buffer.read()
    if not data:
        raise UnreadableImageError("stdin", "nothing came; '-' reads a picture from it")
    return data


def existing_file(query: str) -> str:
    """The path of a picture; what cannot be one is refused with a way out."""
    if query.startswith(("http://", "https://")):
        raise UnreadableImageError(query, "a file on this machine is wanted, not an address; download it first")
    path = Path(query)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:  # no right to look, a name that is too long
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnreadableImageError(query, f"it cannot be read: {reason}") from error
    if is_folder:
        raise UnreadableImageError(query, "this is a folder; a query is an image file")
    if not exists:
        signs = " Write + and - with a space on both sides." if "+" in query or " -" in query else ""
        raise UnreadableImageError(query, f"there is no such file.{signs} To search for these words: '\"{query}\"'")
    return query


def _fetched(queries: "list[Expression]", *, allow_private: bool, offline: bool) -> "list[Expression]":
    """The queries with the pictures of their addresses, which the montage shows too."""
    from vitseek.gallery.queries import fetch_addresses

    if not any(term.kind == "address" for query in queries for term in query.active):
        return queries
    allowed: Addresses = "any" if allow_private else "public"
    console = stderr()
    if not console.is_terminal:
        return [fetch_addresses(query, allowed, offline=offline) for query in queries]
    with console.status("fetching a picture …"):
        return [fetch_addresses(query, allowed, offline=offline) for query in queries]


def _named(spaces: "Sequence[Space]", balance: float) -> str:
    """The models that were compared, and how much each counted."""
    if len(spaces) == 1:
        return spaces[0].name
    weights = (1 - balance, balance)
    return " + ".join(f"{weight:.2g} {space.name}" for weight, space in zip(weights, spaces, strict=True))


def _title(query: str) -> str:
    return "stdin" if query == STDIN else query


def _print_paths(results: "list[Result]", *, null: bool) -> None:
    from vitseek.search.results import one_line, write_paths

    for path in write_paths(results, sys.stdout.buffer, null=null):
        warn(f"the name of {one_line(str(path))} has a line break: with --paths -0 no reader takes it for two")


def _picture(gallery: "Gallery", query: "Expression") -> "ImageSource | None":
    """What the montage shows of a query: the picture that weighs most; None for words alone."""
    term = query.picture
    if term is None:
        return None
    picture: ImageSource = gallery.image(term.value).path if term.kind == "image" else term.value
    return picture


def _save(results: "list[Result]", pictures: "Sequence[ImageSource | None]", target: Path) -> None:
    from vitseek.search.montage import Panel, montage

    panels = [
        Panel(_title(result.query), picture, result.matches) for result, picture in zip(results, pictures, strict=True)
    ]
    for problem in montage(panels, target):
        warn(problem)
    note(f"saved {target}")


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
