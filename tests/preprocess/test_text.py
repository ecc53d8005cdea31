"""Text to token numbers: what each kind of tokenizer does, and which files are refused."""

import base64
import dataclasses
import json
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.preprocess.tokenizer_files import bert_file, clip_file, gemma_file, siglip_file
from tests.preprocess.varied_texts import varied_texts
from vitseek.errors import EmptyTextError, TokenizerError
from vitseek.models.text import TextConfig, check_ids
from vitseek.preprocess import text as module
from vitseek.preprocess.text import Tokenizer

FILES = {
    "clip": (clip_file, "tokenizer.json"),
    "siglip": (siglip_file, "tokenizer.json"),
    "gemma": (gemma_file, "tokenizer.json"),
    "bert": (bert_file, "tokenizer.json"),
    "bert-vocabulary": (bert_file, "vocab.txt"),
}


def made(name: str, folder: Path) -> Tokenizer:
    write, file = FILES[name]
    return Tokenizer.from_file(folder / file, config=write(folder / file))


def rows(tokenizer: Tokenizer, *texts: str) -> list[list[int]]:
    ids, mask = tokenizer(texts)
    return [row[: kept.sum()].tolist() for row, kept in zip(ids, mask, strict=True)]


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokens of a text, spelled, between start and end."""
    config = tokenizer.config
    (row,) = rows(tokenizer, text)
    inner = row[0 if config.bos_token_id is None else 1 : -1]
    return [tokenizer._backend.id_to_token(number) for number in inner]


@pytest.mark.parametrize("name", FILES)
def test_every_text_fits_the_tower(name: str, tmp_path: Path) -> None:
    tokenizer = made(name, tmp_path)
    config = tokenizer.config
    ids, mask = tokenizer(varied_texts())
    check_ids(config, ids)
    lengths = mask.sum(axis=1)
    assert lengths.max() == config.context_length
    np.testing.assert_array_equal(mask, np.arange(ids.shape[1]) < lengths[:, None])
    assert (ids[mask == 0] == config.pad_token_id).all()
    assert (ids[np.arange(len(ids)), lengths - 1] == config.eos_token_id).all()
    if config.bos_token_id is not None:
        assert (ids[:, 0] == config.bos_token_id).all()


@pytest.mark.parametrize("name", FILES)
def test_an_empty_text_is_start_and_end_or_refused(name: str, tmp_path: Path) -> None:
    tokenizer = made(name, tmp_path)
    config = tokenizer.config
    assert rows(tokenizer, "") == [[n for n in (config.bos_token_id, config.eos_token_id) if n is not None]]
    with pytest.raises(EmptyTextError, match='the text "" has no word for the model: it is empty'):
        tokenizer(["a dog", ""], allow_empty=False)


def test_a_text_of_nothing_but_what_is_left_out_is_empty_too(tmp_path: Path) -> None:
    siglip = made("siglip", tmp_path)
    with pytest.raises(EmptyTextError, match=r'the text "\?!" has no word for the model: its tokenizer leaves all'):
        siglip(["?!"], allow_empty=False)
    assert words(made("clip", tmp_path), "?!") != []


def test_a_long_text_is_cut_with_its_end_kept_and_said(tmp_path: Path) -> None:
    for name in FILES:
        tokenizer = made(name, tmp_path)
        said: list[str] = []
        ids, _ = tokenizer(["a red dress " * 100], report=said.append)
        length = tokenizer.config.context_length
        assert ids.shape == (1, length)
        assert ids[0, -1] == tokenizer.config.eos_token_id
        assert said[0].startswith('"a red dress a red dress a red dress a re…" was cut after')
        assert f"{length} tokens" in said[0]
        assert rows(tokenizer, "a red dress " * 100) == rows(tokenizer, "a red dress " * 200)


def test_a_text_beyond_reason_is_cut_before_it_is_read(tmp_path: Path) -> None:
    tokenizer = made("clip", tmp_path)
    said: list[str] = []
    tokenizer(["dog " * 30_000], report=said.append)
    assert said[0] == '"dog dog dog dog dog dog dog dog dog dog…" has 120,000 characters: cut after 100,000'


def test_rows_are_as_long_as_the_longest_unless_padding_is_read(tmp_path: Path) -> None:
    clip = made("clip", tmp_path)
    ids, mask = clip(["a dog", "a red dress at night"])
    assert ids.shape == mask.shape == (2, 7)
    assert ids[0, 4:].tolist() == [clip.config.pad_token_id] * 3
    assert mask.sum(axis=1).tolist() == [4, 7]
    siglip = made("siglip", tmp_path)
    assert siglip(["a dog"])[0].shape == (1, 64)
    assert clip([])[0].shape == (0, 1)


def test_clip_reads_bytes_so_that_nothing_is_unknown(tmp_path: Path) -> None:
    clip = made("clip", tmp_path)
    assert words(clip, "A  Red\u00a0DRESS") == ["a</w>", "red</w>", "dress</w>"]
    assert words(clip, "don't") == ["don</w>", "'", "t</w>"]  # the official vocabulary has 't</w> as one token
    assert words(clip, "🦩") == ["ðŁ", "¦", "©</w>"]
    assert words(clip, "e\u0301") == words(clip, "é")
    said: list[str] = []
    clip(["🦩 龘 \ue000"], report=said.append)
    assert said == []


def test_siglip_drops_case_and_ascii_punctuation_and_says_what_it_does_not_know(tmp_path: Path) -> None:
    siglip = made("siglip", tmp_path)
    assert words(siglip, "  A red,   DRESS! ") == ["▁", "▁a", "▁red", "▁dress"]  # as transformers: a space in front
    assert words(siglip, "A red,   DRESS! ") == ["▁a", "▁red", "▁dress"]
    said: list[str] = []
    siglip(["red 龘", "龘", "red dress"], report=said.append)
    assert said == [
        '"red 龘": 1 of 3 tokens are unknown to the model, which cannot tell unknown ones apart',
        '"龘": 1 of 2 tokens are unknown to the model, which cannot tell unknown ones apart',
    ]


def test_siglip_2_reads_lower_case_and_bytes(tmp_path: Path) -> None:
    gemma = made("gemma", tmp_path)
    assert words(gemma, "RED Dress") == words(gemma, "red dress")
    assert words(gemma, "龘") == ["<0xE9>", "<0xBE>", "<0x98>"]


def test_bert_reads_chinese_character_by_character(tmp_path: Path) -> None:
    bert = made("bert", tmp_path)
    assert words(bert, "红色dresses") == ["红", "色", "dresses"]
    said: list[str] = []
    bert(["ꙮ"], report=said.append)
    assert said == ['"ꙮ": every token is unknown to the model, which cannot tell unknown ones apart']


def test_a_vocabulary_alone_gives_the_same_numbers_as_the_whole_file(tmp_path: Path) -> None:
    whole, alone = made("bert", tmp_path), made("bert-vocabulary", tmp_path)
    texts = varied_texts(300)
    assert rows(whole, *texts) == rows(alone, *texts)


def test_what_a_file_says_about_its_ends_padding_and_length_changes_nothing(tmp_path: Path) -> None:
    usual = made("clip", tmp_path)
    file = tmp_path / "other.json"
    config = clip_file(file, post_processor=False)
    document = json.loads(file.read_text())
    document["truncation"] = {"direction": "Left", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    document["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 3, "pad_type_id": 0,
        "pad_token": "x",
    }  # fmt: skip
    file.write_text(json.dumps(document))
    other = Tokenizer.from_file(file, config=config)
    texts = varied_texts(200)
    assert rows(other, *texts) == rows(usual, *texts)


def test_special_tokens_written_in_a_text_mean_what_they_mean_to_the_model(tmp_path: Path) -> None:
    clip = made("clip", tmp_path)
    assert words(clip, "dog <|endoftext|>") == ["dog</w>", "<|endoftext|>"]
    siglip = made("siglip", tmp_path)
    assert words(siglip, "dog  </s>  <unk>cat") == ["▁dog", "</s>", "<unk>", "c", "a", "t"]


def test_a_lone_surrogate_is_a_question_mark(tmp_path: Path) -> None:
    clip = made("clip", tmp_path)
    assert rows(clip, "dog \udc80") == rows(clip, "dog ?")


def test_a_text_is_shown_in_one_printable_line() -> None:
    assert module.shown("a\n red \x1b[31m dress") == '"a red ?[31m dress"'
    assert module.shown("x" * 41) == '"' + "x" * 40 + '…"'
    assert module.shown("x" * 40) == '"' + "x" * 40 + '"'


def test_threads_share_a_tokenizer(tmp_path: Path) -> None:
    for name in ("clip", "siglip"):
        tokenizer = made(name, tmp_path)
        texts = varied_texts(200)
        wanted = rows(tokenizer, *texts)
        found: list[list[list[int]]] = []
        threads = [threading.Thread(target=lambda: found.append(rows(tokenizer, *texts))) for _ in range(4)]  # noqa: B023
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [wanted] * 4


def test_a_missing_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    config = clip_file(tmp_path / "tokenizer.json")
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(TokenizerError, match=r"no tokenizer at .*Put the tokenizer.json of the model's own"):
            Tokenizer.from_file(path, config=config)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00", b"{", b"[]", b"null", b"{}", b'{"model": 3}', b"PK\x03\x04", b"\xff\xfe{}", b'{"a":' * 100_000,
        b'{"version": "1.0", "model": {"type": "Quantum", "vocab": {}}}',
        b'{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}',
        b'{"version": "1.0", "model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", 0]]}}',
        b'{"version": "1.0", "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "model": '
        b'{"type": "WordLevel", "vocab": {}, "unk_token": "x"}}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    config = clip_file(file)
    file.write_bytes(content)
    with pytest.raises(TokenizerError, match="is damaged or no tokenizer of a known kind"):
        Tokenizer.from_file(file, config=config)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    config = clip_file(file)
    whole = file.read_bytes()
    for length in range(0, len(whole) - 1, 997):
        file.write_bytes(whole[:length])
        with pytest.raises(TokenizerError):
            Tokenizer.from_file(file, config=config)


def test_a_file_that_fails_at_a_text_only_is_a_tokenizer_error_too(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    config = siglip_file(file)
    document = json.loads(file.read_text())
    document["model"]["unk_id"] = None
    file.write_text(json.dumps(document))
    tokenizer = Tokenizer.from_file(file, config=config)
    tokenizer(["a red dress"])
    with pytest.raises(TokenizerError, match='the tokenizer cannot read "龘", so its file is incomplete'):
        tokenizer(["龘"])


@pytest.mark.parametrize("name", FILES)
def test_a_spoiled_file_works_or_is_refused(name: str, tmp_path: Path) -> None:
    write, file = FILES[name]
    place = tmp_path / file
    config = write(place)
    whole = place.read_bytes()
    rng = random.Random(20260)
    refused = 0
    for _ in range(60):
        content = bytearray(whole)
        start = rng.randrange(len(content))
        if rng.random() < 0.5:
            content[start] = rng.randrange(256)
        else:
            del content[start : start + rng.randint(1, 200)]
        place.write_bytes(bytes(content))
        try:
            Tokenizer.from_file(place, config=config)(["a red dress </s> café", "", "猫 😀"])
        except TokenizerError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("table", [b"\xff\xff\xff\xff", b"\x03\x00\x00\x00abcd", b"\x00\x00\x00\x00\x00", b"\x08\x00"])
def test_a_broken_character_map_is_refused(tmp_path: Path, table: bytes) -> None:
    file = tmp_path / "tokenizer.json"
    config = siglip_file(file, character_map=b"\x08\x00\x00\x00" + b"\x00" * 8)
    Tokenizer.from_file(file, config=config)(["a dog"])
    document = json.loads(file.read_text())
    document["normalizer"]["normalizers"][0]["precompiled_charsmap"] = base64.b64encode(table).decode()
    file.write_text(json.dumps(document))
    with pytest.raises(TokenizerError, match="damaged"):
        Tokenizer.from_file(file, config=config)


def test_a_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = clip_file(tmp_path / "tokenizer.json")
    monkeypatch.setattr(module, "LIMIT_BYTES", 1000)
    with pytest.raises(TokenizerError, match=r"bytes, over the limit of 1,000: that is no tokenizer"):
        Tokenizer.from_file(tmp_path / "tokenizer.json", config=config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vocab_size": 49_408}, r"belongs to another model: it has 732 tokens, the model 49,408"),
        ({"vocab_size": 731, "pad_token_id": 0, "eos_token_id": 730}, "it has 732 tokens, the model 731"),
        ({"eos_token_id": 320}, r"the end of a text, token 320, is 'a</w>' there, which is no special token"),
        ({"bos_token_id": 0}, r"the start of a text, token 0, is '!' there"),
    ],
)
def test_the_tokenizer_of_another_model_is_refused(change: dict, said: str, tmp_path: Path) -> None:
    config = clip_file(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError, match=said):
        Tokenizer.from_file(tmp_path / "tokenizer.json", config=dataclasses.replace(config, **change))


def test_siglip_refuses_a_byte_pair_file_of_the_same_size(tmp_path: Path) -> None:
    clip = clip_file(tmp_path / "tokenizer.json")
    siglip = siglip_file(tmp_path / "other.json")
    config: TextConfig = dataclasses.replace(
        siglip, vocab_size=clip.vocab_size, eos_token_id=clip.eos_token_id, pad_token_id=clip.pad_token_id
    )
    with pytest.raises(TokenizerError, match="its kind is BPE, wanted sentencepiece"):
        Tokenizer.from_file(tmp_path / "tokenizer.json", config=config)


def test_a_vocabulary_without_an_unknown_token_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vocab.txt"
    config = bert_file(file)
    file.write_text("\n".join(f"word{place}" for place in range(config.vocab_size)))
    with pytest.raises(TokenizerError, match=r"a vocabulary of word pieces has \[UNK\]"):
        Tokenizer.from_file(file, config=config)
