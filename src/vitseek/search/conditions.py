"""What a filter means: a small tree of tests, and its SQL.

Nothing that a user wrote becomes part of the SQL: every value is a bound parameter, and column names come
from this file. Letters A–Z match in either case, as SQLite's LIKE and NOCASE have it.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import Enum
from typing import Literal

# A picture has several labels, so these are tests on rows of another table: (table, column) for each.
LABEL_FIELDS = {"label": ("tags", "label"), "predicted": ("predicted", "label"), "source": ("tags", "source")}
TEXT_FIELDS = ("path", "name", *LABEL_FIELDS)
NUMBER_FIELDS = ("width", "height", "bytes")
FIELDS = (*TEXT_FIELDS, *NUMBER_FIELDS, "date", "confidence")

Value = str | int | float
SQL = tuple[str, list[Value]]


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

        The columns are ``id, path, name, width, height, bytes, date``; there are the tables ``tags (image_id, label,
        source)``, with every label, and ``predicted (image_id, label, probability)``.
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
class Probability:
    """Bounds of a prediction's probability; None leaves a side open."""

    at_least: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class Like(Filter):
    """The whole of a text field matches a pattern; for labels, the whole of one label does.

    With ``probability``, the same prediction lies within it.
    """

    field: str
    pattern: Pattern
    probability: Probability | None = None

    def to_sql(self) -> SQL:
        if self.field in LABEL_FIELDS and not any(isinstance(piece, Wild) for piece in self.pattern):
            # The same, and an index knows it.
            return Equals(self.field, "".join(map(str, self.pattern)), self.probability).to_sql()
        patterns: list[Value] = sorted({_like(self.pattern, form) for form in _SPELLINGS})
        column = _column(self.field)
        test = " OR ".join([f"{column} LIKE ? ESCAPE '\\'"] * len(patterns))
        return _over_labels(self.field, test, patterns, self.probability)


@dataclass(frozen=True)
class Equals(Filter):
    """A text field is this text, taken literally; for labels, one label is. ``probability`` as in :class:`Like`."""

    field: str
    text: str
    probability: Probability | None = None

    def to_sql(self) -> SQL:
        spellings: list[Value] = sorted({_spelled(self.text, form) for form in _SPELLINGS})
        test = " OR ".join([f"{_column(self.field)} = ? COLLATE NOCASE"] * len(spellings))
        return _over_labels(self.field, test, spellings, self.probability)


@dataclass(frozen=True)
class AtLeast(Filter):
    """A number or a date is not below the bound."""

    field: str
    bound: Value

    def to_sql(self) -> SQL:
        return _ordered(self.field, ">=", self.bound)


@dataclass(frozen=True)
class Below(Filter):
    """A number or a date is below the bound."""

    field: str
    bound: Value

    def to_sql(self) -> SQL:
        return _ordered(self.field, "<", self.bound)


def _column(field: str) -> str:
    if field not in FIELDS:
        raise ValueError(f"{field!r} is not a filter field")  # never reached from parse(): names come from FIELDS
    return LABEL_FIELDS[field][1] if field in LABEL_FIELDS else field


def _ordered(field: str, sign: Literal[">=", "<"], bound: Value) -> SQL:
    if field == "confidence":  # of the most probable prediction
        best = "SELECT image_id FROM predicted GROUP BY image_id HAVING max(probability)"
        return f"id IN ({best} {sign} ?)", [bound]
    return f"IFNULL({_column(field)} {sign} ?, 0)", [bound]


def _over_labels(field: str, test: str, values: list[Value], probability: Probability | None) -> SQL:
    if field not in LABEL_FIELDS:
        return f"({test})", values
    within = probability or Probability()
    for sign, bound in ((">=", within.at_least), ("<", within.below)):
        if bound is not None:
            test, values = f"({test}) AND probability {sign} ?", [*values, bound]
    table = LABEL_FIELDS[field][0]
    return f"id IN (SELECT image_id FROM {table} WHERE {test})", values  # noqa: S608 — built from constants and "?" only


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
