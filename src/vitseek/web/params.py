"""The parameters of a search, from a query string or a form."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from django.utils.translation import gettext as _

from vitseek.web.problems import Problem

DEFAULT_K = 10
K_CHOICES = (5, 10, 20, 50)
K_LIMIT = 200
WHERE_LENGTH = 500
ID_LIMIT = 2**63 - 1  # SQLite's largest integer


@dataclass(frozen=True, kw_only=True)
class SearchParams:
    """A search's address: by an image of the gallery, by a held upload, or by nothing yet."""

    image: int | None = None
    query: str | None = None
    k: int = DEFAULT_K
    where: str = ""

    @classmethod
    def of(cls, data: Mapping[str, str]) -> "SearchParams":
        """Read and check the parameters.

        Raises
        ------
        Problem
            404 if the image's id is not a number, 422 if another parameter is out of range.
        """
        return cls(
            image=image_id(data["image"]) if data.get("image") else None,
            query=data.get("query") or None,
            k=_k(data.get("k") or str(DEFAULT_K)),
            where=_where(data.get("where") or ""),
        )

    @classmethod
    def lenient(cls, data: Mapping[str, str]) -> "SearchParams":
        """The parameters that can be understood, to fill the form again after a mistake."""
        k = data.get("k", "")
        return cls(
            query=data.get("query") or None,
            image=int(data["image"]) if _is_id(data.get("image", "")) else None,
            k=int(k) if _is_k(k) else DEFAULT_K,
            where=(data.get("where") or "")[:WHERE_LENGTH],
        )

    @property
    def has_query(self) -> bool:
        return self.image is not None or self.query is not None

    def address(self, **changes: object) -> str:
        """The query string of this search, with some parameters changed; only what differs from the default shows."""
        values = {"image": self.image, "query": self.query, "k": self.k, "where": self.where, **changes}
        if values["k"] == DEFAULT_K:
            values["k"] = None
        return "?" + urlencode({name: value for name, value in values.items() if value not in (None, "")})


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
