"""The supervised ViTs: AugReg in timm's copies, and the paper's own base model."""

from collections.abc import Iterator

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.sources import HubSource
from vitseek.zoo.pictures import AUGREG_PICTURES, HALF
from vitseek.zoo.row import ZooRow

# google/vit-base-patch16-224: preprocessor_config.json.
GOOGLE_PICTURES = ImagePreprocessing(
    size_px=224, resize="exact", resize_px=224, interpolation="bilinear", mean=HALF, std=HALF, patch_size_px=16
)

AUGREG = {
    "tiny": (
        "7d3afdd0cf93ad84d986eb2d6bcc5812ebd0b106",
        "fecf81b492bd13ee7a5297cb74d1d417aac8bf7e1b7d96aed89c4691984587ed",
    ),
    "small": (
        "7e2c55630205e1266030f18370f4c6ed1a514b52",
        "79c03c635cdfd798a364a9d8c4e5c0b7255b975ea2c9616046d4f77ab01435aa",
    ),
    "base": (
        "b5b38b8f7dd93ce67d12e356a8771556b95c8cf9",
        "c401d219603ac3e20b6373c7b198c78d3a733f80b755d148bda3bc320ae69800",
    ),
    "large": (
        "0930ab3308b84cb2ae091a4a80703c459412a4c7",
        "109390825a5bada2864f1b74445a63d29c51ef079c349644bc98996c452f6cf1",
    ),
}


def rows() -> Iterator[ZooRow]:
    yield from _augreg()
    yield _google()


def _augreg() -> Iterator[ZooRow]:
    for size, (revision, sha256) in AUGREG.items():
        yield ZooRow(
            name=f"vit-{size}",
            title=f"ViT-{'Ti' if size == 'tiny' else size[0].upper()}/16 AugReg, ImageNet-21k then 1k",
            family="ViT",
            config=ViTConfig(
                **VARIANTS[f"vit_{size}"],
                patch_size=16,
                img_size=(224, 224),
                num_classes=1000,
                pos_resize="bicubic-antialias",
            ),
            preprocessing=AUGREG_PICTURES,
            source=HubSource(
                repo=f"timm/vit_{size}_patch16_224.augreg_in21k_ft_in1k", revision=revision, sha256=sha256
            ),
            naming="timm",
            paper="https://arxiv.org/abs/2106.10270",
        )


def _google() -> ZooRow:
    return ZooRow(
        name="vit-base-patch16-224",
        title="ViT-B/16 of the paper, ImageNet-21k then 1k",
        family="ViT",
        config=ViTConfig(**VARIANTS["vit_base"], patch_size=16, img_size=(224, 224), num_classes=1000, norm_eps=1e-12),
        preprocessing=GOOGLE_PICTURES,
        source=HubSource(repo="google/vit-base-patch16-224", revision="3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3"),
        naming="transformers-vit",
        paper="https://arxiv.org/abs/2010.11929",
    )
