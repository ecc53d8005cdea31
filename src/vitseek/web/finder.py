"""Searches for the page and the API: from checked parameters to cards that can be shown."""

import re
import time
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from vitseek.gallery.records import ImageId, ImageRecord
from vitseek.search.results import Match
from vitseek.web.held import HeldQuery
from vitseek.web.params import SearchParams
from vitseek.web.pictures import TALL, fitted_size
from vitseek.web.problems import Problem
from vitseek.web.site import Site
from vitseek.web.thumbnails import SIDES_PX

VERSION_LENGTH = 12
SAMPLES = 20
NO_SEARCH = SearchParams()
BARE_LABEL = re.compile(r"[\w-]+")
GOLDEN = 0.6180339887498949  # steps by the golden ratio never fall on the same images twice in a row


@dataclass(frozen=True, kw_only=True)
class Card:
    """An image as the page and the API show it; addressed by id, never by path."""

    record: ImageRecord
    rank: int | None = None
    score: float | None = None
    params: SearchParams = NO_SEARCH
    """The search that the card is shown in: searching on from it keeps the number of results and the filter."""

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
        return "" if self.score is None else f"{self.score:.3f}"

    @property
    def meter(self) -> str:
        """The score as the length of a bar; opposite images (a negative cosine) have none."""
        return f"{min(1.0, max(0.0, self.score or 0.0)):.3f}"

    @property
    def search_address(self) -> str:
        return self.params.address(image=self.id, query=None)

    @property
    def chips(self) -> list[tuple[str, str]]:
        """Each label, and the address of the same search among the images that carry it."""
        return [(label, self.params.address(where=label_filter(label))) for label in self.record.labels]

    @property
    def date(self) -> datetime:
        return self.record.date or self.record.modified


@dataclass(frozen=True, kw_only=True)
class Found:
    """The answer to a search."""

    cards: list[Card]
    search_s: float
    image: Card | None = None
    held: HeldQuery | None = None

    @property
    def seconds(self) -> str:
        return f"{self.search_s + (self.held.embed_s if self.held else 0.0):.2f}"


def find(site: Site, params: SearchParams, *, exclude_query: bool, held: HeldQuery | None = None) -> Found:
    """Search by an image of the gallery, by an upload that is at hand, or by one that is held for the page.

    Raises
    ------
    Problem
        410 if the upload is not held any more.
    VitseekError
        Whatever the gallery refuses: an unknown id, a filter that does not parse.
    """
    where = params.where or None
    if params.image is not None:
        image = Card(record=site.gallery.image(params.image))
        start = time.perf_counter()
        matches = site.gallery.search(ImageId(params.image), k=params.k, where=where, exclude_query=exclude_query)
        return Found(cards=_cards(site, matches, params), search_s=time.perf_counter() - start, image=image)
    held = held or site.held.get(params.query or "")
    if held is None:
        raise Problem(410, _("The picture of this search is not held any more. Choose it again."))
    start = time.perf_counter()
    matches = site.gallery.search(held.vector, k=params.k, where=where)
    return Found(cards=_cards(site, matches, params), search_s=time.perf_counter() - start, held=held)


def _cards(site: Site, matches: list[Match], params: SearchParams) -> list[Card]:
    return [
        Card(record=site.gallery.image(match.id), rank=rank, score=match.score, params=params)
        for rank, match in enumerate(matches, start=1)
    ]


def label_filter(label: str) -> str:
    """The ``--where`` filter for images with exactly this label."""
    if BARE_LABEL.fullmatch(label):
        return f"label={label}"
    quoted = label.replace("\\", "\\\\").replace('"', '\\"')
    return f'label="{quoted}"'


def samples(site: Site, turn: int) -> list[Card]:
    """A few images from all over the gallery; another ``turn`` gives others."""
    ids, _matrix = site.gallery.vectors()
    count = min(SAMPLES, len(ids))
    first = (turn * GOLDEN) % 1.0 if count < len(ids) else 0.0
    chosen = sorted({int((number + first) * len(ids) / count) for number in range(count)})
    records = [site.gallery.image(int(ids[row])) for row in chosen]
    return [Card(record=record) for record in records if record.status == "ok"]
