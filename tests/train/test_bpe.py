import gzip
import json
from pathlib import Path

import pytest

pytest.importorskip("regex", reason="the tokenizer needs the regex package of the extra train")

from vitseek.errors import TrainingError, UsageError
from vitseek.train import bpe

CAPTIONS = [
    "A child in a pink dress is climbing up a set of stairs .",
    "The dog's owner throws the dogs a ball; they'll run!",
    "Two dogs, running through 42 caf\u00e9s in the snow.",
]
ODD = ["", "   ", "\u00fc\U0001f600\u4e2d\u6587 x\u0301", "DON'T  STOP\n\tnow", "1234 5.6%", "<b>&amp;lt;i&amp;gt;</b>"]


@pytest.fixture(scope="module")
def tokenizer() -> bpe.Tokenizer:
    return bpe.learn(CAPTIONS, 600)


def test_the_256_bytes_have_256_visible_characters() -> None:
    characters = bpe.byte_characters()
    assert len(characters) == len(set(characters.values())) == 256
    assert all(c.isprintable() and not c.isspace() for c in characters.values())
    assert characters[ord("a")] == "a"
    assert characters[ord(" ")] == "\u0120"  # as in GPT-2's vocabulary


def test_learning_joins_the_most_frequent_pair_first_and_ties_by_the_pair() -> None:
    learned = bpe.learn(["ab ab ab cd cd", "abab"], 512 + 2 + 2)
    # ab</w>: 3 as words and 1 at the end of abab; cd</w>: 2; a+b inside abab: 1
    assert learned.merges == (("a", "b</w>"), ("c", "d</w>"))


def test_learning_stops_when_no_pair_occurs_twice() -> None:
    assert bpe.learn(["xyz"], 1000).merges == ()
    assert len(bpe.learn(["xyz"], 1000)) == 514


def test_a_vocabulary_without_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(UsageError, match="--vocabulary 300 is too small: bytes, start and end take 514"):
        bpe.learn(CAPTIONS, 300)


@pytest.mark.parametrize("text", CAPTIONS + ODD[2:5])
def test_text_comes_back_in_lower_case_with_words_apart(tokenizer: bpe.Tokenizer, text: str) -> None:
    words = bpe.PATTERN.findall(bpe.clean(text))
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(words)


def test_rows_have_start_text_end_and_zeros_and_long_texts_keep_their_end(tokenizer: bpe.Tokenizer) -> None:
    short, long = tokenizer(["a dog", " ".join(CAPTIONS)], 11)
    assert short[0] == tokenizer.start
    assert short[short.index(tokenizer.end) + 1 :] == [0] * (10 - short.index(tokenizer.end))
    assert len(long) == 11
    assert long[-1] == tokenizer.end == max(long)
    with pytest.raises(UsageError, match="--context 2 has no room"):
        tokenizer(["a"], 2)


def test_a_caption_cannot_end_itself(tokenizer: bpe.Tokenizer) -> None:
    numbers = tokenizer.encode("a dog <|endoftext|> and a cat <|startoftext|>")
    assert tokenizer.end not in numbers
    assert tokenizer.start not in numbers


def test_openai_s_merges_file_is_read_up_to_its_vocabulary(tmp_path: Path, tokenizer: bpe.Tokenizer) -> None:
    lines = ["#version: 0.2", *(" ".join(pair) for pair in tokenizer.merges), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "merges.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    for name in ("merges.txt", "merges.txt.gz"):
        assert bpe.read(tmp_path / name).tokens == tokenizer.tokens
    many = ["#version: 0.2", *(f"x{i} y{i}" for i in range(60_000))]
    (tmp_path / "merges.txt").write_text("\n".join(many), encoding="utf-8")
    full = bpe.read(tmp_path / "merges.txt")
    assert (len(full), full.start, full.end) == (49_408, 49_406, 49_407)  # CLIP's numbers


def test_what_is_no_tokenizer_is_refused(tmp_path: Path, tokenizer: bpe.Tokenizer) -> None:
    with pytest.raises(UsageError, match="no tokenizer at"):
        bpe.read(tmp_path / "nothing.txt")
    (tmp_path / "a.gz").write_bytes(b"no gzip")
    (tmp_path / "a.txt").write_text("version\none two three\n")
    (tmp_path / "a.json").write_text('{"model": {"type": "WordPiece"}}')
    for name in ("a.gz", "a.txt", "a.json"):
        with pytest.raises(TrainingError, match=r"no merges file|another kind of model"):
            bpe.read(tmp_path / name)
    document = json.loads(json.dumps(tokenizer.document))
    document["model"]["vocab"][bpe.END] = 3
    (tmp_path / "b.json").write_text(json.dumps(document))
    with pytest.raises(TrainingError, match="numbers its tokens in another order than CLIP"):
        bpe.read(tmp_path / "b.json")


def test_a_saved_tokenizer_is_the_same(tmp_path: Path, tokenizer: bpe.Tokenizer) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = bpe.read(tmp_path / "tokenizer.json")
    assert again.tokens == tokenizer.tokens
    assert [again.encode(text) for text in CAPTIONS + ODD] == [tokenizer.encode(text) for text in CAPTIONS + ODD]


@pytest.mark.parity
def test_hugging_face_s_tokenizers_give_the_same_numbers(
    tmp_path: Path, tokenizer: bpe.Tokenizer, shared_dir: Path
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    lines = (shared_dir / "data" / "flickr8k_1000" / "captions.txt").read_text(encoding="utf-8").splitlines()
    texts = [line.split(",", 1)[1] for line in lines] + CAPTIONS + ODD[:-1]  # they do not read HTML entities
    learned = bpe.learn(texts[:1000], 2048)
    learned.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [learned.encode(text) for text in texts] == [row.ids for row in theirs.encode_batch(texts)]


@pytest.mark.parity
def test_transformers_clip_tokenizer_gives_the_same_numbers(tmp_path: Path, tokenizer: bpe.Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path / "tokenizer.json")
    theirs = transformers.CLIPTokenizer(vocab=tokenizer.numbers, merges=list(tokenizer.merges))
    for text in CAPTIONS:
        assert theirs(text)["input_ids"] == [tokenizer.start, *tokenizer.encode(text), tokenizer.end]
