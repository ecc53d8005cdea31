"""`vitseek models`: the zoo, and fetching a model of it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitseek.cli.common import JsonOption, OfflineOption, download_bar, note, print_json, stdout

if TYPE_CHECKING:
    from vitseek.zoo import ZooRow

app = typer.Typer(
    name="models",
    help="List the pretrained models that vitseek knows, or fetch one.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

MEGABYTE = 1e6


@app.callback(invoke_without_command=True)
def models(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the pretrained models that vitseek knows, or fetch one.

    \b
    Examples:
      vitseek models
      vitseek models pull dinov2-small
      vitseek models --json
    """
    if ctx.invoked_subcommand is not None:
        return
    from vitseek.zoo import ZOO

    rows = [(row, _state(row)) for row in ZOO.values()]
    if as_json:
        print_json([_facts(row, state) for row, state in rows])
        return
    from rich.table import Table

    table = Table("name", "model", "width", "words", "size", "licence", "state", box=None, pad_edge=False)
    for number in (2, 4):
        table.columns[number].justify = "right"
    for row, state in rows:
        size = f"{row.size_bytes / MEGABYTE:,.0f} MB"
        words = "yes" if row.text else ""
        table.add_row(row.name, row.title, str(_width(row)), words, size, row.licence, state)
    console = stdout()
    if not console.is_terminal:
        console.width = 10_000  # in a pipe nothing is folded
    console.print(table)
    note("words: a gallery indexed with it can be searched by words, and pictures labelled without training.")
    note("Fetch one with `vitseek models pull NAME`; any command that takes --model also takes a file or a folder.")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that `vitseek models` lists.")],
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a model's weights onto this machine and check them; for a model that reads words, its tokenizer too.

    An interrupted download goes on where it stopped. Nothing happens if the model is here already; with --offline,
    that is all that is checked.

    \b
    Examples:
      vitseek models pull dinov2-small
      vitseek models pull dinov2-small --offline
    """
    from vitseek.weights.fingerprint import file_sha256
    from vitseek.weights.hub import obtain
    from vitseek.zoo import HubSource, find

    row = find(name)
    with download_bar() as progress:
        path = obtain(row.source, offline=offline or None, progress=progress)
        tokenizer = row.tokenizer and obtain(row.tokenizer, offline=offline or None, progress=progress)
    sha256 = file_sha256(path)
    if as_json:
        words = {"tokenizer": str(tokenizer)} if tokenizer else {}
        print_json({**_facts(row, _state(row)), "path": str(path), "file_sha256": sha256, **words})
        return
    stdout().print(str(path), soft_wrap=True, markup=False)
    if isinstance(row.source, HubSource) and not row.source.pinned:
        note(
            f"sha256 {sha256}: vitseek has no checksum of its own for {row.name}; it was checked against the hub's and "
            "is remembered: a later change will be an error."
        )
    else:
        note(f"sha256 {sha256}: as expected.")


def _width(row: "ZooRow") -> int:
    """Length of the features that stand for a picture."""
    from vitseek.models.tokens import pooled_dim

    return pooled_dim(row.config, row.pooling)


def _state(row: "ZooRow") -> str:
    """Where the weights are; their checksum is not looked at, since a listing should not read gigabytes."""
    from vitseek.weights.hub import present
    from vitseek.zoo import Embedded

    if isinstance(row.source, Embedded):
        return "built in" if row.source.size_bytes else "missing"
    if not present(row.source):
        return "not downloaded"
    return "here" if row.tokenizer is None or present(row.tokenizer) else "here, without tokenizer"


def _facts(row: "ZooRow", state: str) -> dict[str, Any]:
    from vitseek.zoo import HubSource

    source = row.source
    hub = {}
    if isinstance(source, HubSource):
        hub = {"repo": source.repo, "revision": source.revision, "pinned": source.pinned, "gated": source.gated}
    return {
        "name": row.name,
        "title": row.title,
        "family": row.family,
        "width": _width(row),
        "depth": row.config.depth,
        "patch_size": row.config.patch_size,
        "words": row.text is not None,
        "pooling": row.pooling,
        "aliases": list(row.aliases),
        "parameters": row.parameters,
        "size_bytes": row.size_bytes,
        "licence": row.licence,
        "paper": row.paper,
        "sha256": source.sha256,
        **hub,
        "state": state,
    }
