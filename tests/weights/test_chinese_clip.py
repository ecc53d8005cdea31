"""Chinese-CLIP's checkpoints: names, config and tokenizer as its repositories have them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import vitseek
from tests.preprocess.tokenizer_files import bert_vocabulary
from vitseek.errors import TokenizerError, WeightsKeyError
from vitseek.models.text import TextConfig
from vitseek.weights.loader import load_weights

WIDTH, HIDDEN, POSITIONS, EMBEDDING = 26, 37, 29, 17
VISION: dict[str, Any] = {
    "hidden_size": 22, "intermediate_size": 31, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 24,
    "patch_size": 8, "hidden_act": "quick_gelu",
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "max_position_embeddings": POSITIONS, "type_vocab_size": 2,
    "vocab_size": 182, "pad_token_id": 0,
}  # fmt: skip


def vocabulary() -> list[str]:
    """bert-base-chinese's numbers for the special tokens: [PAD] 0, [UNK] 100, [CLS] 101, [SEP] 102, [MASK] 103."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    others = [token for token in bert_vocabulary() if token not in ("[PAD]", *special)]
    return ["[PAD]", *others[:99], *special, *others[99:]]


def state(rng: np.random.Generator, *, width: int = WIDTH, image: int = 22) -> dict[str, np.ndarray]:
    """The names that transformers' ChineseCLIPModel saves."""
    shapes: dict[str, tuple[int, ...]] = {
        "logit_scale": (),
        "text_projection.weight": (EMBEDDING, width),
        "visual_projection.weight": (EMBEDDING, image),
        "text_model.embeddings.word_embeddings.weight": (182, width),
        "text_model.embeddings.position_embeddings.weight": (POSITIONS, width),
        "text_model.embeddings.token_type_embeddings.weight": (2, width),
        "vision_model.embeddings.class_embedding": (image,),
        "vision_model.embeddings.patch_embedding.weight": (image, 3, 8, 8),
        "vision_model.embeddings.position_embedding.weight": (10, image),
    }

    def both(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    both("text_model.embeddings.LayerNorm", width)
    for index in range(2):
        layer = f"text_model.encoder.layer.{index}"
        for part in ("query", "key", "value"):
            both(f"{layer}.attention.self.{part}", width, width)
        both(f"{layer}.attention.output.dense", width, width)
        both(f"{layer}.attention.output.LayerNorm", width)
        both(f"{layer}.intermediate.dense", HIDDEN, width)
        both(f"{layer}.output.dense", width, HIDDEN)
        both(f"{layer}.output.LayerNorm", width)
        layer = f"vision_model.encoder.layers.{index}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            both(f"{layer}.self_attn.{part}", image, image)
        both(f"{layer}.layer_norm1", image)
        both(f"{layer}.layer_norm2", image)
        both(f"{layer}.mlp.fc1", 31, image)
        both(f"{layer}.mlp.fc2", image, 31)
    both("vision_model.pre_layrnorm", image)
    both("vision_model.post_layernorm", image)
    return {name: np.asarray(rng.standard_normal(shape) * 0.3, dtype=np.float32) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A repository as the authors lay it out, with the weights converted."""
    arrays = state(rng)
    arrays["logit_scale"] = np.asarray(4.6052, dtype=np.float32)
    save_file(arrays, tmp_path / "model.safetensors")
    document = {"model_type": "chinese_clip", "vision_config": VISION, "text_config": TEXT, "projection_dim": EMBEDDING}
    (tmp_path / "config.json").write_text(json.dumps(document))
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    return tmp_path


def test_a_repository_becomes_both_towers(folder: Path) -> None:
    loaded = load_weights(folder)
    assert loaded.naming == "transformers-chinese-clip"
    assert loaded.pooling == "embedding"
    assert loaded.text is not None
    assert loaded.text.config == TextConfig(
        vocab_size=182, context_length=POSITIONS, width=WIDTH, depth=2, num_heads=2, hidden_dim=HIDDEN, causal=False,
        norm_first=False, embed_norm=True, token_types=2, pooling="first", embedding_dim=EMBEDDING, norm_eps=1e-12,
        bos_token_id=101, eos_token_id=102, pad_token_id=0,
    )  # fmt: skip
    assert loaded.text.tokenizer == folder / "vocab.txt"


def test_chinese_words_meet_pictures(folder: Path) -> None:
    model = vitseek.load(folder)
    assert model.has_text
    assert model.logit_scale == pytest.approx(100, rel=1e-4)
    said: list[str] = []
    found = model.embed_texts(["一张红色连衣裙的照片", "red dress", "🦩"], report=said.append)
    assert found.shape == (3, EMBEDDING)
    assert model.embed_pixels(np.zeros((1, 3, 24, 24), dtype=np.float32)).shape == (1, EMBEDDING)
    assert said == ['"🦩": every token is unknown to the model, which cannot tell unknown ones apart']


def test_without_a_config_names_and_shapes_decide(folder: Path, rng: np.random.Generator) -> None:
    (folder / "config.json").unlink()
    save_file(state(rng, width=64, image=64), folder / "model.safetensors")  # 64 dimensions a head, as published
    loaded = load_weights(folder)
    assert loaded.naming == "transformers-chinese-clip"
    assert loaded.text is not None
    config = loaded.text.config
    assert (config.width, config.num_heads, config.norm_first, config.pooling) == (64, 1, False, "first")
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (101, 102, 0)
    assert loaded.text.tokenizer == folder / "vocab.txt"
    assert vitseek.load(folder).embed_texts("红色连衣裙").shape == (1, EMBEDDING)


def test_a_tokenizer_json_goes_before_the_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    loaded = load_weights(folder)
    assert loaded.text is not None
    assert loaded.text.tokenizer == folder / "tokenizer.json"


def test_the_vocabulary_of_another_model_is_refused(folder: Path) -> None:
    """A known trap: a converted repository that came with another model's vocab.txt made every query the same."""
    tokens = vocabulary()
    (folder / "vocab.txt").write_text("\n".join(tokens[:100]) + "\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"the start of a text, token 101, is None there|\[UNK\]"):
        vitseek.load(folder).embed_texts("红色")
    shuffled = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(t for t in tokens if not re.match(r"\[[A-Z]+\]", t))]
    (folder / "vocab.txt").write_text("\n".join(shuffled) + "\n", encoding="utf-8")
    with pytest.raises(
        TokenizerError, match=r"the start of a text, token 101, is '.*' there, which is no special token"
    ):
        vitseek.load(folder).embed_texts("红色")


def test_a_missing_part_of_the_text_tower_is_named(folder: Path, rng: np.random.Generator) -> None:
    arrays = state(rng)
    del arrays["text_model.encoder.layer.1.attention.self.key.weight"]
    save_file(arrays, folder / "model.safetensors")
    with pytest.raises(WeightsKeyError, match=r"text_model\.encoder\.layer\.1\.attention\.self\.key\.weight"):
        load_weights(folder)


def test_an_old_checkpoint_with_a_pooler_loads_without_it(folder: Path, rng: np.random.Generator) -> None:
    arrays = state(rng)
    arrays["text_model.pooler.dense.weight"] = np.zeros((WIDTH, WIDTH), dtype=np.float32)
    arrays["text_model.pooler.dense.bias"] = np.zeros(WIDTH, dtype=np.float32)
    arrays["text_model.embeddings.position_ids"] = np.arange(POSITIONS)[None]
    save_file(arrays, folder / "model.safetensors")
    loaded = load_weights(folder)
    assert any("pooler" in note for note in loaded.notes)
