"""DINOv3's Vision Transformers, trained on LVD-1689M."""

from collections.abc import Iterator
from typing import Any

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.sources import HubSource
from vitseek.zoo.row import ZooRow

LICENCE = "DINOv3 License"

# name: repository's word, title, config, revision, sha256, bytes
SIZES: dict[str, tuple[str, str, dict[str, Any], str, str | None, int | None]] = {
    "small": ("vits16", "S/16", dict(VARIANTS["vit_small"]),
        "114c1379950215c8b35dfcd4e90a5c251dde0d32",
        "4610ad75edef83e75afdebf162d148dc628045ea6cbb83d67d4708c709c4f91d", 86_406_384),
    "small-plus": ("vits16plus", "S+/16", {**VARIANTS["vit_small"], "mlp_layer": "swiglu", "hidden_dim": 1536},
        "c93d816fc9e567563bc068f01475bec89cc634a6", None, None),
    "base": ("vitb16", "B/16", dict(VARIANTS["vit_base"]),
        "5931719e67bbdb9737e363e781fb0c67687896bc",
        "9a21ac3df0c63839d62612dda6f454d816c25611cc7a52966ed5a5a94921dc8b", 342_662_192),
    "large": ("vitl16", "L/16", dict(VARIANTS["vit_large"]),
        "ea8dc2863c51be0a264bab82070e3e8836b02d51", None, None),
    "huge-plus": ("vith16plus", "H+/16",
        {"embed_dim": 1280, "depth": 32, "num_heads": 20, "mlp_layer": "swiglu", "hidden_dim": 5120},
        "c807c9eeea853df70aec4069e6f56b28ddc82acc", None, None),
}  # fmt: skip


def rows() -> Iterator[ZooRow]:
    for size, (word, title, shape, revision, sha256, exact_bytes) in SIZES.items():
        repo = f"facebook/dinov3-{word}-pretrain-lvd1689m"
        yield ZooRow(
            name=f"dinov3-{size}",
            title=f"DINOv3 ViT-{title}",
            family="DINOv3",
            config=ViTConfig(
                **shape,
                patch_size=16,
                img_size=(224, 224),
                num_registers=4,
                layer_scale=True,
                pos_embed="rope",
                norm_eps=1e-5,
            ),
            # preprocessor_config.json of every repository of the family.
            preprocessing=ImagePreprocessing(resize="exact", resize_px=224, interpolation="bilinear"),
            source=HubSource(repo=repo, revision=revision, sha256=sha256, gated=LICENCE),
            naming="transformers-dinov3-gated" if "mlp_layer" in shape else "transformers-dinov3",
            licence=LICENCE,
            paper="https://arxiv.org/abs/2508.10104",
            aliases=(repo,),
            exact_bytes=exact_bytes,
        )
