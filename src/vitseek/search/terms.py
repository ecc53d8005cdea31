"""What a query is made of: terms with weights, and their written form."""

import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np

from vitseek.errors import UsageError

Kind = Literal["text", "file", "address", "image", "upload", "picture", "vector"]
IsFile = Callable[[str], bool]

MAX_WEIGHT = 1000.0


@dataclass(frozen=True, slots=True)
class Term:
    """One thing to search with, and how much it counts.

    Parameters
    ----------
    weight
        Negative for what is not wanted; 0 takes no part.
    kind, value
        ``text``: words. ``file``: a path. ``address``: http(s). ``image``: an id of the gallery. ``upload``: the name
        of a picture that a server holds, which it replaces before it searches. And two that only programs make:
        ``picture`` (bytes, a stream or a Pillow image) and ``vector`` (a feature vector,
        or one for each of several spaces: a mapping from their ids).
    name
        What messages call a picture or a vector.
    bare
        Words that were typed without quotes, which may be a mistyped file name; or the name of a missing file, which
        may have been meant as words.
    """

    weight: float
    kind: Kind
    value: Any
    name: str = field(default="", compare=False)
    bare: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(f"a term of a query is one of {', '.join(get_args(Kind))}, not {self.kind!r}")
        if isinstance(self.weight, bool) or not isinstance(self.weight, (int, float, np.integer, np.floating)):
            raise UsageError(f"the weight of a term is a number, not {self.weight!r}")
        if not abs(self.weight) <= MAX_WEIGHT:
            raise UsageError(f"the weight of a term lies between -{MAX_WEIGHT:g} and {MAX_WEIGHT:g}, not {self.weight}")
        if self.kind == "text" and (problem := text_problem(self.value)):
            raise UsageError(f"the words of a term cannot be searched: {problem}")

    def __str__(self) -> str:
        weight = "" if abs(self.weight) == 1 else f"{_plain_number(abs(self.weight))} "
        return f"{weight}{self.operand}"

    @property
    def operand(self) -> str:
        """The term without its weight, as the grammar writes it."""
        match self.kind:
            case "text":
                return _quoted(self.value)
            case "file":
                return f"file:{_quoted(os.fspath(self.value))}"
            case "image":
                return f"image:{int(self.value)}"
            case "upload":
                return f"upload:{self.value}"
            case "address":
                return str(self.value)
        return self.name or self.kind


@dataclass(frozen=True, slots=True)
class Expression:
    """A query: its terms in the order in which they were written. ``str()`` gives a form that parses to the same."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        first, *rest = self.terms
        parts = [f"- {first}" if first.weight < 0 else str(first)]
        return " ".join([*parts, *(f"{'-' if term.weight < 0 else '+'} {term}" for term in rest)])

    @property
    def active(self) -> tuple[Term, ...]:
        """The terms that count: those whose weight is not 0."""
        return tuple(term for term in self.terms if term.weight)

    @property
    def has_words(self) -> bool:
        """Whether a text tower is needed."""
        return any(term.kind == "text" for term in self.active)

    @property
    def picture(self) -> Term | None:
        """The picture that weighs most among those that are wanted."""
        pictures = [term for term in self.active if term.kind not in ("text", "vector") and term.weight > 0]
        return max(pictures, key=lambda term: term.weight, default=None)


def remarks(expression: Expression, *, is_file: IsFile = os.path.isfile) -> list[str]:
    """What a person should know about how a query was understood, one sentence each."""
    said = []
    for term in expression.terms:
        if not term.weight:
            said.append(f"{term.operand} has the weight 0 and takes no part")
        elif term.kind == "text" and not term.bare and is_file(term.value):
            said.append(
                f"{term.operand} is in quotes and searched as words; there is a file of this name: "
                f"file:{term.operand} searches with it"
            )
        elif term.kind == "text" and term.bare and term.value.isascii() and term.value.isdigit():
            said.append(f"{term.value} is searched as words; the image with this id is image:{term.value}")
    if expression.active and all(term.weight < 0 for term in expression.active):
        said.append("the query only says what is not wanted: the images that are least like it come first")
    return said


def text_problem(text: object) -> str | None:
    """Why something cannot be searched as words; None if it can."""
    if not isinstance(text, str):
        return f"they are {type(text).__name__}, not text"
    if not text.strip():
        return "they are empty"
    for letter in text:
        category = unicodedata.category(letter)
        if category == "Cs":
            return "half of a character (a lone surrogate) is among them"
        if category == "Cc" and not letter.isspace():
            return f"a control character ({letter!r}) is among them"
    return None


def _quoted(text: str) -> str:
    return '"{}"'.format("".join(_escaped(text)))


def _escaped(text: str) -> Iterator[str]:
    for letter in text:
        yield f"\\{letter}" if letter in '"\\' else letter


def _plain_number(number: float) -> str:
    """Without an exponent: the grammar has none."""
    return format(Decimal(repr(float(number))), "f").removesuffix(".0")
