"""CLIP, SigLIP, DINOv3 and MAE under every naming, value for value; text towers stay unread until a text comes."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitseek
from tests.weights import towers
from tests.weights.checkpoints import Arrays, save_safetensors
from tests.weights.towers import (
    AIMV2,
    CLIP,
    CLIP_TEXT,
    DINOV3,
    DINOV3_GATED,
    IJEPA,
    MAE,
    SIGLIP,
    SIGLIP_TEXT,
    random_towers,
)
from vitseek.errors import ConfigError, WeightsError, WeightsKeyError
from vitseek.models.config import ViTConfig
from vitseek.models.text import TextConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.arrays import ArrayFile
from vitseek.weights.loader import LoadedWeights, load_weights


def replace(config: Any, **changes: Any) -> Any:
    return dataclasses.replace(config, **changes)


OPEN_CLIP = replace(CLIP, mlp_layer="gelu", pos_resize="bicubic-antialias")
OPEN_CLIP_TEXT = replace(CLIP_TEXT, mlp_layer="gelu")
OPEN_SIGLIP = replace(SIGLIP, mlp_layer="gelu", pos_resize="bicubic-antialias")

# name: config, text, to the foreign names, naming; without any description beside the file
CASES: dict[str, tuple[ViTConfig, TextConfig | None, Callable[[Arrays], Arrays], str]] = {
    "transformers-clip": (CLIP, CLIP_TEXT, towers.transformers_clip, "transformers-clip"),
    "release 5, image tower alone": (
        replace(CLIP, embedding_dim=0), None, lambda params: towers.transformers_clip(params, prefix=""),
        "transformers-clip",
    ),
    "image tower with projection": (CLIP, None, towers.transformers_clip, "transformers-clip"),
    "open_clip": (OPEN_CLIP, OPEN_CLIP_TEXT, towers.open_clip, "open_clip"),
    "open_clip, custom text": (
        OPEN_CLIP, OPEN_CLIP_TEXT, lambda params: towers.open_clip(params, text="text."), "open_clip-custom"
    ),
    "transformers-siglip": (SIGLIP, SIGLIP_TEXT, towers.transformers_siglip, "transformers-siglip"),
    "native resolution": (
        replace(SIGLIP, pos_resize="bilinear-antialias"), SIGLIP_TEXT,
        lambda params: towers.transformers_siglip(params, native=True), "transformers-siglip2",
    ),
    "native, image tower alone": (
        replace(SIGLIP, pos_resize="bilinear-antialias"), None,
        lambda params: towers.transformers_siglip(params, native=True, prefix=""), "transformers-siglip2",
    ),
    "open_clip-siglip": (
        OPEN_SIGLIP, replace(SIGLIP_TEXT, mlp_layer="gelu"), towers.open_clip_siglip, "open_clip-siglip"
    ),
    "ijepa": (IJEPA, None, towers.transformers_ijepa, "transformers-ijepa"),
    "ijepa with classes": (
        replace(IJEPA, num_classes=7, head_input="patch-mean"), None, towers.transformers_ijepa, "transformers-ijepa"
    ),
    "aimv2": (AIMV2, None, towers.apple_aimv2, "aimv2"),
    "mae": (MAE, None, lambda params: towers.facebook_mae(params, np.random.default_rng(3)), "mae"),
}  # fmt: skip


def load(folder: Path, arrays: Arrays, description: dict[str, Any] | None = None, **options: Any) -> LoadedWeights:
    path = save_safetensors(folder / "model.safetensors", arrays)
    if description is not None:
        name = "open_clip_config.json" if "model_cfg" in description else "config.json"
        (folder / name).write_text(json.dumps(description))
    return load_weights(path, **options)


def check_values(loaded: LoadedWeights, params: Arrays) -> None:
    """Every parameter of both towers has the value that it had before it was renamed."""
    held = {**loaded.params, **(loaded.text.params if loaded.text else {})}
    assert held.keys() == {name for name in params if not name.startswith("logit_")}
    for name, array in held.items():
        np.testing.assert_array_equal(array, params[name], err_msg=name)
        assert array.dtype == np.float32, name


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_without_a_config_loads_value_for_value(
    case: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    config, text, rename, naming = CASES[case]
    params = random_towers(config, text, rng, bias=text is not None and text.projection_bias)
    loaded = load(tmp_path, rename(params))
    assert loaded.naming == naming
    assert loaded.config == config
    assert (loaded.text.config if loaded.text else None) == text
    assert loaded.notes[0].startswith("config inferred from the shapes: 2 blocks of width 192, 5 px patches")
    check_values(loaded, params)
    if loaded.text:
        assert loaded.text.logit_scale == params["logit_scale"]
        assert loaded.text.logit_bias == params.get("logit_bias")
        assert loaded.text.tokenizer is None


DINOV3_CASES: dict[str, tuple[ViTConfig, Callable[[Arrays], Arrays], str]] = {
    "transformers": (DINOV3, towers.transformers_dinov3, "transformers-dinov3"),
    "transformers, gated": (DINOV3_GATED, towers.transformers_dinov3, "transformers-dinov3-gated"),
    "release 5": (DINOV3, lambda params: towers.transformers_dinov3(params, release=5), "transformers-dinov3-5"),
    "release 5, gated": (
        DINOV3_GATED, lambda params: towers.transformers_dinov3(params, release=5), "transformers-dinov3-gated-5"
    ),
    "facebook": (DINOV3, towers.facebook_dinov3, "dinov3"),
    "facebook, gated": (DINOV3_GATED, towers.facebook_dinov3, "dinov3"),
    "timm": (DINOV3, towers.timm_dinov3, "timm-dinov3"),
    "timm, gated": (DINOV3_GATED, towers.timm_dinov3, "timm-dinov3-gated"),
}  # fmt: skip


@pytest.mark.parametrize("case", DINOV3_CASES)
def test_a_dinov3_loads_under_all_its_names_with_zeros_for_the_keys_bias(
    case: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    config, rename, naming = DINOV3_CASES[case]
    config = replace(config, patch_size=7, img_size=(224, 224))  # which the naming assumes, for want of a grid
    params = towers.without_key_bias(random_towers(config, None, rng))
    loaded = load(tmp_path, rename(params))
    assert loaded.naming == naming
    assert loaded.config == config
    check_values(loaded, params)
    assert not loaded.params["blocks.1.attn.qkv.bias"][192:384].any()
    assert any("rope_theta = 100" in note for note in loaded.notes)


def test_timms_dinov3_without_biases_has_none(tmp_path: Path, rng: np.random.Generator) -> None:
    config = replace(DINOV3, patch_size=7, img_size=(224, 224), qkv_bias=False)
    params = random_towers(config, None, rng)
    loaded = load(tmp_path, towers.timm_dinov3(params, biases=False))
    assert loaded.config == config
    check_values(loaded, params)


def test_a_query_without_its_bias_is_missing_not_zeros(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = towers.transformers_dinov3(random_towers(replace(DINOV3, patch_size=7), None, rng))
    arrays.pop("layer.1.attention.q_proj.bias")
    with pytest.raises(WeightsKeyError, match=r"1 missing:\n    layer\.1\.attention\.q_proj\.bias"):
        load(tmp_path, arrays)


def test_timms_clip_tower_has_its_projection_in_the_head(tmp_path: Path, rng: np.random.Generator) -> None:
    config = replace(OPEN_CLIP, mlp_layer="quick-gelu")
    params = random_towers(config, None, rng)
    description = {"architecture": "vit_base_patch32_clip_quickgelu_224", "pretrained_cfg": {"input_size": [3, 35, 35]}}
    loaded = load(tmp_path, towers.timm_clip(params), {**description, "num_classes": 29})
    assert loaded.naming == "timm-clip"
    assert loaded.config == config
    check_values(loaded, params)


def test_a_fine_tuned_clip_of_timm_keeps_its_classes(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = towers.timm_clip(random_towers(OPEN_CLIP, None, rng))
    pretrained = {"input_size": [3, 35, 35], "tag": "openai_ft_in1k"}
    loaded = load(tmp_path, arrays, {"architecture": "vit_base_patch16_clip_224", "pretrained_cfg": pretrained})
    assert (loaded.config.num_classes, loaded.naming) == (29, "timm")


# --- what the configs say, and leave out ---

CLIP_JSON = {
    "model_type": "clip",
    "projection_dim": 29,
    "text_config": {
        "model_type": "clip_text_model",
        "num_attention_heads": 4,
        "eos_token_id": 102,
        "bos_token_id": 101,
    },
    "vision_config": {"image_size": 35, "patch_size": 5, "num_attention_heads": 2, "hidden_act": "gelu"},
}


def test_transformers_clip_config_decides_what_shapes_cannot_tell(tmp_path: Path, rng: np.random.Generator) -> None:
    params = random_towers(CLIP, CLIP_TEXT, rng)
    loaded = load(tmp_path, towers.transformers_clip(params), CLIP_JSON)
    assert loaded.config == replace(CLIP, num_heads=2, mlp_layer="gelu")
    assert loaded.text is not None
    # hidden_act of the text tower is left out: transformers' default, quick GELU.
    assert loaded.text.config == replace(CLIP_TEXT, num_heads=4, pooling="eos")


def test_an_early_clip_config_means_the_largest_number_by_its_end_of_text_2(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    early = {"vocab_size": 103, "eos_token_id": 2, "bos_token_id": 0, "num_attention_heads": 2}
    params = random_towers(CLIP, CLIP_TEXT, rng)
    description = {
        "model_type": "clip",
        "vision_config": {"num_attention_heads": 3, "image_size": 35},
        "text_config": early,
    }
    loaded = load(tmp_path, towers.transformers_clip(params), description)
    assert loaded.text is not None
    assert loaded.text.config == CLIP_TEXT


def test_the_second_saying_of_an_early_config_takes_precedence(tmp_path: Path, rng: np.random.Generator) -> None:
    params = random_towers(CLIP, None, rng)
    vision = {"num_attention_heads": 12, "image_size": 224, "patch_size": 5}
    description = {"model_type": "clip", "vision_config": vision}
    second = {"num_attention_heads": 3, "image_size": 35}
    loaded = load(tmp_path, towers.transformers_clip(params), {**description, "vision_config_dict": second})
    assert (loaded.config.num_heads, loaded.config.img_size) == (3, (35, 35))


@pytest.mark.parametrize(("vocabulary", "pad", "cleaning"), [(32_000, 1, "canonical"), (256_000, 0, "lower")])
def test_siglips_special_tokens_go_by_its_vocabulary(
    vocabulary: int, pad: int, cleaning: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    text = replace(SIGLIP_TEXT, vocab_size=vocabulary, width=64, depth=1, num_heads=1)
    params = random_towers(SIGLIP, text, rng, bias=True)
    # As google/siglip* have it: heads only where they are not 12; the special tokens of another vocabulary by default.
    sizes = {"vocab_size": vocabulary, "num_attention_heads": 1}
    vision = {"image_size": 35, "patch_size": 5, "num_attention_heads": 3}
    loaded = load(
        tmp_path,
        towers.transformers_siglip(params),
        {"model_type": "siglip", "text_config": sizes, "vision_config": vision},
    )
    assert loaded.text is not None
    assert loaded.text.config == replace(text, pad_token_id=pad, cleaning=cleaning)


def test_the_default_of_transformers_fills_a_config_that_says_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    config = replace(SIGLIP, num_heads=12, patch_size=16, img_size=(224, 224))
    params = random_towers(config, None, rng)
    loaded = load(tmp_path, towers.transformers_siglip(params), {"model_type": "siglip"})
    assert loaded.config == config


def test_pictures_that_fill_no_whole_patch_lose_their_far_edges(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {"size": {"height": 38, "width": 38}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        )
    )
    vision = {"image_size": 38, "patch_size": 5, "num_attention_heads": 3}
    description = {"model_type": "siglip", "vision_config": vision}
    loaded = load(tmp_path, towers.transformers_siglip(random_towers(SIGLIP, None, rng)), description)
    assert loaded.config.img_size == (35, 35)
    assert loaded.preprocessing is not None
    facts = {name: loaded.preprocessing[name] for name in ("size_px", "resize", "resize_px", "crop_rounding")}
    assert facts == {"size_px": 35, "resize": "exact", "resize_px": 38, "crop_rounding": "corner"}


def test_the_processor_of_native_resolution_becomes_preprocessing(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"max_num_patches": 49, "patch_size": 5, "resample": 2, "image_mean": [0.5] * 3})
    )
    vision = {"num_patches": 49, "patch_size": 5, "num_attention_heads": 3}
    params = random_towers(SIGLIP, None, rng)
    arrays = towers.transformers_siglip(params, native=True)
    loaded = load(tmp_path, arrays, {"model_type": "siglip2", "vision_config": vision})
    assert loaded.config == replace(SIGLIP, pos_resize="bilinear-antialias")
    assert loaded.preprocessing is not None
    assert loaded.preprocessing["resize"] == "max-patches"
    assert (loaded.preprocessing["max_patches"], loaded.preprocessing["patch_size_px"]) == (49, 5)
    check_values(loaded, params)


OPEN_CLIP_JSON: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 29,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 35, "layers": 2, "width": 192, "patch_size": 5, "head_width": 96},
        "text_cfg": {"context_length": 17, "vocab_size": 103, "width": 128, "heads": 4, "layers": 3},
    },
    "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
}


def test_open_clips_config_decides_activation_heads_and_pictures(tmp_path: Path, rng: np.random.Generator) -> None:
    params = random_towers(CLIP, CLIP_TEXT, rng)
    loaded = load(tmp_path, towers.open_clip(params), OPEN_CLIP_JSON)
    assert loaded.config == replace(CLIP, num_heads=2, pos_resize="bicubic-antialias")
    assert loaded.text is not None
    assert loaded.text.config == replace(CLIP_TEXT, num_heads=4, pad_token_id=0)
    assert loaded.preprocessing is not None
    assert loaded.preprocessing["mean"] == [0.1, 0.2, 0.3]
    assert (loaded.preprocessing["resize"], loaded.preprocessing["resize_px"]) == ("shortest-edge", 35)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vision_cfg": {"timm_model_name": "convnext_base"}}, "takes timm's 'convnext_base' for its image tower"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "asks for hf_model_name, which vitseek does not compute"),
        ({"vision_cfg": {"attentional_pool": True}}, "asks for attentional_pool"),
        ({"vision_cfg": {"pool_type": "avg"}}, "pools the image tower by 'avg'"),
        ({"text_cfg": {"pool_type": "none"}}, "pools the text tower by 'none'"),
        ({"vision_cfg": []}, "'vision_cfg' must be an object"),
        ({"vision_cfg": {"image_size": [224, 240]}}, "vitseek preprocesses to squares only"),
    ],
)
def test_what_open_clip_can_and_vitseek_cannot_is_refused(
    change: dict[str, Any], reason: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(tmp_path, towers.open_clip(random_towers(CLIP, CLIP_TEXT, rng)), {"model_cfg": change})


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ({"model_type": "clip", "vision_config": {"hidden_act": "relu"}}, "asks for the activation 'relu'"),
        ({"model_type": "clip", "vision_config": {"num_channels": 1}}, "asks for 1 colour channels"),
        ({"model_type": "clip", "text_config": "none"}, "'text_config' must be an object"),
        ({"model_type": "clip", "text_config": {"eos_token_id": [1, 2]}}, "'eos_token_id' of the text tower"),
        ({"model_type": "siglip", "vision_config": {"vision_use_head": False}}, "has no pooling head"),
        ({"model_type": "siglip2", "vision_config": {"num_patches": 50}}, "'num_patches' must be a square"),
        ({"model_type": "dinov3_vit", "use_gated_mlp": True}, "gates the feed-forward by 'gelu'"),
        ({"model_type": "clip", "vision_config": {"image_size": "big"}}, "'image_size' must be a number of pixels"),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused(
    description: dict[str, Any], reason: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(tmp_path, towers.transformers_clip(random_towers(CLIP, CLIP_TEXT, rng)), description)


# --- what nothing says ---


def test_a_siglip_without_a_processor_prepares_pictures_as_siglip_does(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = save_safetensors(
        tmp_path / "model.safetensors", towers.transformers_siglip(random_towers(SIGLIP, None, rng))
    )
    model = vitseek.load(path)
    wanted = ImagePreprocessing(
        size_px=35, resize="exact", resize_px=35, mean=(0.5,) * 3, std=(0.5,) * 3, patch_size_px=5
    )
    assert model.preprocessing == wanted
    assert any("as is usual for transformers-siglip names" in note for note in model.notes)


def test_a_clip_without_a_processor_has_clips_mean_and_native_siglip_its_patches(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    clip = load(tmp_path / "clip", towers.open_clip(random_towers(CLIP, CLIP_TEXT, rng)))
    assert clip.usual_pictures is not None
    assert clip.usual_pictures["mean"][0] == 0.48145466
    native = load(tmp_path / "native", towers.transformers_siglip(random_towers(SIGLIP, None, rng), native=True))
    assert native.usual_pictures is not None
    assert (native.usual_pictures["resize"], native.usual_pictures["max_patches"]) == ("max-patches", 49)


def test_a_text_tower_alone_says_what_to_take_instead(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = towers.transformers_text(random_towers(CLIP, CLIP_TEXT, rng))
    with pytest.raises(WeightsKeyError, match=r"holds a text tower alone .* take the checkpoint of the whole model"):
        load(tmp_path, arrays)


# --- two towers in one file ---


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are read, in order."""
    names: list[str] = []
    usual = ArrayFile.__getitem__

    def remember(self: ArrayFile, name: str) -> Any:
        names.append(name)
        return usual(self, name)

    monkeypatch.setattr(ArrayFile, "__getitem__", remember)
    return names


