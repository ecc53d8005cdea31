"""MAE: the encoders, from timm's copies, which exist as safetensors without the decoder."""

from collections.abc import Iterator
from dataclasses import replace

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.weights.sources import HubSource
from vitseek.zoo.pictures import TORCHVISION_256
from vitseek.zoo.row import ZooRow

PATCH = {"base": 16, "large": 16, "huge": 14}


def rows() -> Iterator[ZooRow]:
    for size, patch in PATCH.items():
        yield ZooRow(
            name=f"mae-{size}",
            title=f"MAE ViT-{size[0].upper()}/{patch}, encoder",
            family="MAE",
            config=ViTConfig(**VARIANTS[f"vit_{size}"], patch_size=patch, img_size=(224, 224)),
            preprocessing=replace(TORCHVISION_256, patch_size_px=patch),
            pooling="patch-mean",  # as weights/families/mae.py says
            source=HubSource(repo=f"timm/vit_{size}_patch{patch}_224.mae"),
            naming="timm",
            licence="CC-BY-NC-4.0",
            paper="https://arxiv.org/abs/2111.06377",
            aliases=(f"facebook/vit-mae-{size}",),
        )
