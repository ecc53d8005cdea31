"""docs/weights.md lists the zoo as it is."""

from pathlib import Path

from vitseek.weights.families import NAMINGS
from vitseek.zoo import ZOO, HubSource

PAGE = (Path(__file__).parents[2] / "docs" / "weights.md").read_text("utf-8")


def test_the_table_says_where_every_model_comes_from_and_what_is_pinned() -> None:
    table = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 6 and cells[1] in ZOO:
            table[cells[1]] = (cells[2], cells[3])
    expected = {
        name: (row.source.repo, "pinned" if row.source.pinned else "first download")
        if isinstance(row.source, HubSource)
        else ("the package itself", "in the package")
        for name, row in ZOO.items()
    }
    assert table == expected


def test_every_naming_is_explained() -> None:
    assert all(f"`{name}`" in PAGE for name in NAMINGS)
