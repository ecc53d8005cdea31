"""DINOv2-base at its real size, and real ViT-Ti weights on real photos, against transformers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.models.config import VARIANTS, ViTConfig, parameter_shapes
from vitseek.models.vit import forward_features
from vitseek.weights.loader import load_weights
from vitseek.weights.maps import NAMINGS

pytestmark = pytest.mark.parity
families = pytest.importorskip("tests.parity.families", reason="torch and transformers are not installed")

TOKENS_FLOAT32 = 1e-5
LOGITS_REAL_WEIGHTS = 1e-4
REAL_WEIGHTS = "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(224, 224), (518, 518), (154, 308)])
def test_dinov2_base_with_random_weights(height: int, width: int) -> None:
    import torch
    import transformers

    model = transformers.Dinov2Model(transformers.Dinov2Config(image_size=518)).eval()
    families.randomise(model, seed=7)
    config = ViTConfig(**VARIANTS["vit_base"], patch_size=14, img_size=(518, 518), layer_scale=True)
    params = to_timm(model.state_dict(), "transformers-dinov2-5", config)
    pixels = families.random_pixels(height, width, batch=1, dtype=np.float32)
    with torch.inference_mode():
        wanted = model(torch.from_numpy(pixels)).last_hidden_state.numpy()
    engine = NumpyEngine(params, config)
    ours = {
        "plain": forward_features(params, config, pixels).all,
        "engine": engine.forward(pixels),
        "class token": engine.embed_pixels(pixels),
    }
    for name, tokens in ours.items():
        theirs = wanted[:, 0] if name == "class token" else wanted
        assert np.abs(tokens - theirs).max() < TOKENS_FLOAT32, name


def test_real_vit_tiny_gives_the_logits_of_transformers_on_ten_photos(shared_dir: Path) -> None:
    import torch
    import transformers

    loaded = load_weights(shared_dir / "weights" / REAL_WEIGHTS)
    params, config = dict(loaded.params), loaded.config
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=192, num_attention_heads=3, intermediate_size=768, layer_norm_eps=1e-6, num_labels=1000
        )
    ).eval()
    model.load_state_dict(
        {name: torch.from_numpy(np.array(value)) for name, value in to_transformers(params, model).items()}
    )
    photos = sorted((shared_dir / "data" / "corel1k").glob("*/*.jpg"))[::100][:10]
    assert len(photos) == 10
    pixels = np.stack([normalised(photo) for photo in photos])
    with torch.inference_mode():
        wanted = model(torch.from_numpy(pixels)).logits.numpy()
    ours = NumpyEngine(params, config).classify(pixels)
    assert np.abs(ours - wanted).max() < LOGITS_REAL_WEIGHTS
    np.testing.assert_array_equal(np.argsort(-ours)[:, :5], np.argsort(-wanted)[:, :5])
    assert len({tuple(row) for row in np.argsort(-ours)[:, :5].tolist()}) > 5, "ten photos must not look alike"


def normalised(photo: Path) -> np.ndarray:
    levels = np.asarray(Image.open(photo).convert("RGB").resize((224, 224)), dtype=np.float32)
    return ((levels / 255 - 0.5) / 0.5).transpose(2, 0, 1)


def to_timm(state, naming: str, config: ViTConfig) -> dict[str, np.ndarray]:
    """A state dict of transformers under timm's names, by the table that the loader uses."""
    table = NAMINGS[naming]
    return {
        name: np.concatenate([state[part].numpy() for part in table.parts(name)]) for name in parameter_shapes(config)
    }


def to_transformers(params: dict[str, np.ndarray], model) -> dict[str, np.ndarray]:
    """timm's parameters under the names of transformers' ViT, written out by hand: a check on the table itself."""
    renamed = {}
    for name in model.state_dict():
        if ".layers." in name:
            block, rest = name.split(".layers.")[1].split(".", 1)
            kind = rest.rpartition(".")[2]
            for part, letter in enumerate("qkv"):
                if rest.startswith(f"attention.{letter}_proj"):
                    renamed[name] = np.split(params[f"blocks.{block}.attn.qkv.{kind}"], 3)[part]
            if name not in renamed:
                timm = {"attention.o_proj": "attn.proj", "layernorm_before": "norm1", "layernorm_after": "norm2"}
                layer = rest.rpartition(".")[0]
                renamed[name] = params[f"blocks.{block}.{timm.get(layer, layer)}.{kind}"]
    renamed["vit.embeddings.cls_token"] = params["cls_token"]
    renamed["vit.embeddings.position_embeddings"] = params["pos_embed"]
    for kind in ("weight", "bias"):
        renamed[f"vit.embeddings.patch_embeddings.projection.{kind}"] = params[f"patch_embed.proj.{kind}"]
        renamed[f"vit.layernorm.{kind}"] = params[f"norm.{kind}"]
        renamed[f"classifier.{kind}"] = params[f"head.{kind}"]
    return renamed
