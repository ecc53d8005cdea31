import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch")

from tokenizers import Tokenizer

from vitseek.errors import TrainingError, UsageError
from vitseek.train import tokenizer as tokenizers

CAPTIONS = [
    "A child in a pink dress is climbing up a set of stairs .",
    "The dog's owner throws the dogs a ball; they'll run!",
    "Two dogs, running through 42 caf\u00e9s in the snow.",
]
ODD = ["", "   ", "\u00fc\U0001f600\u4e2d\u6587 x\u0301", "DON'T  STOP\n\tnow", "1234 5.6%", "<b>&amp;lt;i&amp;gt;</b>"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizers.learn(CAPTIONS, 600)


def merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def test_a_vocabulary_is_bytes_then_merges_then_start_and_end(tokenizer: Tokenizer) -> None:
    tokens = [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]
    assert tokens[0] == "!"
    assert tokens[64] == "a"  # CLIP's number of it
    assert tokens[256:512] == [token + "</w>" for token in tokens[:256]]
    assert tokens[512:-2] == ["".join(pair) for pair in merges(tokenizer)]
    assert tokens[-2:] == ["<|startoftext|>", "<|endoftext|>"]
    assert tokenizers.end_of(tokenizer) == len(tokens) - 1


def test_learning_joins_the_most_frequent_pair_first_and_ties_by_number() -> None:
    learned = tokenizers.learn(["ab ab ab cd cd ef ef", "abab"], 512 + 2 + 3)
    # ab</w>: 3 as words and 1 at the end of abab; cd</w> and ef</w>: 2; a+b inside abab: 1
    assert merges(learned) == [("a", "b</w>"), ("c", "d</w>"), ("e", "f</w>")]


def test_learning_gives_the_same_merges_in_every_process() -> None:
    """Left to itself, the trainer settles ties by the order of a hash table with a random seed."""
    code = (
        "from vitseek.train.tokenizer import learn; import hashlib; "
        "texts = [' '.join(f'w{i * j % 89}x{i + j}' for j in range(13)) for i in range(97)]; "
        "print(hashlib.sha256(learn(texts, 900).to_str().encode()).hexdigest())"
    )
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(found) == 1


def test_learning_stops_when_no_pair_occurs_twice() -> None:
    assert merges(tokenizers.learn(["xyz"], 1000)) == []
    assert tokenizers.learn(["xyz"], 1000).get_vocab_size() == 514


def test_a_vocabulary_without_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(UsageError, match="--vocabulary 300 is too small: bytes, start and end take 514"):
        tokenizers.learn(CAPTIONS, 300)


def test_rows_have_start_text_end_and_long_texts_keep_their_end(tokenizer: Tokenizer) -> None:
    end = tokenizers.end_of(tokenizer)
    short, long = tokenizers.rows(tokenizer, ["a dog", " ".join(CAPTIONS)], 11)
    assert short[0] == long[0] == end - 1
    assert short[short.index(end) :] == [end] * (11 - short.index(end))
    assert short.index(end) < 10
    assert len(long) == 11
    assert long.index(end) == 10
    with pytest.raises(UsageError, match="--context 2 has no room"):
        tokenizers.rows(tokenizer, ["a"], 2)


def test_bytes_that_no_caption_had_are_tokens_of_their_own(tokenizer: Tokenizer) -> None:
    """The end token is the vocabulary's unknown one, too: an unknown byte would end the text."""
    end = tokenizers.end_of(tokenizer)
    for row in tokenizers.rows(tokenizer, ODD[2:], 41):
        assert row[row.index(end) :] == [end] * (41 - row.index(end))
        assert row.index(end) > 5


def test_a_caption_cannot_end_itself(tokenizer: Tokenizer) -> None:
    end = tokenizers.end_of(tokenizer)
    (row,) = tokenizers.rows(tokenizer, ["a dog <|endoftext|> and a cat <|startoftext|>"], 61)
    (plain,) = tokenizers.rows(tokenizer, ["a dog"], 61)
    assert row.count(end - 1) == 1
    assert row.index(end) > plain.index(end) + 20
    assert tokenizer.encode("a <|endoftext|>").ids.count(end) == 2  # as it was before


@pytest.mark.parametrize("length", [7, 24])
def test_the_runtime_gives_the_same_numbers(tmp_path: Path, tokenizer: Tokenizer, length: int) -> None:
    from vitseek.models.text import TextConfig
    from vitseek.preprocess.text import Tokenizer as RuntimeTokenizer

    tokenizer.save(str(tmp_path / "t.json"))
    end = tokenizers.end_of(tokenizer)
    config = TextConfig(
        vocab_size=end + 1, context_length=length, width=5, depth=1, num_heads=1,
        bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    runtime = RuntimeTokenizer.from_file(tmp_path / "t.json", config=config)
    for text in CAPTIONS + ODD:
        numbers, _ = runtime([text])
        (row,) = tokenizers.rows(tokenizer, [text], length)
        assert row[: numbers.shape[1]] == numbers[0].tolist()
        assert set(row[numbers.shape[1] :]) <= {end}


def test_openai_s_merges_file_is_read_up_to_its_vocabulary(tmp_path: Path, tokenizer: Tokenizer) -> None:
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges(tokenizer)), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "merges.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    for name in ("merges.txt", "merges.txt.gz"):
        assert tokenizers.read(tmp_path / name).to_str() == tokenizer.to_str()
    letters = [chr(ord("a") + i) for i in range(26)]
    pairs = [f"{a} {b}" for a in letters for b in letters]
    pairs += [f"{a}{b} {c}{d}" for a in letters for b in letters for c in letters[:9] for d in letters[:9]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]), encoding="utf-8")
    full = tokenizers.read(tmp_path / "merges.txt")
    assert (full.get_vocab_size(), full.token_to_id("<|startoftext|>")) == (49_408, 49_406)  # CLIP's numbers


