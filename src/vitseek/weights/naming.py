"""What a key table is: canonical (timm) name on the left, the checkpoint's name on the right.

``#`` stands for the block number, ``*`` for ``weight`` or ``bias``. Several names on the right are rows of one
matrix, stacked in that order (query, key, value). The tables themselves are in :mod:`vitseek.weights.families`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vitseek.weights.arrays import AnyArray

Table = Mapping[str, str | tuple[str, ...]]
Layout = Callable[[AnyArray], AnyArray]
Shapes = Mapping[str, tuple[int, ...]]


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
        Canonical name to name in the file. A name in the file may serve several canonical ones.
    prefixes
        What may stand before every name of the backbone; the head has none.
    heads
        Like ``table``, for what carries no prefix: classification heads, the text tower of a pair.
    layouts
        Canonical name to what brings its array into the canonical shape, where stacking is not enough.
    zeros
        Names that a file may lack beside its siblings; they stand for zeros (a key without a bias).
    told_by
        For a table whose names are those of another one: what tells by the shapes in the file whether it is this one.
    ignored
        Names that a search engine does not need, each with the reason that is told to the user; ``**`` at the end
        stands for anything.
    norm_eps
        The family's LayerNorm epsilon, for files that come without a config.
    pos_resize
        How the family's reference code resizes the position grid.
    assumed
        Further fields of the config that shapes cannot tell, as the family has them.
    assumed_text
        The same for the text tower.
    pictures
        How the family prepares pictures (``ImagePreprocessing``), for files that do not say it: all but the sizes.
    """

    name: str
    title: str
    table: Table
    prefixes: tuple[str, ...] = ("",)
    heads: Table = field(default_factory=dict)
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    zeros: frozenset[str] = frozenset()
    told_by: Callable[[Shapes], bool] | None = None
    ignored: Mapping[str, str] = field(default_factory=dict)
    norm_eps: float = 1e-6
    pos_resize: str = "bicubic"
    assumed: Mapping[str, Any] = field(default_factory=dict)
    assumed_text: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Any] = field(default_factory=dict)

    def places(self, pattern: "Pattern", *, head: bool = False) -> list[tuple[str, int]] | None:
        """Translate one foreign name.

        Parameters
        ----------
        head
            Look among the names that carry no prefix; else among the others, the prefix already taken off.

        Returns
        -------
        ``(canonical name, part)`` for each canonical name that it serves, none for a name that is ignored; ``None``
        for an unknown one.
        """
        known = self._head_places if head else self._places
        for template in pattern.templates:
            if template in known:
                return [(pattern.fill(canonical), part) for canonical, part in known[template]]
        return [] if self.reason(pattern) else None

    def reason(self, pattern: "Pattern") -> str | None:
        """Why a name is ignored; ``None`` if it is not."""
        for name, reason in self.ignored.items():
            whole = name.endswith("**") and pattern.template.startswith(name[:-2])
            if whole or name in pattern.templates:
                return reason
        return None

    def parts(self, canonical: str) -> tuple[str, ...]:
        """The foreign names that make up a canonical one, without prefix; empty if the family has no such thing."""
        pattern = Pattern.of(canonical)
        for template in pattern.templates:
            foreign = self.table.get(template) or self.heads.get(template)
            if foreign:
                return tuple(pattern.fill(one) for one in ((foreign,) if isinstance(foreign, str) else foreign))
        return ()

    def layout(self, canonical: str) -> Layout | None:
        """What brings the array of a canonical name into its shape; ``None`` where it has it already."""
        return next((self.layouts[one] for one in Pattern.of(canonical).templates if one in self.layouts), None)

    def may_lack(self, foreign: str) -> bool:
        """Whether a part of a stacked parameter stands for zeros when it is missing."""
        return any(template in self.zeros for template in Pattern.of(foreign).templates)

    @cached_property
    def _places(self) -> dict[str, list[tuple[str, int]]]:
        return _turned_round(self.table)

    @cached_property
    def _head_places(self) -> dict[str, list[tuple[str, int]]]:
        return _turned_round(self.heads)


def _turned_round(table: Table) -> dict[str, list[tuple[str, int]]]:
    places: dict[str, list[tuple[str, int]]] = {}
    for canonical, foreign in table.items():
        for part, template in enumerate((foreign,) if isinstance(foreign, str) else foreign):
            places.setdefault(template, []).append((canonical, part))
    return places


@dataclass(frozen=True)
class Pattern:
    """A name with its numbers and its last word taken out: ``blocks.#.norm1.*`` for ``blocks.3.norm1.bias``.

    ``numbered`` still has the numbers: ``blocks.3.norm1.*``.
    """

    template: str
    numbered: str
    numbers: tuple[str, ...] = ()
    kind: str = ""

    @classmethod
    def of(cls, name: str) -> "Pattern":
        words = name.split(".")
        kind = words[-1] if words[-1] in ("weight", "bias") else ""
        if kind:
            words[-1] = "*"
        numbered = ".".join(words)
        numbers = []
        for position, word in enumerate(words):
            # Only plain decimals, so that no two names of a file can mean one block: 03 is not 3.
            if _DECIMAL.fullmatch(word):
                words[position] = "#"
                numbers.append(word)
        return cls(".".join(words), numbered, tuple(numbers), kind)

    @cached_property
    def templates(self) -> tuple[str, ...]:
        """How a table may write this name: with ``*`` for its last word or the word itself, ``#`` or the numbers."""
        written = (self.template,) if self.template == self.numbered else (self.numbered, self.template)
        return (*written, *(one[:-1] + self.kind for one in written)) if self.kind else written

    def without(self, prefix: str) -> "Pattern":
        """The same name with a prefix taken off."""
        if not prefix:
            return self
        bare, numbered = (one.removeprefix(prefix) for one in (self.template, self.numbered))
        return Pattern(bare, numbered, self.numbers, self.kind)

    def fill(self, template: str) -> str:
        """Put this name's numbers and last word into another template.

        Numbers are filled in from the right: chunked blocks have two of them, and the second is the block's.
        """
        pieces = template.split("#")
        numbers = ("?",) * (len(pieces) - 1 - len(self.numbers)) + self.numbers
        numbers = numbers[len(numbers) - (len(pieces) - 1) :]
        filled = "".join(piece + number for piece, number in zip(pieces, (*numbers, ""), strict=True))
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
