"""Which of the gallery's spaces the page searches: one, or two that are weighed against each other."""

import shlex
from dataclasses import dataclass
from functools import cached_property

from vitseek.gallery.records import SpaceStatus
from vitseek.search.query import Expression
from vitseek.web.params import SearchParams
from vitseek.web.site import Site

WORDS_MODEL = "clip-vit-b32"


@dataclass(frozen=True)
class Pair:
    """Two spaces with a slider between them: at 0 only ``looks`` counts, at 1 only ``means``."""

    looks: SpaceStatus
    means: SpaceStatus

    @cached_property
    def by_nature(self) -> bool:
        """Whether one compares looks and the other meanings; otherwise the slider shows the spaces' names."""
        return self.means.words and not self.looks.words


def filled(site: Site) -> list[SpaceStatus]:
    """The spaces that hold vectors, the default one first."""
    return sorted((space for space in site.status().spaces if space.images), key=lambda space: not space.default)


def reads_words(site: Site) -> bool:
    """Whether the gallery can be searched by words."""
    return any(space.words for space in filled(site))


def pair_of(site: Site) -> Pair | None:
    """The two spaces that the slider weighs: the default one, and the first that differs in reading words."""
    spaces = filled(site)
    if len(spaces) < 2:
        return None
    first = spaces[0]
    other = next((space for space in spaces[1:] if space.words != first.words), spaces[1])
    return Pair(other, first) if first.words and not other.words else Pair(first, other)


def spaces_of_uploads(site: Site) -> list[int]:
    """Where the page may search an upload: it is embedded once in each, so that the slider moves at once."""
    pair = pair_of(site)
    return [pair.looks.id, pair.means.id] if pair else []


def usual(site: Site, expression: Expression) -> SpaceStatus | None:
    """The space that is searched unless something else is asked for: words need one that reads them."""
    spaces = filled(site)
    if expression.has_words:
        return next((space for space in spaces if space.words), spaces[0] if spaces else None)
    return spaces[0] if spaces else None


@dataclass(frozen=True)
class Slider:
    """Where the slider between two spaces stands for a search."""

    pair: Pair
    value: float
    words_only: bool
    """Words have no looks: the slider rests."""

    @property
    def shown(self) -> str:
        return f"{self.value:g}"


def slider_of(site: Site, params: SearchParams, expression: Expression) -> Slider | None:
    """None where there is nothing to choose, or the address names spaces itself."""
    pair = pair_of(site)
    if pair is None or params.space or params.also:
        return None
    words_only = pair.by_nature and all(term.kind == "text" for term in expression.active)
    space = usual(site, expression)
    at_rest = 1.0 if space is not None and space.id == pair.means.id else 0.0
    value = at_rest if params.balance is None or words_only else params.balance
    return Slider(pair, value, words_only)


def way_to_words(site: Site) -> str:
    """The command that adds a space which reads words, ready to be copied."""
    # Whoever is not at this machine need not know how its folders are called.
    gallery = shlex.quote(str(site.gallery.path)) if site.options.loopback else "GALLERY"
    return f"vitseek index {gallery} --model {WORDS_MODEL}"
