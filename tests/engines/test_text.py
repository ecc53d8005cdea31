"""Texts through a model: what it returns, what it says, and whom it refuses."""

import dataclasses
import json
import math
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import vitseek
from tests.engines.two_towers import TWO_TOWERS, loaded_towers, model_of
from vitseek.errors import ConfigError, EmptyTextError, TextUnsupportedError, TokenizerError, WeightsError
from vitseek.models.text import encode
from vitseek.preprocess.text import Tokenizer

TINY = Path(__file__).parents[1] / "fixtures" / "tiny-clip"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A copy of the tiny two-tower model to spoil; the weights file in it."""
    shutil.copytree(TINY, tmp_path / "tiny-clip")
    return tmp_path / "tiny-clip" / "tiny-clip.safetensors"


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_a_model_embeds_texts_as_its_tower_does(name: str, tmp_path: Path) -> None:
    loaded = loaded_towers(name, tmp_path)
    model = model_of(loaded)
    texts = ["a red dress", "DOG!", "一张猫的照片", "a photo " * 100]
    ids, mask = Tokenizer.from_file(loaded.text.tokenizer, config=loaded.text.config)(texts)
    params = {key: value.astype(np.float64) for key, value in loaded.text.params.items()}
    wanted = encode(params, loaded.text.config, ids, mask)
    found = model.embed_texts(texts)
    assert found.shape == (4, model.embed_dim)
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(model.embed_texts(texts[0]), found[:1], rtol=0, atol=1e-5)
    assert model.has_text
    assert model.text_config == loaded.text.config


def test_a_text_alone_and_among_others_is_the_same(tmp_path: Path) -> None:
    for name in TWO_TOWERS:
        model = model_of(loaded_towers(name, tmp_path))
        together = model.embed_texts(["a red dress", "dog", "a photo of the beach at night with a running cat"])
        for place, text in enumerate(("a red dress", "dog")):
            np.testing.assert_allclose(model.embed_texts([text])[0], together[place], rtol=0, atol=2e-5)


def test_no_texts_give_no_embeddings(tmp_path: Path) -> None:
    assert model_of(loaded_towers("clip", tmp_path)).embed_texts([]).shape == (0, 17)


def test_temperature_and_bias_come_as_the_formula_wants_them(tmp_path: Path) -> None:
    clip, siglip = (model_of(loaded_towers(name, tmp_path)) for name in ("clip", "siglip"))
    assert clip.logit_scale == pytest.approx(100)
    assert clip.logit_bias is None
    assert siglip.logit_scale == pytest.approx(math.exp(2.5))
    assert siglip.logit_bias == -11.5
    pictures_only = vitseek.load()
    assert pictures_only.logit_scale is None
    assert pictures_only.logit_bias is None


@pytest.mark.parametrize("stored", [1000.0, math.nan, math.inf])
def test_a_temperature_beyond_reason_is_refused(stored: float, tmp_path: Path) -> None:
    loaded = loaded_towers("clip", tmp_path)
    model = model_of(dataclasses.replace(loaded, text=dataclasses.replace(loaded.text, logit_scale=stored)))
    with pytest.raises(WeightsError, match=rf"towers: the temperature of its towers, exp\({stored}\), is no usable"):
        _ = model.logit_scale


def test_the_tiny_model_finds_its_words(tiny: Path) -> None:
    model = vitseek.load(tiny)
    assert model.has_text
    found = model.embed_texts(["a cat", "a house"])
    assert found.shape == (2, model.embed_dim)
    assert np.isfinite(found).all()


def test_a_model_of_pictures_alone_names_the_way_out() -> None:
    model = vitseek.load()
    assert not model.has_text
    assert model.text_config is None
    with pytest.raises(TextUnsupportedError, match=r"vitseek-tiny does not read text.*vitseek index FOLDER --model"):
        model.embed_texts("a red dress")


def test_features_of_another_pooling_cannot_meet_words(tiny: Path) -> None:
    model = vitseek.load(tiny, pooling="cls")
    assert not model.has_text
    with pytest.raises(TextUnsupportedError, match="tiny-clip reads text, but was loaded with pooling 'cls'"):
        model.embed_texts("a red dress")


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_an_empty_text_is_refused(text: str, tiny: Path) -> None:
    with pytest.raises(EmptyTextError, match='the text "" has no word for the model: it is empty'):
        vitseek.load(tiny).embed_texts(["a dog", text])


def test_what_was_cut_or_unknown_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    model_of(loaded_towers("siglip", tmp_path)).embed_texts(["dog 龘", "dog " * 99], report=said.append)
    assert len(said) == 2
    assert "unknown to the model" in said[0]
    assert "cut after 64 tokens" in said[1]


def test_images_need_no_tokenizer_and_texts_say_where_it_is_missing(tiny: Path) -> None:
    tiny.with_name("tiny-clip-tokenizer.json").unlink()
    model = vitseek.load(tiny)
    assert model.embed_pixels(np.zeros((1, 3, 48, 48), dtype=np.float32)).shape == (1, model.embed_dim)
    with pytest.raises(TokenizerError, match=r"no tokenizer at .*tiny-clip-tokenizer.json"):
        model.embed_texts("a dog")
    description = tiny.with_suffix(".json")
    document = json.loads(description.read_text())
    del document["tokenizer"]
    description.write_text(json.dumps(document))
    with pytest.raises(TokenizerError, match="tiny-clip has a text tower, but no tokenizer beside it"):
        vitseek.load(tiny).embed_texts("a dog")


def test_a_failed_first_text_does_not_spoil_the_second(tiny: Path) -> None:
    place = tiny.with_name("tiny-clip-tokenizer.json")
    content = place.read_bytes()
    place.write_bytes(content[:1000])
    model = vitseek.load(tiny)
    with pytest.raises(TokenizerError, match="damaged"):
        model.embed_texts("a dog")
    place.write_bytes(content)
    assert model.embed_texts("a dog").shape == (1, model.embed_dim)


@pytest.mark.parametrize(("value", "said"), [(0.0, "zeros alone"), (np.nan, "something that is not a number")])
def test_weights_of_zero_or_of_nothing_are_no_embedding(value: float, said: str, tmp_path: Path) -> None:
    loaded = loaded_towers("clip", tmp_path)
    empty = {name: np.full_like(array, value) for name, array in loaded.text.params.items()}
    model = model_of(dataclasses.replace(loaded, text=dataclasses.replace(loaded.text, params=empty)))
    with pytest.raises(WeightsError, match=f'the text tower of towers makes {said} of "a dog": its weights are empty'):
        model.embed_texts(["a dog"])


def test_the_text_tower_is_read_at_the_first_text_only(tmp_path: Path) -> None:
    loaded = loaded_towers("clip", tmp_path)
    read: list[str] = []

    class Watched(dict):
        def __getitem__(self, name: str) -> np.ndarray:
            read.append(name)
            return super().__getitem__(name)

    loaded = dataclasses.replace(loaded, text=dataclasses.replace(loaded.text, params=Watched(loaded.text.params)))
    model = model_of(loaded)
    model.embed_pixels(np.zeros((1, 3, 16, 16), dtype=np.float32))
    assert read == []
    model.embed_texts("a dog")
    assert "text.token_embed.weight" in read


def test_threads_open_the_text_side_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(loaded_towers("clip", tmp_path))
    opened: list[object] = []
    usual = Tokenizer.from_file
    monkeypatch.setattr(Tokenizer, "from_file", lambda *args, **more: opened.append(1) or usual(*args, **more))
    wanted = model_of(loaded_towers("clip", tmp_path)).embed_texts("a red dress")
    opened.clear()
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(model.embed_texts("a red dress"))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    for embedding in found:
        np.testing.assert_allclose(embedding, wanted, rtol=0, atol=1e-5)
    assert len(found) == 5


def test_towers_of_different_lengths_do_not_belong_together(tmp_path: Path) -> None:
    loaded = loaded_towers("clip", tmp_path)
    text = dataclasses.replace(loaded.text, config=dataclasses.replace(loaded.text.config, embedding_dim=19))
    with pytest.raises(ConfigError, match="pictures become 17 numbers and texts 19"):
        model_of(dataclasses.replace(loaded, text=text))
