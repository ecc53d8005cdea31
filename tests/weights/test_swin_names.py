"""Swin checkpoints as microsoft, timm and transformers write them, down to the config."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.models.random_swin import random_swin_params
from tests.weights.checkpoints import save_safetensors
from vitseek.errors import ConfigError, WeightsError, WeightsKeyError
from vitseek.models.swin_config import SwinConfig
from vitseek.weights.families import FAMILIES
from vitseek.weights.loader import load_weights

Arrays = dict[str, np.ndarray]
SMALL = SwinConfig(
    embed_dim=14, depths=(2, 3, 2), num_heads=(2, 4, 7), window_size=3, patch_size=5, img_size=(60, 60),
    mlp_ratio=2.5, num_classes=11,
)  # fmt: skip


def microsoft(params: Arrays, *, prefix: str = "", buffers: bool = True) -> Arrays:
    """microsoft's names, and timm's before 0.9: merging belongs to the stage before; buffers are stored."""
    renamed = {}
    for name, array in params.items():
        words = name.split(".")
        if words[2:3] == ["downsample"]:
            words[1] = str(int(words[1]) - 1)
        renamed[prefix + ".".join(words).replace("head.fc", "head")] = array
        if buffers and name.endswith("relative_position_bias_table"):
            block = prefix + ".".join(words[:4])
            renamed[f"{block}.attn.relative_position_index"] = np.zeros((9, 9), np.int64)
            if words[3] == "1":
                renamed[f"{block}.attn_mask"] = np.zeros((16, 9, 9), np.float32)
    return renamed


def transformers(params: Arrays, *, release: int, prefix: str = "swin.", head: str = "classifier") -> Arrays:
    renamed = {}
    for name, array in microsoft(params, buffers=False).items():
        if name.startswith("head."):
            renamed[f"{head}.{name.rpartition('.')[2]}"] = array
            continue
        for old, new in (
            ("patch_embed.proj", "embeddings.patch_embeddings.projection"), ("patch_embed.norm", "embeddings.norm"),
            ("layers.", "encoder.layers."), ("norm1", "layernorm_before"), ("norm2", "layernorm_after"),
        ):  # fmt: skip
            name = name.replace(old, new)
        if name.startswith("norm."):
            name = "layer" + name
        if release == 4:
            pairs = (("attn.relative", "attention.self.relative"), ("attn.proj", "attention.output.dense"),
                     ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"))  # fmt: skip
            parts = [f"attention.self.{part}" for part in ("query", "key", "value")]
        else:
            pairs = (("attn.relative", "attention.relative_position_bias.relative"), ("attn.proj", "attention.o_proj"))
            parts = [f"attention.{part}_proj" for part in "qkv"]
        for old, new in pairs:
            name = name.replace(old, new)
        if "attn.qkv" in name:
            for part, rows in zip(parts, np.split(array, 3), strict=True):
                renamed[prefix + name.replace("attn.qkv", part)] = rows
        else:
            renamed[prefix + name] = array
    if release == 4:
        index = "encoder.layers.0.blocks.0.attention.self.relative_position_index"
        renamed[prefix + index] = np.zeros((9, 9), np.int64)
    return renamed


WRITERS = {
    "timm": ("timm-swin", lambda params: params),
    "timm before 0.9": ("microsoft-swin", microsoft),
    "microsoft, wrapped": ("microsoft-swin", lambda params: microsoft(params, prefix="module.")),
    "microsoft, old merging without head": (
        "microsoft-swin",
        lambda params: microsoft({name: array for name, array in params.items() if "head" not in name}),
    ),
    "transformers 4": ("transformers-swin", lambda params: transformers(params, release=4)),
    "transformers 4, bare": (
        "transformers-swin",
        lambda params: transformers(
            {name: array for name, array in params.items() if "head" not in name}, release=4, prefix=""
        ),
    ),
    "transformers 5": ("transformers-swin-5", lambda params: transformers(params, release=5)),
}


@pytest.fixture
def params(rng: np.random.Generator) -> Arrays:
    return random_swin_params(SMALL, rng, np.float32)


@pytest.mark.parametrize("written", WRITERS)
def test_every_name_finds_its_place_and_the_config_is_inferred(written: str, params: Arrays, tmp_path: Path) -> None:
    naming, write = WRITERS[written]
    file = save_safetensors(tmp_path / "model.safetensors", write(params))
    loaded = load_weights(file)
    headless = "head.fc.weight" not in loaded.params
    assert headless == ("head" in written or "bare" in written)
    assert loaded.naming == naming
    # The picture's size is in no shape: the one whose last stage is one window is assumed and said.
    assert loaded.config == dataclasses.replace(SMALL, num_classes=0 if headless else 11)
    assert any("img_size = 60 px" in note for note in loaded.notes)
    assert loaded.pooling == "patch-mean"
    wanted = {name: array for name, array in params.items() if not (headless and name.startswith("head."))}
    assert loaded.params.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(loaded.params[name], array)


def test_transformers_config_decides_over_the_shapes(params: Arrays, tmp_path: Path) -> None:
    write_config(tmp_path, image_size=96, layer_norm_eps=1e-3, id2label={str(n): f"class {n}" for n in range(11)})
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"size": 224, "resample": 3, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.5, 0.5, 0.5]})
    )
    save_safetensors(tmp_path / "model.safetensors", transformers(params, release=4))
    loaded = load_weights(tmp_path)
    assert loaded.config == dataclasses.replace(SMALL, img_size=(96, 96), norm_eps=1e-3)
    assert loaded.labels == [f"class {n}" for n in range(11)]
    assert loaded.preprocessing is not None
    # No edge is cut off: a size that does not divide is padded.
    assert (loaded.preprocessing["size_px"], loaded.preprocessing["resize"]) == (224, "exact")
    assert loaded.preprocessing["patch_size_px"] == 20
    assert loaded.preprocessing["interpolation"] == "bicubic"


def test_timm_config_gives_the_pictures(params: Arrays, tmp_path: Path) -> None:
    pretrained = {"input_size": [3, 384, 384], "crop_pct": 1.0, "interpolation": "bicubic"}
    document = {"architecture": "swin_base_patch4_window12_384", "pretrained_cfg": pretrained}
    (tmp_path / "config.json").write_text(json.dumps(document))
    save_safetensors(tmp_path / "model.safetensors", params)
    loaded = load_weights(tmp_path)
    assert loaded.config == dataclasses.replace(SMALL, img_size=(384, 384))
    assert loaded.preprocessing is not None
    assert (loaded.preprocessing["size_px"], loaded.preprocessing["resize_px"]) == (384, 384)


def test_vitseeks_own_description_is_read_back(params: Arrays, tmp_path: Path) -> None:
    document = {"format": "vitseek", "version": 1, "name": "mine", "config": SMALL.to_dict(), "pooling": "gem"}
    (tmp_path / "mine.json").write_text(json.dumps(document))
    loaded = load_weights(save_safetensors(tmp_path / "mine.safetensors", params))
    assert (loaded.config, loaded.name, loaded.pooling) == (SMALL, "mine", "gem")


def write_config(folder: Path, **changes: object) -> None:
    values = {
        "model_type": "swin", "embed_dim": 14, "depths": [2, 3, 2], "num_heads": [2, 4, 7], "window_size": 3,
        "patch_size": 5, "image_size": 60, "mlp_ratio": 2.5, "layer_norm_eps": 1e-5,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**values, **changes}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_absolute_embeddings": True}, "absolute positions"),
        ({"hidden_act": "relu"}, "asks for the activation 'relu'"),
        ({"hidden_act": "quick_gelu"}, "computes exact 'gelu' here"),
        ({"num_channels": 1}, "1 colour channels"),
        ({"depths": 7}, "value of the wrong kind"),
    ],
)
def test_what_no_pass_computes_is_refused(
    change: dict[str, object], said: str, params: Arrays, tmp_path: Path
) -> None:  # fmt: skip
    write_config(tmp_path, **change)
    save_safetensors(tmp_path / "model.safetensors", transformers(params, release=4))
    with pytest.raises(ConfigError, match=said):
        load_weights(tmp_path)


def test_a_config_that_contradicts_the_weights_is_told_with_both_shapes(params: Arrays, tmp_path: Path) -> None:
    write_config(tmp_path, window_size=7)
    save_safetensors(tmp_path / "model.safetensors", transformers(params, release=4))
    with pytest.raises(WeightsKeyError) as failure:
        load_weights(tmp_path)
    text = str(failure.value)
    assert "7 of another shape" in text
    assert "attention.self.relative_position_bias_table has (25, 2), wanted (169, 2)" in text


@pytest.mark.parametrize("shape", [(24, 2), (16, 2), (25,), (0, 2), (5, 5, 2)])
def test_a_table_that_fits_no_window_is_told(shape: tuple[int, ...], params: Arrays, tmp_path: Path) -> None:
    params["layers.0.blocks.0.attn.relative_position_bias_table"] = np.zeros(shape, np.float32)
    file = save_safetensors(tmp_path / "model.safetensors", params)
    with pytest.raises(WeightsError, match=r"fits no window|layers\.0\.blocks\.0\.attn\.relative_position_bias_table"):
        load_weights(file)


def test_one_misshapen_table_is_told_by_name(params: Arrays, tmp_path: Path) -> None:
    params["layers.1.blocks.2.attn.relative_position_bias_table"] = np.zeros((49, 4), np.float32)
    file = save_safetensors(tmp_path / "model.safetensors", params)
    with pytest.raises(WeightsKeyError, match=r"blocks\.2\.\S*table has \(49, 4\), wanted \(25, 4\)"):
        load_weights(file)


def test_missing_and_foreign_names_are_all_listed(params: Arrays, tmp_path: Path) -> None:
    del params["layers.2.downsample.reduction.weight"]
    del params["layers.1.blocks.1.mlp.fc2.bias"]
    params["layers.1.blocks.1.mlp.fc3.bias"] = np.zeros(3, np.float32)
    file = save_safetensors(tmp_path / "model.safetensors", params)
    with pytest.raises(WeightsKeyError) as failure:
        load_weights(file)
    for part in ("2 missing", "downsample.reduction.weight", "mlp.fc2.bias", "1 unexpected", "mlp.fc3.bias"):
        assert part in str(failure.value)


def test_no_other_family_claims_swins_names(params: Arrays, tmp_path: Path) -> None:
    family = next(family for family in FAMILIES if family.name == "Swin")
    for place, (_, write) in enumerate(WRITERS.values()):
        loaded = load_weights(save_safetensors(tmp_path / f"{place}.safetensors", write(params)))
        assert loaded.naming in {naming.name for naming in family.namings}
