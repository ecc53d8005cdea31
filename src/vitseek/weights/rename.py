"""Find out whose names a file uses, and give every array its canonical name."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vitseek.errors import UsageError, WeightsKeyError
from vitseek.weights.families import NAMINGS
from vitseek.weights.naming import Naming, Pattern, Shapes

SHOWN_KEYS = 5


@dataclass
class Renamed:
    """The names of a file, sorted into what they mean."""

    naming: Naming
    prefix: str
    sources: dict[
        str, tuple[str | None, ...]
    ]  # canonical name -> names in the file, stacked in this order; None: zeros
    extra: list[str] = field(default_factory=list)  # names that the table does not know
    incomplete: dict[str, list[str]] = field(default_factory=dict)  # canonical name -> parts that are not there
    partial: dict[str, list[str]] = field(default_factory=dict)  # the same canonical names -> parts that are
    ignored: dict[str, str] = field(default_factory=dict)  # name -> reason

    def foreign(self, canonical: str) -> str:
        """What the file calls or would call a canonical name, for messages; of a split one, the parts not there."""
        if canonical in self.incomplete:
            return ", ".join(self.incomplete[canonical])
        parts = self.naming.parts(canonical)
        if canonical in self.sources:
            return " + ".join(filter(None, self.sources[canonical]))
        bare = any(template in self.naming.heads for template in Pattern.of(canonical).templates)
        return " + ".join(("" if bare else self.prefix) + part for part in parts) or canonical


def rename(shapes: Shapes, *, naming: str | None = None, where: str = "the file") -> Renamed:
    """Translate all names of a file at once.

    Parameters
    ----------
    shapes
        Names and shapes in the file.
    naming
        One of `NAMINGS`; by default the table that explains most of the names.
    where
        The file, for messages.

    Raises
    ------
    WeightsKeyError
        If no table explains the names.
    UsageError
        If ``naming`` is unknown.
    """
    if naming is not None and naming not in NAMINGS:
        raise UsageError(f"no naming called {naming!r}; the known ones: {', '.join(NAMINGS)}.")
    candidates = [NAMINGS[naming]] if naming else [one for one in NAMINGS.values() if _may_be(one, shapes)]
    names = {name: Pattern.of(name) for name in shapes}
    best = _explained_best(candidates, names)
    if not any("blocks." in name and not name.startswith("text.") for name in best.sources):
        if any(name.startswith("text.blocks.") for name in best.sources):
            raise WeightsKeyError(
                f"{where} holds a text tower alone ({best.naming.title}). vitseek reads it together with its image "
                "tower: take the checkpoint of the whole model (CLIPModel, SiglipModel)."
            )
        known = "; ".join(f"{one.name} ({one.title})" for one in candidates)
        first = ", ".join(list(shapes)[:SHOWN_KEYS]) or "none at all"
        raise WeightsKeyError(
            f"{where} holds no Vision Transformer that vitseek knows: its names ({first}, …) fit none of: {known}."
        )
    return best


def _explained_best(candidates: Iterable[Naming], names: Mapping[str, Pattern]) -> Renamed:
    """The table and prefix that leave the fewest names over; of equals one told by the shapes, or the first."""
    best: Renamed | None = None
    left_over = math.inf
    for naming in candidates:
        for prefix in naming.prefixes:
            attempt = _apply(naming, prefix, names, at_most=left_over)
            if attempt is None:
                continue
            came = len(attempt.extra) + len(attempt.incomplete)
            told = bool(naming.told_by) and best is not None and not best.naming.told_by
            if best is None or came < left_over or (came == left_over and told):
                best, left_over = attempt, came
    assert best is not None  # the first attempt may leave over all names
    return best


def _apply(naming: Naming, prefix: str, names: Mapping[str, Pattern], *, at_most: float) -> Renamed | None:
    """Translate all names by one table; None as soon as more than ``at_most`` are left over."""
    found: dict[str, dict[int, str]] = {}
    extra: list[str] = []
    ignored: dict[str, str] = {}
    for name, pattern in names.items():
        if len(extra) > at_most:
            return None
        bare, places = pattern, None
        if name.startswith(prefix):
            bare = pattern.without(prefix)
            places = naming.places(bare)
        if places is None:
            bare = pattern
            places = naming.places(pattern, head=True)
        if places is None:
            extra.append(name)
        elif not places:
            ignored[name] = naming.reason(bare) or ""
        for canonical, part in places or ():
            if part in found.setdefault(canonical, {}):
                extra.append(name)  # a second name for the same thing: two chunks with one block
            else:
                found[canonical][part] = name
    sources: dict[str, tuple[str | None, ...]] = {}
    incomplete: dict[str, list[str]] = {}
    partial: dict[str, list[str]] = {}
    for canonical, parts in found.items():
        whole = naming.parts(canonical)
        missing = [prefix + one for part, one in enumerate(whole) if part not in parts]
        if not whole:  # a name that imitates a table's own marks, # and *
            extra.extend(parts.values())
        elif all(naming.may_lack(one.removeprefix(prefix)) for one in missing):
            sources[canonical] = tuple(parts.get(part) for part in range(len(whole)))
        else:
            incomplete[canonical] = missing
            partial[canonical] = list(parts.values())
    return Renamed(naming, prefix, sources, extra, incomplete, partial, ignored)


def _may_be(naming: Naming, shapes: Shapes) -> bool:
    return naming.told_by is None or naming.told_by(shapes)
