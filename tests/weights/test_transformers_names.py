"""Checkpoints that transformers itself writes are loaded value for value, under the old and the new names."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitseek.models.config import parameter_shapes
from vitseek.weights.loader import load_weights

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def torch() -> Any:
    # Not at the top: the default run collects this file too, and must not pay for the import.
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers(torch: Any) -> Any:
    return pytest.importorskip("transformers")


SIZES = {
    "hidden_size": 21,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 35,
    "patch_size": 5,
    "id2label": {0: "ant", 1: "bee", 2: "cow", 3: "dog", 4: "eel"},
}
VIT = {**SIZES, "intermediate_size": 11}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("ViTForImageClassification", "ViTConfig", VIT),
    "vit without head": ("ViTModel", "ViTConfig", VIT),
    "vit without qkv bias": ("ViTForImageClassification", "ViTConfig", {**VIT, "qkv_bias": False}),
    "deit": ("DeiTForImageClassification", "DeiTConfig", VIT),
    "deit with teacher": ("DeiTForImageClassificationWithTeacher", "DeiTConfig", VIT),
    "dinov2": ("Dinov2Model", "Dinov2Config", SIZES),
    "dinov2 with head": ("Dinov2ForImageClassification", "Dinov2Config", SIZES),
    "dinov2 giant": ("Dinov2Model", "Dinov2Config", {**SIZES, "use_swiglu_ffn": True}),
    "registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {**SIZES, "num_register_tokens": 4}),
    "registers with head": (
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        {**SIZES, "num_register_tokens": 4, "use_swiglu_ffn": True},
    ),
}


@pytest.fixture(params=MODELS, ids=lambda name: name.replace(" ", "-"))
def model(request: pytest.FixtureRequest, torch: Any, transformers: Any) -> Any:
    architecture, config, values = MODELS[request.param]
    torch.manual_seed(3)
    made = getattr(transformers, architecture)(getattr(transformers, config)(**values)).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # zeros and ones would hide a mix-up
            parameter.normal_()
    return made


def test_a_saved_and_a_held_model_give_the_same_parameters(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "saved")
    held = tmp_path / "held"
    held.mkdir()
    np.savez(held / "model.npz", **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
    (held / "config.json").write_text((tmp_path / "saved" / "config.json").read_text())
    old, new = load_weights(tmp_path / "saved"), load_weights(held)
    assert (old.naming + "-5") == new.naming
    assert old.config == new.config
    assert old.params.keys() == new.params.keys() == parameter_shapes(old.config).keys()
    for name, array in old.params.items():
        np.testing.assert_array_equal(array, new.params[name], err_msg=name)


def test_every_parameter_of_the_model_is_used_or_named_as_left_out(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = load_weights(tmp_path)
    used = sum(array.size for array in loaded.params.values())
    there = {name: parameter.numel() for name, parameter in model.named_parameters()}
    unused = (
        "mask_token",
        "pooler",
        *(["classifier"] if loaded.config.distilled and not loaded.config.num_classes else []),
    )
    left_out = sum(size for name, size in there.items() if any(part in name for part in unused))
    assert used + left_out == sum(there.values())
    assert any("left out" in note for note in loaded.notes) is (left_out > 0)


def test_the_config_is_the_models(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    config, theirs = load_weights(tmp_path).config, model.config
    assert (config.embed_dim, config.depth, config.num_heads) == (21, 2, 3)
    assert (config.img_size, config.patch_size) == ((35, 35), 5)
    assert config.norm_eps == theirs.layer_norm_eps
    assert config.qkv_bias == theirs.qkv_bias
    assert config.num_registers == getattr(theirs, "num_register_tokens", 0)
    assert (config.mlp_layer == "swiglu") == getattr(theirs, "use_swiglu_ffn", False)
    named = type(model).__name__
    # DeiTForImageClassification has a distillation token, but one head only: vitseek leaves that head out.
    assert (config.num_classes > 0) == ("Classification" in named and named != "DeiTForImageClassification")
    assert config.distilled == named.startswith("DeiT")
    assert (config.head_input == "cls+patch-mean") == (named.startswith("Dinov2") and config.num_classes > 0)


def test_sharded_checkpoints_of_transformers_load(tmp_path: Path, torch: Any, transformers: Any) -> None:
    torch.manual_seed(3)
    model = transformers.Dinov2Model(transformers.Dinov2Config(**SIZES))
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    index = json.loads((tmp_path / "shards" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    whole, shards = load_weights(tmp_path / "whole"), load_weights(tmp_path / "shards")
    assert dataclasses.asdict(whole.config) == dataclasses.asdict(shards.config)
    for name, array in whole.params.items():
        np.testing.assert_array_equal(array, shards.params[name], err_msg=name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened_exactly(dtype: str, tmp_path: Path, torch: Any, transformers: Any) -> None:
    torch.manual_seed(3)
    model = transformers.ViTModel(transformers.ViTConfig(**VIT)).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    loaded = load_weights(tmp_path)
    wanted = model.embeddings.patch_embeddings.projection.weight.detach().float().numpy()
    np.testing.assert_array_equal(loaded.params["patch_embed.proj.weight"], wanted)
    assert {array.dtype for array in loaded.params.values()} == {np.dtype(np.float32)}
