r"""The filter language of ``--where``: text → a small tree → parameterised SQL.

    label:dress path:*beach* width>=800 bytes>1MB date>=2024-01-01 not (name:*.gif or label:draft)

    filter  = term {"or" term}
    term    = factor {["and"] factor}                tests side by side must all hold
    factor  = "not" factor | "(" filter ")" | test
    test    = field operator value
    value   = word | "quoted words" | 'quoted words' | low..high
    After the value of "predicted" may come a bound of its probability: predicted:dress>=0.8

`docs/search.md` describes fields and operators for users, `conditions.py` what a test means.
"""

import calendar
import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from decimal import Decimal

from vitseek.errors import FilterSyntaxError
from vitseek.search.conditions import (
    FIELDS,
    LABEL_FIELDS,
    TEXT_FIELDS,
    And,
    AtLeast,
    Below,
    Equals,
    Filter,
    Like,
    Not,
    Or,
    Pattern,
    Probability,
    Value,
    Wild,
)

MAX_LENGTH = 2000  # characters
MAX_DEPTH = 32  # parentheses and "not" inside each other
MAX_NUMBER = 10**15  # pixels or bytes; well inside SQLite's 64-bit integers

_ALIASES = {"size": "bytes", "labels": "label", "probability": "confidence"}


def parse(text: str) -> Filter:
    """Parse a filter.

    Raises
    ------
    FilterSyntaxError
        With the text, a mark below the place where it stops making sense, and what could stand there.
    """
    if len(text) > MAX_LENGTH:
        raise FilterSyntaxError(f"the filter has {len(text)} characters; at most {MAX_LENGTH} are read")
    return _Parser(text).parse()


_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[^\W\d]\w*")
_OPERATOR = re.compile(r">=|<=|!=|==|:|=|>|<")
_BARE = re.compile(r"(?:\\.|[^\s()\\])+", re.DOTALL)
_QUOTED = {quote: re.compile(rf"{quote}((?:\\.|[^{quote}\\])*){quote}", re.DOTALL) for quote in "\"'"}
_PIECE = re.compile(r"\\(.)|(.)", re.DOTALL)
_NUMBER = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)\s?([A-Za-z]*)", re.ASCII)
_PROBABILITY = re.compile(r"(\d{0,30}(?:\.\d{1,30})?)(%?)", re.ASCII)
_BARE_PREDICTED = re.compile(r"(?:\\.|[^\s()\\<>])+", re.DOTALL)
_SIGN = re.compile(r">=|<=|>|<")  # after the value of "predicted" comes a bound of its probability
_LOOKS_BOUNDED = re.compile(r"(.+?)(?:>=|<=|>|<)\s*\d*\.?\d+%?", re.DOTALL)
_DATE = re.compile(
    r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[T ]([01]\d|2[0-3])(?::([0-5]\d)(?::([0-5]\d))?)?)?)?)?", re.ASCII | re.IGNORECASE
)
_UNITS = {"": 1, "b": 1} | {
    f"{letter}{ending}": base ** (power + 1)
    for power, letter in enumerate("kmgt")
    for ending, base in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
}
_AFTER_EVERY_TIME = "~"  # sorts after all that a time can go on with: "2024-05" ≤ every moment in May < "2024-05~"


