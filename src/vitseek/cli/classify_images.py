"""The part of `vitseek classify head` that needs no gallery: images in, their best classes out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vitseek.cli.common import download_bar, note, print_json, stdout, warn
from vitseek.errors import ImageError

if TYPE_CHECKING:
    from vitseek.engines.model import Model

Found = list[tuple[str, float]]


def classify_images(
    images: Sequence[Path],
    *,
    model: str | None,
    names: Sequence[str] | None,
    top: int,
    threshold: float,
    as_json: bool,
    as_csv: bool,
    offline: bool,
) -> None:
    """Print the best classes of each image; exit status 1 if none could be used."""
    from vitseek.engines.model import load
    from vitseek.gallery.by_head import head_names, require_head
    from vitseek.zoo import DEFAULT_MODEL

    with download_bar() as progress:
        loaded = load(model or DEFAULT_MODEL, offline=offline or None, progress=progress)
    require_head(loaded)
    called, origin = head_names(loaded, names)
    note(f"{loaded.name}: {origin}" + ("" if called else "; give them with --names FILE, one a line"))
    called = called or [f"class {number}" for number in range(loaded.num_classes)]
    results: list[tuple[Path, Found]] = []
    for path in images:
        try:
            results.append((path, _best(loaded, path, called, top, threshold)))
        except ImageError as error:
            warn(str(error))
    if as_json:
        print_json({"model": loaded.name, "results": [_plain(path, found) for path, found in results]})
    elif as_csv:
        from vitseek.cli.predicted import write_csv

        write_csv([("path", "label", "probability")])
        write_csv([(str(path), label, round(value, 6)) for path, found in results for label, value in found])
    else:
        _print(results)
    if not results:
        raise typer.Exit(1)


def _best(model: "Model", path: Path, names: Sequence[str], top: int, threshold: float) -> Found:
    from vitseek.heads.zero_shot import choose, softmax

    values = softmax(model.classify(model.preprocess(path)[None]).astype("float64"))
    [places] = choose(values, top=top, threshold=threshold)
    return [(names[place], float(values[0, place])) for place in places]


def _plain(path: Path, found: Found) -> dict[str, Any]:
    return {"path": str(path), "labels": [{"label": label, "probability": value} for label, value in found]}


def _print(results: Sequence[tuple[Path, Found]]) -> None:
    from rich.text import Text

    from vitseek.cli.predicted import bar
    from vitseek.search.results import one_line, shown_path

    console = stdout()
    for path, found in results:
        console.print(Text(shown_path(path), style="bold"), soft_wrap=True)
        width = max((len(label) for label, _ in found), default=0)
        for label, value in found:
            console.print(f"  {value:6.1%}  {one_line(label):<{width}}  {bar(round(1000 * value), 1000)}", markup=False)
        if not found:
            console.print("  no class is this probable", markup=False)
