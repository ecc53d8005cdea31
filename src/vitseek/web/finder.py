"""Searches for the page and the API: from checked parameters to cards that can be shown."""

import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import cast

from vitseek.errors import ImageNotFoundError
from vitseek.gallery.queries import fetch_addresses
from vitseek.gallery.searching import SearchKeywords
from vitseek.search.fusion import Fusion
from vitseek.search.query import Expression
from vitseek.search.results import Match
from vitseek.web.asking import Asked
from vitseek.web.cards import Card
from vitseek.web.held import HeldQuery
from vitseek.web.params import SearchParams
from vitseek.web.site import Site
from vitseek.web.spaces import Slider, slider_of

SAMPLES = 20
SHORT_S = 0.1
SPACE_WITHOUT_WORDS = "knows pictures only"  # of the gallery's sentences on where words are searched
DEADLINE_S = 20.0  # for all pictures that one query names by address
GOLDEN = 0.6180339887498949  # steps by the golden ratio never fall on the same images twice in a row


@dataclass(frozen=True, kw_only=True)
class Found:
    """The answer to a search."""

    asked: Asked
    cards: list[Card]
    search_s: float
    notes: tuple[str, ...] = ()
    slider: Slider | None = None
    spaces: tuple[str, ...] = ()
    """The space that was searched, by name, or the two."""

    @property
    def image(self) -> Card | None:
        """The gallery's image that was searched with, if that was all."""
        return self.asked.picture.card if self.asked.picture else None

    @property
    def held(self) -> HeldQuery | None:
        return self.asked.picture.held if self.asked.picture else None

    @property
    def fused(self) -> bool:
        return len(self.spaces) > 1

    @property
    def time(self) -> str:
        """How long it took, with its unit; a picture's part was spent when it came."""
        seconds = self.search_s + sum(part.held.embed_s for part in self.asked.parts if part.held)
        return f"{seconds:.2f} s" if seconds >= SHORT_S else f"{max(1.0, 1000 * seconds):.0f} ms"

    @property
    def remarks(self) -> list[str]:
        """The notes that the page does not show in its own way: the slider tells which space has no words."""
        return [note for note in self.notes if SPACE_WITHOUT_WORDS not in note]


def find(site: Site, asked: Asked, *, exclude_query: bool) -> Found:
    """Search.

    Words are read by a model, and addresses give pictures to embed: that goes through the same door as uploads.

    Raises
    ------
    BusyError
        If too many are at it.
    VitseekError
        Whatever the gallery refuses: an unknown id, a filter that does not parse.
    """
    params, expression = asked.params, asked.searched
    slider = slider_of(site, params, asked.expression)
    addresses = sum(term.kind == "address" for term in expression.active)
    notes: list[str] = []
    options: SearchKeywords = {
        **_spaces(params, slider),
        "k": params.k,
        "where": params.where or None,
        "exclude_query": exclude_query,
        "addresses": "public" if site.options.allow_addresses else "none",
        "files": False,
        "report": notes.append,
    }
    searched = site.gallery.spaces_of(expression, **options)
    with site.embedding.enter() if expression.has_words or addresses else nullcontext():
        start = time.perf_counter()
        if addresses:  # held to what uploads are held to; together they take no longer than one
            expression = fetch_addresses(
                expression,
                options["addresses"],
                limit_bytes=site.options.upload_limit_bytes,
                limit_pixels=site.options.limit_pixels,
                deadline_s=DEADLINE_S / addresses,
            )
        matches = site.gallery.search(expression, **options)
        search_s = time.perf_counter() - start
    fused = len(searched) > 1
    top = matches[0].score if matches and (fused or asked.has_words or len(asked.parts) > 1) else 1.0
    return Found(
        asked=asked,
        cards=_cards(site, matches, params, asked.expression, top if top > 0 else 1.0),
        search_s=search_s,
        notes=tuple(notes),
        slider=slider,
        spaces=tuple(space.name for space in searched),
    )


def _spaces(params: SearchParams, slider: Slider | None) -> SearchKeywords:
    """The gallery's arguments: the spaces that the address names, or those of the slider if it was moved."""
    wanted = SearchKeywords()
    if params.fusion:
        wanted["fusion"] = cast("Fusion", params.fusion)
    if slider is not None and params.balance is not None and not slider.words_only:
        pair = slider.pair
        wanted["space"], wanted["also"], wanted["balance"] = pair.looks.id, pair.means.id, slider.value
        return wanted
    if params.space:
        wanted["space"] = params.space
    if params.also:
        wanted["also"] = params.also
        if params.balance is not None:
            wanted["balance"] = params.balance
    return wanted


def _cards(
    site: Site, matches: list[Match], params: SearchParams, expression: Expression, full_score: float
) -> list[Card]:
    cards = []
    for rank, match in enumerate(matches, start=1):
        with suppress(ImageNotFoundError):  # deleted by another process a moment ago
            cards.append(
                Card(
                    record=site.gallery.image(match.id),
                    rank=rank,
                    score=match.score,
                    full_score=full_score,
                    params=params,
                    expression=expression,
                )
            )
    return cards


def samples(site: Site, turn: int) -> list[Card]:
    """A few images from all over the gallery; another ``turn`` gives others."""
    ids, _matrix = site.gallery.vectors()
    count = min(SAMPLES, len(ids))
    first = (turn * GOLDEN) % 1.0 if count < len(ids) else 0.0
    chosen = sorted({int((number + first) * len(ids) / count) for number in range(count)})
    records = [site.gallery.image(int(ids[row])) for row in chosen]
    return [Card(record=record) for record in records if record.status == "ok"]
