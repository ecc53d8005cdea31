"""The parameters of a search, from a query string or a form."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from django.utils.translation import gettext as _

from vitseek.errors import QuerySyntaxError
from vitseek.search.query import MAX_TERMS, Expression, Term, parse
from vitseek.web.problems import Problem

DEFAULT_K = 10
K_CHOICES = (5, 10, 20, 50)
K_LIMIT = 200
WHERE_LENGTH = 500
QUERY_LENGTH = 1000  # characters; an address of so many Chinese ones still fits into a request line
SPACE_LENGTH = 200
FUSIONS = ("scores", "ranks")
ID_LIMIT = 2**63 - 1  # SQLite's largest integer


@dataclass(frozen=True, kw_only=True)
class SearchParams:
    """A search's address: words and pictures in ``q``; or one image of the gallery, or one held upload, by itself."""

    q: str = ""
    image: int | None = None
    query: str | None = None
    k: int = DEFAULT_K
    where: str = ""
    space: str = ""
    also: str = ""
    balance: float | None = None
    fusion: str = ""

    @classmethod
    def of(cls, data: Mapping[str, str]) -> "SearchParams":
        """Read and check the parameters.

        Raises
        ------
        Problem
            404 if the image's id is not a number, 422 if another parameter is out of range.
        """
        return cls(
            q=checked_query(data.get("q") or ""),
            image=image_id(data["image"]) if data.get("image") else None,
            query=data.get("query") or None,
            k=_k(data.get("k") or str(DEFAULT_K)),
            where=_where(data.get("where") or ""),
            space=_space(data.get("space") or ""),
            also=_space(data.get("also") or ""),
            balance=_balance(data.get("balance") or ""),
            fusion=_fusion(data.get("fusion") or ""),
        )

    @classmethod
    def lenient(cls, data: Mapping[str, str]) -> "SearchParams":
        """The parameters that can be understood, to fill the form again after a mistake."""
        k = data.get("k", "")
        return cls(
            q=(data.get("q") or "")[:QUERY_LENGTH],
            query=data.get("query") or None,
            image=int(data["image"]) if _is_id(data.get("image", "")) else None,
            k=int(k) if _is_k(k) else DEFAULT_K,
            where=(data.get("where") or "")[:WHERE_LENGTH],
            balance=_number(data.get("balance") or ""),
        )

    @property
    def balance_text(self) -> str:
        """For forms: never in the notation of a language."""
        return "" if self.balance is None else f"{self.balance:g}"

    @property
    def has_query(self) -> bool:
        return bool(self.q) or self.image is not None or self.query is not None

    def expression(self) -> Expression | None:
        """What is searched with, uploads by their names; None if there is nothing yet.

        Files of this machine are never meant: ``q`` may name images of the gallery and uploads.

        Raises
        ------
        QuerySyntaxError
        """
        terms: list[Term] = []
        if self.query is not None:
            terms.append(Term(1.0, "upload", self.query))
        if self.image is not None:
            terms.append(Term(1.0, "image", self.image))
        if self.q:
            terms.extend(parse(self.q, files=False, held=True).terms)
        return joined(terms) if terms else None

    def address(self, **changes: object) -> str:
        """The query string of this search, with some parameters changed; only what differs from the default shows."""
        values: dict[str, object] = {
            "image": self.image,
            "query": self.query,
            "q": self.q,
            "k": self.k,
            "where": self.where,
            "space": self.space,
            "also": self.also,
            "balance": self.balance_text,
            "fusion": self.fusion,
            **changes,
        }
        if values["k"] == DEFAULT_K:
            values["k"] = None
        return "?" + urlencode({name: value for name, value in values.items() if value not in (None, "")})

    def asking(self, expression: Expression) -> str:
        """The query string of the same search with something else; a single picture has a short address."""
        asked: dict[str, object] = {"image": None, "query": None, "q": None}
        only = expression.terms[0] if len(expression.terms) == 1 and expression.terms[0].weight == 1 else None
        if only is not None and only.kind in ("image", "upload"):
            asked["image" if only.kind == "image" else "query"] = only.value
        else:
            asked["q"] = written(expression)
        return self.address(**asked)


def joined(terms: list[Term]) -> Expression:
    """The terms as one query.

    Raises
    ------
    QuerySyntaxError
        If they are too many.
    """
    if len(terms) > MAX_TERMS:
        raise QuerySyntaxError(f"more than {MAX_TERMS} things in one query")
    return Expression(tuple(terms))


def written(expression: Expression) -> str:
    """A query as a person would write it: words alone without quotes, where they mean the same."""
    only = expression.terms[0]
    if len(expression.terms) == 1 and only.kind == "text" and only.weight == 1:
        try:
            if parse(only.value, files=False, held=True) == Expression((only,)):
                return str(only.value)
        except QuerySyntaxError:
            pass
    return str(expression)


def checked_query(text: str) -> str:
    if len(text) > QUERY_LENGTH:
        raise Problem(422, _("The query is too long: at most %(limit)s characters.") % {"limit": QUERY_LENGTH})
    return text.strip()


def image_id(text: str) -> int:
    """An image's id from an address; whatever is none is as unknown as an id that was never given."""
    if not _is_id(text):
        raise Problem(404, _("The gallery has no such image. It may have been removed since."))
    return int(text)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= ID_LIMIT


def _is_k(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= K_LIMIT


def _k(text: str) -> int:
    if not _is_k(text):
        raise Problem(422, _("The number of results must be between 1 and %(limit)s.") % {"limit": K_LIMIT})
    return int(text)


def _where(text: str) -> str:
    if len(text) > WHERE_LENGTH:
        raise Problem(422, _("The filter is too long: at most %(limit)s characters.") % {"limit": WHERE_LENGTH})
    return text.strip()


def _space(text: str) -> str:
    if len(text) > SPACE_LENGTH:
        raise Problem(422, _("The gallery has no such space."))
    return text.strip()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= 1 else None


def _balance(text: str) -> float | None:
    if text and _number(text) is None:
        raise Problem(422, _("The balance of two spaces must be between 0 and 1."))
    return _number(text)


def _fusion(text: str) -> str:
    if text and text not in FUSIONS:
        raise Problem(422, _("Two spaces are fused by scores or by ranks."))
    return text
