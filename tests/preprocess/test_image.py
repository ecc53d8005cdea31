"""Policies: what is resized, what is cut off, how it is rounded, and what the description promises."""

import dataclasses
import math

import numpy as np
import pytest
from PIL import Image

from tests.hostile.images import picture
from vitseek.errors import ConfigError
from vitseek.preprocess import image as module
from vitseek.preprocess.image import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    POLICIES,
    ImagePreprocessing,
    preprocess,
    to_pixels,
)

NATIVE = ImagePreprocessing(resize="max-patches", interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def grey_levels(pixels: np.ndarray) -> np.ndarray:
    """Undo a normalisation with mean 0 and std 1: (3, H, W) float to (H, W, 3) levels."""
    return np.rint(pixels * 255).astype(int).transpose(1, 2, 0)


def numbered(width: int, height: int) -> Image.Image:
    """A picture whose every pixel tells its column (red) and its row (green)."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([columns, rows, np.full_like(rows, 7)], axis=-1).astype(np.uint8))


def test_normalisation_is_what_the_formula_says(rng: np.random.Generator) -> None:
    levels = rng.integers(0, 256, (13, 13, 3), dtype=np.uint8)
    recipe = ImagePreprocessing(policy="center-crop", size_px=13)
    expected = (levels / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    pixels = to_pixels(Image.fromarray(levels), recipe)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    np.testing.assert_allclose(pixels, expected.transpose(2, 0, 1), atol=5e-7)


@pytest.mark.parametrize(
    ("side", "size", "floor", "half_even"),
    [  # by hand: floor((side - size) / 2) | round to even of the same, torchvision's CenterCrop
        (7, 7, 0, 0),
        (8, 7, 0, 0),
        (9, 7, 1, 1),
        (10, 7, 1, 2),
        (11, 7, 2, 2),
        (12, 7, 2, 2),
        (14, 7, 3, 4),
        (341, 224, 58, 58),
        (331, 248, 41, 42),
    ],
)
def test_crops_begin_where_the_reference_begins_them(side: int, size: int, floor: int, half_even: int) -> None:
    assert module._crop_start(side, size, "floor") == floor
    assert module._crop_start(side, size, "half-even") == half_even


@pytest.mark.parametrize(("side", "floor", "half_even"), [(7, 0, 0), (6, -1, 0), (5, -1, -1), (4, -2, -1), (1, -3, -3)])
def test_padding_begins_where_the_reference_begins_it(side: int, floor: int, half_even: int) -> None:
    # By hand for a crop of 7: transformers puts ceil((7 - side) / 2) first, torchvision (7 - side) // 2.
    assert module._crop_start(side, 7, "floor") == floor
    assert module._crop_start(side, 7, "half-even") == half_even


def test_center_crop_takes_the_middle_without_resizing() -> None:
    recipe = ImagePreprocessing(policy="center-crop", size_px=7, **PLAIN)
    shown = grey_levels(to_pixels(numbered(17, 12), recipe))
    assert shown[..., 0].tolist() == [list(range(5, 12))] * 7
    assert shown[:, 0, 1].tolist() == list(range(2, 9))


def test_a_small_picture_is_padded_with_black_and_it_is_said() -> None:
    recipe = ImagePreprocessing(policy="center-crop", size_px=7)
    said: list[str] = []
    pixels = to_pixels(Image.new("RGB", (4, 11), (255, 255, 255)), recipe, report=said.append)
    white = (1 - IMAGENET_MEAN[0]) / IMAGENET_STD[0]
    black = -IMAGENET_MEAN[0] / IMAGENET_STD[0]
    np.testing.assert_allclose(pixels[0, 3], [black] * 2 + [white] * 4 + [black], rtol=1e-5)
    assert said == ["4 × 11 px is smaller than the 7 px crop: padded with black"]


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_is_said_when_nothing_special_is_done(policy: str) -> None:
    said: list[str] = []
    to_pixels(picture((307, 251)), ImagePreprocessing().with_policy(policy), report=said.append)
    assert said == []


@pytest.mark.parametrize(
    ("size", "expected"), [((640, 480), (224, 304)), ((480, 640), (304, 224)), ((500, 500), (224, 224))]
)
def test_short_side_keeps_the_aspect_in_whole_patches(size: tuple[int, int], expected: tuple[int, int]) -> None:
    recipe = ImagePreprocessing(policy="short-side", size_px=224, patch_size_px=16)
    assert to_pixels(Image.new("RGB", size), recipe).shape == (3, *expected)  # 298.7 px → 304


@pytest.mark.parametrize("patch", [8, 14, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (37, 41), (1009, 211), (211, 1009), (3, 4999)])
def test_short_side_is_always_whole_patches_and_at_least_one(patch: int, size: tuple[int, int]) -> None:
    recipe = ImagePreprocessing(policy="short-side", size_px=100, patch_size_px=patch)
    _, height, width = to_pixels(Image.new("RGB", size), recipe).shape
    assert height % patch == width % patch == 0
    assert min(height, width) == max(patch, math.floor(100 / patch + 0.5) * patch)
    assert max(height, width) <= 8 * 100 + patch


def test_short_side_of_a_very_long_picture_is_its_middle_and_it_is_said() -> None:
    said: list[str] = []
    recipe = ImagePreprocessing(policy="short-side", size_px=16, interpolation="nearest", **PLAIN)
    pixels = to_pixels(numbered(200, 16), recipe, report=said.append)
    assert pixels.shape == (3, 16, 128)
    assert grey_levels(pixels)[0, :, 0].tolist() == list(range(36, 164))
    assert said == ["200 × 16 px is longer than 8 to 1: only the middle is used"]


@pytest.mark.parametrize(
    ("width", "height", "resized"),
    [(640, 480, (341, 256)), (375, 500, (256, 341)), (257, 311, (256, 309)), (5, 3, (426, 256))],
)
def test_the_long_side_is_rounded_down(width: int, height: int, resized: tuple[int, int]) -> None:
    # By hand: 256 × 640 / 480 = 341.33; 256 × 500 / 375 = 341.33; 256 × 311 / 257 = 309.8; 256 × 5 / 3 = 426.7
    image = picture((width, height))
    expected = image.resize(resized, Image.Resampling.BICUBIC)
    left, top = (resized[0] - 224) // 2, (resized[1] - 224) // 2
    expected = expected.crop((left, top, left + 224, top + 224))
    np.testing.assert_array_equal(grey_levels(to_pixels(image, ImagePreprocessing(**PLAIN))), np.asarray(expected))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_each_filter_is_pillows_own(interpolation: str) -> None:
    image = picture((97, 89))
    recipe = ImagePreprocessing(size_px=31, resize_px=31, resize="exact", interpolation=interpolation, **PLAIN)
    expected = image.resize((31, 31), Image.Resampling[interpolation.upper()])
    np.testing.assert_array_equal(grey_levels(to_pixels(image, recipe)), np.asarray(expected))


def test_a_crop_larger_than_the_resized_picture_is_padded() -> None:
    recipe = ImagePreprocessing(size_px=9, resize_px=5, resize="exact", **PLAIN)
    shown = grey_levels(to_pixels(Image.new("RGB", (31, 17), (200, 200, 200)), recipe))[..., 0]
    assert shown[2:7, 2:7].tolist() == [[200] * 5] * 5
    assert shown.sum() == 25 * 200


@pytest.mark.parametrize("size", [(1, 20_011), (20_011, 1), (3, 30_011)])
@pytest.mark.parametrize("policy", POLICIES)
def test_an_extremely_long_picture_takes_little_memory(
    size: tuple[int, int], policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize = Image.Image.resize
    areas: list[int] = []

    def noted(image: Image.Image, target: tuple[int, int], *options: object, **more: object) -> Image.Image:
        areas.append(target[0] * target[1])  # not resized for real if it is gigabytes: the test must fail, not swap
        return resize(image, target, *options, **more) if areas[-1] <= 2**24 else Image.new("RGB", (1, 1))

    monkeypatch.setattr(Image.Image, "resize", noted)
    pixels = to_pixels(Image.new("RGB", size, (90, 90, 90)), ImagePreprocessing().with_policy(policy))
    assert max(areas, default=0) <= 2**24
    assert pixels[0].size <= 224 * 8 * 240


@pytest.mark.parametrize("size", [(41, 1201), (1201, 41), (13, 1511), (240, 320), (17, 19)])
def test_resizing_only_the_crop_gives_the_same_picture(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(size)
    recipe = ImagePreprocessing(**PLAIN)
    whole = grey_levels(to_pixels(image, recipe))
    monkeypatch.setattr(module, "LIMIT_RESIZED_PIXELS", 0)
    np.testing.assert_allclose(grey_levels(to_pixels(image, recipe)), whole, atol=1)


def test_timms_crop_percentage_is_expressible() -> None:
    # AugReg: resize the short side to floor(224 / 0.9) = 248, bicubic, CenterCrop(224), mean = std = 0.5.
    recipe = ImagePreprocessing(
        resize_px=math.floor(224 / 0.9), mean=(0.5,) * 3, std=(0.5,) * 3, crop_rounding="half-even"
    )
    image = picture((331, 248))  # the width leaves 107 px to cut: 53.5 rounds to the even 54
    expected = image.crop((54, 12, 278, 236))
    np.testing.assert_allclose(
        to_pixels(image, recipe), np.asarray(expected).transpose(2, 0, 1) / np.float32(127.5) - 1, atol=2e-7
    )


def test_other_modes_are_converted() -> None:
    recipe = ImagePreprocessing(size_px=5, resize_px=5, resize="exact", **PLAIN)
    assert grey_levels(to_pixels(Image.new("L", (7, 7), 77), recipe)).tolist() == [[[77] * 3] * 5] * 5


def test_preprocess_is_decode_and_to_pixels() -> None:
    image = picture()
    recipe = ImagePreprocessing()
    np.testing.assert_array_equal(preprocess(image, recipe), to_pixels(image, recipe))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_description_survives_json(policy: str) -> None:
    recipe = ImagePreprocessing(policy=policy, size_px=252, mean=(0.1, 0.2, 0.3), interpolation="lanczos")
    assert ImagePreprocessing.from_dict(recipe.to_dict()) == recipe
    assert ImagePreprocessing.from_dict(recipe.to_dict()).key() == recipe.key()


def test_the_key_is_stable_across_versions() -> None:
    # Galleries on disk carry these: a change here makes every user index again. See PIXEL_RULES.
    keys = {policy: ImagePreprocessing(policy=policy).key() for policy in POLICIES}
    assert keys == {
        "official": "official-224-6e3c435928e4",
        "center-crop": "center-crop-224-d06289ca3261",
        "short-side": "short-side-224-f5deba482ada",
    }


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ImagePreprocessing)])
@pytest.mark.parametrize("policy", POLICIES)
def test_keys_differ_exactly_when_pixels_can(policy: str, field: str) -> None:
    other = {
        "policy": "short-side" if policy != "short-side" else "official",
        "size_px": 96,
        "resize": "exact",
        "resize_px": 231,
        "interpolation": "nearest",
        "mean": (0.1, 0.2, 0.3),
        "std": (0.3, 0.2, 0.1),
        "patch_size_px": 7,
        "crop_rounding": "half-even",
        "max_patches": 49,
    }
    recipe = ImagePreprocessing(policy=policy)
    changed = dataclasses.replace(recipe, **{field: other[field]})
    image = Image.effect_noise((251, 309), 90).convert("RGB")  # both crops cut 4n + 3 pixels: the roundings differ
    one, two = to_pixels(image, recipe), to_pixels(image, changed)
    assert (recipe.key() == changed.key()) == (one.shape == two.shape and np.array_equal(one, two))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ImagePreprocessing)])
def test_keys_of_native_resolution_differ_exactly_when_pixels_can(field: str) -> None:
    other = {
        "policy": "short-side", "size_px": 96, "resize": "exact", "resize_px": 231, "interpolation": "nearest",
        "mean": (0.1, 0.2, 0.3), "std": (0.3, 0.2, 0.1), "patch_size_px": 7, "crop_rounding": "half-even",
        "max_patches": 49,
    }  # fmt: skip
    recipe = dataclasses.replace(NATIVE, max_patches=64)
    changed = dataclasses.replace(recipe, **{field: other[field]})
    image = Image.effect_noise((251, 309), 90).convert("RGB")
    one, two = to_pixels(image, recipe), to_pixels(image, changed)
    assert (recipe.key() == changed.key()) == (one.shape == two.shape and np.array_equal(one, two))


def test_the_key_of_native_resolution_is_stable_too() -> None:
    assert NATIVE.key() == "official-256patches-554287d7d40a"


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        ((640, 480), 14, 18),  # one step more, 14 x 19, would be 266
        ((480, 640), 18, 14),
        ((256, 256), 16, 16),
        ((17, 17), 16, 16),  # small pictures are enlarged …
        ((1, 1), 7, 7),  # … a hundredfold at most
        ((10_000, 1), 1, 256),
        ((1, 10_000), 256, 1),
    ],
)
def test_native_resolution_fills_the_patches_it_may_have(size: tuple[int, int], rows: int, columns: int) -> None:
    pixels = to_pixels(Image.new("RGB", size), NATIVE)
    assert pixels.shape == (3, rows * 16, columns * 16)


@pytest.mark.parametrize("size", [(641, 480), (37, 1009), (223, 224), (5, 3)])
@pytest.mark.parametrize("limit", [1, 5, 49, 256, 1024])
def test_native_resolution_is_the_largest_of_its_proportions(size: tuple[int, int], limit: int) -> None:
    recipe = dataclasses.replace(NATIVE, max_patches=limit, patch_size_px=7)
    _, height, width = to_pixels(Image.new("RGB", size), recipe).shape
    rows, columns = height // 7, width // 7
    assert rows * columns <= limit
    # The next larger step of either side, with the other at the same scale, does not fit.
    scales = sorted({(rows * 7 / size[1]), (columns * 7 / size[0])})
    larger = [math.ceil(side * (scales[0] + 2e-5) / 7) for side in size]
    assert larger[0] * larger[1] > limit or scales[0] > 99


def test_native_resolution_shows_the_whole_picture() -> None:
    image = picture((311, 97))
    pixels = to_pixels(image, dataclasses.replace(NATIVE, **PLAIN))
    wanted = image.resize((pixels.shape[2], pixels.shape[1]), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(grey_levels(pixels), wanted)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_patches": 0}, "max_patches must be a positive whole number; it is 0"),
        ({"policy": "stretch"}, "policy must be one of .*official.*'stretch'"),
        ({"interpolation": "box"}, "interpolation must be one of"),
        ({"resize": "both"}, "resize must be one of"),
        ({"crop_rounding": "up"}, "crop_rounding must be one of"),
        ({"size_px": 0}, "size_px must be a positive whole number"),
        ({"size_px": 224.0}, "size_px must be a positive whole number"),
        ({"resize_px": True}, "resize_px must be a positive whole number"),
        ({"std": (0.0, 1.0, 1.0)}, "std must be three finite numbers, one per channel, above 0"),
        ({"mean": (0.5, 0.5)}, "mean must be three finite numbers"),
        ({"mean": (0.5, 0.5, math.nan)}, "mean must be three finite numbers"),
        ({"mean": "abc"}, "could not convert"),
        ({"mean": 0.5}, "not iterable"),
        ({"crop_pct": 0.9}, "unknown crop_pct; known are crop_rounding, interpolation"),
    ],
)
def test_a_description_that_does_not_hold_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImagePreprocessing.from_dict(values)
