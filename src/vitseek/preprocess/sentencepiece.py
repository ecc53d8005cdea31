"""SigLIP's way from text to pieces, equal to transformers' ``SiglipTokenizer``, which calls sentencepiece.

The steps: cut at special tokens; clean each stretch as SigLIP's captions were (big_vision's ``canonicalize_text``); map
characters as the vocabulary's own table says (NFKC and more); take the most probable pieces. Pieces and table come from
``tokenizer.json``; its other steps differ between files and are done here.

The table is read here because the `tokenizers` library applies it grapheme by grapheme, sentencepiece to the longest
match from each place: they differ on combining marks.
"""

from __future__ import annotations

import base64
import json
import re
import string
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tokenizers

SPACE = "▁"  # sentencepiece's visible space
REPLACEMENT = "\ufffd"

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Sentencepiece:
    """Turns text into numbers of pieces; made from a `tokenizers` tokenizer whose model is Unigram."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._model = backend.model
        self._map = CharacterMap.of(backend)
        self._special = {token.content: number for number, token in backend.get_added_tokens_decoder().items()}
        longest_first = "|".join(re.escape(token) for token in sorted(self._special, key=len, reverse=True))
        self._split = re.compile(rf"\s*({longest_first})\s*")  # special tokens take the spaces around them with them

    def content(self, text: str) -> list[int]:
        """Return the numbers of a text's pieces, without the end token."""
        numbers: list[int] = []
        # transformers puts a visible space in front of the first word, as sentencepiece itself would
        for place, stretch in enumerate(self._split.split(SPACE + text.replace(SPACE, " "))):
            if place % 2:
                numbers.append(self._special[stretch])
            elif ready := self._normalised(canonical(stretch)):
                numbers += [piece.id for piece in self._model.tokenize(ready)]
        return numbers

    def _normalised(self, text: str) -> str:
        return re.sub(" +", " ", self._map(text)).replace(" ", SPACE).rstrip(SPACE)


def canonical(text: str) -> str:
    """Lower case, without ASCII punctuation, with single spaces: how SigLIP's captions were cleaned."""
    return re.sub(r"\s+", " ", text.lower().translate(_NO_PUNCTUATION)).strip()


class CharacterMap:
    """Sentencepiece's ``precompiled_charsmap``: from each place, the longest known run of bytes becomes another.

    Parameters
    ----------
    table
        Number of bytes of a double-array trie, the trie (units of four bytes, little-endian), then the replacements,
        each ended by a zero byte. An empty table changes nothing.

    Raises
    ------
    ValueError
        If the table contradicts its own header.

    Source: ``Normalizer::NormalizePrefix`` of google/sentencepiece, and the unit of s-yata/darts-clone.
    """

    def __init__(self, table: bytes) -> None:
        size = int.from_bytes(table[:4], "little")
        if table and (len(table) < 8 or size % 4 or not 4 <= size <= len(table) - 4):
            raise ValueError("the character map of the tokenizer is cut off")
        self._units: list[int] = np.frombuffer(table[4 : 4 + size], dtype="<u4").tolist()
        self._replacements = table[4 + size :]

    @classmethod
    def of(cls, backend: tokenizers.Tokenizer) -> CharacterMap:
        """Find the table among the tokenizer's normalizers; an empty one if there is none."""
        steps: list[dict[str, Any]] = []
        if backend.normalizer is not None:
            steps.append(json.loads(backend.normalizer.__getstate__()))
        while steps:
            step = steps.pop()
            if step["type"] == "Precompiled":
                return cls(base64.b64decode(step["precompiled_charsmap"] or ""))
            steps += step.get("normalizers", [])
        return cls(b"")

    def __call__(self, text: str) -> str:
        if not self._units:
            return text
        data = text.encode()
        out: list[bytes] = []
        place = 0
        while place < len(data):
            length, replacement = self._longest(data, place)
            if not length:
                length = _character_length(data[place])
                replacement = data[place : place + length]
            out.append(replacement)
            place += length
        return b"".join(out).decode(errors="replace")

    def _longest(self, data: bytes, start: int) -> tuple[int, bytes]:
        """The length of the longest known run from ``start``, 0 for none, and what it becomes."""
        units, found, value = self._units, 0, 0
        node = _offset(units[0])
        for place in range(start, len(data)):
            node ^= data[place]
            if node >= len(units) or units[node] & 0x800000FF != data[place]:  # another node's, or a leaf
                break
            unit = units[node]
            node ^= _offset(unit)
            if unit & 0x100 and node < len(units):  # a run may end here
                found, value = place + 1 - start, units[node] & 0x7FFFFFFF
        end = self._replacements.find(b"\0", value)
        return found, self._replacements[value:end] if end >= 0 else REPLACEMENT.encode()


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 0x200) >> 6)


def _character_length(first: int) -> int:
    return 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
