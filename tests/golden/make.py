"""Make the golden files: transformers' outputs for a tiny random model of each family, to be checked without torch.

    python -m tests.golden.make          (needs torch and transformers)

Each file holds the config, the parameters under timm's names (float32), pixels, and what transformers computed from
them in float64, rounded to float32: tokens after the final norm, and logits or the joint embedding, at the trained
resolution and at another one. The models are those of tests/parity/families.py, made smaller; parameters and pixels are
rounded to few levels so that the files compress.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from tests.parity import families

FOLDER = Path(__file__).parent
TINY = {"hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 5, "projection_dim": 5}
PARAMETER_STEPS = 256  # parameters are multiples of 1/256
PIXEL_STEPS = 8  # pixels are multiples of 1/8 from -1 to 7/8
# file -> (family, image side in patches, second resolution in patches (rows, columns))
GOLDEN = {
    "vit": ("ViT /16", 3, (2, 5)),
    "vit_no_qkv_bias": ("ViT /32, no qkv bias", 2, (1, 3)),
    "deit": ("DeiT /16 (eps 1e-12)", 3, (4, 2)),
    "deit_distilled": ("DeiT distilled /16", 3, (2, 5)),
    "dino": ("DINO /8", 5, (7, 3)),
    "dinov2": ("DINOv2 /14", 5, (2, 7)),
    "dinov2_swiglu": ("DINOv2 SwiGLU /14", 3, (4, 2)),
    "dinov2_registers": ("DINOv2 registers /14", 5, (3, 2)),
    "mae": ("MAE /16", 3, (4, 2)),
    "ijepa": ("I-JEPA /16", 3, (2, 5)),
    "clip": ("CLIP /16", 3, (2, 5)),
    "siglip": ("SigLIP /16", 3, (4, 2)),
    "siglip2_naflex": ("SigLIP 2 NaFlex /16", 3, (2, 5)),
    "dinov3": ("DINOv3 /16", 3, (2, 5)),
    "dinov3_swiglu": ("DINOv3 SwiGLU /16, other theta", 3, (4, 2)),
}
FOLLOWS = ("id2label", "label2id", "out_features", "out_indices")  # from the number of labels and of layers
ROTARY_WIDTH = 8  # a head of rotary positions needs four channels


def tiny(family: families.Family, side: int) -> families.Family:
    """The family with the sizes of ``TINY`` and a position grid of side x side patches."""
    model = family.build()
    values = {name: value for name, value in model.config.to_dict().items() if name not in FOLLOWS}
    sizes = {name: size for name, size in TINY.items() if name in values or name == "num_labels"}
    values |= {**sizes, "image_size": side * family.config.patch_size, "num_patches": side * side}
    if "intermediate_size" in values:
        values["intermediate_size"] = 19
    if family.config.pos_embed == "rope":
        values["hidden_size"] = ROTARY_WIDTH
    shrunk = type(model)(type(model.config)(**values))
    return dataclasses.replace(family, build=lambda: shrunk)


def make(file: str) -> None:
    family, side, second = GOLDEN[file]
    reference = families.load(tiny(families.FAMILIES[family], side), seed=len(file), steps=PARAMETER_STEPS)
    config = reference.config
    patch = config.patch_size
    arrays = {f"params/{key}": value for key, value in reference.params.items()}
    for label, (rows, columns) in (("trained", (side, side)), ("resized", second)):
        shape = (1, 3, rows * patch, columns * patch)
        pixels = np.random.default_rng(side).integers(-PIXEL_STEPS, PIXEL_STEPS, shape) / PIXEL_STEPS
        stages = reference.stages(pixels, float64=True)
        arrays[f"{label}/pixels"] = pixels.astype(np.float16)  # exact
        arrays[f"{label}/tokens"] = stages["norm"].astype(np.float32)
        for name in ("logits", "embedding"):
            if name in stages:
                arrays[f"{label}/{name}"] = stages[name].astype(np.float32)
    text = json.dumps(config.to_dict(), sort_keys=True)
    np.savez_compressed(FOLDER / f"{file}.npz", config=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    print(f"{file}.npz: {(FOLDER / f'{file}.npz').stat().st_size} bytes")


if __name__ == "__main__":
    for one in sys.argv[1:] or GOLDEN:
        make(one)
