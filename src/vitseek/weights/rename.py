"""Find out whose names a file uses, and give every array its canonical name."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitseek.errors import UsageError, WeightsKeyError
from vitseek.weights.families import NAMINGS
from vitseek.weights.families.timm import SWIGLU, TIMM
from vitseek.weights.naming import Naming, Pattern

Shapes = Mapping[str, tuple[int, ...]]

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
    candidates = [NAMINGS[naming]] if naming else list(NAMINGS.values())
    names = {name: Pattern.of(name) for name in shapes}
    attempts = [_apply(one, prefix, names) for one in candidates for prefix in one.prefixes]
    best = max(attempts, key=lambda attempt: len(shapes) - len(attempt.extra) - len(attempt.incomplete))
    if not naming and best.naming is TIMM and _is_packed_swiglu(shapes):
        best = _apply(SWIGLU, best.prefix, names)
    if not any(name.startswith("blocks.") for name in best.sources):
        known = "; ".join(f"{one.name} ({one.title})" for one in candidates)
        first = ", ".join(list(shapes)[:SHOWN_KEYS]) or "none at all"
        raise WeightsKeyError(
            f"{where} holds no Vision Transformer that vitseek knows: its names ({first}, …) fit none of: {known}."
        )
    return best


def _apply(naming: Naming, prefix: str, names: Mapping[str, Pattern]) -> Renamed:
    found: dict[str, dict[int, str]] = {}
    extra: list[str] = []
    ignored: dict[str, str] = {}
    for name, pattern in names.items():
        bare = pattern.without(prefix)
        places = naming.places(bare) if name.startswith(prefix) else None
        if places is None:
            bare = pattern
            places = naming.places(pattern, heads_only=True)
        if places is None:
            extra.append(name)
        elif not places:
            ignored[name] = naming.reason(bare)
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


def _is_packed_swiglu(shapes: Shapes) -> bool:
    """A packed fc1 has twice as many outputs as fc2 has inputs; a plain one just as many."""
    first, second = shapes.get("blocks.0.mlp.fc1.weight", ()), shapes.get("blocks.0.mlp.fc2.weight", ())
    return len(first) == 2 and len(second) == 2 and first[0] == 2 * second[1] > 0
