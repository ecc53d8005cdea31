"""MetaCLIP 2's checkpoints have CLIP's names and a vocabulary for all languages; a reader tells them apart."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import vitseek
from tests.preprocess.tokenizer_files import xlm_file
from vitseek.models.config import ViTConfig, parameter_shapes
from vitseek.models.text import TextConfig, text_parameter_shapes
from vitseek.weights.families.clip import TRANSFORMERS
from vitseek.weights.loader import load_weights

IMAGE = ViTConfig(
    embed_dim=22, depth=2, num_heads=2, patch_size=8, img_size=(24, 24), hidden_dim=31, patch_bias=False, pre_norm=True,
    norm_eps=1e-5, mlp_layer="quick-gelu", embedding_dim=17,
)  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, TextConfig]:
    text = xlm_file(tmp_path / "tokenizer.json")
    text = TextConfig.from_dict({**text.to_dict(), "mlp_layer": "quick-gelu"})
    arrays: dict[str, np.ndarray] = {"logit_scale": np.asarray(4.0, dtype=np.float32)}
    for name, shape in {**parameter_shapes(IMAGE), **text_parameter_shapes(text)}.items():
        parts = TRANSFORMERS.parts(name)
        prefix = "" if name.startswith(("text.", "projection.")) else "vision_model."
        flat = {"cls_token": (22,), "pos_embed": (10, 22)}.get(name, (shape[0] // len(parts), *shape[1:]))
        for part in parts:
            arrays[prefix + part] = (rng.standard_normal(flat) * 0.3).astype(np.float32)
    save_file(arrays, tmp_path / "model.safetensors")
    vision = {"image_size": 24, "patch_size": 8, "num_attention_heads": 2, "hidden_act": "quick_gelu"}
    words = {"num_attention_heads": 3, "hidden_act": "quick_gelu", "bos_token_id": 0, "eos_token_id": 2}
    document = {"model_type": "metaclip_2", "vision_config": vision, "text_config": words}
    (tmp_path / "config.json").write_text(json.dumps(document))
    return tmp_path, text


def test_two_is_the_end_of_a_text_and_not_a_leftover(repository: tuple[Path, TextConfig]) -> None:
    folder, text = repository
    loaded = load_weights(folder)
    assert loaded.config == IMAGE
    assert loaded.text is not None
    assert loaded.text.config == text
    assert (text.pooling, text.bos_token_id, text.eos_token_id, text.pad_token_id) == ("eos", 0, 2, 1)


def test_words_of_all_languages_meet_pictures(repository: tuple[Path, TextConfig]) -> None:
    model = vitseek.load(repository[0])
    found = model.embed_texts(["a red dress", "猫", "قطة"])
    assert found.shape == (3, 17)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert model.embed_pixels(np.zeros((1, 3, 24, 24), dtype=np.float32)).shape == (1, 17)
