"""CLIP's byte-pair encoding: text to tokens, and merges learned from captions.

Paper: "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al., 2021). Its tokenizer is
GPT-2's (Sennrich et al., 2016, on bytes) in lower case, with ``</w>`` at the end of a word. A vocabulary is: the 256
bytes as visible characters, the same with ``</w>``, one token for each merge, ``<|startoftext|>``, ``<|endoftext|>``.

OpenAI's own merges can be read from ``bpe_simple_vocab_16e6.txt(.gz)`` or a Hugging Face ``tokenizer.json``; both give
the token numbers of the published models.
"""

import gzip
import html
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex

from vitseek.errors import TrainingError, UsageError

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
PATTERN = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)
OPENAI_MERGES = 49_152 - 256 - 2  # what the published file's first lines are cut to
BASE_TOKENS = 2 * 256
LIMIT_BYTES = 50_000_000  # of a merges file

Pair = tuple[str, str]


@lru_cache(maxsize=1)
def byte_characters() -> dict[int, str]:
    """A visible character for each byte, GPT-2's choice: printable Latin-1 stays, the others start at U+0100."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {**{b: chr(b) for b in visible}, **{b: chr(256 + number) for number, b in enumerate(hidden)}}


def clean(text: str) -> str:
    """Lower case, one space between words, HTML entities read twice, composed characters: as CLIP cleans."""
    text = html.unescape(html.unescape(unicodedata.normalize("NFC", text)))
    return " ".join(text.split()).lower()


class Tokenizer:
    """Text to token numbers and back.

    Parameters
    ----------
    merges
        Pairs of symbols, the most important first.
    """

    def __init__(self, merges: Sequence[Pair]) -> None:
        self.merges = tuple(merges)
        characters = list(byte_characters().values())
        tokens = [
            *characters,
            *(c + WORD_END for c in characters),
            *("".join(pair) for pair in self.merges),
            START,
            END,
        ]
        self.tokens = tuple(tokens)
        self.numbers = {token: number for number, token in enumerate(tokens)}
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._words: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def start(self) -> int:
        """Number of ``<|startoftext|>``."""
        return len(self.tokens) - 2

    @property
    def end(self) -> int:
        """Number of ``<|endoftext|>``: the largest there is."""
        return len(self.tokens) - 1

    def encode(self, text: str) -> list[int]:
        """Numbers of a text's tokens, without start and end; the words ``<|…|>`` in a text are plain letters."""
        numbers: list[int] = []
        for word in PATTERN.findall(clean(text)):
            if word in (START, END):  # a caption must not be able to end itself
                for part in regex.findall(r"\w+|[^\w\s]+", word):
                    numbers += self._word(part)
            else:
                numbers += self._word(word)
        return numbers

    def __call__(self, texts: Sequence[str], context: int) -> list[list[int]]:
        """Rows of ``context`` numbers: start, text, end, zeros; a longer text is cut, its end token kept."""
        if context < 3:
            raise UsageError(f"--context {context} has no room for a word between start and end; use 3 or more")
        rows = []
        for text in texts:
            row = [self.start, *self.encode(text)[: context - 2], self.end]
            rows.append(row + [0] * (context - len(row)))
        return rows

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of token numbers; start and end are left out."""
        byte_of = {character: byte for byte, character in byte_characters().items()}
        text = "".join(self.tokens[number] for number in numbers if number not in (self.start, self.end))
        pieces = text.split(WORD_END)
        words = [bytes(byte_of[c] for c in piece).decode("utf-8", "replace") for piece in pieces]
        return " ".join(words).strip()

    def _word(self, word: str) -> tuple[int, ...]:
        if word not in self._words:
            symbols = _symbols(word)
            while len(symbols) > 1:
                pairs = list(pairwise(symbols))
                best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
                if best not in self.ranks:
                    break
                symbols = _merged(symbols, best)
            self._words[word] = tuple(self.numbers[symbol] for symbol in symbols)
        return self._words[word]

    @cached_property
    def document(self) -> dict[str, Any]:
        """A Hugging Face ``tokenizer.json`` that gives the same numbers."""
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                    "normalized": token == START, "special": True,
                }
                for number, token in ((self.start, START), (self.end, END))
            ],
            "normalizer": {
                "type": "Sequence",
                "normalizers": [
                    {"type": "NFC"},
                    {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
                    {"type": "Lowercase"},
                ],
            },
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {
                        "type": "Split", "behavior": "Removed", "invert": True,
                        "pattern": {"Regex": "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"},
                    },
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                ],
            },
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {
                "type": "BPE", "dropout": None, "unk_token": END, "continuing_subword_prefix": "",
                "end_of_word_suffix": WORD_END, "fuse_unk": False, "byte_fallback": False,
                "vocab": self.numbers, "merges": [" ".join(pair) for pair in self.merges],
            },
        }  # fmt: skip

    def save(self, path: Path) -> None:
        """Write ``tokenizer.json``."""
        path.write_text(json.dumps(self.document, ensure_ascii=False), encoding="utf-8")


def learn(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn merges from texts: again and again the most frequent pair of neighbours becomes a token.

    Learning stops early when no pair occurs twice. Equal counts are settled by the pair itself, so that the same texts
    give the same tokenizer.

    Raises
    ------
    UsageError
        If the vocabulary has no room for the bytes.
    """
    if vocabulary < BASE_TOKENS + 2:
        raise UsageError(f"--vocabulary {vocabulary} is too small: bytes, start and end take {BASE_TOKENS + 2} tokens")
    counts = Counter(word for text in texts for word in PATTERN.findall(clean(text)))
    words = [(_symbols(word), count) for word, count in counts.items()]
    pairs: Counter[Pair] = Counter()
    places: dict[Pair, set[int]] = {}
    for number, (symbols, count) in enumerate(words):
        for pair in pairwise(symbols):
            pairs[pair] += count
            places.setdefault(pair, set()).add(number)
    merges: list[Pair] = []
    while len(merges) < vocabulary - BASE_TOKENS - 2 and pairs:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < 2:
            break
        merges.append(best)
        for number in places.pop(best):
            symbols, count = words[number]
            for pair in pairwise(symbols):
                pairs[pair] -= count
            symbols = _merged(symbols, best)
            words[number] = (symbols, count)
            for pair in pairwise(symbols):
                pairs[pair] += count
                places.setdefault(pair, set()).add(number)
        del pairs[best]
        pairs += Counter()  # forget what no longer occurs
    return Tokenizer(merges)


