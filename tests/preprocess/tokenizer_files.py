"""Tokenizer files made of the same components as the official ones, with small vocabularies of our own.

Sources of the components: ``tokenizer.json`` of openai/clip-vit-base-patch32, google/siglip-base-patch16-224 and
google/siglip2-base-patch16-224, ``vocab.txt`` of OFA-Sys/chinese-clip-vit-base-patch16, and the tokenizer classes of
transformers 5.23, which build the same.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.preprocess import varied_texts
from vitseek.models.text import TextConfig

TOWER: dict[str, Any] = {"width": 21, "depth": 2, "num_heads": 3}
CLIP_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = [*varied_texts.WORDS, *"dresses photos night beaches running redder hats shoes mountains".split()]  # noqa: SIM905


def clip_file(path: Path, *, post_processor: bool = True) -> TextConfig:
    """Write a byte-pair tokenizer as CLIP's; return the config of a tower that fits it."""
    vocabulary, merges = clip_vocabulary()
    start, end = vocabulary[START], vocabulary[END]
    post = {
        "type": "RobertaProcessing", "sep": [END, end], "cls": [START, start], "trim_offsets": False,
        "add_prefix_space": False,
    }  # fmt: skip
    _write(
        path,
        added=[_added(start, START, normalized=True), _added(end, END)],
        normalizer={
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": CLIP_PATTERN}, "behavior": "Removed", "invert": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        post_processor=post if post_processor else None,
        model={
            "type": "BPE", "dropout": None, "unk_token": END, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
            "merges": merges,
        },
    )  # fmt: skip
    return TextConfig(
        **TOWER, vocab_size=len(vocabulary), context_length=77, embedding_dim=17, mlp_layer="quick-gelu",
        pooling="largest", bos_token_id=start, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip


def clip_vocabulary() -> tuple[dict[str, int], list[str]]:
    """CLIP's numbering: 256 bytes, the same at a word's end, merges, start, end."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    character = {**{b: chr(b) for b in visible}, **{b: chr(256 + place) for place, b in enumerate(hidden)}}
    alphabet = [character[byte] for byte in (*visible, *hidden)]
    spelled = [
        [character[byte] for byte in word.lower().encode()]
        for word in [*WORDS, *varied_texts.CHINESE, "😀", "don", "t"]
    ]
    merges = _merges([[*letters[:-1], letters[-1] + "</w>"] for letters in spelled if letters])
    tokens = [*alphabet, *(one + "</w>" for one in alphabet), *("".join(pair) for pair in merges), START, END]
    return {token: number for number, token in enumerate(tokens)}, [" ".join(pair) for pair in merges]


def gemma_file(path: Path) -> TextConfig:
    """Write a byte-pair tokenizer as Gemma's, which SigLIP 2 uses; return the config of a tower that fits it."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    spelled = [list(word) for word in WORDS]
    spelled += [["▁", *word] for word in spelled] + [list(varied_texts.CHINESE[:9]), ["▁", "▁"]]
    merges = _merges(spelled)
    letters = sorted({letter for word in spelled for letter in word} | set("ABCDEFGHIJKLMNOPQRSTUVWXYZ .,!?<>/|"))
    tokens = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *("".join(pair) for pair in merges)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    _write(
        path,
        added=[_added(vocabulary[token], token) for token in specials],
        normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        pre_tokenizer={
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False
        },
        post_processor=_template("$A <eos>", {"<eos>": 1}),
        model={
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "vocab": vocabulary,
            "merges": [list(pair) for pair in merges],
        },
    )  # fmt: skip
    return TextConfig(
        **TOWER, vocab_size=len(vocabulary), context_length=64, embedding_dim=23, mlp_layer="gelu-tanh", causal=False,
        pooling="last", projection_bias=True, norm_eps=1e-6, eos_token_id=1, pad_token_id=0, attend_padding=True,
        cleaning="lower",
    )  # fmt: skip


def siglip_file(
    path: Path, *, pieces: Sequence[tuple[str, float]] | None = None, character_map: bytes = b"", strict: bool = False
) -> TextConfig:
    """Write a sentencepiece tokenizer as SigLIP's; return the config of a tower that fits it.

    Parameters
    ----------
    pieces
        Pieces with scores, ``<pad> </s> <unk>`` first; by default words and letters of our own.
    character_map
        Sentencepiece's ``precompiled_charsmap``.
    strict
        Whether the file cleans texts itself too, as one on the hub may.
    """
    pieces = pieces if pieces is not None else _own_pieces()
    cleaning = [
        {"type": "Lowercase"},
        {"type": "Replace", "pattern": {"Regex": "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"}, "content": ""},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Strip", "strip_left": True, "strip_right": True},
    ]
    mapped = [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(character_map).decode()}]
    steps = [*(cleaning if strict else []), *(mapped if character_map else [])]
    steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    _write(
        path,
        added=[_added(1, "</s>", strip=True), _added(2, "<unk>", strip=True)],
        normalizer={"type": "Sequence", "normalizers": steps},
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        post_processor=_template("$A </s>", {"</s>": 1}),
        model={"type": "Unigram", "unk_id": 2, "vocab": [list(piece) for piece in pieces], "byte_fallback": False},
    )
    return TextConfig(
        **TOWER, vocab_size=len(pieces), context_length=64, embedding_dim=23, mlp_layer="gelu-tanh", causal=False,
        pooling="last", projection_bias=True, norm_eps=1e-6, eos_token_id=1, pad_token_id=1, attend_padding=True,
        cleaning="canonical",
    )  # fmt: skip


def bert_file(path: Path) -> TextConfig:
    """Write BERT's ``vocab.txt`` (by its suffix) or ``tokenizer.json``; return the config of a tower that fits it."""
    tokens = bert_vocabulary()
    number = {token: place for place, token in enumerate(tokens)}
    if path.suffix == ".txt":
        path.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    else:
        _write(
            path,
            added=[_added(number[token], token) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")],
            normalizer={
                "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                "lowercase": True,
            },
            pre_tokenizer={"type": "BertPreTokenizer"},
            post_processor=_template("[CLS] $A [SEP]", {one: number[one] for one in ("[CLS]", "[SEP]")}),
            model={
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": number,
            },
        )  # fmt: skip
    return TextConfig(
        **TOWER, vocab_size=len(tokens), context_length=52, embedding_dim=17, causal=False, norm_first=False,
        embed_norm=True, token_types=2, pooling="first", norm_eps=1e-12, bos_token_id=number["[CLS]"],
        eos_token_id=number["[SEP]"], pad_token_id=number["[PAD]"],
    )  # fmt: skip


def bert_vocabulary() -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = ["[PAD]", *(f"[unused{place}]" for place in range(1, 5)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += [*letters, *(f"##{letter}" for letter in letters), *"!\"#$%&'()*+,-./:;<=>?@[]_{|}~，。！？"]
    tokens += [word.lower() for word in WORDS if word.isalpha() and word.isascii()] + ["##ing", "##s", "##es", "😀"]
    return list(dict.fromkeys([*tokens, *varied_texts.CHINESE[:40], *"красное", *"صورة"]))


def xlm_file(
    path: Path, *, pieces: Sequence[tuple[str, float]] | None = None, character_map: bytes = b""
) -> TextConfig:
    """Write a sentencepiece tokenizer as XLM-V's, which MetaCLIP 2 uses; return the config of a tower that fits it."""
    pieces = pieces if pieces is not None else _own_pieces()
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces[3:], ("<mask>", 0.0)]
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": len(vocabulary) - 1}
    mapped = [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(character_map).decode()}]
    steps = [*(mapped if character_map else []), {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]
    _write(
        path,
        added=[_added(number, token, strip_left=token == "<mask>") for token, number in special.items()],
        normalizer={"type": "Sequence", "normalizers": steps},
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
            ],
        },
        post_processor=_template("<s> $A </s>", {"<s>": 0, "</s>": 2}),
        model={"type": "Unigram", "unk_id": 3, "vocab": [list(piece) for piece in vocabulary], "byte_fallback": False},
    )
    return TextConfig(
        **TOWER, vocab_size=len(vocabulary), context_length=77, embedding_dim=17, bos_token_id=0, eos_token_id=2,
        pad_token_id=1,
    )  # fmt: skip


def _own_pieces() -> list[tuple[str, float]]:
    pieces: list[tuple[str, float]] = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    words = dict.fromkeys(word.lower() for word in WORDS if word.isalpha())
    pieces += [(f"▁{word}", -5.0 - place / 10) for place, word in enumerate(words)]
    pieces += [(letter, -9.0 - place / 10) for place, letter in enumerate("abcdefghijklmnopqrstuvwxyz0123456789猫")]
    return pieces


def _merges(words: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Merges that build each word from the left: shorter beginnings first, as in a trained vocabulary."""
    found: dict[tuple[str, str], None] = {}
    for word in words:
        for place in range(1, len(word)):
            found["".join(word[:place]), word[place]] = None
    return sorted(found, key=lambda pair: (len("".join(pair)), pair))


def _added(
    number: int, content: str, *, normalized: bool = False, strip: bool = False, strip_left: bool = False
) -> dict[str, Any]:
    return {
        "id": number, "content": content, "single_word": False, "lstrip": strip or strip_left, "rstrip": strip,
        "normalized": normalized, "special": True,
    }  # fmt: skip


def _template(single: str, specials: dict[str, int]) -> dict[str, Any]:
    pieces: list[dict[str, Any]] = [
        {"Sequence": {"id": "A", "type_id": 0}} if piece == "$A" else {"SpecialToken": {"id": piece, "type_id": 0}}
        for piece in single.split()
    ]
    known = {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in specials.items()}
    both = [*pieces, {"Sequence": {"id": "B", "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": pieces, "pair": both, "special_tokens": known}


def _write(path: Path, *, added: list[dict[str, Any]], **parts: Any) -> None:
    document = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "decoder": None, **parts,
    }  # fmt: skip
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
