"""Swin: timm's copies, which exist as safetensors for every size."""

from collections.abc import Iterator
from dataclasses import replace

from vitseek.models.swin_config import VARIANTS, SwinConfig
from vitseek.weights.sources import HubSource
from vitseek.zoo.pictures import TORCHVISION_256
from vitseek.zoo.row import ZooRow

# microsoft/Swin-Transformer, data/build.py: Resize(256, bicubic), CenterCrop(224); the configs for 384 px say
# TEST.CROP: False, which is Resize((384, 384)). 32 px are a token of the last stage.
PICTURES = {
    224: replace(TORCHVISION_256, patch_size_px=32),
    384: replace(TORCHVISION_256, resize="exact", resize_px=384, size_px=384, patch_size_px=32),
}
WINDOW = {224: 7, 384: 12}
CLASSES_22K = 21841
# name: size, picture in pixels, timm's tag, what it was trained on, microsoft's own copy
MODELS = {
    "swin-tiny": ("tiny", 224, "ms_in1k", "ImageNet-1k", "swin-tiny-patch4-window7-224"),
    "swin-small": ("small", 224, "ms_in1k", "ImageNet-1k", "swin-small-patch4-window7-224"),
    "swin-base": ("base", 224, "ms_in22k_ft_in1k", "ImageNet-22k then 1k", None),
    "swin-base-384": ("base", 384, "ms_in22k_ft_in1k", "ImageNet-22k then 1k", None),
    "swin-base-22k": ("base", 224, "ms_in22k", "ImageNet-22k", "swin-base-patch4-window7-224-in22k"),
    "swin-large": ("large", 224, "ms_in22k_ft_in1k", "ImageNet-22k then 1k", "swin-large-patch4-window7-224"),
    "swin-large-384": ("large", 384, "ms_in22k_ft_in1k", "ImageNet-22k then 1k", "swin-large-patch4-window12-384"),
    "swin-large-22k": ("large", 224, "ms_in22k", "ImageNet-22k", "swin-large-patch4-window7-224-in22k"),
}


def rows() -> Iterator[ZooRow]:
    for name, (size, side_px, tag, trained_on, copy) in MODELS.items():
        window = WINDOW[side_px]
        yield ZooRow(
            name=name,
            title=f"Swin-{size[0].upper()}, {side_px} px, {trained_on}",
            family="Swin",
            config=SwinConfig(
                **VARIANTS[f"swin_{size}"],
                window_size=window,
                img_size=(side_px, side_px),
                num_classes=CLASSES_22K if tag == "ms_in22k" else 1000,
            ),
            preprocessing=PICTURES[side_px],
            pooling="patch-mean",
            source=HubSource(repo=f"timm/swin_{size}_patch4_window{window}_{side_px}.{tag}"),
            naming=None,  # some of timm's files have the layout of before 0.9, some that of later
            licence="MIT",
            paper="https://arxiv.org/abs/2103.14030",
            aliases=(f"microsoft/{copy}",) if copy else (),
        )
