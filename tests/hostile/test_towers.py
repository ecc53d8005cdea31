"""Two-tower checkpoints and configs with anything in them: an error of vitseek's, never a crash or half a model."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.weights import towers
from tests.weights.checkpoints import Arrays, save_safetensors
from tests.weights.towers import CLIP, CLIP_TEXT, DINOV3, SIGLIP, SIGLIP_TEXT, random_towers
from vitseek.errors import VitseekError
from vitseek.models.architectures import parameter_shapes
from vitseek.models.text import text_parameter_shapes
from vitseek.weights.loader import load_weights

pytestmark = pytest.mark.hostile

EXAMPLES = int(os.environ.get("VITSEEK_FUZZ_EXAMPLES", "60"))  # more on demand
relaxed = settings(
    max_examples=EXAMPLES, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip


def checkpoints() -> dict[str, Arrays]:
    rng = np.random.default_rng(29)
    return {
        "clip": towers.transformers_clip(random_towers(CLIP, CLIP_TEXT, rng)),
        "open_clip": towers.open_clip(random_towers(CLIP, CLIP_TEXT, rng)),
        "siglip": towers.transformers_siglip(random_towers(SIGLIP, SIGLIP_TEXT, rng, bias=True)),
        "siglip2": towers.transformers_siglip(random_towers(SIGLIP, SIGLIP_TEXT, rng, bias=True), native=True),
        "dinov3_vit": towers.transformers_dinov3(random_towers(DINOV3, None, rng)),
        "dinov3": towers.facebook_dinov3(random_towers(DINOV3, None, rng)),
    }


GOOD = checkpoints()
MODEL_TYPES = ["clip", "clip_vision_model", "siglip", "siglip_vision_model", "siglip2", "siglip2_vision_model",
               "dinov3_vit", "vit_mae", "vit", "dinov2"]  # fmt: skip


def outcome(folder: Path) -> None:
    """Load a folder: either an error with a message, or parameters that are what the config says."""
    try:
        loaded = load_weights(folder)
    except VitseekError:
        return
    assert {name: array.shape for name, array in loaded.params.items()} == parameter_shapes(loaded.config)
    if loaded.text is not None:
        shapes = text_parameter_shapes(loaded.text.config)
        assert {name: array.shape for name, array in loaded.text.params.items()} == shapes


@relaxed
@given(
    family=st.sampled_from(sorted(GOOD)),
    victims=st.lists(st.integers(0, 10_000), min_size=1, max_size=3),
    shape=st.lists(st.integers(0, 9), max_size=5) | st.none(),
    renamed=st.sampled_from(["", "x", ".weight", "text_model.", "visual.", "blocks.0.norm1.weight", "0", "a.#.b", "*"]),
)
@example(family="siglip2", victims=[0], shape=[], renamed="")
def test_a_checkpoint_with_parts_exchanged_is_an_error_or_a_whole_model(
    family: str, victims: list[int], shape: list[int] | None, renamed: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    arrays = dict(GOOD[family])
    for victim in victims:
        name = sorted(arrays)[victim % len(arrays)]
        old = arrays.pop(name)
        if shape is not None:
            arrays[name] = np.zeros(shape, np.float32)
        elif renamed:
            arrays[name + renamed if len(renamed) > 1 else renamed] = old
    folder = tmp_path_factory.mktemp("parts")
    save_safetensors(folder / "model.safetensors", arrays)
    outcome(folder)


junk: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
KEYS = ["hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps", "image_size",
        "patch_size", "num_channels", "eos_token_id", "bos_token_id", "vocab_size", "num_patches", "use_gated_mlp",
        "vision_use_head", "rope_theta", "model_type"]  # fmt: skip
section = st.dictionaries(st.sampled_from(KEYS), junk, max_size=4) | junk
documents = st.fixed_dictionaries(
    {"model_type": st.sampled_from(MODEL_TYPES)},
    optional={"vision_config": section, "text_config": section, "text_config_dict": section,
              **dict.fromkeys(KEYS[:8], junk)},
)  # fmt: skip


def some_of(keys: list[str]) -> st.SearchStrategy[Any]:
    return junk | st.dictionaries(st.sampled_from(keys), junk, max_size=3)


VISION_KEYS = ["image_size", "width", "head_width", "timm_model_name", "pool_type"]
TEXT_KEYS = ["heads", "vocab_size", "pool_type", "norm_kwargs", "act_kwargs", "no_causal_mask"]
model_cfg = st.fixed_dictionaries(
    {}, optional={"quick_gelu": junk, "vision_cfg": some_of(VISION_KEYS), "text_cfg": some_of(TEXT_KEYS)}
)
open_clip_documents = st.fixed_dictionaries(
    {"model_cfg": junk | model_cfg},
    optional={"preprocess_cfg": some_of(["mean", "std", "resize_mode", "interpolation"])},
)


@relaxed
@given(family=st.sampled_from(sorted(GOOD)), document=documents | open_clip_documents)
@example(family="clip", document={"model_type": "clip", "text_config": {"vocab_size": None}})
@example(family="siglip2", document={"model_type": "siglip2", "vision_config": {"num_patches": -4}})
@example(family="siglip2", document={"model_type": "siglip2", "vision_config": {"patch_size": [7, 7]}})
def test_a_config_of_anything_is_an_error_or_is_followed(
    family: str, document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("configs")
    save_safetensors(folder / "model.safetensors", GOOD[family])
    (folder / "config.json").write_text(json.dumps(document))
    outcome(folder)


@relaxed
@given(processor=st.dictionaries(
    st.sampled_from(["size", "crop_size", "max_num_patches", "patch_size", "resample", "image_mean", "do_center_crop"]),
    junk, max_size=4,
))  # fmt: skip
@example(processor={"max_num_patches": 0})
@example(processor={"max_num_patches": 256, "patch_size": "16"})
def test_a_processor_of_anything_is_an_error_or_is_followed(
    processor: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("processors")
    save_safetensors(folder / "model.safetensors", GOOD["siglip2"])
    vision = {"num_patches": 49, "patch_size": 5, "num_attention_heads": 3}
    (folder / "config.json").write_text(json.dumps({"model_type": "siglip2", "vision_config": vision}))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    outcome(folder)