def test_what_is_no_tokenizer_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="no tokenizer at"):
        tokenizers.read(tmp_path / "nothing.txt")
    (tmp_path / "a.gz").write_bytes(b"no gzip")
    (tmp_path / "a.txt").write_text("version\none two three\n")
    (tmp_path / "b.txt").write_text("version\nab cd\n")
    (tmp_path / "a.json").write_text('{"model": {"type": "WordPiece"}}')
    for name in ("a.gz", "a.txt", "b.txt", "a.json"):
        with pytest.raises(TrainingError, match=r"no merges file|another kind of model|do not follow from one another"):
            tokenizers.read(tmp_path / name)
    document = json.loads(tokenizer.to_str())
    document["model"]["vocab"]["a"], document["model"]["vocab"]["b"] = 65, 64
    (tmp_path / "b.json").write_text(json.dumps(document))
    with pytest.raises(TrainingError, match="numbers its tokens in another order than CLIP: 'a' differs"):
        tokenizers.read(tmp_path / "b.json")


def test_a_saved_tokenizer_is_the_same(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = tokenizers.read(tmp_path / "tokenizer.json")
    assert again.to_str() == tokenizer.to_str()
    assert tokenizers.rows(again, CAPTIONS + ODD, 29) == tokenizers.rows(tokenizer, CAPTIONS + ODD, 29)


@pytest.mark.parity
def test_transformers_clip_tokenizer_gives_the_same_numbers(tmp_path: Path, shared_dir: Path) -> None:
    transformers = pytest.importorskip("transformers")
    lines = (shared_dir / "data" / "flickr8k_1000" / "captions.txt").read_text(encoding="utf-8").splitlines()
    texts = [line.split(",", 1)[1] for line in lines] + CAPTIONS + ODD
    learned = tokenizers.learn(texts[:1000], 2048)
    document = json.loads(learned.to_str())
    theirs = transformers.CLIPTokenizer(vocab=document["model"]["vocab"], merges=merges(learned))
    assert theirs(texts)["input_ids"] == [encoding.ids for encoding in learned.encode_batch(texts)]