class _Parser:
    """Recursive descent over the text; ``at`` is the position of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def parse(self) -> Filter:
        for position, character in enumerate(self.text):
            category = unicodedata.category(character)
            if category == "Cc" and not character.isspace():
                raise self.error("a control character cannot be part of a filter", position)
            if category == "Cs" and not "\udc80" <= character <= "\udcff":
                raise self.error("half of a character (a lone surrogate) cannot be part of a filter", position)
        self.skip_space()
        if self.at == len(self.text):
            raise self.error("the filter is empty", 0, "Write for example: label:dress width>=800")
        found = self.either()
        if self.at < len(self.text):
            raise self.error("this ')' closes nothing", self.at, "Remove it, or put the value in quotes.")
        return found

    def either(self) -> Filter:
        parts = [self.all_of()]
        while self.keyword("or"):
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def all_of(self) -> Filter:
        parts = [self.factor()]
        while True:
            if not self.keyword("and") and (self.at == len(self.text) or self.text[self.at] == ")" or self.is_or()):
                return parts[0] if len(parts) == 1 else And(tuple(parts))
            parts.append(self.factor())

    def factor(self) -> Filter:
        start = self.at
        if self.keyword("not"):
            return Not(self.nested(start, self.factor))
        if self.at < len(self.text) and self.text[self.at] == "(":
            self.at += 1
            self.skip_space()
            inner = self.nested(start, self.either)
            if self.at == len(self.text):
                raise self.error("this '(' is never closed", start, "Add ')', or put the value in quotes.")
            self.at += 1
            self.skip_space()
            return inner
        return self.test()

    def nested(self, start: int, parse: Callable[[], Filter]) -> Filter:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} parentheses and 'not' inside each other", start)
        found = parse()
        self.depth -= 1
        return found

    def test(self) -> Filter:
        field = self.field()
        operator = _OPERATOR.match(self.text, self.at)
        if not operator:
            raise self.error(f"'{field}' wants an operator", self.at, _allowed(field))
        op = "=" if operator[0] == "==" else operator[0]
        if field in TEXT_FIELDS and op not in (":", "=", "!="):
            raise self.error(f"'{field}' is text and has no order", self.at, _allowed(field))
        self.at = operator.end()
        self.skip_space()
        value_at = self.at
        value = self.value(field)
        if field in TEXT_FIELDS:
            return _text_test(field, op, value, self.within() if field == "predicted" else None)
        return self.ordered(field, op, _unescaped(value), value_at)

    def field(self) -> str:
        word = _WORD.match(self.text, self.at)
        if not word:
            ended = self.at == len(self.text)
            what = "the filter ends here" if ended else f"'{self.text[self.at]}' cannot start a test"
            signs = "" if ended or self.text[self.at] not in "&|!-" else "Write 'and', 'or' and 'not' as words. "
            raise self.error(f"{what}; wanted: field, operator, value", self.at, f"{signs}{_FIELD_LIST}")
        name = word[0].lower()
        name = _ALIASES.get(name, name)
        after = _SPACE.match(self.text, word.end())
        has_operator = bool(after and _OPERATOR.match(self.text, after.end()))
        if name not in FIELDS:
            if has_operator:
                raise self.error(f"there is no field '{word[0]}'", self.at, _similar(name) + _FIELD_LIST)
            if name in ("and", "or"):
                hint = f"A test is for example {_EXAMPLE['label']}."
                raise self.error(f"'{word[0]}' wants a test on both sides", self.at, hint)
            bare = _BARE.match(self.text, self.at)
            shown = bare[0] if bare else word[0]
            hint = f"Write for example path:*{shown}* or label:{shown}; quotes hold words together."
            raise self.error(f"'{shown}' has no field", self.at, hint)
        self.at = word.end()
        self.skip_space()
        return name

    def value(self, field: str) -> str:
        """The value, still with its escapes."""
        start = self.at
        if start < len(self.text) and self.text[start] in _QUOTED:
            quoted = _QUOTED[self.text[start]].match(self.text, start)
            if not quoted:
                raise self.error(f"this {self.text[start]} is never closed", start, "Add the closing quote.")
            self.at = quoted.end()
            ends = ")<>" if field == "predicted" else ")"
            if self.at < len(self.text) and self.text[self.at] not in ends and not self.text[self.at].isspace():
                raise self.error("a space is missing after the closing quote", self.at)
            value = quoted[1]
        else:
            bare = (_BARE_PREDICTED if field == "predicted" else _BARE).match(self.text, start)
            if not bare:
                found = "the filter ends here" if start == len(self.text) else f"'{self.text[start]}' is no value"
                hint = f"For example {_EXAMPLE[field]}; a value with spaces or parentheses goes in quotes."
                raise self.error(f"'{field}' wants a value, but {found}", start, hint)
            self.at = bare.end()
            value = bare[0]
            if self.at < len(self.text) and self.text[self.at] == "(":
                raise self.error("a value with parentheses must be in quotes", start)
            if field == "label" and (bounded := _LOOKS_BOUNDED.fullmatch(value)):
                hint = f"Write predicted:{value}; a label with such signs in it goes in quotes."
                raise self.error("a label has no probability, a prediction has", start + len(bounded[1]), hint)
        self.skip_space()
        return value

    def within(self) -> Probability | None:
        """The bound of a prediction's probability, if one comes."""
        sign = _SIGN.match(self.text, self.at)
        if not sign:
            return None
        self.at = sign.end()
        self.skip_space()
        number = _BARE.match(self.text, self.at)
        if not number:
            raise self.error(f"'{sign[0]}' wants a probability", self.at, f"For example {_EXAMPLE['predicted']}")
        value, after = self.probability(number[0], self.at)
        self.at = number.end()
        self.skip_space()
        sides = {">=": (value, None), ">": (after, None), "<": (None, value), "<=": (None, after)}
        return Probability(*sides[sign[0]])

    def ordered(self, field: str, op: str, value: str, at: int) -> Filter:
        """A test on a number or a date: half-open bounds only, so that every operator is exact."""
        low, high, is_range = value, value, False
        if ".." in value:
            low, _, high = value.partition("..")
            is_range = True
            if op not in (":", "=", "!="):
                raise self.error(f"'{op}' cannot be used with a range", at, f"Write {field}:{value}")
            if not low and not high:
                raise self.error("a range wants at least one end", at, f"For example {_RANGE[field]}")
        first = self.bound(field, low, at)[0] if low or not is_range else None
        end = self.bound(field, high, at + (len(low) + 2 if is_range else 0))[1] if high or not is_range else None
        if first is not None and end is not None and is_range and not _in_order(first, end):
            hint = f"The smaller end comes first: {field}:{high}..{low}"
            raise self.error(f"nothing lies between {low} and {high}", at, hint)
        sides = {">=": (first, None), ">": (end, None), "<": (None, first), "<=": (None, end)}
        low_bound, high_bound = sides.get(op, (first, end))
        parts: list[Filter] = []
        if low_bound is not None:
            parts.append(AtLeast(field, low_bound))
        if high_bound is not None:
            parts.append(Below(field, high_bound))
        found = parts[0] if len(parts) == 1 else And(tuple(parts))
        return Not(found) if op == "!=" else found

    def bound(self, field: str, value: str, at: int) -> tuple[Value, Value]:
        """The first value that counts as ``value``, and the first one after it."""
        if field == "date":
            return self.moment(value.strip(), at)
        if field == "confidence":
            return self.probability(value.strip(), at)
        number = self.number(field, value.strip(), at)
        return number, number + 1

    def number(self, field: str, value: str, at: int) -> int:
        found = _NUMBER.fullmatch(value)
        unit = found[2].lower() if found else ""
        if not found or unit not in (_UNITS if field == "bytes" else ("", "px")):
            wanted = "bytes, or with kB, MB, GB, TB (powers of 1000), KiB, MiB, …" if field == "bytes" else "pixels"
            hint = f"For example {_EXAMPLE[field]}"
            raise self.error(f"'{value}' is no {field}: wanted a number of {wanted}", at, hint)
        scaled = Decimal(found[1]) * (_UNITS[unit] if field == "bytes" else 1)
        if scaled > MAX_NUMBER:
            raise self.error(f"'{value}' is larger than any picture", at)
        if scaled != int(scaled):
            raise self.error(f"'{value}' is not a whole number of {'bytes' if field == 'bytes' else 'pixels'}", at)
        return int(scaled)

    def probability(self, value: str, at: int) -> tuple[float, float]:
        found = _PROBABILITY.fullmatch(value)
        number = float(found[1]) / (100 if found[2] else 1) if found and found[1].strip(".") else -1.0
        if not 0 <= number <= 1:
            hint = f"For example {_EXAMPLE['predicted']} or {_EXAMPLE['confidence']}"
            raise self.error(f"'{value}' is no probability: wanted a number from 0 to 1, or 0% to 100%", at, hint)
        return number, math.nextafter(number, math.inf)

    def moment(self, value: str, at: int) -> tuple[str, str]:
        found = _DATE.fullmatch(value)
        if not found:
            hint = "For example date:2024, date:2024-05, date>=2024-05-17, date:2024-05..2024-08, date<2024-05-17T18:30"
            raise self.error(f"'{value}' is no date: wanted YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm", at, hint)
        year, month, day = int(found[1]), int(found[2] or 1), int(found[3] or 1)
        if not 1 <= month <= 12:
            raise self.error(f"'{value}' has no month {found[2]}", at)
        if not 1 <= day <= (calendar.monthrange(year, month)[1] if year else 31):
            raise self.error(f"'{value}': this month has no day {found[3]}", at)
        start = value.upper().replace(" ", "T")
        return start, start + _AFTER_EVERY_TIME

    def keyword(self, word: str) -> bool:
        """Step over ``word`` where it stands as a word of its own."""
        if not self.is_keyword(word):
            return False
        self.at += len(word)
        self.skip_space()
        return True

    def is_or(self) -> bool:
        return self.is_keyword("or")

    def is_keyword(self, word: str) -> bool:
        found = _WORD.match(self.text, self.at)
        if not found or found[0].lower() != word:
            return False
        rest = self.text[found.end() : found.end() + 1]
        return not rest or rest.isspace() or rest in "()"

    def skip_space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def error(self, problem: str, position: int, hint: str = "") -> FilterSyntaxError:
        return FilterSyntaxError(problem, text=self.text, position=position, hint=hint)


