from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.errors import TrainingError, UsageError  # noqa: E402
from vitseek.preprocess.image import ImagePreprocessing, preprocess  # noqa: E402
from vitseek.train import augment  # noqa: E402
from vitseek.train.data import Augmented, Order, Still, batches, load_pictures, storage_side  # noqa: E402
from vitseek.train.sources import read_labelled  # noqa: E402


def _view(image: Image.Image, rng: np.random.Generator) -> dict[str, Any]:
    crop = augment.random_resized_crop(image, 11, rng, scale=(0.3, 1))
    return {"pixels": augment.to_tensor(crop, (0.5,) * 3, (0.5,) * 3)}


def test_unreadable_images_are_left_out_and_listed_with_their_reason(classes: Path) -> None:
    (classes / "red" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (classes / "blue" / "empty.png").write_bytes(b"")
    images, pictures = load_pictures(read_labelled(classes), short_side_px=19, limit_mb=10)
    assert len(images) == len(pictures) == 23
    assert {file.path.name for file in images.skipped} == {"torn.jpg", "empty.png"}
    assert all(file.reason for file in images.skipped)


def test_pictures_in_memory_equal_those_read_again_and_are_reduced(classes: Path) -> None:
    images = read_labelled(classes)
    _, kept = load_pictures(images, short_side_px=19, limit_mb=10)
    tight = load_pictures(images, short_side_px=19, limit_mb=0)[1]
    assert kept[4].size == (21, 19)
    assert all(kept[index] == tight[index] for index in range(len(kept)))


def test_a_file_that_vanishes_during_the_run_is_told_by_name(classes: Path) -> None:
    _, pictures = load_pictures(read_labelled(classes), short_side_px=19, limit_mb=0)
    pictures.paths[2].unlink()
    with pytest.raises(TrainingError, match="could be read when the run started and cannot now"):
        pictures[2]


def test_a_view_depends_on_seed_epoch_and_image_alone(classes: Path) -> None:
    images, pictures = load_pictures(read_labelled(classes), short_side_px=19, limit_mb=10)
    data, again = (Augmented(pictures, _view, seed=3, labels=images.labels) for _ in range(2))
    assert torch.equal(data[5, 7]["pixels"], again[5, 7]["pixels"])
    assert not torch.equal(data[5, 7]["pixels"], data[6, 7]["pixels"])
    assert not torch.equal(data[5, 7]["pixels"], Augmented(pictures, _view, seed=4)[5, 7]["pixels"])


def test_workers_give_the_same_batches(classes: Path) -> None:
    images, pictures = load_pictures(read_labelled(classes), short_side_px=19, limit_mb=10)
    data = Augmented(pictures, _view, seed=3, labels=images.labels)
    order = Order(len(data), 5, seed=1)
    alone, helped = (list(batches(data, order, 2, 1, workers)) for workers in (0, 2))
    assert len(alone) == 3
    assert all(torch.equal(a["pixels"], b["pixels"]) for a, b in zip(alone, helped, strict=True))


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order() -> None:
    order = Order(21, 7, seed=5)
    first, second = ([key for part in order.parts(epoch) for key in part] for epoch in (0, 1))
    assert sorted(index for _, index in first) == list(range(21))
    assert [index for _, index in first] != [index for _, index in second]
    assert {epoch for epoch, _ in second} == {1}


def test_a_resumed_epoch_goes_on_with_the_same_batches() -> None:
    order = Order(23, 5, seed=5)
    assert list(order.parts(3))[2:] == list(order.parts(3, first_step=2))


def test_processes_and_parts_share_the_batch_of_one() -> None:
    alone = list(Order(24, 12, seed=5).parts(0))
    teams = [list(Order(24, 12, seed=5, accumulate=2, rank=rank, size=3).parts(0)) for rank in range(3)]
    for number, whole in enumerate(alone):
        shares = [key for team in teams for part in team[2 * number : 2 * number + 2] for key in part]
        assert sorted(shares) == sorted(whole)
    assert all(len(part) == 2 for team in teams for part in team)


def test_a_batch_that_cannot_be_shared_names_one_that_can() -> None:
    with pytest.raises(UsageError, match="--batch-size 13 cannot be split over 3 processes and 2 parts; use 12"):
        Order(100, 13, seed=0, accumulate=2, size=3)


def test_few_images_make_a_smaller_batch_and_none_an_error() -> None:
    assert Order(11, 64, seed=0, accumulate=2).batch_size == 10
    with pytest.raises(TrainingError, match="1 training images are too few"):
        Order(1, 64, seed=0, accumulate=2)


@pytest.mark.parametrize("mean", [(0.5, 0.5, 0.5), (0.485, 0.456, 0.406)])
def test_evaluation_sees_what_the_runtime_will_see(classes: Path, mean: tuple[float, float, float]) -> None:
    images = read_labelled(classes)
    how = ImagePreprocessing(size_px=17, resize_px=23, mean=mean, std=(0.229, 0.224, 0.225))
    still = Still(images, how)
    pixels = torch.cat([part for part, _ in still.batches(5)])
    wanted = np.stack([preprocess(path, how) for path in images.paths])
    assert np.abs(pixels.numpy() - wanted).max() < 1e-5
    assert torch.cat([labels for _, labels in still.batches(5)]).tolist() == images.labels


def test_stored_pictures_are_large_enough_for_the_smallest_crop() -> None:
    assert storage_side(224, 1.0) == 269
    assert storage_side(224, 0.08) == 396
    assert storage_side(224, 0.01) == 448
