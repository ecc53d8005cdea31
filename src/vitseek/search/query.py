r"""The language of queries: words and pictures, joined by ``+`` and ``-``, with weights.

    cat.jpg + "at night" - 0.5 "snow"

    query   = [sign] term {sign term}
    sign    = "+" | "-"                  with a space on both sides: a hyphen inside words is no sign
    term    = [weight] operand           weight: a number from 0 to 1000; 1 if there is none
    operand = "words" | 'words' | image:ID | http(s)://… | file:PATH | PATH | bare words
            | upload:NAME              only where a server holds pictures by name

A file that exists goes before everything that its name could also mean. `docs/search.md` describes this for users;
what an expression finds is decided by the gallery.
"""

import os
import re
from pathlib import Path

from vitseek.errors import QuerySyntaxError
from vitseek.preprocess.image import IMAGE_SUFFIXES
from vitseek.search.terms import MAX_WEIGHT as MAX_WEIGHT
from vitseek.search.terms import Expression as Expression
from vitseek.search.terms import IsFile, text_problem
from vitseek.search.terms import Term as Term
from vitseek.search.terms import remarks as remarks

MAX_LENGTH = 2000  # characters
MAX_TERMS = 16


def parse(text: str, *, files: bool = True, is_file: IsFile = os.path.isfile, held: bool = False) -> Expression:
    """Parse a query.

    Parameters
    ----------
    text
        What the person wrote.
    files
        Whether it may name files of this machine. A web server says no.
    is_file
        Tells whether a file of this name exists.
    held
        Whether ``upload:NAME`` is a picture that the program holds; otherwise it is words.

    Raises
    ------
    QuerySyntaxError
        With the text, a mark below the place where it stops making sense, and what could stand there.
    """
    if files and is_file(text):  # whatever signs and quotes its name holds
        return Expression((Term(1.0, "file", text),))
    if len(text) > MAX_LENGTH:
        raise QuerySyntaxError(f"the query has {len(text):,} characters; at most {MAX_LENGTH:,} are read")
    return _Parser(text, is_file if files else None, held=held).parse()


