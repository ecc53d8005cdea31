"""DINOv2-base at its real size with random weights, and the real ViT-Ti weights, in transformers and in vitseek."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from tests.parity import families
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.models.config import VARIANTS, ViTConfig, parameter_shapes
from vitseek.models.vit import forward_features
from vitseek.weights.families import NAMINGS
from vitseek.weights.loader import load_weights

Array = NDArray[np.floating]

DINOV2_BASE = ViTConfig(**VARIANTS["vit_base"], patch_size=14, img_size=(518, 518), layer_scale=True)
REAL_WEIGHTS = "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"


@functools.cache
def _dinov2_base() -> tuple[Any, dict[str, Array], NumpyEngine]:
    model = transformers.Dinov2Model(transformers.Dinov2Config(image_size=518)).eval()
    families.randomise(model, seed=7)
    params = to_timm(model.state_dict(), "transformers-dinov2-5", DINOV2_BASE)
    return model, params, NumpyEngine(params, DINOV2_BASE)


def dinov2_base_differences(height: int, width: int) -> dict[str, float]:
    """Largest absolute differences of the final tokens from transformers, float32."""
    model, params, engine = _dinov2_base()
    pixels = families.random_pixels(height, width, batch=1, dtype=np.float32)
    with torch.inference_mode():
        wanted = model(torch.from_numpy(pixels)).last_hidden_state.numpy()
    ours = {"plain": forward_features(params, DINOV2_BASE, pixels).all, "engine": engine.forward(pixels)}
    differences = {name: float(np.abs(tokens - wanted).max()) for name, tokens in ours.items()}
    differences["class token"] = float(np.abs(engine.embed_pixels(pixels) - wanted[:, 0]).max())
    return differences


def vit_tiny_logits(shared: Path) -> tuple[Array, Array]:
    """Logits of the real ViT-Ti for ten photos, of vitseek and of transformers, each of shape (10, 1000)."""
    loaded = load_weights(shared / "weights" / REAL_WEIGHTS)
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=192, num_attention_heads=3, intermediate_size=768, layer_norm_eps=1e-6, num_labels=1000
        )
    ).eval()
    state = to_transformers(dict(loaded.params), model)
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
    photos = sorted((shared / "data" / "corel1k").glob("*/*.jpg"))[::100][:10]
    pixels = np.stack([normalised(photo) for photo in photos])
    with torch.inference_mode():
        theirs = model(torch.from_numpy(pixels)).logits.numpy()
    return NumpyEngine(loaded.params, loaded.config).classify(pixels), theirs


def normalised(photo: Path) -> Array:
    levels = np.asarray(Image.open(photo).convert("RGB").resize((224, 224)), dtype=np.float32)
    return ((levels / 255 - 0.5) / 0.5).transpose(2, 0, 1)


def to_timm(state: dict[str, torch.Tensor], naming: str, config: ViTConfig) -> dict[str, Array]:
    """A state dict of transformers under timm's names, by the table that the loader uses."""
    table = NAMINGS[naming]
    return {
        name: np.concatenate([state[part].numpy() for part in table.parts(name)]) for name in parameter_shapes(config)
    }


def to_transformers(params: dict[str, Array], model: torch.nn.Module) -> dict[str, Array]:
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
