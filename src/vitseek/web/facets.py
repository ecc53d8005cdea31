"""The gallery's labels with their counts, as ways to narrow a search."""

from collections import Counter
from dataclasses import dataclass

from vitseek.web.cards import label_filter
from vitseek.web.params import SearchParams
from vitseek.web.site import Site

SHOWN = 12


@dataclass(frozen=True)
class Facet:
    """A label, how many images of the gallery carry it, and the address that keeps to them (or no longer does)."""

    label: str
    count: int
    address: str
    active: bool
    predicted: bool
    """Only models gave it."""

    @property
    def number(self) -> str:
        return f"{self.count:,}"


def facets(site: Site, params: SearchParams) -> list[Facet]:
    """The most frequent labels. An image that both a person and a model labelled so counts once at least."""
    counts: Counter[str] = Counter(site.status().labels)
    given = set(counts)
    for labels in site.status().labels_by_source.values():
        for label, count in labels.items():
            counts[label] = max(counts[label], count)
    found = []
    for label, count in sorted(counts.most_common(SHOWN), key=lambda entry: (-entry[1], entry[0])):
        active = params.where == label_filter(label)
        address = params.address(where="" if active else label_filter(label))
        found.append(Facet(label, count, address, active, label not in given))
    return found
