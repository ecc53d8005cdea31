"""DINO."""

from collections.abc import Iterator
from dataclasses import replace

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.weights.sources import HubSource
from vitseek.zoo.pictures import TORCHVISION_256
from vitseek.zoo.row import ZooRow

SHA256 = {"dino-vits16": "8d4795b8e4e327c6d841e15a2e3e6d88c45346256a43f8cdae8c26d92c806f7a"}
EXACT_BYTES = {"dino-vits16": 86_676_340}


def rows() -> Iterator[ZooRow]:
    # timm's copies: facebook's own repositories of DINO hold pickles only.
    for letter, size in (("s", "small"), ("b", "base")):
        for patch in (16, 8):
            name = f"dino-vit{letter}{patch}"
            yield ZooRow(
                name=name,
                title=f"DINO ViT-{letter.upper()}/{patch}",
                family="DINO",
                config=ViTConfig(
                    **VARIANTS[f"vit_{size}"], patch_size=patch, img_size=(224, 224), pos_resize="bicubic-offset"
                ),
                preprocessing=replace(TORCHVISION_256, patch_size_px=patch),
                source=HubSource(repo=f"timm/vit_{size}_patch{patch}_224.dino", sha256=SHA256.get(name)),
                naming="timm",
                exact_bytes=EXACT_BYTES.get(name),
                paper="https://arxiv.org/abs/2104.14294",
            )
