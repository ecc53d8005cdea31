"""CLIP's tokenizer, learned from captions or read from OpenAI's merges: a ``tokenizer.json`` that the runtime reads.

Paper: "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al., 2021). It is GPT-2's
byte-pair encoding (Sennrich et al., 2016, on bytes) in lower case, with ``</w>`` at the end of a word. A vocabulary is:
the 256 bytes as visible characters, the same with ``</w>``, one token for each merge, ``<|startoftext|>``,
``<|endoftext|>``. The work is done by the `tokenizers` library; here are CLIP's components and numbering.
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from vitseek.errors import TrainingError, UsageError

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # of CLIP's code
BASE_TOKENS = 2 * 256
OPENAI_MERGES = 49_152 - 256 - 2  # what the published file's first lines are cut to
LIMIT_BYTES = 50_000_000  # of a merges file

Pair = tuple[str, str]


def learn(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn merges from texts: again and again the most frequent pair of neighbours becomes a token.

    Learning stops early when no pair occurs twice. The same texts give the same tokenizer: the trainer is told all byte
    tokens in order, because it settles equal counts by their numbers, and those it found by itself would be numbered in
    the order of a hash table, which differs from run to run.

    Raises
    ------
    UsageError
        If the vocabulary has no room for the bytes.
    """
    if vocabulary < BASE_TOKENS + 2:
        raise UsageError(f"--vocabulary {vocabulary} is too small: bytes, start and end take {BASE_TOKENS + 2} tokens")
    learner = _components(models.BPE(continuing_subword_prefix="", end_of_word_suffix=WORD_END))
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 2,
        min_frequency=2,
        show_progress=False,
        special_tokens=_byte_tokens(),
        end_of_word_suffix=WORD_END,
    )
    learner.train_from_iterator(texts, trainer)
    return build(_merges(json.loads(learner.to_str())))


def build(merges: Sequence[Pair]) -> Tokenizer:
    """Put CLIP's tokenizer together from merges, the most important first."""
    tokens = [*_byte_tokens(), *("".join(pair) for pair in merges), START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    model = models.BPE(
        vocab=vocabulary,
        merges=list(merges),
        unk_token=END,
        continuing_subword_prefix="",
        end_of_word_suffix=WORD_END,
        fuse_unk=False,
    )
    tokenizer = _components(model)
    tokenizer.add_special_tokens([AddedToken(START, normalized=True, special=True), AddedToken(END, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(token, vocabulary[token]) for token in (START, END)]
    )
    return tokenizer


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
    return _checked([(a, b) for a, b in pairs], path)


def rows(tokenizer: Tokenizer, texts: Sequence[str], context: int) -> list[list[int]]:
    """Rows of ``context`` numbers: start, text, end, filled up with ends; a longer text is cut, its end token kept.

    The words ``<|…|>`` in a caption are plain letters: it cannot end itself.
    """
    if context < 3:
        raise UsageError(f"--context {context} has no room for a word between start and end; use 3 or more")
    end = end_of(tokenizer)
    tokenizer.enable_truncation(context)
    tokenizer.encode_special_tokens = True
    try:
        found = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    finally:
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = False
    return [row + [end] * (context - len(row)) for row in found]


def end_of(tokenizer: Tokenizer) -> int:
    """Number of ``<|endoftext|>``: the largest there is. It also fills up rows, as in the published models."""
    return tokenizer.get_vocab_size() - 1


def _components(model: models.BPE) -> Tokenizer:
    """CLIP's way from text to symbols, as in its published ``tokenizer.json``."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _byte_tokens() -> list[str]:
    """The 256 bytes in CLIP's order (printable Latin-1 first), then the same at the end of a word."""
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*characters, *(character + WORD_END for character in characters)]


def _merges(document: dict[str, Any]) -> list[Pair]:
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in document["model"]["merges"]]
    return [(a, b) for a, b in merges]


def _from_document(document: dict[str, Any], path: Path) -> Tokenizer:
    model = document.get("model", {})
    if model.get("type") != "BPE" or model.get("end_of_word_suffix") != WORD_END:
        raise TrainingError(f"{path} is the tokenizer of another kind of model: CLIP's is byte-pair with {WORD_END!r}")
    tokenizer = _checked(_merges(document), path)
    own = tokenizer.get_vocab()
    theirs = {**model["vocab"], **{token["content"]: token["id"] for token in document.get("added_tokens", ())}}
    if wrong := sorted(token for token in own.keys() | theirs.keys() if own.get(token) != theirs.get(token)):
        raise TrainingError(f"{path} numbers its tokens in another order than CLIP: {wrong[0]!r} differs")
    return tokenizer


def _checked(merges: list[Pair], path: Path) -> Tokenizer:
    try:
        return build(merges)
    except Exception as error:  # the library raises bare ones
        raise TrainingError(f"{path} has merges that do not follow from one another: {error}") from error
