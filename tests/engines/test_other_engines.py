"""`vitseek.load(engine=...)` and galleries with the runtimes that are installed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.engines.two_towers import loaded_towers
from vitseek.engines import checked
from vitseek.engines.available import PACKAGES
from vitseek.engines.model import Model, load
from vitseek.errors import ShapeError
from vitseek.gallery.gallery import Gallery
from vitseek.preprocess.image import ImagePreprocessing

RUNTIMES = ("numba", "onnx", "openvino", "torch")
# Of a feature's length: the tolerance that the check allows, and what is measured with these weights, times ten.
REAL_WEIGHTS = 2e-5


@pytest.fixture(params=RUNTIMES)
def engine(request: pytest.FixtureRequest) -> str:
    for package in PACKAGES[request.param]:
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'vitseek[{request.param}]'")
    return str(request.param)


def test_the_embedded_model_gives_the_same_features_in_the_same_space(engine: str, photos: Path) -> None:
    pictures = sorted(photos.rglob("*.png"))
    numpy, other = load(), load(engine=engine)
    assert checked.distance(other.embed(pictures), numpy.embed(pictures)) < REAL_WEIGHTS
    assert (other.engine, other.late_notes) == (engine, [])
    assert other.space() == numpy.space()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224.augreg_in21k_ft_in1k", "deit_tiny_patch16_224.fb_in1k"])
def test_real_weights_give_the_same_features_for_real_photos(engine: str, name: str, shared_dir: Path) -> None:
    weights = shared_dir / "weights" / f"{name}.safetensors"
    pictures = [shared_dir / "data" / "pairs" / photo for photo in ("cat.jpg", "dog.jpg")]
    numpy, other = load(weights), load(weights, engine=engine)
    assert checked.distance(other.embed(pictures), numpy.embed(pictures)) < REAL_WEIGHTS
    pixels = np.stack([numpy.preprocess(picture) for picture in pictures])
    assert checked.distance(other.forward(pixels), numpy.forward(pixels)) < REAL_WEIGHTS
    assert not other.late_notes


def test_a_model_with_two_towers_reads_pictures_with_another_engine(
    engine: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    loaded = loaded_towers("clip", tmp_path)
    pictures = ImagePreprocessing(size_px=16, resize_px=16, patch_size_px=8)
    numpy, other = (
        Model(loaded, name="towers", source="towers", preprocessing=pictures, pooling="embedding", engine=name)
        for name in ("numpy", engine)
    )
    pixels = rng.standard_normal((2, 3, 16, 16), dtype=np.float32)
    assert checked.distance(other.embed_pixels(pixels), numpy.embed_pixels(pixels)) < REAL_WEIGHTS
    assert not other.late_notes


def test_a_gallery_filled_by_one_engine_is_searched_by_another(engine: str, photos: Path) -> None:
    with Gallery(photos, engine=engine) as gallery:
        assert gallery.index().notes == []
    with Gallery(photos) as gallery:
        picture = photos / "red" / "red-1.png"
        best, *_ = gallery.search(load().embed([picture])[0], k=3)
        assert best.path == picture
        assert best.score == pytest.approx(1, abs=1e-6)
        assert len(gallery.status().spaces) == 1


def test_an_engine_given_up_while_indexing_is_told_in_the_report_and_its_vectors_are_numpy_s(
    engine: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(checked.TOLERANCES, "float32", -1.0)
    model = load(engine=engine)
    with Gallery(photos, model=model) as gallery:
        notes = gallery.index().notes
        _, vectors = gallery.vectors()
        pictures = [gallery.image(id).path for id in gallery.vectors()[0]]
    assert model.engine == "numpy"
    assert len([note for note in notes if note.endswith("NumPy computes instead")]) == 1
    wanted = load().embed(pictures)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)


def test_threads_that_the_user_limits_are_all_that_an_engine_takes(engine: str) -> None:
    """OMP_NUM_THREADS=1 in a process of its own: no thread of the engine beside the first does the work."""
    program = f"""
import time, numpy as np, vitseek
model = vitseek.load(engine={engine!r})
pixels = np.zeros((8, 3, 192, 192), np.float32)
model.embed_pixels(pixels)
wall, used = time.perf_counter(), time.process_time()
for _ in range(5):
    model.embed_pixels(pixels)
print((time.process_time() - used) / (time.perf_counter() - wall))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(done.stdout) < 1.2, "cores in use at a time"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
@pytest.mark.parametrize("threads", ["0", "abc", "4,2"])  # the last is OpenMP's: four, and two in each of them
def test_one_core_and_strange_thread_counts_work_with_every_engine(engine: str, threads: str) -> None:
    program = f"""
import os
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
import numpy as np, vitseek
from vitseek.engines.checked import distance
model = vitseek.load(engine={engine!r})
pixels = np.random.default_rng(0).standard_normal((3, 3, 192, 192), dtype=np.float32)
apart = distance(model.embed_pixels(pixels), vitseek.load().embed_pixels(pixels))
assert (model.engine, model.late_notes) == ({engine!r}, []), model.late_notes
assert apart < {REAL_WEIGHTS}, apart
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": threads}, capture_output=True,
        text=True, check=False, timeout=240,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def test_pictures_of_many_sizes_give_numpy_s_features(engine: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """More sizes than runs are kept, mixed, with one that comes again at the end."""
    sizes = [(32 * width, 32 * height) for width, height in ((6, 6), (6, 7), (7, 6), (6, 8), (8, 6), (6, 9), (6, 6))]
    pictures = []
    for number, size in enumerate(sizes):
        pictures.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(pictures[-1])
    numpy, other = load(preprocess="short-side"), load(preprocess="short-side", engine=engine)
    assert len({numpy.preprocess(picture).shape for picture in pictures}) == 6
    found, wanted = other.embed(pictures), numpy.embed(pictures)
    assert checked.distance(found, wanted) < REAL_WEIGHTS
    assert (other.engine, other.late_notes) == (engine, [])


def test_importing_vitseek_and_loading_with_numpy_imports_no_other_runtime() -> None:
    program = """
import sys, vitseek
vitseek.load()
print(sorted({"numba", "llvmlite", "onnx", "onnxruntime", "openvino", "torch"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_graph_for_pictures_that_are_no_multiple_of_the_patch_is_refused() -> None:
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'vitseek[onnx]'")
    with pytest.raises(ShapeError, match="take multiples of 16 px"):
        load().onnx_graph((192, 200))
