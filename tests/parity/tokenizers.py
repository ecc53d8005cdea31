"""Count how many of 1,000 varied texts get the same token numbers from vitseek and from transformers.

    python -m tests.parity.tokenizers

Both read the same files, which have the components of the official ones and small vocabularies of our own
(tests/preprocess/tokenizer_files.py): the official ones cannot be redistributed. SigLIP's reference is transformers'
sentencepiece tokenizer on a model that sentencepiece trains here with the settings of SigLIP's own; vitseek reads the
``tokenizer.json`` that holds the same pieces.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import transformers

from tests.preprocess import tokenizer_files, varied_texts
from vitseek.models.text import TextConfig
from vitseek.preprocess.text import Tokenizer

transformers.logging.set_verbosity_error()

Encode = Callable[[str], list[int]]


@dataclasses.dataclass(frozen=True)
class Pair:
    """One tokenizer on both sides; each gives a text's numbers without padding on the right."""

    name: str
    ours: Encode
    theirs: Encode
    ties: tuple[str, ...] = ()  # texts with two equally probable cuts, between which the last bit of a score decides

    def different(self, texts: Sequence[str]) -> list[str]:
        """The texts with other numbers."""
        return [text for text in texts if self.ours(text) != self.theirs(text)]


def clip(folder: Path) -> Pair:
    config = tokenizer_files.clip_file(folder / "tokenizer.json")
    return _pair("CLIP (byte-pair)", folder, config, transformers.CLIPTokenizer, model_max_length=77)


def siglip2(folder: Path) -> Pair:
    config = tokenizer_files.gemma_file(folder / "tokenizer.json")
    settings = {"add_bos_token": False, "add_eos_token": True, "padding_side": "right", "model_max_length": 64}
    return _pair("SigLIP 2 (Gemma)", folder, config, transformers.Siglip2Tokenizer, **settings)


def chinese_clip(folder: Path) -> Pair:
    config = tokenizer_files.bert_file(folder / "tokenizer.json")
    return _pair("Chinese-CLIP (word pieces)", folder, config, transformers.BertTokenizer, model_max_length=52)


def chinese_clip_vocabulary(folder: Path) -> Pair:
    config = tokenizer_files.bert_file(folder / "vocab.txt")
    name = "Chinese-CLIP (vocab.txt)"
    return _pair(name, folder, config, transformers.BertTokenizer, file="vocab.txt", model_max_length=52)


def siglip(folder: Path, *, strict: bool = False) -> Pair:
    model = train_sentencepiece(folder)
    pieces, character_map = read_sentencepiece(model)
    config = tokenizer_files.siglip_file(
        folder / "tokenizer.json", pieces=pieces, character_map=character_map, strict=strict
    )
    name = "SigLIP (sentencepiece" + (", file that cleans too)" if strict else ")")
    reference = transformers.SiglipTokenizer(str(model))
    return Pair(name, _ours(folder / "tokenizer.json", config), _theirs(reference, config))


def siglip_strict(folder: Path) -> Pair:
    return siglip(folder, strict=True)


def metaclip2(folder: Path) -> Pair:
    pieces, character_map = read_sentencepiece(train_sentencepiece(folder))
    (folder / "spiece.model").unlink()
    config = tokenizer_files.xlm_file(folder / "tokenizer.json", pieces=pieces, character_map=character_map)
    pair = _pair("MetaCLIP 2 (XLM-V)", folder, config, transformers.XLMRobertaTokenizer, model_max_length=77)
    # The scores of a file are read a bit differently by Rust, as vitseek does, and by Python, as transformers does.
    return dataclasses.replace(pair, ties=("a" + "\u0301" * 200,))


PAIRS: tuple[Callable[[Path], Pair], ...] = (
    clip, siglip, siglip_strict, siglip2, chinese_clip, chinese_clip_vocabulary, metaclip2,
)  # fmt: skip


def train_sentencepiece(folder: Path) -> Path:
    """Train pieces with the settings of SigLIP's c4_en: unigram, NMT-NFKC, ``<pad> </s> <unk>`` first."""
    import sentencepiece

    corpus = folder / "corpus.txt"
    texts = [text.replace("\x00", "") for text in varied_texts.varied_texts(3000, seed=7)]
    corpus.write_text("\n".join(text for text in texts if 0 < len(text) < 2000), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spiece"), vocab_size=3000, model_type="unigram",
        normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
        character_coverage=0.98, hard_vocab_limit=False, num_threads=1,
    )  # fmt: skip
    return folder / "spiece.model"


def read_sentencepiece(model: Path) -> tuple[list[tuple[str, float]], bytes]:
    """Pieces with scores, and the character map."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(model.read_bytes())
    return [(piece.piece, piece.score) for piece in proto.pieces], proto.normalizer_spec.precompiled_charsmap


def _pair(
    name: str, folder: Path, config: TextConfig, kind: Any, *, file: str = "tokenizer.json", **settings: Any
) -> Pair:
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind.__name__, **settings}))
    return Pair(name, _ours(folder / file, config), _theirs(kind.from_pretrained(folder), config))


def _ours(file: Path, config: TextConfig) -> Encode:
    tokenizer = Tokenizer.from_file(file, config=config)

    def encode(text: str) -> list[int]:
        ids, _ = tokenizer([text])
        return _unpadded(ids[0].tolist(), config)

    return encode


def _theirs(reference: Any, config: TextConfig) -> Encode:
    def encode(text: str) -> list[int]:
        row = reference(text, truncation=True, padding="max_length", max_length=config.context_length)["input_ids"]
        return _unpadded(row, config)

    return encode


def _unpadded(row: list[int], config: TextConfig) -> list[int]:
    while row and row[-1] == config.pad_token_id:
        row = row[:-1]
    return row


def main() -> None:
    texts = varied_texts.varied_texts()
    for build in PAIRS:
        with tempfile.TemporaryDirectory() as folder:
            pair = build(Path(folder))
            different = pair.different(texts)
            print(f"{pair.name:40} {len(texts) - len(different):>5} of {len(texts)} equal")
            for text in different[:3]:
                print(f"    {text[:60]!r}: {pair.ours(text)[:12]} {pair.theirs(text)[:12]}")


if __name__ == "__main__":
    main()
