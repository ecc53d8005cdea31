"""Loading by name, file and folder, and what a Model gives for pictures."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import vitseek
from tests.engines.two_towers import loaded_towers, model_of
from tests.models.random_weights import FAMILIES, SMALL, random_params
from vitseek import zoo
from vitseek.engines.build import build_engine
from vitseek.engines.model import Model
from vitseek.errors import ConfigError, OfflineError, ShapeError, UnknownModelError, UnreadableImageError, WeightsError
from vitseek.models.config import ViTConfig, parameter_shapes
from vitseek.models.vit import classify, features, forward_features
from vitseek.preprocess.image import ImagePreprocessing, preprocess

CONFIG = ViTConfig(embed_dim=21, depth=2, num_heads=3, patch_size=7, img_size=(35, 35), num_classes=3)
PREPROCESSING = ImagePreprocessing(size_px=35, resize_px=41, patch_size_px=7, mean=(0.4, 0.5, 0.6))


@pytest.fixture
def params(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return random_params(CONFIG, rng, np.float32)


@pytest.fixture
def folder(tmp_path: Path, params: dict[str, np.ndarray]) -> Path:
    """A model with its description, as vitseek itself writes one."""
    place = tmp_path / "tiny-model"
    place.mkdir()
    save_file(params, place / "model.safetensors")
    description = {
        "format": "vitseek", "version": 1, "name": "my-tiny", "config": CONFIG.to_dict(),
        "preprocessing": PREPROCESSING.to_dict(), "pooling": "cls+patch-mean", "labels": ["cat", "dog", "hat"],
    }  # fmt: skip
    (place / "config.json").write_text(json.dumps(description))
    return place


@pytest.fixture
def model(folder: Path) -> Model:
    return vitseek.load(folder)


def test_a_folder_says_everything(model: Model, folder: Path) -> None:
    assert (model.name, model.config, model.preprocessing) == ("my-tiny", CONFIG, PREPROCESSING)
    assert (model.pooling, model.embed_dim, model.engine) == ("cls+patch-mean", 42, "numpy")
    assert model.labels == ["cat", "dog", "hat"]
    assert repr(model) == "<vitseek model my-tiny: 42-d, pooling cls+patch-mean, numpy>"
    again = vitseek.load(model.source)
    assert again.space() == model.space()
    assert vitseek.load(folder / "model.safetensors").space() == model.space()


def test_a_space_tells_models_policies_and_poolings_apart(folder: Path, model: Model) -> None:
    others = [
        vitseek.load(folder, pooling="cls"),
        vitseek.load(folder, preprocess="short-side"),
        vitseek.load(folder, pos_resize="bicubic-antialias"),
    ]
    assert len({model.space(), *(other.space() for other in others)}) == 4
    assert model.space().dim == 42
    assert others[1].space().preprocessing == PREPROCESSING.with_policy("short-side").key()


@pytest.mark.parametrize(
    ("family", "rule"), [("clip", "embedding"), ("siglip", "embedding"), ("ijepa", "patch-mean"), ("vit", "cls")]
)
def test_a_file_that_does_not_say_how_it_is_pooled_gets_what_it_has(
    family: str, rule: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    own = random_params(config, rng, np.float32)
    save_file(own, tmp_path / "model.safetensors")
    description = {"format": "vitseek", "version": 1, "name": family, "config": config.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(description))
    model = vitseek.load(tmp_path)
    pixels = rng.standard_normal((2, 3, 35, 49), dtype=np.float32)
    tokens = forward_features(own, config, pixels)
    assert model.pooling == rule
    np.testing.assert_allclose(model.embed_pixels(pixels), features(own, config, tokens, rule), atol=1e-5)
    np.testing.assert_allclose(model.pool(model.tokens(pixels)), model.embed_pixels(pixels), atol=1e-5)


def test_pictures_at_native_resolution_keep_their_proportions_and_their_order(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES["siglip2-naflex"])
    native = ImagePreprocessing(resize="max-patches", max_patches=23, patch_size_px=7, interpolation="bilinear")
    own = random_params(config, rng, np.float32)
    save_file(own, tmp_path / "model.safetensors")
    description = {
        "format": "vitseek", "version": 1, "name": "native", "config": config.to_dict(),
        "preprocessing": native.to_dict(), "pooling": "embedding",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(description))
    model = vitseek.load(tmp_path)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for height, width in ((61, 97), (97, 61), (7, 89), (61, 97), (53, 53))
    ]
    together = model.embed(pictures, batch_size=3)
    shapes = set()
    for picture, found in zip(pictures, together, strict=True):
        pixels = preprocess(picture, native)
        shapes.add(pixels.shape)
        tokens = forward_features(own, config, pixels[None])
        np.testing.assert_allclose(found, features(own, config, tokens, "embedding")[0], atol=1e-5)
    assert shapes == {(3, 28, 35), (3, 35, 28), (3, 7, 91), (3, 28, 28)}


def test_a_pooling_that_the_model_cannot_follow_is_refused_before_a_download(private_home: Path) -> None:
    with pytest.raises(ConfigError, match=r"no class token.*or 'embedding' for its attention pool"):
        vitseek.load("siglip2-base", pooling="cls", offline=True)


def test_only_a_learned_grid_of_positions_can_be_resized_otherwise(tmp_path: Path, rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES["dinov3"])
    save_file(random_params(config, rng, np.float32), tmp_path / "model.safetensors")
    description = {"format": "vitseek", "version": 1, "name": "turned", "config": config.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(description))
    with pytest.raises(ConfigError, match="resizes learned positions, and pos_embed is 'rope'"):
        vitseek.load(tmp_path, pos_resize="bicubic-offset")


def test_weights_of_zero_give_zeros_and_no_warning(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES["pool beside class token"])
    zeros = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config).items()}
    engine = build_engine(zeros, config, "embedding", threads=2)
    np.testing.assert_array_equal(engine.embed_pixels(np.ones((3, 3, 35, 49), np.float32)), np.zeros((3, 13)))


def test_dinov2_of_a_new_size_is_used_at_224_px_though_trained_at_518(tmp_path: Path, rng: np.random.Generator) -> None:
    config = ViTConfig(embed_dim=64, depth=1, num_heads=1, patch_size=14, img_size=(518, 518), layer_scale=True)
    save_file(random_params(config, rng, np.float32), tmp_path / "own.safetensors")
    loaded = vitseek.load(tmp_path / "own.safetensors")
    assert loaded.preprocessing.size_px == 224
    assert any("224 px" in said for said in loaded.notes)


def test_features_are_those_of_the_plain_pass(model: Model, params: dict[str, np.ndarray], photos: Path) -> None:
    paths = sorted(photos.rglob("*.png"))
    pixels = np.stack([preprocess(path, PREPROCESSING) for path in paths])
    tokens = forward_features(params, CONFIG, pixels)
    wanted = np.hstack([tokens.cls_token, tokens.patches.mean(axis=1)])
    for batch_size in (1, 3, 16):
        features = model.embed(paths, batch_size=batch_size)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, wanted, atol=2e-5)
    np.testing.assert_allclose(model.forward(pixels), tokens.all, atol=2e-5)
    np.testing.assert_allclose(model.classify(pixels), classify(params, CONFIG, tokens), atol=2e-5)
    assert model.tokens(pixels, attention_blocks=(-1,)).attention[1].shape == (7, 3, 26, 26)


def test_one_picture_may_come_in_any_form(model: Model, photos: Path) -> None:
    path = sorted(photos.rglob("*.png"))[0]
    wanted = model.embed([path])
    with path.open("rb") as stream:
        for form in (path, str(path), path.read_bytes(), Image.open(path), stream, iter([path]), (path,)):
            np.testing.assert_array_equal(model.embed(form), wanted)
    assert model.embed([]).shape == (0, 42)


def test_pictures_of_different_sizes_keep_their_order(folder: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    model = vitseek.load(folder, preprocess="short-side")
    pictures = []
    for width, height in ((71, 35), (35, 50), (35, 35), (70, 35), (50, 71)):
        pictures.append(Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)))
    together = model.embed(pictures)
    alone = np.concatenate([model.embed([picture]) for picture in pictures])
    np.testing.assert_allclose(together, alone, atol=2e-5)


def test_a_bad_picture_is_named(model: Model, photos: Path) -> None:
    bad = photos / "bad.jpg"
    bad.write_text("no picture")
    with pytest.raises(UnreadableImageError, match=r"bad\.jpg"):
        model.embed([*photos.rglob("*.png"), bad])


def test_several_threads_may_use_one_model(model: Model, photos: Path) -> None:
    paths = sorted(photos.rglob("*.png"))
    wanted = model.embed(paths)
    with ThreadPoolExecutor(4) as callers:
        found = list(callers.map(lambda path: model.embed([path])[0], paths * 3))
    np.testing.assert_allclose(found, np.tile(wanted, (3, 1)), atol=2e-5)


def test_weights_without_description_are_prepared_by_name_or_by_assumption(
    tmp_path: Path, params: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    save_file(params, tmp_path / "unknown.safetensors")
    # num_heads cannot be seen in the weights: 21 is no multiple of the usual 64, so the config must be given.
    (tmp_path / "unknown.json").write_text(
        json.dumps({"format": "vitseek", "version": 1, "config": CONFIG.to_dict(), "preprocessing": None})
    )
    model = vitseek.load(tmp_path / "unknown.safetensors")
    assert model.name == "unknown"
    assert model.preprocessing.size_px == 35
    assert model.preprocessing.resize_px == 40
    assert any("ImageNet mean and std assumed" in note for note in model.notes)

    row = zoo.find("vit-tiny")
    named = tmp_path / f"{row.source.repo.rpartition('/')[2]}.safetensors"
    save_file(random_params(row.config, rng, np.float32), named)
    model = vitseek.load(named)
    assert model.preprocessing == row.preprocessing
    assert any("prepared as for vit-tiny" in note for note in model.notes)


def test_own_weights_for_a_model_of_the_zoo(tmp_path: Path, rng: np.random.Generator) -> None:
    row = zoo.find("vit-tiny")
    save_file(random_params(row.config, rng, np.float32), tmp_path / "mine.safetensors")
    model = vitseek.load("vit-tiny", weights=tmp_path / "mine.safetensors")
    assert (model.name, model.config, model.preprocessing) == ("vit-tiny", row.config, row.preprocessing)
    with pytest.raises(UnknownModelError, match="is not a model of the zoo"):
        vitseek.load(tmp_path / "mine.safetensors", weights=tmp_path / "mine.safetensors")


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("dinov2-bas",), {}, UnknownModelError, "dinov2-base"),
        (("no/such/file.safetensors",), {}, WeightsError, "file.safetensors"),
        (("dinov2-base",), {"engine": "abacus"}, ConfigError, "engine must be one of numpy, numba, onnx, openvino"),
        (("dinov2-base",), {"pooling": "max"}, ConfigError, "pooling must be one of"),
        (("dinov2-base",), {"offline": True}, OfflineError, "facebook/dinov2-base"),
    ],
)
def test_what_cannot_be_loaded_is_explained(arguments, options, error, message) -> None:
    with pytest.raises(error, match=message):
        vitseek.load(*arguments, **options)


def test_policy_and_pixels_are_checked(folder: Path, model: Model) -> None:
    with pytest.raises(ConfigError, match="policy must be one of"):
        vitseek.load(folder, preprocess="stretch")
    with pytest.raises(ShapeError, match="add pixels\\[None\\]"):
        model.embed_pixels(np.zeros((3, 35, 35), np.float32))
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        model.embed([], batch_size=0)


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one name whenever an image tower is folded."""
    names: list[str] = []

    def counting(params: object, config: ViTConfig, *others: object, **named: object) -> object:
        names.append(f"{config.embed_dim} wide")
        return build_engine(params, config, *others, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("vitseek.engines.model.build_engine", counting)
    return names


def test_the_image_tower_beside_a_text_tower_is_folded_once_at_the_first_picture(
    folded: list[str], tmp_path: Path
) -> None:
    model = model_of(loaded_towers("clip", tmp_path))
    model.embed_texts("a red dress")
    assert (model.embed_dim, folded) == (model.space().dim, [])
    pixels = np.zeros((1, 3, 16, 16), np.float32)
    with ThreadPoolExecutor(4) as callers:
        found = list(callers.map(model.embed_pixels, [pixels] * 8))
    assert folded == ["22 wide"]
    assert all(np.array_equal(one, found[0]) for one in found)


def test_an_image_tower_alone_is_folded_when_it_is_loaded(folded: list[str], folder: Path) -> None:
    model = vitseek.load(folder)
    assert folded == ["21 wide"]
    model.embed_pixels(np.zeros((1, 3, 35, 35), np.float32))
    assert folded == ["21 wide"]
