"""Text to token numbers, as the model was trained with: the checkpoint's own tokenizer file, through `tokenizers`.

Three kinds are known to work, all checked against transformers (``python -m tests.parity.tokenizers``): CLIP's
byte-pair encoding, sentencepiece (SigLIP; Gemma's for SigLIP 2), and BERT's word pieces (Chinese-CLIP), the last also
from a plain ``vocab.txt``.

What the file says about start, end, padding and truncation is not used: the model's :class:`TextConfig` knows, and the
files of one family differ there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import EmptyTextError, TokenizerError
from vitseek.models.text import TextConfig
from vitseek.preprocess.sentencepiece import Sentencepiece

if TYPE_CHECKING:
    import tokenizers

Ids = NDArray[np.int64]
Report = Callable[[str], None]

LIMIT_BYTES = 200_000_000  # Gemma's file, the largest of a supported model, has 34 MB
LIMIT_CHARACTERS = 100_000  # of a text: a hundred times what any text tower reads
UNUSED_ROWS = 512  # embeddings beyond the tokenizer's vocabulary: some models round the table's size up
SHOWN = 40  # characters of a text in a message
NO_CHARACTER = "\U0010fffd"  # for private use, in no vocabulary
WAY_OUT = (
    "Put the tokenizer.json of the model's own repository beside its weights (`vitseek models pull NAME` fetches both)"
)


class Tokenizer:
    """A tokenizer that fits its model; made by :meth:`from_file`. May be called from several threads."""

    def __init__(self, backend: tokenizers.Tokenizer, config: TextConfig) -> None:
        self.config = config
        self._backend = backend
        self._unknown = _unknown_id(backend, config)
        self._sentencepiece = Sentencepiece(backend) if config.cleaning == "canonical" else None
        if config.cleaning == "lower":
            _lower_first(backend)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, config: TextConfig) -> Tokenizer:
        """Read a ``tokenizer.json``, or BERT's ``vocab.txt``, and check that it belongs to the model.

        Raises
        ------
        TokenizerError
            If there is no such file, it is damaged, or it belongs to another model.
        """
        file = Path(path)
        backend = _read(file)
        _check(file, backend, config)
        try:
            return cls(backend, config)
        except BaseException as error:
            raise _translated(error, _damaged(file)) from error

    def __call__(
        self, texts: Sequence[str], *, report: Report | None = None, allow_empty: bool = True
    ) -> tuple[Ids, Ids]:
        """Return token numbers and mask, both of shape (B, L).

        L is the longest text's length, or the whole context for a model that reads padding too. A text longer than the
        context is cut, its end token kept.

        Parameters
        ----------
        report
            Told about texts that were cut, and about words that the model does not know.
        allow_empty
            Whether a text may come out as start and end alone.

        Raises
        ------
        EmptyTextError
            If a text has no token and ``allow_empty`` is false.
        """
        rows = [self._row(text, report, allow_empty=allow_empty) for text in texts]
        config = self.config
        length = config.context_length if config.attend_padding else max(map(len, rows), default=1)
        ids = np.full((len(rows), length), config.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return ids, mask

    def _row(self, text: str, report: Report | None, *, allow_empty: bool) -> list[int]:
        if not isinstance(text, str):
            raise TypeError(f"a text must be a str, not {type(text).__name__}")
        tell = report or _ignore
        if len(text) > LIMIT_CHARACTERS:
            tell(f"{shown(text)} has {len(text):,} characters: cut after {LIMIT_CHARACTERS:,}")
        content = self._content(text[:LIMIT_CHARACTERS])
        if not content and not allow_empty:
            what = "it is empty" if not text.strip() else "its tokenizer leaves all of it out"
            raise EmptyTextError(f"the text {shown(text)} has no word for the model: {what}. Describe what to find")
        front = [] if self.config.bos_token_id is None else [self.config.bos_token_id]
        room = max(0, self.config.context_length - len(front) - 1)
        if len(content) > room:
            tell(
                f"{shown(text)} was cut after {self.config.context_length} tokens, which is all that the model reads "
                f"(it has {len(front) + len(content) + 1})"
            )
        content = content[:room]
        if self._unknown is not None and (unknown := content.count(self._unknown)):
            which = "every token is" if unknown == len(content) else f"{unknown} of {len(content)} tokens are"
            tell(f"{shown(text)}: {which} unknown to the model, which cannot tell unknown ones apart")
        return [*front, *content, self.config.eos_token_id]

    def _content(self, text: str) -> list[int]:
        """The numbers of a text's own tokens, without start and end."""
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate, as of an undecodable file name: "?"
        try:
            if self._sentencepiece is not None:
                return self._sentencepiece.content(text)
            return list(self._backend.encode(text, add_special_tokens=False).ids)
        except BaseException as error:
            raise _translated(error, f"the tokenizer cannot read {shown(text)}, so its file is incomplete") from error


