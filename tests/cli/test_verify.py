"""`vitseek verify` as a user calls it, on an archive with the names of the course's `vit-dinov2-base.npz`."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.dinov2_archive import reference_features, shapes, write_archive

SMALL = {"width": 192, "depth": 2}
FULL = {"width": 768, "depth": 12}
CROP = ("--preprocess", "center-crop")


@pytest.fixture
def run(run_command):
    return partial(run_command, "verify")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A landscape and a portrait, with odd margins around the crop."""
    rng = np.random.default_rng(20260)
    folder = tmp_path_factory.mktemp("pictures")
    files = [folder / "cat.png", folder / "dog.png"]
    for file, (height, width) in zip(files, [(241, 331), (359, 263)], strict=True):
        coarse = Image.fromarray(rng.integers(0, 256, (13, 17, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BILINEAR).save(file)
    return files


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, pictures: list[Path]) -> tuple[Path, Path]:
    """A small random archive and the features of the pictures by the second implementation.

    Its name says how pictures are prepared: two blocks of width 192 are no known model.
    """
    folder = tmp_path_factory.mktemp("archive")
    arrays = write_archive(folder / "dinov2-small.npz", np.random.default_rng(20261), **SMALL)
    features = np.stack([reference_features(arrays, picture, **SMALL) for picture in pictures])
    np.save(folder / "reference.npy", features)
    return folder / "dinov2-small.npz", folder / "reference.npy"


def test_the_archive_has_the_names_and_size_of_dinov2_base() -> None:
    # 12 blocks of 18 parameters, cls and mask token, positions, patch embedding, final norm.
    full = shapes(**FULL)
    assert len(full) == 12 * 18 + 7
    assert sum(int(np.prod(shape)) for shape in full.values()) == 86_580_480
    assert full["embeddings.position_embeddings"] == (1, 1370, 768)


def test_features_that_agree_pass(run, archive, pictures) -> None:
    weights, reference = archive
    ran = run("--weights", weights, "--images", *pictures, "--reference", reference, *CROP)
    assert ran.status == 0, ran.err
    assert "passed: largest difference" in ran.out
    assert "cat.png" in ran.out
    assert "1.000000000" in ran.out
    assert "num_heads = 3, assuming 64" in ran.err


def test_json_is_one_document_with_every_number(run, archive, pictures) -> None:
    weights, reference = archive
    ran = run(weights, "--images", *pictures, "--reference", reference, *CROP, "--json")
    assert ran.status == 0
    document = json.loads(ran.out)
    assert document["passed"] is True
    assert (document["preprocess"], document["pooling"], document["pos_resize"]) == ("center-crop", "cls", "bicubic")
    assert [Path(row["image"]).name for row in document["images"]] == ["cat.png", "dog.png"]
    for row in document["images"]:
        assert 0 < row["max_abs"] < 1e-4
        assert 0 < row["mean_abs"] <= row["max_abs"]
        assert 0 < row["mse"] <= row["max_abs"] ** 2
        assert row["cosine"] == pytest.approx(1)


def test_a_tolerance_can_fail_what_agrees_otherwise(run, archive, pictures) -> None:
    weights, reference = archive
    ran = run(weights, "--images", *pictures, "--reference", reference, *CROP, "--tolerance", "1e-9")
    assert ran.status == 1
    assert "FAILED" in ran.out


def test_another_preprocessing_fails_and_the_right_one_is_named(run, archive, pictures) -> None:
    weights, reference = archive
    ran = run(weights, "--images", *pictures, "--reference", reference, "--preprocess", "short-side")
    assert ran.status == 1
    assert "cat.png passes: --preprocess center-crop --pos-resize bicubic --pooling cls" in ran.err


def test_another_way_to_resize_positions_fails_and_the_right_one_is_named(run, archive, pictures) -> None:
    weights, reference = archive
    ran = run(weights, "--images", *pictures, "--reference", reference, *CROP, "--pos-resize", "bicubic-offset")
    assert ran.status == 1
    assert "--preprocess center-crop --pos-resize bicubic " in ran.err


def test_the_order_of_the_images_matters(run, archive, pictures) -> None:
    weights, reference = archive
    ran = run(weights, "--images", *pictures[::-1], "--reference", reference, *CROP)
    assert ran.status == 1
    assert "No other --preprocess or --pos-resize passes either" in ran.err


def test_a_reference_with_a_nan_fails(run, archive, pictures, tmp_path) -> None:
    weights, reference = archive
    features = np.load(reference)
    features[1, 7] = np.nan
    np.save(tmp_path / "holed.npy", features)
    ran = run(weights, "--images", *pictures, "--reference", tmp_path / "holed.npy", *CROP, "--json")
    assert ran.status == 1
    assert json.loads(ran.out)["images"][1]["max_abs"] is None


def test_images_may_be_given_one_by_one(run, archive, pictures) -> None:
    weights, reference = archive
    first, second = pictures
    ran = run(weights, "--images", first, "--reference", reference, "--images", second, *CROP)
    assert ran.status == 0, ran.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("{weights}", "--images", "{cat}", "--reference", "{reference}"), "it holds 2 images and 1 were given"),
        (("{weights}", "--images", "{cat}", "none.png", "--reference", "{reference}"), "no image at none.png"),
        (("--images", "{cat}", "{dog}", "--reference", "{reference}"), "which model?"),
        (("{weights}", "--images", "{cat}", "{dog}", "--reference", "none.npy"), "no reference at none.npy"),
        (
            ("{weights}", "--images", "{cat}", "{dog}", "--reference", "{reference}", "--pooling", "cls+patch-mean"),
            "the model's features have 384 numbers",
        ),
        (
            ("{weights}", "--images", "{cat}", "{dog}", "--reference", "{reference}", "--pos-resize", "linear"),
            "pos_resize must be one of",
        ),
        (("dinov2-bse", "--images", "{cat}", "{dog}", "--reference", "{reference}"), "Did you mean dinov2-base"),
    ],
)
def test_a_wrong_call_is_one_short_error(run, archive, pictures, arguments: tuple[str, ...], reason: str) -> None:
    weights, reference = archive
    names = {"weights": weights, "reference": reference, "cat": pictures[0], "dog": pictures[1]}
    ran = run(*(argument.format(**names) for argument in arguments))
    assert ran.status == 2
    assert reason in ran.err
    assert ran.err.count("\n") <= 3
    assert ran.out == ""