_EXAMPLE = {
    "path": "path:*beach*",
    "name": "name:*.png",
    "label": "label:dress",
    "predicted": "predicted:dress>=0.8",
    "source": "source:zero-shot",
    "width": "width>=800",
    "height": "height<600",
    "bytes": "bytes>1.5MB",
    "date": "date>=2024-05-17",
    "confidence": "confidence<0.5",
}
_RANGE = {
    "width": "width:800..1200",
    "height": "height:..600",
    "bytes": "bytes:1MB..5MB",
    "date": "date:2024-05..2024-08",
    "confidence": "confidence:0.2..0.6",
}


_FIELD_LIST = f"Fields: {', '.join(FIELDS)}."


def _allowed(field: str) -> str:
    operators = ": = !=" if field in TEXT_FIELDS else ": = != > >= < <="
    return f"One of {operators} (for example {_EXAMPLE[field]})"


def _similar(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, [*FIELDS, *_ALIASES], n=1)
    return f"Did you mean '{_ALIASES.get(close[0], close[0])}'? " if close else ""


def _in_order(first: Value, end: Value) -> bool:
    if not isinstance(first, str) and not isinstance(end, str):
        return first < end
    return str(first) < str(end)


def _text_test(field: str, op: str, value: str, probability: Probability | None) -> Filter:
    if op == ":":
        return Like(field, _pattern(field, value), probability)
    found = Equals(field, _visible(_unescaped(value)), probability)
    return Not(found) if op == "!=" else found


def _pattern(field: str, value: str) -> Pattern:
    pieces: list[str | Wild] = []
    for escaped, plain in _pieces(value):
        piece = escaped if escaped else Wild(plain) if plain in "*?" else plain
        if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
            pieces[-1] += piece
        elif not (piece is Wild.ANY and pieces and pieces[-1] is Wild.ANY):
            pieces.append(piece)
    # A path or a name without a wildcard is looked for anywhere in it; a label is a word of its own.
    if field not in LABEL_FIELDS and not any(isinstance(piece, Wild) for piece in pieces):
        pieces = [Wild.ANY, *pieces, Wild.ANY] if pieces else [Wild.ANY]
    return tuple(_visible(piece) if isinstance(piece, str) else piece for piece in pieces)


def _unescaped(value: str) -> str:
    return "".join(escaped or plain for escaped, plain in _pieces(value))


def _pieces(value: str) -> Iterator[tuple[str, str]]:
    for found in _PIECE.finditer(value):
        yield found[1] or "", found[2] or ""


def _visible(text: str) -> str:
    # The gallery shows bytes of a file name that are not UTF-8 as \xe9; the shell hands them over as surrogates.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