def test_the_text_tower_is_not_read_until_it_is_asked_for(
    reads: list[str], tmp_path: Path, rng: np.random.Generator
) -> None:
    loaded = load(tmp_path, towers.transformers_clip(random_towers(CLIP, CLIP_TEXT, rng)))
    assert not [name for name in reads if "text" in name]
    assert loaded.text is not None
    assert len(loaded.text.params) > 30
    assert "text.pos_embed" in loaded.text.params
    assert not [name for name in reads if "text" in name]
    assert loaded.text.params["text.pos_embed"].shape == (17, 128)
    assert [name for name in reads if "text" in name] == ["text_model.embeddings.position_embedding.weight"]


def test_a_text_tower_that_a_config_does_not_ask_for_is_left_out_and_said(
    reads: list[str], tmp_path: Path, rng: np.random.Generator
) -> None:
    loaded = load(tmp_path, towers.transformers_clip(random_towers(CLIP, CLIP_TEXT, rng)), config=CLIP)
    assert loaded.text is None
    assert "the text tower is left out: the config has none" in loaded.notes
    assert not [name for name in reads if "text" in name]


def test_an_image_tower_alone_serves_a_model_of_two_for_pictures(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = towers.transformers_clip(random_towers(CLIP, None, rng))
    loaded = load(tmp_path, arrays, config=CLIP, text=CLIP_TEXT)
    assert loaded.text is None
    assert any("the file has no text tower" in note for note in loaded.notes)


def test_a_mixed_up_text_tower_is_one_error_with_both_towers_names(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = towers.transformers_clip(random_towers(CLIP, CLIP_TEXT, rng))
    arrays.pop("text_model.final_layer_norm.bias")
    arrays["text_model.encoder.layers.2.mlp.fc1.weight"] = np.zeros((13, 127), np.float32)
    arrays["vision_model.post_layernorm.weight"] = np.zeros(191, np.float32)
    with pytest.raises(WeightsKeyError) as caught:
        load(tmp_path, arrays)
    message = str(caught.value)
    assert "1 missing:\n    text_model.final_layer_norm.bias" in message
    assert "text_model.encoder.layers.2.mlp.fc1.weight has (13, 127), wanted (13, 128)" in message
    assert "vision_model.post_layernorm.weight has (191,), wanted (192,)" in message


def test_the_text_tower_of_another_size_does_not_fit_the_zoo(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = towers.open_clip(random_towers(CLIP, CLIP_TEXT, rng))
    with pytest.raises(WeightsKeyError, match=r"positional_embedding has \(17, 128\), wanted \(19, 128\)"):
        load(tmp_path, arrays, config=CLIP, text=replace(CLIP_TEXT, context_length=19))


def test_a_projection_that_is_stored_as_it_is_used_is_called_misshapen(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = towers.open_clip(random_towers(CLIP, CLIP_TEXT, rng))
    arrays["visual.proj"] = np.ascontiguousarray(arrays["visual.proj"].T)
    with pytest.raises(WeightsKeyError, match=r"visual\.proj has \(29, 192\), wanted \(29, 192\) after transposed"):
        load(tmp_path, arrays, config=OPEN_CLIP, text=CLIP_TEXT)


@pytest.mark.parametrize("shape", [(), (0,), (1, 2, 3, 4, 5), (192, 74), (192, 0)])
def test_a_patch_layer_of_an_impossible_shape_is_an_error_and_no_crash(
    shape: tuple[int, ...], tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = towers.transformers_siglip(random_towers(SIGLIP, None, rng), native=True)
    arrays["vision_model.embeddings.patch_embedding.weight"] = np.zeros(shape, np.float32)
    with pytest.raises(WeightsError):
        load(tmp_path, arrays, {"model_type": "siglip2", "vision_config": {"num_patches": 49, "patch_size": 5}})


def test_two_scales_of_the_temperature_are_an_error(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = towers.transformers_clip(random_towers(CLIP, CLIP_TEXT, rng))
    arrays["logit_scale"] = np.zeros(2, np.float32)
    with pytest.raises(WeightsKeyError, match=r"logit_scale has \(2,\), wanted \(\)"):
        load(tmp_path, arrays)


# --- vitseek's own two-tower files ---


def own(**changes: Any) -> dict[str, Any]:
    document = {"format": "vitseek", "version": 1, "name": "pair", "config": CLIP.to_dict(), "pooling": "embedding"}
    return {**document, "text": CLIP_TEXT.to_dict(), "tokenizer": "pair-tokenizer.json", **changes}


def test_our_own_file_holds_both_towers_and_names_its_tokenizer(tmp_path: Path, rng: np.random.Generator) -> None:
    params = random_towers(CLIP, CLIP_TEXT, rng)
    loaded = load(tmp_path, params, own())
    assert (loaded.name, loaded.pooling, loaded.naming) == ("pair", "embedding", "timm")
    assert loaded.text is not None
    assert loaded.text.config == CLIP_TEXT
    assert loaded.text.tokenizer == tmp_path / "pair-tokenizer.json"
    assert loaded.text.logit_scale == params["logit_scale"]
    check_values(loaded, params)


@pytest.mark.parametrize("name", ["../pair.json", "/etc/passwd", "sub/pair.json", "..\\pair.json", "", 7])
def test_a_tokenizer_outside_the_folder_is_refused(name: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="'tokenizer' must be the name of a file in the same folder"):
        load(tmp_path, random_towers(CLIP, CLIP_TEXT, rng), own(tokenizer=name))


@pytest.mark.parametrize("text", ["a tower", ["a tower"], {"vocab_size": 103}, {**CLIP_TEXT.to_dict(), "new": 1}])
def test_a_text_description_that_is_none_is_refused(text: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, random_towers(CLIP, CLIP_TEXT, rng), own(text=text))


def test_a_description_of_two_towers_wants_both_of_them(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(WeightsKeyError, match=r"text\.token_embed\.weight"):
        load(tmp_path, random_towers(CLIP, None, rng), own())


def test_the_tokenizer_beside_a_foreign_checkpoint_is_found(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    loaded = load(tmp_path, towers.transformers_clip(random_towers(CLIP, CLIP_TEXT, rng)))
    assert loaded.text is not None
    assert loaded.text.tokenizer == tmp_path / "tokenizer.json"


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"vision_config": {}}, "text tower .lit., which vitseek does not read"),
        ({"is_native": True}, "native resolution .is_native., which vitseek does not run"),
        ({"hidden_act": "gelu"}, "gates the feed-forward by 'gelu'; vitseek computes 'silu' only"),
    ],
)
def test_what_aimv2_does_otherwise_is_refused(
    description: dict[str, Any], message: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    params = towers.apple_aimv2(random_towers(AIMV2, None, rng, bias=False))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, params, {"model_type": "aimv2", **description})


def test_a_described_aimv2_is_what_its_config_says(tmp_path: Path, rng: np.random.Generator) -> None:
    params = towers.apple_aimv2(random_towers(AIMV2, None, rng, bias=False))
    heads = {"num_attention_heads": AIMV2.num_heads, "patch_size": 5, "image_size": AIMV2.img_size[0]}
    loaded = load(tmp_path, params, {"model_type": "aimv2", "rms_norm_eps": 1e-3, **heads})
    assert loaded.config == replace(AIMV2, norm_eps=1e-3)
    assert loaded.pooling == "patch-mean"
