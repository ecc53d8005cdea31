"""DeiT, with and without distillation."""

from collections.abc import Iterator
from dataclasses import replace

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.weights.sources import HubSource
from vitseek.zoo.pictures import TORCHVISION_256
from vitseek.zoo.row import ZooRow

DEIT = {
    "tiny": (
        "80e968688553f219e4a86f940ed945a23709c16f",
        "21d4764d94f6c3ffdb6da3581115a0a1ee2d505537d96883b540e54766407c9e",
    ),
    "small": (
        "91327a9c99f98fe6b524cd4d397b7226b80e1365",
        "1e747b4a8d0df2cfbd3c450e8c97685d867448ab0c2ddbfb34b6885f5cb23e5b",
    ),
    "base": (
        "b78cc5532a69df6bcad9c3a8d76653fd20b31ac6",
        "cd2da27b74ed7f68b599f16c77af3e1e80f01c75f9ad96029d22ce747a247e8e",
    ),
}


def rows() -> Iterator[ZooRow]:
    for size, (revision, sha256) in DEIT.items():
        config = ViTConfig(**VARIANTS[f"vit_{size}"], patch_size=16, img_size=(224, 224), num_classes=1000)
        row = ZooRow(
            name=f"deit-{size}",
            title=f"DeiT-{'Ti' if size == 'tiny' else size[0].upper()}/16",
            family="DeiT",
            config=config,
            preprocessing=TORCHVISION_256,
            source=HubSource(repo=f"timm/deit_{size}_patch16_224.fb_in1k", revision=revision, sha256=sha256),
            naming="timm",
            paper="https://arxiv.org/abs/2012.12877",
        )
        yield row
        yield replace(
            row,
            name=f"deit-{size}-distilled",
            title=f"{row.title} distilled",
            config=replace(config, distilled=True),
            source=HubSource(repo=f"timm/deit_{size}_distilled_patch16_224.fb_in1k"),
        )
