"""MSN: the one model that the hub has as safetensors at a known commit.

The authors' files and those on the main branches of facebook/vit-msn-* are pickles; timm has none. The hub's own
conversion of the largest lies in a commit beside the main branch (facebook/vit-msn-large-7, commit history).
Sizes, epsilon and pictures: transformers, models/vit_msn/convert_msn_to_pytorch.py (its processor is ViTImageProcessor
with ImageNet's mean and std: both sides resized bilinearly).
"""

from collections.abc import Iterator

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.preprocess.image import IMAGENET_MEAN, IMAGENET_STD, ImagePreprocessing
from vitseek.weights.sources import HubSource
from vitseek.zoo.row import ZooRow

LARGE_7_COMMIT = "6a9cd8895cc220588fbfbc614935961ad5580dc2"


def rows() -> Iterator[ZooRow]:
    yield ZooRow(
        name="msn-large-7",
        title="MSN ViT-L/7",
        family="MSN",
        config=ViTConfig(**VARIANTS["vit_large"], patch_size=7, img_size=(224, 224)),
        preprocessing=ImagePreprocessing(
            size_px=224,
            resize="exact",
            resize_px=224,
            interpolation="bilinear",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            patch_size_px=7,
        ),
        source=HubSource(repo="facebook/vit-msn-large-7", revision=LARGE_7_COMMIT),
        naming="transformers-vit",
        licence="CC-BY-NC-4.0",  # facebookresearch/msn; the hub's card, not by the authors, says Apache-2.0
        paper="https://arxiv.org/abs/2204.07141",
        aliases=("facebook/vit-msn-large-7",),
    )
