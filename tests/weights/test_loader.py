"""Every naming leads to the same canonical parameters, and every difference is reported at once."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.weights.checkpoints import (
    SMALL,
    Arrays,
    facebook_dinov2,
    random_params,
    save_safetensors,
    timm_dinov2,
    transformers_dinov2,
    transformers_vit,
)
from vitseek.errors import UsageError, WeightsError, WeightsKeyError
from vitseek.models.config import ViTConfig, parameter_shapes
from vitseek.weights.arrays import ArrayFile
from vitseek.weights.loader import load_weights

replace = dataclasses.replace
HEAD = replace(SMALL, num_classes=13)
DISTILLED = replace(HEAD, distilled=True)
SCALED = replace(SMALL, layer_scale=True)
SCALED_HEAD = replace(SCALED, num_classes=13, head_input="cls+patch-mean")
REGISTERS = replace(SCALED, num_registers=4)
SWIGLU = replace(REGISTERS, mlp_layer="swiglu", hidden_dim=11)

Rename = Callable[[Arrays], Arrays]

NAMINGS: dict[str, tuple[ViTConfig, Rename, str]] = {
    "timm": (HEAD, dict, "timm"),
    "timm distilled": (DISTILLED, dict, "timm"),
    "timm without qkv bias": (replace(HEAD, qkv_bias=False), dict, "timm"),
    "timm dinov2 with registers": (REGISTERS, dict, "timm"),
    "timm dinov2 giant": (SWIGLU, timm_dinov2, "timm-swiglu"),
    "own swiglu": (SWIGLU, dict, "timm"),
    "facebook dinov2": (SCALED, facebook_dinov2, "dinov2"),
    "facebook dinov2 with registers": (REGISTERS, facebook_dinov2, "dinov2"),
    "facebook dinov2 giant": (SWIGLU, facebook_dinov2, "dinov2"),
    "facebook dinov2 in chunks": (REGISTERS, lambda p: facebook_dinov2(p, blocks_a_chunk=1), "dinov2-chunked"),
    "facebook dinov2 in one chunk": (SCALED, lambda p: facebook_dinov2(p, blocks_a_chunk=2), "dinov2-chunked"),
    "facebook dinov2 teacher": (SCALED, lambda p: facebook_dinov2(p, prefix="teacher.backbone."), "dinov2"),
    "transformers vit": (HEAD, lambda p: transformers_vit(p, prefix="vit."), "transformers-vit"),
    "transformers vit without prefix": (SMALL, transformers_vit, "transformers-vit"),
    "transformers vit 5": (HEAD, lambda p: transformers_vit(p, prefix="vit.", release=5), "transformers-vit-5"),
    "transformers deit": (DISTILLED, lambda p: transformers_vit(p, prefix="deit."), "transformers-deit"),
    "transformers deit without distillation": (HEAD, lambda p: transformers_vit(p, prefix="deit."), "transformers-vit"),
    "transformers deit 5": (DISTILLED, lambda p: transformers_vit(p, prefix="deit.", release=5), "transformers-deit-5"),
    "transformers dinov2": (SCALED, transformers_dinov2, "transformers-dinov2"),
    "transformers dinov2 with head": (
        SCALED_HEAD,
        lambda p: transformers_dinov2(p, prefix="dinov2."),
        "transformers-dinov2",
    ),
    "transformers dinov2 with registers": (REGISTERS, transformers_dinov2, "transformers-dinov2"),
    "transformers dinov2 giant": (SWIGLU, transformers_dinov2, "transformers-dinov2"),
    "transformers dinov2 giant 5": (SWIGLU, lambda p: transformers_dinov2(p, release=5), "transformers-dinov2-5"),
    "transformers dinov2 with registers 5": (
        REGISTERS,
        lambda p: transformers_dinov2(p, prefix="dinov2_with_registers.", release=5),
        "transformers-dinov2-5",
    ),
}


@pytest.fixture(params=NAMINGS, ids=lambda name: name.replace(" ", "-"))
def foreign(request: pytest.FixtureRequest, rng: np.random.Generator) -> tuple[ViTConfig, Arrays, Arrays, str]:
    config, rename, naming = NAMINGS[request.param]
    params = random_params(config, rng)
    return config, params, rename(params), naming


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_every_naming_gives_the_same_canonical_parameters(
    foreign: tuple[ViTConfig, Arrays, Arrays, str], suffix: str, tmp_path: Path
) -> None:
    config, params, arrays, naming = foreign
    path = tmp_path / f"some{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_safetensors(path, arrays)
    loaded = load_weights(path, config=config)
    assert loaded.naming == naming
    assert loaded.params.keys() == parameter_shapes(config).keys()
    for name, array in params.items():
        np.testing.assert_array_equal(loaded.params[name], array, err_msg=name)
        assert loaded.params[name].dtype == np.float32


def test_every_naming_lets_the_shapes_tell_the_config(
    foreign: tuple[ViTConfig, Arrays, Arrays, str], tmp_path: Path
) -> None:
    config, _, arrays, _ = foreign
    loaded = load_weights(save_safetensors(tmp_path / "some.safetensors", arrays))
    assumed = {"norm_eps": loaded.config.norm_eps, "pos_resize": loaded.config.pos_resize}
    assert loaded.config == replace(config, **assumed)
    said = "\n".join(loaded.notes)
    assert "num_heads = 3, assuming 64" in said
    assert "norm_eps" in said
    assert "pos_resize" in said


@pytest.mark.parametrize(
    ("name", "norm_eps", "pos_resize"),
    [
        ("timm", 1e-6, "bicubic-antialias"),
        ("facebook dinov2", 1e-6, "bicubic-offset"),
        ("facebook dinov2 with registers", 1e-6, "bicubic-antialias"),
        ("transformers vit", 1e-12, "bicubic"),
        ("transformers deit 5", 1e-12, "bicubic"),
        ("transformers dinov2", 1e-6, "bicubic"),
        ("transformers dinov2 with registers 5", 1e-6, "bicubic-antialias"),
    ],
)
def test_what_shapes_cannot_tell_follows_the_family(
    name: str, norm_eps: float, pos_resize: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    config, rename, _ = NAMINGS[name]
    loaded = load_weights(save_safetensors(tmp_path / "a.safetensors", rename(random_params(config, rng))))
    assert loaded.config.norm_eps == norm_eps
    assert loaded.config.pos_resize == pos_resize


def test_timm_safetensors_are_mapped_and_not_copied(tmp_path: Path, rng: np.random.Generator) -> None:
    path = save_safetensors(tmp_path / "a.safetensors", random_params(HEAD, rng))
    loaded = load_weights(path)
    for name, array in loaded.params.items():
        assert not array.flags.owndata, name
        assert not array.flags.writeable, name
        assert array.flags.aligned, name


def test_the_real_timm_weights_load(shared_dir: Path) -> None:
    loaded = load_weights(shared_dir / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors")
    config = loaded.config
    assert (config.embed_dim, config.depth, config.num_heads, config.num_classes) == (192, 12, 3, 1000)
    assert config.img_size == (224, 224)
    assert loaded.params["blocks.7.attn.qkv.weight"].shape == (576, 192)


def test_one_error_lists_everything_that_differs(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = transformers_vit(random_params(HEAD, rng), prefix="vit.")
    del arrays["vit.encoder.layer.1.layernorm_after.bias"]
    del arrays["vit.encoder.layer.0.attention.attention.key.weight"]
    arrays["vit.encoder.layer.0.output.dense.weight"] = np.zeros((192, 17), np.float32)
    arrays["vit.embeddings.surprise"] = np.zeros(3, np.float32)
    path = save_safetensors(tmp_path / "odd.safetensors", arrays)
    with pytest.raises(WeightsKeyError) as caught:
        load_weights(path, config=HEAD)
    message = str(caught.value)
    assert str(path) in message
    assert "2 missing" in message
    assert "vit.encoder.layer.1.layernorm_after.bias" in message
    assert "vit.encoder.layer.0.attention.attention.key.weight" in message
    assert "1 unexpected:\n    vit.embeddings.surprise\n" in message
    assert "vit.encoder.layer.0.output.dense.weight has (192, 17), wanted (192, 11)" in message
    assert "attention.query" not in message  # query and value are there; only the key is missing


def test_a_head_is_left_out_when_the_config_has_no_classes(tmp_path: Path, rng: np.random.Generator) -> None:
    path = save_safetensors(tmp_path / "a.safetensors", random_params(DISTILLED, rng))
    loaded = load_weights(path, config=replace(DISTILLED, num_classes=0))
    assert not any(name.startswith("head") for name in loaded.params)
    assert any("head left out" in note for note in loaded.notes)


def test_the_pooler_of_transformers_is_left_out_and_said(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = transformers_vit(random_params(SMALL, rng))
    arrays["pooler.dense.weight"] = np.zeros((192, 192), np.float32)
    arrays["pooler.dense.bias"] = np.zeros(192, np.float32)
    loaded = load_weights(save_safetensors(tmp_path / "a.safetensors", arrays))
    assert sum("pooler" in note for note in loaded.notes) == 1


def test_a_checkpoint_of_another_kind_is_named_as_such(tmp_path: Path) -> None:
    path = save_safetensors(tmp_path / "resnet.safetensors", {"layer1.0.conv1.weight": np.zeros((3, 5), np.float32)})
    with pytest.raises(WeightsKeyError, match="no Vision Transformer that vitseek knows"):
        load_weights(path)


def test_a_model_that_normalises_after_pooling_is_refused_with_the_reason(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = random_params(HEAD, rng)
    for kind in ("weight", "bias"):
        arrays[f"fc_norm.{kind}"] = arrays.pop(f"norm.{kind}")
    with pytest.raises(WeightsKeyError, match="fc_norm normalises the average"):
        load_weights(save_safetensors(tmp_path / "a.safetensors", arrays))


def test_integers_are_no_weights(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = random_params(SMALL, rng)
    arrays["norm.bias"] = arrays["norm.bias"].astype(np.int32)
    with pytest.raises(WeightsKeyError, match=r"norm\.bias is int32, wanted float32"):
        load_weights(save_safetensors(tmp_path / "a.safetensors", arrays))


def test_double_precision_becomes_float32(tmp_path: Path, rng: np.random.Generator) -> None:
    params = random_params(SMALL, rng)
    np.savez(tmp_path / "a.npz", **{name: array.astype(np.float64) for name, array in params.items()})
    loaded = load_weights(tmp_path / "a.npz")
    assert {array.dtype for array in loaded.params.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(loaded.params["norm.bias"], params["norm.bias"])


def test_loading_reads_no_parameter_but_the_positions(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    usual = ArrayFile.__getitem__
    monkeypatch.setattr(ArrayFile, "__getitem__", lambda self, name: (read.append(name), usual(self, name))[1])
    arrays = transformers_vit(random_params(SMALL, rng))
    loaded = load_weights(save_safetensors(tmp_path / "a.safetensors", arrays))
    assert read == ["embeddings.position_embeddings"]
    _ = loaded.params["blocks.1.attn.qkv.weight"]
    assert read[1:] == [f"encoder.layer.1.attention.attention.{one}.weight" for one in ("query", "key", "value")]


def test_a_naming_can_be_forced_and_an_unknown_one_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    path = save_safetensors(tmp_path / "a.safetensors", random_params(SMALL, rng))
    assert load_weights(path, naming="timm").naming == "timm"
    with pytest.raises(UsageError, match="no naming called 'tim'"):
        load_weights(path, naming="tim")
    with pytest.raises(WeightsKeyError, match="fit none of: transformers-vit"):
        load_weights(path, naming="transformers-vit")


def test_a_missing_file_says_what_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights at .*vitseek models"):
        load_weights(tmp_path / "none.safetensors")


def test_heads_that_cannot_be_told_ask_for_a_config(tmp_path: Path, rng: np.random.Generator) -> None:
    odd = replace(SMALL, embed_dim=194, num_heads=2)
    path = save_safetensors(tmp_path / "a.safetensors", random_params(odd, rng))
    with pytest.raises(WeightsError, match=r"heads cannot be told from the shapes \(width 194.*config\.json"):
        load_weights(path)
    assert load_weights(path, config=odd).config == odd


def test_a_grid_that_is_no_square_asks_for_a_config(tmp_path: Path, rng: np.random.Generator) -> None:
    oblong = replace(SMALL, img_size=(35, 55))
    path = save_safetensors(tmp_path / "a.safetensors", random_params(oblong, rng))
    with pytest.raises(WeightsError, match=r"pos_embed has 78 positions.*config\.json"):
        load_weights(path)
    assert load_weights(path, config=oblong).config == oblong


def test_part_of_a_matrix_that_the_config_does_not_want_is_reported_too(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = transformers_vit(random_params(SMALL, rng))
    arrays["encoder.layer.2.attention.attention.query.weight"] = np.zeros((192, 192), np.float32)
    path = save_safetensors(tmp_path / "a.safetensors", arrays)
    with pytest.raises(
        WeightsKeyError, match=r"1 unexpected:\n    encoder\.layer\.2\.attention\.attention\.query\.weight"
    ):
        load_weights(path, config=SMALL)


def test_the_same_weights_have_the_same_sha256_and_other_weights_another(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    params = random_params(SMALL, rng)
    first = load_weights(save_safetensors(tmp_path / "a.safetensors", params))
    second = load_weights(save_safetensors(tmp_path / "b.safetensors", params))
    params["norm.bias"][3] += 1
    third = load_weights(save_safetensors(tmp_path / "c.safetensors", params))
    assert first.sha256 == second.sha256 != third.sha256


def test_blocks_that_differ_in_the_same_way_share_a_line(tmp_path: Path, rng: np.random.Generator) -> None:
    deep = replace(SMALL, depth=5)
    arrays = random_params(deep, rng)
    for block in (0, 1, 2, 4):
        del arrays[f"blocks.{block}.norm2.bias"]
    path = save_safetensors(tmp_path / "a.safetensors", arrays)
    with pytest.raises(WeightsKeyError) as caught:
        load_weights(path, config=replace(deep, hidden_dim=13))
    message = str(caught.value)
    assert "  4 missing:\n    blocks.{0…2, 4}.norm2.bias\n" in message
    assert "  15 of another shape:\n    blocks.{0…4}.mlp.fc1.weight has (11, 192), wanted (13, 192)\n" in message
    assert "width 192, 5 blocks, 5 px patches" in message