def read(path: Path) -> Tokenizer:
    """Read OpenAI's merges file (``.txt`` or ``.txt.gz``) or a ``tokenizer.json`` of a CLIP model.

    Raises
    ------
    UsageError
        If there is no such file.
    TrainingError
        If it is neither.
    """
    if not path.is_file():
        raise UsageError(f"no tokenizer at {path}: give bpe_simple_vocab_16e6.txt.gz or a tokenizer.json")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            text = file.read(LIMIT_BYTES).decode("utf-8")
        if text.lstrip().startswith("{"):
            return _from_document(json.loads(text), path)
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise TrainingError(f"{path} is no merges file and no tokenizer.json: {error}") from error
    lines = text.split("\n")[1 : OPENAI_MERGES + 1]  # the first line names the version
    pairs = [tuple(line.split()) for line in lines if line.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise TrainingError(f"{path} is no merges file: a line has not two symbols")
    return Tokenizer([(a, b) for a, b in pairs])


def _from_document(document: dict[str, Any], path: Path) -> Tokenizer:
    model = document.get("model", {})
    if model.get("type") != "BPE" or model.get("end_of_word_suffix") != WORD_END:
        raise TrainingError(f"{path} is the tokenizer of another kind of model: CLIP's is byte-pair with {WORD_END!r}")
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer([(a, b) for a, b in merges])
    known = model["vocab"]
    if wrong := [
        token for token in (START, END, *tokenizer.tokens[:3]) if known.get(token) != tokenizer.numbers[token]
    ]:
        raise TrainingError(f"{path} numbers its tokens in another order than CLIP: {wrong[0]!r} differs")
    return tokenizer


def _symbols(word: str) -> tuple[str, ...]:
    characters = [byte_characters()[byte] for byte in word.encode("utf-8")]
    return (*characters[:-1], characters[-1] + WORD_END)


def _merged(symbols: tuple[str, ...], pair: Pair) -> tuple[str, ...]:
    """The symbols with every occurrence of the pair joined, from the left."""
    out: list[str] = []
    index = 0
    while index < len(symbols):
        if symbols[index : index + 2] == pair:
            out.append("".join(pair))
            index += 2
        else:
            out.append(symbols[index])
            index += 1
    return tuple(out)
