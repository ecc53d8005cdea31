"""An image as the page and the API show it."""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from vitseek.gallery.records import ImageRecord, Prediction
from vitseek.search.query import MAX_TERMS, Expression, Term
from vitseek.web.params import SearchParams, joined
from vitseek.web.pictures import TALL, fitted_size
from vitseek.web.thumbnails import SIDES_PX

VERSION_LENGTH = 12
NO_SEARCH = SearchParams()
BARE_LABEL = re.compile(r"[\w-]+")
MORE, LESS = 1.0, -0.5  # a whole -1 for "less like this" would leave little of a query that is similar to it
SHOWN_PREDICTIONS = 5


@dataclass(frozen=True)
class Guess:
    """A predicted label with its probability, as people read it."""

    prediction: Prediction
    address: str

    @property
    def label(self) -> str:
        return self.prediction.label

    @property
    def percent(self) -> str:
        percent = 100 * self.prediction.probability
        if 99.5 <= percent < 100:
            return "> 99 %"  # no model is certain
        return f"{percent:.0f} %" if percent >= 1 else "< 1 %"

    @property
    def meter(self) -> str:
        return f"{self.prediction.probability:.3f}"


@dataclass(frozen=True, kw_only=True)
class Card:
    """An image as the page and the API show it; addressed by id, never by path."""

    record: ImageRecord
    rank: int | None = None
    score: float | None = None
    full_score: float = 1.0
    """The score whose bar is full: 1 for pictures; words and fused spaces have another scale."""
    params: SearchParams = NO_SEARCH
    """The search that the card is shown in: searching on from it keeps the number of results and the filter."""
    expression: Expression | None = None

    @property
    def id(self) -> int:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.relative_path.rpartition("/")[2]

    @property
    def version(self) -> str:
        """Names the content in addresses of pictures, so that browsers may keep them for good."""
        return (self.record.content_hash or "")[:VERSION_LENGTH]

    @property
    def thumbnail_size(self) -> tuple[int, int]:
        return fitted_size(self.record.width or 1, self.record.height or 1, SIDES_PX["thumbnail"])

    @property
    def preview_size(self) -> tuple[int, int]:
        return fitted_size(self.record.width or 1, self.record.height or 1, SIDES_PX["preview"])

    @property
    def portrait(self) -> bool:
        return (self.record.height or 1) > TALL * (self.record.width or 1)

    @property
    def shown_score(self) -> str:
        return "" if self.score is None else f"{self.score:.3f}".replace("-", "−")

    @property
    def meter(self) -> str:
        """The score as the length of a bar; what is unlike the query (a negative score) has none."""
        return f"{min(1.0, max(0.0, (self.score or 0.0) / self.full_score)):.3f}"

    @property
    def search_address(self) -> str:
        """The search for images like this one, by itself."""
        return self.params.asking(Expression((Term(MORE, "image", self.id),)))

    @property
    def details_address(self) -> str:
        """What the details need to offer the same ways on."""
        return self.params.address() if self.expression else ""

    @cached_property
    def more_address(self) -> str:
        """The same search, and like this one too; empty where it cannot be added."""
        return self._with(MORE)

    @cached_property
    def less_address(self) -> str:
        """The same search, but less like this one."""
        return self._with(LESS)

    def _with(self, weight: float) -> str:
        if self.expression is None:
            return ""
        own = [at for at, term in enumerate(self.expression.terms) if (term.kind, term.value) == ("image", self.id)]
        terms = list(self.expression.terms)
        if own:
            terms[own[0]] = replace(terms[own[0]], weight=weight)
        elif len(terms) < MAX_TERMS:
            terms.append(Term(weight, "image", self.id))
        if tuple(terms) == self.expression.terms:
            return ""
        return self.params.asking(joined(terms))

    @property
    def chips(self) -> list[tuple[str, str]]:
        """Each label, and the address of the same search among the images that carry it."""
        return [(label, self.params.address(where=label_filter(label))) for label in self.record.labels]

    @property
    def guesses(self) -> list[Guess]:
        """What models predicted, the most probable first."""
        shown = self.record.predictions[:SHOWN_PREDICTIONS]
        return [Guess(one, self.params.address(where=label_filter(one.label))) for one in shown]

    @property
    def guess(self) -> Guess | None:
        """The most probable prediction, unless it only repeats a label."""
        first = next(iter(self.guesses), None)
        return first if first and first.label not in self.record.labels else None

    @property
    def date(self) -> datetime:
        return self.record.date or self.record.modified


def label_filter(label: str) -> str:
    """The ``--where`` filter for images with exactly this label, whoever gave it."""
    if BARE_LABEL.fullmatch(label):
        return f"label={label}"
    quoted = label.replace("\\", "\\\\").replace('"', '\\"')
    return f'label="{quoted}"'