def test_without_images_the_usage_is_shown(run, archive) -> None:
    ran = run(archive[0], "--reference", archive[1])
    assert ran.status == 2
    assert "--images" in ran.err


@pytest.mark.slow
def test_an_archive_of_the_real_size_agrees_with_the_second_implementation(run, tmp_path, rng, pictures) -> None:
    arrays = write_archive(tmp_path / "vit-dinov2-base.npz", rng, **FULL)
    np.save(tmp_path / "one.npy", reference_features(arrays, pictures[0], **FULL))
    ran = run(
        "--weights",
        tmp_path / "vit-dinov2-base.npz",
        "--images",
        pictures[0],
        "--reference",
        tmp_path / "one.npy",
        *CROP,
    )
    assert ran.status == 0, ran.err
    assert "pictures are prepared as for dinov2-base" in ran.err


@pytest.mark.parity
def test_an_archive_of_the_real_size_agrees_with_transformers(run, tmp_path, rng, shared_dir) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    arrays = write_archive(tmp_path / "vit-dinov2-base.npz", rng, **FULL)
    saved = tmp_path / "saved"
    saved.mkdir()
    transformers.Dinov2Config(image_size=518).save_pretrained(saved)
    from safetensors.numpy import save_file

    save_file(arrays, saved / "model.safetensors", metadata={"format": "pt"})
    model = transformers.Dinov2Model.from_pretrained(saved).eval()
    pictures = [shared_dir / "data" / "pairs" / name for name in ("cat.jpg", "dog.jpg")]
    features = []
    for picture in pictures:
        pixels = np.asarray(Image.open(picture).convert("RGB"), np.float32)
        top, left = (pixels.shape[0] - 224) // 2, (pixels.shape[1] - 224) // 2
        crop = pixels[top : top + 224, left : left + 224] / 255
        crop = (crop - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
        with torch.no_grad():
            tokens = model(pixel_values=torch.from_numpy(crop.transpose(2, 0, 1)[None])).last_hidden_state
        features.append(tokens[0, 0].numpy())
    np.save(tmp_path / "cat_dog_feature.npy", np.stack(features).astype(np.float64))
    reference = ("--reference", tmp_path / "cat_dog_feature.npy")
    ran = run("--weights", tmp_path / "vit-dinov2-base.npz", "--images", *pictures, *reference, *CROP, "--json")
    assert ran.status == 0, ran.err
    assert max(row["max_abs"] for row in json.loads(ran.out)["images"]) < 2e-5
