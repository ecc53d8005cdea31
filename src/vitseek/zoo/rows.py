"""The rows of the zoo.

Revisions and checksums were collected from public lock files that agree with each other; a row without a checksum
trusts the hub's own and remembers what it saw first. docs/weights.md says which rows are which.
"""

from collections.abc import Iterator
from dataclasses import replace

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.preprocess.image import IMAGENET_MEAN, IMAGENET_STD, ImagePreprocessing
from vitseek.weights.sources import Embedded, HubSource
from vitseek.zoo.row import ZooRow

HALF = (0.5, 0.5, 0.5)
EMBEDDED_NAME = "vitseek-tiny"

# facebook/dinov2-*: preprocessor_config.json; the same file (by its checksum) in every repository of the family.
DINOV2_PICTURES = ImagePreprocessing(
    size_px=224,
    resize="shortest-edge",
    resize_px=256,
    interpolation="bicubic",
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    patch_size_px=14,
)
# facebookresearch/dino eval_knn.py and facebookresearch/deit datasets.py: Resize(256, bicubic), CenterCrop(224).
TORCHVISION_256 = replace(DINOV2_PICTURES, patch_size_px=16, crop_rounding="half-even")
# timm: crop_pct 0.9, so the short side is 248 px; mean and std of Inception.
AUGREG_PICTURES = replace(TORCHVISION_256, resize_px=248, mean=HALF, std=HALF)
# google/vit-base-patch16-224: preprocessor_config.json.
GOOGLE_PICTURES = ImagePreprocessing(
    size_px=224, resize="exact", resize_px=224, interpolation="bilinear", mean=HALF, std=HALF, patch_size_px=16
)

# repository suffix: revision, sha256, bytes
DINOV2 = {
    "small": (
        "ed25f3a31f01632728cabb09d1542f84ab7b0056",
        "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
        88_249_960,
    ),
    "base": (
        "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
        "d73036b56966966d07975d696bde331762f37297e2f095de8cea0040c3aa0841",
        346_345_912,
    ),
    "large": (
        "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
        "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23",
        1_217_522_888,
    ),
    "giant": (
        "611a9d42f2335e0f921f1e313ad3c1b7178d206d",
        "917d3c470db999d32a312f8542149be91c7cbac61ee8fb4b67ae3d82b79ce21f",
        4_546_005_432,
    ),
}
DINOV2_REGISTERS: dict[str, tuple[str, str | None, int | None]] = {
    "small": ("0d9846e56b43a21fa46d7f3f5070f0506a5795a9", None, None),
    "base": (
        "a1d738ccfa7ae170945f210395d99dde8adb1805",
        "7a6f7b3b9fa4b8732e707476a03cd6cdce210048582f21aafb7991c17d98e362",
        None,
    ),
    "large": ("e4c89a4e05589de9b3e188688a303d0f3c04d0f3", None, None),
    "giant": (
        "8d0d49f77fb8b5dd78842496ff14afe7dd4d85cb",
        "c03832d44691e99b62ae28c4dfa2f134853a3614b3756c94f525109cce5a5051",
        4_546_030_112,
    ),
}
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


DINO_SHA256 = {"dino-vits16": "8d4795b8e4e327c6d841e15a2e3e6d88c45346256a43f8cdae8c26d92c806f7a"}
DINO_BYTES = {"dino-vits16": 86_676_340}


def rows() -> Iterator[ZooRow]:
    """All rows, the embedded model first."""
    yield _embedded()
    yield from _dinov2()
    yield from _dino()
    yield from _augreg()
    yield _google()
    yield from _deit()


def _embedded() -> ZooRow:
    """The model in the package, as the description beside its weights says it."""
    source = Embedded(f"{EMBEDDED_NAME}.safetensors")
    description = source.description
    config, preprocessing = description.get("config"), description.get("preprocessing")
    return ZooRow(
        name=EMBEDDED_NAME,
        title="ViT-Ti/16, distilled by vitseek",
        family="vitseek",
        # Without the file (a source tree before the model was made) the row still describes what is planned.
        config=ViTConfig.from_dict(config)
        if config
        else ViTConfig(**VARIANTS["vit_tiny"], patch_size=16, img_size=(224, 224)),
        preprocessing=ImagePreprocessing.from_dict(preprocessing) if preprocessing else AUGREG_PICTURES,
        pooling=description.get("pooling") or "cls",
        licence=description.get("licence") or "Apache-2.0",
        source=source,
        naming="timm",
        exact_bytes=source.size_bytes,
    )


def _dinov2() -> Iterator[ZooRow]:
    for size, (revision, sha256, exact_bytes) in DINOV2.items():
        config = ViTConfig(**VARIANTS[f"vit_{size}"], patch_size=14, img_size=(518, 518), layer_scale=True)
        row = ZooRow(
            name=f"dinov2-{size}",
            title=f"DINOv2 ViT-{'g' if size == 'giant' else size[0].upper()}/14",
            family="DINOv2",
            config=config,
            preprocessing=DINOV2_PICTURES,
            source=HubSource(repo=f"facebook/dinov2-{size}", revision=revision, sha256=sha256),
            naming="transformers-dinov2",
            paper="https://arxiv.org/abs/2304.07193",
            exact_bytes=exact_bytes,
        )
        yield row
        reg_revision, reg_sha256, reg_bytes = DINOV2_REGISTERS[size]
        yield replace(
            row,
            name=f"dinov2-{size}-reg",
            title=f"{row.title} with 4 registers",
            config=replace(config, num_registers=4, pos_resize="bicubic-antialias"),
            source=HubSource(repo=f"facebook/dinov2-with-registers-{size}", revision=reg_revision, sha256=reg_sha256),
            paper="https://arxiv.org/abs/2309.16588",
            exact_bytes=reg_bytes,
        )


def _dino() -> Iterator[ZooRow]:
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
                source=HubSource(repo=f"timm/vit_{size}_patch{patch}_224.dino", sha256=DINO_SHA256.get(name)),
                naming="timm",
                exact_bytes=DINO_BYTES.get(name),
                paper="https://arxiv.org/abs/2104.14294",
            )


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


def _deit() -> Iterator[ZooRow]:
    for size, (revision, sha256) in DEIT.items():
        row = ZooRow(
            name=f"deit-{size}",
            title=f"DeiT-{'Ti' if size == 'tiny' else size[0].upper()}/16",
            family="DeiT",
            config=ViTConfig(**VARIANTS[f"vit_{size}"], patch_size=16, img_size=(224, 224), num_classes=1000),
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
            config=replace(row.config, distilled=True),
            source=HubSource(repo=f"timm/deit_{size}_distilled_patch16_224.fb_in1k"),
        )
