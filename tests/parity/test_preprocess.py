"""The official policy gives the pixels of transformers' own processors, bit for bit.

The Pillow variants are the reference (``ViTImageProcessorPil`` …): since version 5, transformers takes the torchvision
ones by default where torchvision is installed, whose resize is another implementation.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitseek.preprocess.image import IMAGENET_MEAN, IMAGENET_STD, ImagePreprocessing, preprocess, to_pixels

pytestmark = pytest.mark.parity
transformers = pytest.importorskip("transformers", reason="the reference is not installed")

HALF = (0.5, 0.5, 0.5)
SIZES = [
    (224, 224),
    (223, 223),
    (225, 227),
    (256, 256),
    (257, 311),
    (641, 480),
    (480, 641),
    (37, 1009),
    (1009, 37),
    (23, 29),
    (5, 4),
    (1801, 1201),
]  # (width, height): exact, odd, even, landscape, portrait, narrow, tiny, large
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def bit(size_px: int = 224, resize_px: int = 256, interpolation: str = "bicubic", **options: object) -> object:
    """DINOv2's and DINO's processor, with their published settings."""
    return transformers.BitImageProcessorPil(
        size={"shortest_edge": resize_px},
        crop_size=square(size_px),
        resample=FILTERS[interpolation],
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
        **options,
    )


def reference(processor: object, image: Image.Image) -> np.ndarray:
    return processor(images=image, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]  # type: ignore[operator]


def noise(size: tuple[int, int]) -> Image.Image:
    """The hardest case: every rounding of the filter shows."""
    width, height = size
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_vit_resizes_both_sides(size: tuple[int, int], resample: str) -> None:
    processor = transformers.ViTImageProcessorPil(
        size=square(224), resample=FILTERS[resample], image_mean=HALF, image_std=HALF
    )
    ours = ImagePreprocessing(resize="exact", resize_px=224, interpolation=resample, mean=HALF, std=HALF)
    image = noise(size)
    np.testing.assert_array_equal(to_pixels(image, ours), reference(processor, image))


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (4001, 3), (640, 480), (500, 375)], ids=str)
@pytest.mark.parametrize(("patch", "limit"), [(16, 256), (14, 1024), (16, 64)])
def test_siglip2_naflex_keeps_the_proportions(size: tuple[int, int], patch: int, limit: int) -> None:
    processor = transformers.Siglip2ImageProcessorPil(patch_size=patch, max_num_patches=limit)
    ours = ImagePreprocessing(
        resize="max-patches", patch_size_px=patch, max_patches=limit, interpolation="bilinear", mean=HALF, std=HALF
    )
    image = noise(size)
    pixels = to_pixels(image, ours)
    theirs = processor(images=image, return_tensors="np", input_data_format="channels_last")
    rows, columns = theirs["spatial_shapes"][0]
    patches = theirs["pixel_values"][0][: rows * columns].reshape(rows, columns, patch, patch, 3)
    wanted = patches.transpose(4, 0, 2, 1, 3).reshape(3, rows * patch, columns * patch)
    np.testing.assert_array_equal(pixels, wanted)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_dinov2_resizes_the_short_side_and_crops(size: tuple[int, int]) -> None:
    image = noise(size)
    np.testing.assert_array_equal(to_pixels(image, ImagePreprocessing()), reference(bit(), image))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("size_px", "resize_px", "interpolation"), [(518, 518, "bicubic"), (97, 113, "lanczos"), (113, 97, "nearest")]
)
def test_other_crops_and_filters_agree(size: tuple[int, int], size_px: int, resize_px: int, interpolation: str) -> None:
    image = noise(size)
    ours = ImagePreprocessing(size_px=size_px, resize_px=resize_px, interpolation=interpolation)
    np.testing.assert_array_equal(to_pixels(image, ours), reference(bit(size_px, resize_px, interpolation), image))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_deit_resizes_to_a_square_and_crops(size: tuple[int, int]) -> None:
    processor = transformers.DeiTImageProcessorPil(
        size=square(256), crop_size=square(224), resample=3, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
    )
    image = noise(size)
    np.testing.assert_array_equal(to_pixels(image, ImagePreprocessing(resize="exact")), reference(processor, image))


@pytest.mark.parametrize("size", [*SIZES, (223, 640), (640, 223), (3, 224), (224, 3), (222, 221)], ids=str)
def test_center_crop_cuts_and_pads_as_transformers_does(size: tuple[int, int]) -> None:
    image = noise(size)
    ours = ImagePreprocessing(policy="center-crop")
    np.testing.assert_array_equal(to_pixels(image, ours), reference(bit(do_resize=False), image))


def test_real_photos_agree_from_the_file_on(shared_dir: Path) -> None:
    photos = sorted((shared_dir / "data" / "flickr8k_1000" / "images").iterdir())[:12]
    assert len(photos) == 12
    for photo in photos:
        with Image.open(photo) as opened:
            expected = reference(bit(), opened.convert("RGB"))
        np.testing.assert_array_equal(preprocess(photo, ImagePreprocessing()), expected)


def test_grey_and_palette_pictures_agree() -> None:
    for mode in ("L", "P"):
        image = noise((301, 251)).convert(mode)
        expected = reference(bit(), image.convert("RGB"))
        np.testing.assert_array_equal(to_pixels(image, ImagePreprocessing()), expected)
