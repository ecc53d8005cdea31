"""I-JEPA, the encoders of transformers' copies.

Sizes, epsilon and pictures: transformers, models/ijepa/convert_ijepa_to_hf.py (its processor is ViTImageProcessor with
its defaults: both sides resized bilinearly, mean and std 0.5).
"""

from collections.abc import Iterator

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.sources import HubSource
from vitseek.zoo.pictures import HALF
from vitseek.zoo.row import ZooRow

GIANT = {"embed_dim": 1408, "depth": 40, "num_heads": 16, "hidden_dim": 6144}
HUGE = dict(VARIANTS["vit_huge"])
# name: repository, size, patch and pictures in px
MODELS = {
    "ijepa-huge": ("ijepa_vith14_1k", HUGE, 14, 224),
    "ijepa-huge-22k": ("ijepa_vith14_22k", HUGE, 14, 224),
    "ijepa-huge-448": ("ijepa_vith16_1k", HUGE, 16, 448),
    "ijepa-giant-22k": ("ijepa_vitg16_22k", GIANT, 16, 224),
}


def rows() -> Iterator[ZooRow]:
    for name, (repository, size, patch, size_px) in MODELS.items():
        yield ZooRow(
            name=name,
            title=f"I-JEPA ViT-{'G' if size is GIANT else 'H'}/{patch}, {size_px} px",
            family="I-JEPA",
            config=ViTConfig(**size, patch_size=patch, img_size=(size_px, size_px), class_token=False),
            preprocessing=ImagePreprocessing(
                size_px=size_px,
                resize="exact",
                resize_px=size_px,
                interpolation="bilinear",
                mean=HALF,
                std=HALF,
                patch_size_px=patch,
            ),
            pooling="patch-mean",
            source=HubSource(repo=f"facebook/{repository}"),
            naming="transformers-ijepa",
            licence="CC-BY-NC-4.0",
            paper="https://arxiv.org/abs/2301.08243",
            aliases=(f"facebook/{repository}",),
        )
