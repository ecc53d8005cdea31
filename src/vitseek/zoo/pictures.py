"""How the authors of several models prepare pictures: settings that more than one file of rows needs."""

from dataclasses import replace

from vitseek.preprocess.image import IMAGENET_MEAN, IMAGENET_STD, ImagePreprocessing

HALF = (0.5, 0.5, 0.5)

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
# facebookresearch/dino eval_knn.py, facebookresearch/deit datasets.py and facebookresearch/mae util/datasets.py:
# Resize(256, bicubic), CenterCrop(224).
TORCHVISION_256 = replace(DINOV2_PICTURES, patch_size_px=16, crop_rounding="half-even")
# timm: crop_pct 0.9, so the short side is 248 px; mean and std of Inception.
AUGREG_PICTURES = replace(TORCHVISION_256, resize_px=248, mean=HALF, std=HALF)
