"""What a filter means: a small tree of tests, and its SQL.

Nothing that a user wrote becomes part of the SQL: every value is a bound parameter, and column names come
from this file. Letters A–Z match in either case, as SQLite's LIKE and NOCASE have it.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import Enum
from typing import Literal

TEXT_FIELDS = ("path", "name", "label")
NUMBER_FIELDS = ("width", "height", "bytes")
FIELDS = (*TEXT_FIELDS, *NUMBER_FIELDS, "date")

SQL = tuple[str, list[str | int]]


class Wild(Enum):
    """A wildcard of a pattern."""

    ANY = "*"  # any characters, also none, also "/"
    ONE = "?"  # one character


Pattern = tuple[str | Wild, ...]

# Names from macOS spell é as two characters, typed text has it as one: both spellings match.
_SPELLINGS: tuple[Literal["NFC", "NFD"] | None, ...] = ("NFC", "NFD", None)


class Filter:
    """A parsed filter; each kind of node knows its SQL."""

    def to_sql(self) -> SQL:
        """A condition for ``SELECT … FROM catalog WHERE …``, and its parameters.

        The columns are ``id, path, name, width, height, bytes, date`` and the table ``labels (image_id, label)``.
        Every test is true or false: a missing width or date fails the test, and passes under ``not``.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class And(Filter):
    """All parts hold."""

    parts: tuple[Filter, ...]

    def to_sql(self) -> SQL:
        return _joined(self.parts, " AND ")


@dataclass(frozen=True)
class Or(Filter):
    """One part at least holds."""

    parts: tuple[Filter, ...]

    def to_sql(self) -> SQL:
        return _joined(self.parts, " OR ")


@dataclass(frozen=True)
class Not(Filter):
    """The part does not hold."""

    part: Filter

    def to_sql(self) -> SQL:
        clause, values = self.part.to_sql()
        return f"NOT {clause}", values


@dataclass(frozen=True)
class Like(Filter):
    """The whole of a text field matches a pattern; for ``label``, the whole of one label does."""

    field: str
    pattern: Pattern

    def to_sql(self) -> SQL:
        patterns: list[str | int] = sorted({_like(self.pattern, form) for form in _SPELLINGS})
        column = _column(self.field)
        test = " OR ".join([f"{column} LIKE ? ESCAPE '\\'"] * len(patterns))
        return _over_labels(self.field, test), patterns


@dataclass(frozen=True)
class Equals(Filter):
    """A text field is this text, taken literally; for ``label``, one label is."""

    field: str
    text: str

    def to_sql(self) -> SQL:
        spellings: list[str | int] = sorted({_spelled(self.text, form) for form in _SPELLINGS})
        test = " OR ".join([f"{_column(self.field)} = ? COLLATE NOCASE"] * len(spellings))
        return _over_labels(self.field, test), spellings


@dataclass(frozen=True)
class AtLeast(Filter):
    """A number or a date is not below the bound."""

    field: str
    bound: int | str

    def to_sql(self) -> SQL:
        return f"IFNULL({_column(self.field)} >= ?, 0)", [self.bound]


@dataclass(frozen=True)
class Below(Filter):
    """A number or a date is below the bound."""

    field: str
    bound: int | str

    def to_sql(self) -> SQL:
        return f"IFNULL({_column(self.field)} < ?, 0)", [self.bound]


def _column(field: str) -> str:
    if field not in FIELDS:
        raise ValueError(f"{field!r} is not a filter field")  # never reached from parse(): names come from FIELDS
    return field


def _over_labels(field: str, test: str) -> str:
    if field == "label":
        return f"id IN (SELECT image_id FROM labels WHERE {test})"  # noqa: S608 — built from FIELDS and "?" only
    return f"({test})"


def _joined(parts: tuple[Filter, ...], word: str) -> SQL:
    compiled = [part.to_sql() for part in parts]
    return "(" + word.join(clause for clause, _ in compiled) + ")", [
        value for _, values in compiled for value in values
    ]


def _like(pattern: Pattern, form: Literal["NFC", "NFD"] | None) -> str:
    sql = {Wild.ANY: "%", Wild.ONE: "_"}
    pieces = []
    for piece in pattern:
        if isinstance(piece, Wild):
            pieces.append(sql[piece])
        else:
            pieces.append(re.sub(r"([\\%_])", r"\\\1", _spelled(piece, form)))
    return "".join(pieces)


def _spelled(text: str, form: Literal["NFC", "NFD"] | None) -> str:
    return unicodedata.normalize(form, text) if form else text
