"""What a key table is: canonical (timm) name on the left, the checkpoint's name on the right.

``#`` stands for the block number, ``*`` for ``weight`` or ``bias``. Several names on the right are rows of one
matrix, stacked in that order (query, key, value). The tables themselves are in :mod:`vitseek.weights.families`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

Table = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class Naming:
    """How one family of checkpoints calls its parameters.

    Parameters
    ----------
    name
        What ``--naming`` and error messages call it.
    title
        Where such files come from.
    table
        Canonical name to name in the file.
    prefixes
        What may stand before every name of the backbone; the head has none.
    heads
        Like ``table``, for the classification heads, which carry no prefix.
    ignored
        Names that a search engine does not need, each with the reason that is told to the user.
    norm_eps
        The family's LayerNorm epsilon, for files that come without a config.
    pos_resize
        How the family's reference code resizes the position grid.
    """

    name: str
    title: str
    table: Table
    prefixes: tuple[str, ...] = ("",)
    heads: Table = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    norm_eps: float = 1e-6
    pos_resize: str = "bicubic"

    def place(self, pattern: "Pattern") -> tuple[str | None, int] | None:
        """Translate one foreign name, prefix already taken off.

        Returns
        -------
        ``(canonical name, part)``; ``(None, 0)`` for a name that is ignored; ``None`` for an unknown one.
        """
        place = self._places.get(pattern.template)
        if place is None or place[0] is None:
            return place
        return pattern.fill(place[0]), place[1]

    def parts(self, canonical: str) -> tuple[str, ...]:
        """The foreign names that make up a canonical one, without prefix; empty if the family has no such thing."""
        pattern = Pattern.of(canonical)
        templates = self.table.get(pattern.template) or self.heads.get(pattern.template) or ()
        return tuple(pattern.fill(one) for one in ((templates,) if isinstance(templates, str) else templates))

    @cached_property
    def _places(self) -> dict[str, tuple[str | None, int]]:
        places: dict[str, tuple[str | None, int]] = dict.fromkeys(self.ignored, (None, 0))
        for canonical, foreign in {**self.table, **self.heads}.items():
            for part, template in enumerate((foreign,) if isinstance(foreign, str) else foreign):
                places[template] = canonical, part
        return places


@dataclass(frozen=True)
class Pattern:
    """A name with its block number and its last word taken out: ``blocks.#.norm1.*`` for ``blocks.3.norm1.bias``."""

    template: str
    block: str = ""
    kind: str = ""

    @classmethod
    def of(cls, name: str) -> "Pattern":
        words = name.split(".")
        kind = words[-1] if words[-1] in ("weight", "bias") else ""
        if kind:
            words[-1] = "*"
        block = ""
        for position, word in enumerate(words):
            # Only plain decimals, so that no two names of a file can mean one block: 03 is not 3.
            if _DECIMAL.fullmatch(word):
                words[position], block = "#", word  # chunked blocks have two numbers; the second is the block's
        return cls(".".join(words), block, kind)

    def fill(self, template: str) -> str:
        """Put this name's block number and last word into another template."""
        head, _, tail = template.rpartition("#")
        filled = head.replace("#", "?") + (self.block if head else "") + tail
        return filled.replace("*", self.kind)


_DECIMAL = re.compile("0|[1-9][0-9]{0,3}", re.ASCII)


def respelled(table: Table, spelling: Iterable[tuple[str, str]]) -> Table:
    """A copy of a table in which some pieces of the foreign names are spelled otherwise."""

    def respell(template: str) -> str:
        for old, new in spelling:
            template = template.replace(old, new)
        return template

    return {
        left: respell(right) if isinstance(right, str) else tuple(respell(one) for one in right)
        for left, right in table.items()
    }