_SPACE = re.compile(r"\s*")
_SIGN = re.compile(r"(?<!\S)[+\-−](?!\S)")
_GLUED_SIGN = re.compile(r"(?<!\S)[+\-−](?=[\w\"'“„«「])|(?<=[\"”])[+\-−](?=[\w\"'“„«「])")
_WEIGHT = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?=\s|[\"'“„«「])", re.ASCII)
_LONE_NUMBER = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)
_COMMA_NUMBER = re.compile(r"\d+,\d+\s", re.ASCII)
_IMAGE = re.compile(r"image:(\S*)", re.IGNORECASE)
_UPLOAD = re.compile(r"upload:([A-Za-z0-9]+)(?!\S)")
_FILE = re.compile(r"file:(?!//)", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://\S*", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"(?:[a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_CLOSING = {'"': '"', "'": "'", "“": "”“", "„": "“”", "«": "»", "「": "」"}  # keyboards and telephones make them
_PATH = re.compile(r"[/~]|\.{1,2}(?:[/\\]|$)|\\\\|[A-Za-z]:[\\/]")
_ESCAPABLE = "\"'\\"
_MAX_ID = 2**63 - 1  # of SQLite


class _Parser:
    """Reads from left to right; ``at`` is the position of the next character."""

    def __init__(self, text: str, is_file: IsFile | None, *, held: bool = False) -> None:
        self.text = text
        self.is_file = is_file
        self.marked = (_IMAGE, _FILE, _ADDRESS, *([_UPLOAD] if held else []))
        self.at = 0

    def parse(self) -> Expression:
        self.skip_space()
        if self.at == len(self.text):
            raise self.error("the query is empty", 0, 'Write for example: a red dress   or: cat.jpg + "at night"')
        terms = [self.term(self.sign())]
        while self.at < len(self.text):
            place = self.at
            if not (sign := self.sign()):
                if self.text[place] in "+-−":
                    raise self.too_close(place)
                hint = "Join two things by + or - with a space on both sides; quotes stand round all the words."
                raise self.error("a + or - is missing here", place, hint)
            if len(terms) == MAX_TERMS:
                raise self.error(f"more than {MAX_TERMS} things in one query", place)
            terms.append(self.term(sign))
        if not any(term.weight for term in terms):
            hint = "Give at least one thing a weight above 0."
            raise self.error("every weight is 0, so nothing is searched for", 0, hint)
        return Expression(tuple(terms))

    def sign(self) -> int:
        """1 or -1 and a step over it; 0 where no sign stands."""
        found = _SIGN.match(self.text, self.at)
        if not found:
            return 0
        self.at = found.end()
        self.skip_space()
        return 1 if found[0] == "+" else -1

    def term(self, sign: int) -> Term:
        self.wanted()
        if (path := self.existing_file()) is not None:
            return Term(float(sign or 1), "file", path)
        weight = 1.0
        start = self.at
        if number := _WEIGHT.match(self.text, start):
            after = self.spaces_after(number.end())
            if after < len(self.text) and not _SIGN.match(self.text, after) and self.is_weight(number[0], after):
                weight = float(number[0])
                if weight > MAX_WEIGHT:
                    raise self.error(f"a weight is at most {MAX_WEIGHT:g}", start)
                self.at = after
        return self.operand((sign or 1) * weight if weight else 0.0)

    def is_weight(self, number: str, after: int) -> bool:
        """Whether the number before something is its weight; before bare words it may be one of them: 2 dogs."""
        here = self.text[after:]
        marked = here[0] in _CLOSING or any(kind.match(here) for kind in self.marked)
        if marked or self.existing_file(after) is not None or self.looks_like_path(self.bare(after)):
            return True
        if not any(_SIGN.finditer(self.text)):
            return False
        if "." in number:
            return True
        words = self.bare(after)
        hint = f'Write {number} "{words}" if it is a weight, "{number} {words}" if it is one of the words.'
        raise self.error(f"is {number} the weight of {words!r}, or one of the words?", self.at, hint)

    def wanted(self) -> None:
        """Refuse the end of the text, or a second sign, where a term must stand."""
        if self.at == len(self.text):
            hint = 'For example: cat.jpg + "at night"   A sign that belongs to the words goes in quotes with them.'
            raise self.error("something must follow the sign", self.at, hint)
        if _SIGN.match(self.text, self.at):
            raise self.error("two signs in a row", self.at, "Words that hold a sign go in quotes.")

    def operand(self, weight: float) -> Term:
        start = self.at
        if (path := self.existing_file()) is not None:
            return Term(weight, "file", path)
        if self.text[start] in _CLOSING:
            return Term(weight, "text", self.words(start))
        if found := _ADDRESS.match(self.text, start):
            if "://" not in found[0].rstrip("/"):
                raise self.error("the address names no server", start, "For example: https://example.org/cat.jpg")
            self.step_to(found.end())
            return Term(weight, "address", found[0])
        if found := _IMAGE.match(self.text, start):
            return Term(weight, "image", self.image_id(found))
        if _UPLOAD in self.marked and (found := _UPLOAD.match(self.text, start)):
            self.step_to(found.end())
            return Term(weight, "upload", found[1])
        if found := _FILE.match(self.text, start):
            return Term(weight, "file", self.named_file(found.end()))
        return self.bare_operand(weight)

    def words(self, start: int) -> str:
        text, end = self.between_quotes(start)
        if problem := text_problem(text):
            raise self.error(f"these words cannot be searched: {problem}", start, 'For example: "a red dress"')
        self.step_to(end)
        return text

    def image_id(self, found: re.Match[str]) -> int:
        digits = found[1]
        if not (digits.isascii() and digits.isdigit()) or int(digits[:20]) > _MAX_ID:
            hint = "For example image:12. `vitseek search --json` prints ids."
            raise self.error(f"{digits!r} is no id of an image", found.start(1), hint)
        self.step_to(found.end())
        return int(digits)

    def named_file(self, start: int) -> str:
        if self.is_file is None:
            raise self.no_files(self.at)
        if start < len(self.text) and self.text[start] in _CLOSING:
            path, end = self.between_quotes(start)
        else:
            path = self.bare(start)
            end = start + len(path)
        if not path.strip():
            raise self.error("file: names no file", start, 'For example file:cat.jpg or file:"my cat.jpg"')
        self.step_to(end)
        return _expanded(path)

    def bare_operand(self, weight: float) -> Term:
        start, text = self.at, self.bare(self.at)
        if other := _OTHER_SCHEME.match(text):
            hint = "Addresses begin with http:// or https://. Words that hold :// go in quotes."
            raise self.error(f"{other[0]} is no address that can be fetched", start, hint)
        if self.looks_like_path(text):
            if self.is_file is None:
                raise self.no_files(start)
            self.step_to(start + len(text))
            return Term(weight, "file", _expanded(text), bare=True)
        self.check_bare(start, text)
        self.step_to(start + len(text))
        return Term(weight, "text", " ".join(text.split()), bare=True)

    def check_bare(self, start: int, text: str) -> None:
        """Bare words that look as if something else was meant are not searched as they stand."""
        if glued := _GLUED_SIGN.search(text):
            raise self.too_close(start + glued.start())
        quote = next((place for place, letter in enumerate(text) if letter in '"“”„«»「」'), None)
        if quote is not None:
            comma = "A weight has a decimal point: 0.5. " if _COMMA_NUMBER.match(text) else ""
            hint = f'{comma}Quotes stand round all the words, and + or - before the next: cat.jpg + "at night"'
            raise self.error("a quote in the middle of words", start + quote, hint)
        if _LONE_NUMBER.fullmatch(text) and any(_SIGN.finditer(self.text)):
            hint = f'A weight stands before what it weighs: {text} "snow". As words: "{text}"'
            raise self.error(f"the weight {text} stands before nothing", start, hint)
        if problem := text_problem(text):
            raise self.error(f"these words cannot be searched: {problem}", start)

    def bare(self, start: int) -> str:
        """What stands from here to the next sign."""
        return self.text[start : self.ends(start)[0]].rstrip()

    def looks_like_path(self, text: str) -> bool:
        """Whether bare words can only be meant as a file: then a missing one is an error, not words to search."""
        if _PATH.match(text) or Path(text).suffix.lower() in IMAGE_SUFFIXES:
            return True
        if any(letter.isspace() for letter in text):
            return False
        if "\\" in text or self.is_file is None:  # what no file may be named by tells nothing of the disk
            return "\\" in text
        return "/" in text and os.path.isdir(os.path.dirname(text))  # noqa: PTH112, PTH120 - never raises

    def ends(self, start: int) -> list[int]:
        """Where something that begins here can end: before each sign, and at the end of the text."""
        return [*(found.start() for found in _SIGN.finditer(self.text, start + 1)), len(self.text)]

    def existing_file(self, start: int | None = None) -> str | None:
        """The longest stretch from here that names a file, also over signs; step over it unless ``start`` is given."""
        begin = self.at if start is None else start
        here = self.text[begin:]
        if self.is_file is None or here[0] in _CLOSING or any(kind.match(here) for kind in self.marked):
            return None
        for end in reversed(self.ends(begin)):
            written = self.text[begin:end].rstrip()
            path = _expanded(written)
            if path and self.is_file(path):
                if start is None:
                    self.at = self.spaces_after(begin + len(written))
                return path
        return None

    def between_quotes(self, start: int) -> tuple[str, int]:
        """The text between quotes, and the place after them; a backslash takes a quote or a backslash literally."""
        closing = _CLOSING[self.text[start]]
        letters: list[str] = []
        at = start + 1
        while at < len(self.text):
            letter = self.text[at]
            if letter in closing:
                return "".join(letters), at + 1
            if letter == "\\" and self.text[at + 1 : at + 2] in (*_ESCAPABLE, *closing):
                at += 1
                letter = self.text[at]
            letters.append(letter)
            at += 1
        hint = f"Add the closing {closing[0]}; words that hold an apostrophe go in double quotes."
        raise self.error(f"this {self.text[start]} is never closed", start, hint)

    def step_to(self, place: int) -> None:
        self.at = self.spaces_after(place)
        if self.at < len(self.text) and self.at == place:
            if self.text[place] in "+-−":
                raise self.too_close(place)
            raise self.error("a space is missing here", place, 'For example: "a red dress" + cat.jpg')

    def skip_space(self) -> None:
        self.at = self.spaces_after(self.at)

    def spaces_after(self, place: int) -> int:
        found = _SPACE.match(self.text, place)
        return found.end() if found else place

    def too_close(self, position: int) -> QuerySyntaxError:
        sign = self.text[position]
        hint = f"Write {sign} with a space on both sides; words that hold it go in quotes."
        return self.error(f"this {sign} stands too close", position, hint)

    def no_files(self, position: int) -> QuerySyntaxError:
        hint = "Send the picture itself, or put words that look like a file's name in quotes."
        return self.error("files cannot be named here", position, hint)

    def error(self, problem: str, position: int, hint: str = "") -> QuerySyntaxError:
        return QuerySyntaxError(problem, text=self.text, position=position, hint=hint)


def _expanded(path: str) -> str:
    return os.path.expanduser(path) if path.startswith("~") else path  # noqa: PTH111 - Path raises without a home
