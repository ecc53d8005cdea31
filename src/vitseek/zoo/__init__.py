"""The pretrained models that vitseek knows by name: one row each."""

import difflib
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType

from vitseek.errors import UnknownModelError
from vitseek.weights.sources import Embedded, HubSource
from vitseek.zoo.row import ZooRow
from vitseek.zoo.rows import rows
from vitseek.zoo.rows.vitseek import NAME as EMBEDDED_NAME

__all__ = ["DEFAULT_MODEL", "ZOO", "Embedded", "HubSource", "ZooRow", "find", "row_called"]

DEFAULT_MODEL = EMBEDDED_NAME
NEAR_MATCHES = 3


class _Zoo(Mapping[str, ZooRow]):
    """Name to row; made at the first look, since the embedded model's row is read from its file."""

    @cached_property
    def _rows(self) -> Mapping[str, ZooRow]:
        return MappingProxyType({row.name: row for row in rows()})

    def __getitem__(self, name: str) -> ZooRow:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


ZOO: Mapping[str, ZooRow] = _Zoo()


def row_called(name: str) -> ZooRow | None:
    """The row of that name or alias, however it is capitalised; ``None`` if there is none."""
    wanted = name.lower()
    aliased = (row for row in ZOO.values() if wanted in (alias.lower() for alias in row.aliases))
    return ZOO.get(wanted) or next(aliased, None)


def find(name: str) -> ZooRow:
    """The row of a model by its name or by what others call it, however it is capitalised.

    Raises
    ------
    UnknownModelError
        If there is none; the message lists names that look alike.
    """
    row = row_called(name)
    if row is None:
        alike = difflib.get_close_matches(name.lower(), ZOO, n=NEAR_MATCHES, cutoff=0.5)
        hint = f"Did you mean {' or '.join(alike)}?" if alike else "`vitseek models` lists them."
        raise UnknownModelError(f"no model called {name!r}, and no file or folder of that name. {hint}")
    return row
