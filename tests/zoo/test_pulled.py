"""A model of the zoo from the hub to its first text: pulled by another library's name, then used without a network."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vitseek
from tests.weights.checkpoints import save_safetensors
from tests.weights.hub_server import Hub, serve
from tests.weights.towers import random_towers, transformers_siglip
from vitseek.errors import TokenizerError
from vitseek.models.config import ViTConfig
from vitseek.weights import transfer
from vitseek.weights.hub import folder
from vitseek.zoo import ZOO, HubSource, ZooRow

pytestmark = pytest.mark.server

NAME, ALIAS = "siglip-large", "google/siglip-large-patch16-256"
TOKENIZER = Path(__file__).parents[1] / "fixtures" / "tiny-clip" / "tiny-clip-tokenizer.json"


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> ZooRow:
    """The zoo's row with towers of one narrow block, so that the file is small, and the tokenizer that is at hand."""
    row = ZOO[NAME]
    assert isinstance(row.config, ViTConfig)
    assert row.text is not None
    config = dataclasses.replace(row.config, embed_dim=64, depth=1, num_heads=1, hidden_dim=9)
    text = dataclasses.replace(
        row.text, width=64, depth=1, num_heads=1, hidden_dim=7, embedding_dim=64, vocab_size=640, cleaning="none",
        eos_token_id=639, pad_token_id=639,
    )  # fmt: skip
    small = dataclasses.replace(row, config=config, text=text)
    monkeypatch.setitem(ZOO.__dict__, "_rows", {**ZOO, NAME: small})
    return small


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, private_home: Path, row: ZooRow, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(private_home / "hf"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr(transfer, "BACKOFF_S", 0.01)
    assert isinstance(row.config, ViTConfig)
    params = random_towers(row.config, row.text, np.random.default_rng(5), bias=True)
    weights = save_safetensors(tmp_path / "model.safetensors", transformers_siglip(params)).read_bytes()
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        running.files = {f"{ALIAS}/model.safetensors": weights, f"{ALIAS}/tokenizer.json": TOKENIZER.read_bytes()}
        yield running


def test_a_model_pulled_by_its_other_name_reads_texts_without_a_network(hub: Hub) -> None:
    pulled = vitseek.load(ALIAS)
    assert (pulled.name, pulled.has_text) == (NAME, True)
    hub.requests.clear()
    offline = vitseek.load(NAME, offline=True)
    np.testing.assert_array_equal(offline.embed_texts("a red circle"), pulled.embed_texts("a red circle"))
    assert hub.requests == []


def test_without_its_tokenizer_it_embeds_pictures_and_says_how_to_get_texts(hub: Hub, row: ZooRow) -> None:
    del hub.files[f"{ALIAS}/tokenizer.json"]
    model = vitseek.load(NAME)
    assert isinstance(row.source, HubSource)
    assert not (folder(row.source) / "tokenizer.json").exists()
    assert model.embed_pixels(np.zeros((1, 3, 256, 256), np.float32)).shape == (1, 64)
    with pytest.raises(TokenizerError, match="vitseek models pull"):
        model.embed_texts("a red circle")
