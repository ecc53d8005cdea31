import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.train import augment  # noqa: E402


@pytest.fixture
def picture(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (47, 61, 3), dtype=np.uint8))


def _views(picture: Image.Image, rng: np.random.Generator) -> list[Image.Image]:
    return [
        augment.random_resized_crop(picture, 23, rng, scale=(0.1, 1.0)),
        augment.random_flip(picture, rng),
        augment.color_jitter(picture, rng, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        augment.random_grayscale(picture, rng, 0.5),
        augment.random_blur(picture, rng, 0.5),
        augment.random_solarize(picture, rng, 0.5),
        augment.rand_augment(picture, rng, operations=3, magnitude=9),
    ]


def test_the_same_generator_gives_the_same_views_and_another_one_others(picture: Image.Image) -> None:
    first, again, other = (_views(picture, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(a == b for a, b in zip(first, again, strict=True))
    assert sum(a != b for a, b in zip(first, other, strict=True)) >= 4


def test_a_crop_of_the_whole_area_shows_the_whole_picture(picture: Image.Image) -> None:
    square = picture.crop((0, 0, 41, 41))
    view = augment.random_resized_crop(square, 41, np.random.default_rng(0), scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert view == square


def test_a_crop_that_never_fits_falls_back_to_the_centre() -> None:
    strip = Image.new("RGB", (301, 7), (9, 9, 9))
    assert augment.random_resized_crop(strip, 11, np.random.default_rng(0), scale=(0.9, 1.0)).size == (11, 11)


@pytest.mark.parametrize("name", augment.OPERATIONS)
def test_every_operation_of_randaugment_keeps_size_and_mode(picture: Image.Image, name: str) -> None:
    operation, most, signed = augment.OPERATIONS[name]
    for amount in (most, -most if signed else most, 0.0):
        view = operation(picture, amount)
        assert (view.size, view.mode) == (picture.size, picture.mode)


@pytest.mark.parametrize("name", [n for n, (_, _, signed) in augment.OPERATIONS.items() if signed])
def test_signed_operations_change_nothing_at_strength_zero(picture: Image.Image, name: str) -> None:
    view = np.asarray(augment.OPERATIONS[name][0](picture, 0.0)).astype(int)
    assert np.abs(view - np.asarray(picture).astype(int)).max() <= 1


def test_hue_turns_red_into_green_a_third_round_the_circle() -> None:
    class Third:
        def uniform(self, low: float, high: float) -> float:
            return 1 / 3 if low < 0 < high else 1.0  # a third for the hue, no change for the factors

        def permutation(self, count: int) -> list[int]:
            return list(range(count))

    red = Image.new("RGB", (5, 3), (200, 0, 0))
    turned = augment.color_jitter(red, Third(), brightness=0.0, contrast=0.0, saturation=0.0, hue=0.5)  # type: ignore[arg-type]
    red_level, green_level, blue_level = turned.getpixel((2, 1))  # type: ignore[misc]
    assert green_level > 190
    assert max(red_level, blue_level) < 15


def test_pixels_are_normalised_by_channel() -> None:
    pixels = augment.to_tensor(Image.new("RGB", (3, 2), (255, 51, 0)), (0.5, 0.1, 0.2), (0.5, 0.2, 0.4))
    assert pixels.shape == (3, 2, 3)
    assert torch.allclose(pixels[:, 0, 0], torch.tensor([1.0, 0.5, -0.5]))


def test_erasing_puts_noise_into_one_rectangle_and_leaves_the_rest() -> None:
    pixels = torch.zeros(3, 29, 31)
    augment.random_erasing(pixels, np.random.default_rng(5), 1.0)
    erased = (pixels != 0).all(dim=0)
    rows, columns = erased.any(dim=1).nonzero(), erased.any(dim=0).nonzero()
    assert erased[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
    assert 0.02 * 0.7 < float(erased.float().mean()) < 0.34 * 1.3
    assert (augment.random_erasing(torch.zeros(3, 29, 31), np.random.default_rng(5), 0.0) == 0).all()


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixed_targets_say_how_much_of_each_image_is_there(mixup: float, cutmix: float) -> None:
    pixels = torch.stack([torch.full((3, 13, 17), float(value)) for value in range(5)])
    labels = torch.arange(5)
    mix = augment.Mix(mixup, cutmix, num_classes=5)
    for seed in range(11):
        mixed, targets = mix(pixels, labels, np.random.default_rng(seed))
        assert torch.allclose(targets.sum(dim=1), torch.ones(5))
        # The value of an image is its label, so the mean of the mixed pixels is the mean of the targets.
        assert torch.allclose(mixed.mean(dim=(1, 2, 3)), targets @ torch.arange(5.0), atol=1e-5)


def test_without_mixing_targets_are_smoothed_labels_and_pixels_untouched() -> None:
    pixels = torch.randn(3, 3, 5, 7)
    mixed, targets = augment.Mix(0.0, 0.0, num_classes=5, smoothing=0.1)(pixels, torch.tensor([4, 0, 2]), None)  # type: ignore[arg-type]
    assert mixed is pixels
    assert torch.allclose(targets[0], torch.tensor([0.02, 0.02, 0.02, 0.02, 0.92]))
