"""A Swin Transformer as a model: from a file to features, and through a gallery."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import vitseek
from tests.models.random_swin import SMALL, random_swin_params
from vitseek.engines.model import Model
from vitseek.errors import ConfigError, TextUnsupportedError
from vitseek.models.swin import classify, forward_features
from vitseek.preprocess.image import ImagePreprocessing, preprocess

PREPROCESSING = ImagePreprocessing(size_px=60, resize_px=67, patch_size_px=12)
FLOAT32 = 1e-5


@pytest.fixture
def params(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return random_swin_params(SMALL, rng, np.float32)


@pytest.fixture
def file(tmp_path: Path, params: dict[str, np.ndarray]) -> Path:
    """A model with its description, as vitseek itself writes one."""
    description = {
        "format": "vitseek", "version": 1, "name": "my-swin", "config": SMALL.to_dict(),
        "preprocessing": PREPROCESSING.to_dict(), "labels": [f"class {number}" for number in range(11)],
    }  # fmt: skip
    (tmp_path / "my-swin.json").write_text(json.dumps(description))
    save_file(params, tmp_path / "my-swin.safetensors")
    return tmp_path / "my-swin.safetensors"


@pytest.fixture
def model(file: Path) -> Model:
    return vitseek.load(file)


def test_a_description_says_everything(model: Model) -> None:
    assert (model.name, model.config, model.preprocessing) == ("my-swin", SMALL, PREPROCESSING)
    assert (model.pooling, model.embed_dim) == ("patch-mean", 56)
    assert model.labels is not None
    assert model.labels[10] == "class 10"


def test_pictures_become_the_mean_of_the_plain_pass(model: Model, params: dict[str, np.ndarray], photos: Path) -> None:
    pictures = sorted(photos.rglob("*.png"))
    found = model.embed(pictures)
    pixels = np.stack([preprocess(picture, PREPROCESSING) for picture in pictures])
    tokens = forward_features(params, SMALL, pixels)
    np.testing.assert_allclose(found, tokens.all.mean(axis=1), atol=FLOAT32)
    np.testing.assert_allclose(model.forward(pixels), tokens.all, atol=FLOAT32)
    np.testing.assert_allclose(model.classify(pixels), classify(params, SMALL, tokens), atol=FLOAT32)
    np.testing.assert_allclose(model.pool(model.tokens(pixels)), found, atol=FLOAT32)


def test_short_sides_of_any_shape_are_taken(file: Path, photos: Path) -> None:
    model = vitseek.load(file, preprocess="short-side")
    picture = next(photos.rglob("*.png"))  # 71 x 53 px
    pixels = model.preprocess(picture)
    assert pixels.shape == (3, 60, 84)  # short side 60, the other a multiple of 12
    tokens = model.tokens(pixels[None])
    assert tokens.grid == (5, 7)
    assert np.isfinite(model.embed(picture)).all()


def test_what_swin_has_not_is_refused_with_the_way_out(file: Path, model: Model) -> None:
    for pooling in ("cls", "cls+patch-mean", "embedding"):
        with pytest.raises(ConfigError, match="choose the pooling 'patch-mean' or 'gem'"):
            vitseek.load(file, pooling=pooling)
    with pytest.raises(ConfigError, match="no grid of positions to resize"):
        vitseek.load(file, pos_resize="bicubic-offset")
    with pytest.raises(TextUnsupportedError, match="my-swin does not read text"):
        model.embed_texts("a red dress")
    assert vitseek.load(file, pooling="gem").embed_dim == 56


def test_a_gallery_is_indexed_and_searched(file: Path, photos: Path) -> None:
    with vitseek.Gallery(photos, model=file) as gallery:
        report = gallery.index()
        assert report.embedded == 7
        query = photos / "red" / "red-1.png"
        best = gallery.search(query, k=7)
        assert best[0].path.name == "red-1.png"
        assert best[0].score == pytest.approx(1, abs=1e-6)
    with vitseek.Gallery(photos, create=False) as again:
        assert again.model.config == SMALL


def test_other_engines_and_graphs_refuse_it_by_name(model: Model, file: Path) -> None:
    with pytest.raises(ConfigError, match="only plain Vision Transformers are written as ONNX graphs"):
        model.onnx_graph((60, 60))
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'vitseek[onnx]'")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'vitseek[onnx]'")
    with pytest.raises(ConfigError, match="this is a Swin: take engine 'numpy'"):
        vitseek.load(file, engine="onnx")