def shown(text: str) -> str:
    """A text in quotes for a message, in one line and not longer than one."""
    words = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split())[: SHOWN + 1])
    return f'"{words[:SHOWN].rstrip()}…"' if len(words) > SHOWN else f'"{words}"'


def _read(file: Path) -> tokenizers.Tokenizer:
    if not file.is_file():
        raise TokenizerError(f"no tokenizer at {file}. {WAY_OUT}.")
    if (size := file.stat().st_size) > LIMIT_BYTES:
        raise TokenizerError(f"{file} has {size:,} bytes, over the limit of {LIMIT_BYTES:,}: that is no tokenizer.")
    try:
        return _word_pieces(file) if file.suffix == ".txt" else _from_json(file)
    except BaseException as error:
        raise _translated(error, _damaged(file)) from error


def _damaged(file: Path) -> str:
    return f"{file} is damaged or no tokenizer of a known kind"


def _translated(error: BaseException, what: str) -> BaseException:
    """What to raise: the `tokenizers` library has bare exceptions, and the panics of Rust are not even those."""
    if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError | GeneratorExit):
        return error
    problem = " ".join(str(error).split())[:200] or type(error).__name__
    return TokenizerError(f"{what} ({problem}). {WAY_OUT}.")


def _from_json(file: Path) -> tokenizers.Tokenizer:
    import tokenizers

    backend = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
    backend.no_truncation()
    backend.no_padding()
    return backend


def _word_pieces(file: Path) -> tokenizers.Tokenizer:
    """BERT's tokenizer from its vocabulary, one token a line, with the settings of transformers' ``BertTokenizer``."""
    import tokenizers

    tokens = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
    vocabulary = {token.rstrip("\r"): number for number, token in enumerate(tokens)}
    special = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in vocabulary]
    if "[UNK]" not in special:
        raise ValueError("a vocabulary of word pieces has [UNK]")
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(special)
    return backend


def _check(file: Path, backend: tokenizers.Tokenizer, config: TextConfig) -> None:
    """Refuse a tokenizer that was made for another model: its numbers would mean other words."""
    size = backend.get_vocab_size(with_added_tokens=True)
    if not config.vocab_size - UNUSED_ROWS <= size <= config.vocab_size:
        raise TokenizerError(
            f"{file} belongs to another model: it has {size:,} tokens, the model {config.vocab_size:,}. {WAY_OUT}."
        )
    special = backend.get_added_tokens_decoder()
    for name, number in (("start", config.bos_token_id), ("end", config.eos_token_id)):
        if number is not None and number not in special:
            raise TokenizerError(
                f"{file} belongs to another model: the {name} of a text, token {number}, is "
                f"{backend.id_to_token(number)!r} there, which is no special token. {WAY_OUT}."
            )
    kind = type(backend.model).__name__
    if config.cleaning == "canonical" and kind != "Unigram":
        raise TokenizerError(f"{file} belongs to another model: its kind is {kind}, wanted sentencepiece. {WAY_OUT}.")


def _unknown_id(backend: tokenizers.Tokenizer, config: TextConfig) -> int | None:
    """Number of the token for what is not in the vocabulary; ``None`` where there is none (CLIP works on bytes)."""
    try:
        pieces = backend.model.tokenize(NO_CHARACTER)
    except Exception:  # a byte-pair vocabulary without an unknown token, and with no byte for it
        return None
    return pieces[0].id if len(pieces) == 1 and pieces[0].id != config.eos_token_id else None


def _lower_first(backend: tokenizers.Tokenizer) -> None:
    from tokenizers import normalizers

    usual = backend.normalizer
    steps = [normalizers.Lowercase(), usual] if usual is not None else [normalizers.Lowercase()]
    backend.normalizer = normalizers.Sequence(steps)


def _ignore(message: str) -> None:
    pass
