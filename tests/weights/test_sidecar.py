"""The description beside the weights: vitseek's, transformers' and timm's."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.weights.checkpoints import SMALL, random_params, save_safetensors, transformers_dinov2, transformers_vit
from vitseek.errors import ConfigError
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.loader import load_weights
from vitseek.weights.sidecar import read_sidecar

HEAD = dataclasses.replace(SMALL, num_classes=3)


def write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document))


def own(config: Any = HEAD) -> dict[str, Any]:
    return {
        "format": "vitseek",
        "version": 1,
        "name": "my-model",
        "config": config.to_dict(),
        "preprocessing": ImagePreprocessing(size_px=35, resize_px=41, patch_size_px=5).to_dict(),
        "pooling": "patch-mean",
        "labels": ["ant", "bee", "cow"],
    }


@pytest.mark.parametrize("name", ["config.json", "model.json"])
def test_our_own_description_says_everything(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    config = dataclasses.replace(HEAD, num_heads=2, pos_resize="bicubic-offset", norm_eps=1e-5)
    save_safetensors(tmp_path / "model.safetensors", random_params(config, rng))
    write(tmp_path / name, own(config))
    loaded = load_weights(tmp_path)
    assert loaded.config == config
    assert (loaded.name, loaded.pooling, loaded.labels) == ("my-model", "patch-mean", ["ant", "bee", "cow"])
    assert ImagePreprocessing.from_dict(loaded.preprocessing or {}).resize_px == 41
    assert loaded.notes == []


def test_the_description_of_the_same_name_goes_before_config_json(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {**own(), "name": "another"})
    write(tmp_path / "model.json", own())
    assert read_sidecar(tmp_path / "model.safetensors").name == "my-model"
    assert read_sidecar(tmp_path / "other.safetensors").name == "another"


def test_a_description_of_another_model_is_named_in_the_error(tmp_path: Path, rng: np.random.Generator) -> None:
    save_safetensors(tmp_path / "model.safetensors", random_params(SMALL, rng))
    write(tmp_path / "config.json", own(dataclasses.replace(SMALL, depth=3)))
    with pytest.raises(Exception, match=r"config\.json:\n  12 missing:\n    blocks\.2\.norm1\.weight"):
        load_weights(tmp_path)


def test_transformers_config_fills_in_what_shapes_cannot_tell(tmp_path: Path, rng: np.random.Generator) -> None:
    config = dataclasses.replace(HEAD, num_heads=2, norm_eps=1e-7, pos_resize="bicubic")
    save_safetensors(tmp_path / "model.safetensors", transformers_vit(random_params(config, rng), prefix="vit."))
    write(
        tmp_path / "config.json",
        {
            "model_type": "vit",
            "num_attention_heads": 2,
            "layer_norm_eps": 1e-7,
            "image_size": 35,
            "patch_size": 5,
            "id2label": {"0": "ant", "2": "cow", "1": "bee"},
        },
    )
    loaded = load_weights(tmp_path)
    assert loaded.config == config
    assert loaded.labels == ["ant", "bee", "cow"]
    assert loaded.preprocessing is None


def test_defaults_of_transformers_are_its_own(tmp_path: Path, rng: np.random.Generator) -> None:
    save_safetensors(tmp_path / "model.safetensors", transformers_dinov2(random_params(
        dataclasses.replace(SMALL, num_heads=12, layer_scale=True), rng)))  # fmt: skip
    write(tmp_path / "config.json", {"model_type": "dinov2"})
    config = load_weights(tmp_path).config
    assert (config.num_heads, config.norm_eps, config.pos_resize) == (12, 1e-6, "bicubic")


def test_placeholder_labels_are_no_labels(tmp_path: Path, rng: np.random.Generator) -> None:
    save_safetensors(tmp_path / "model.safetensors", transformers_vit(random_params(HEAD, rng), prefix="vit."))
    labels = {str(number): f"LABEL_{number}" for number in range(3)}
    write(tmp_path / "config.json", {"model_type": "vit", "num_attention_heads": 3, "id2label": labels})
    assert load_weights(tmp_path).labels is None


@pytest.mark.parametrize(
    ("processor", "wanted"),
    [
        (  # facebook/dinov2-*
            {
                "crop_size": {"height": 224, "width": 224},
                "do_center_crop": True,
                "do_convert_rgb": True,
                "do_normalize": True,
                "do_rescale": True,
                "do_resize": True,
                "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225],
                "resample": 3,
                "size": {"shortest_edge": 256},
            },
            ImagePreprocessing(patch_size_px=5),
        ),
        (  # google/vit-base-patch16-224
            {
                "do_normalize": True,
                "do_resize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "size": 224,
            },
            ImagePreprocessing(
                resize="exact",
                resize_px=224,
                interpolation="bilinear",
                mean=(0.5,) * 3,
                std=(0.5,) * 3,
                patch_size_px=5,
            ),
        ),
        (  # facebook/deit-*
            {
                "crop_size": 224,
                "do_center_crop": True,
                "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225],
                "resample": 3,
                "size": 256,
            },
            ImagePreprocessing(resize="exact", patch_size_px=5),
        ),
    ],
)
def test_transformers_processors_become_preprocessing(
    processor: dict[str, Any], wanted: ImagePreprocessing, tmp_path: Path
) -> None:
    write(tmp_path / "config.json", {"model_type": "vit", "patch_size": 5})
    write(tmp_path / "preprocessor_config.json", processor)
    found = read_sidecar(tmp_path / "model.safetensors").preprocessing
    assert ImagePreprocessing.from_dict(found or {}) == wanted


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        ({"do_resize": False}, "switches resizing or normalising off"),
        ({"size": {"height": 224, "width": 200}}, "must be one number of pixels or a square"),
        ({"size": {"shortest_edge": "many"}}, "must be one number of pixels or a square"),
        ({"image_mean": 0.5}, "a value of the wrong kind"),
    ],
)
def test_a_processor_that_cannot_be_followed_is_refused(processor: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write(tmp_path / "config.json", {"model_type": "vit"})
    write(tmp_path / "preprocessor_config.json", processor)
    with pytest.raises(ConfigError, match=reason):
        read_sidecar(tmp_path / "model.safetensors")


def test_timm_config_gives_grid_and_preprocessing(tmp_path: Path, rng: np.random.Generator) -> None:
    save_safetensors(tmp_path / "model.safetensors", random_params(HEAD, rng))
    write(
        tmp_path / "config.json",
        {
            "architecture": "vit_tiny_patch16_224",
            "num_classes": 3,
            "pretrained_cfg": {
                "input_size": [3, 35, 35],
                "interpolation": "bicubic",
                "crop_pct": 0.9,
                "crop_mode": "center",
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
            },
        },
    )
    loaded = load_weights(tmp_path)
    assert loaded.config == HEAD
    wanted = ImagePreprocessing(
        size_px=35, resize_px=38, mean=(0.5,) * 3, std=(0.5,) * 3, patch_size_px=5, crop_rounding="half-even"
    )
    assert ImagePreprocessing.from_dict({**(loaded.preprocessing or {}), "patch_size_px": 5}) == wanted


def test_a_config_that_was_given_does_not_stumble_over_the_one_beside(tmp_path: Path, rng: np.random.Generator) -> None:
    path = save_safetensors(tmp_path / "model.safetensors", random_params(SMALL, rng))
    write(tmp_path / "config.json", {"model_type": "llama"})
    loaded = load_weights(path, config=SMALL)
    assert any("description beside the weights is not used" in note for note in loaded.notes)
