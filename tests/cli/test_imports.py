"""What a cold start imports. A package that is not needed costs every search its time, and nobody notices."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitseek

LINE = "imported:"
RUN = "import runpy; runpy.run_module('vitseek', run_name='__main__', alter_sys=True)"
HEAVY = frozenset({
    "accelerate", "asyncio", "django", "http", "httpcore", "httpx", "huggingface_hub", "lance", "lancedb",
    "llvmlite", "matplotlib", "multiprocessing", "ninja", "numba", "onnx", "onnxruntime", "openvino", "pandas",
    "pillow_heif", "pydantic", "pydoc", "ray", "requests", "safetensors", "scipy", "ssl", "tensorboard", "tokenizers",
    "torch", "transformers", "unittest", "waitress", "whitenoise",
})  # fmt: skip
"""What no command needs that searches pictures with a model that is on this machine."""
STRANGE_FORMATS = frozenset({"PIL.PngImagePlugin", "PIL.WebPImagePlugin", "PIL.AvifImagePlugin", "PIL.GifImagePlugin"})
OTHER_ROOMS = (
    "vitseek.cluster",
    "vitseek.download",
    "vitseek.evaluate",
    "vitseek.sample",
    "vitseek.train",
    "vitseek.web",
)
OTHER_WORK = frozenset({
    "vitseek.gallery.by_head", "vitseek.gallery.by_words", "vitseek.gallery.features", "vitseek.gallery.indexing",
    "vitseek.gallery.predicting", "vitseek.gallery.reading", "vitseek.gallery.tuning", "vitseek.heads",
    "vitseek.search.where",
})  # fmt: skip
"""What a gallery does besides searching without a filter."""


def imported(*arguments: str) -> set[str]:
    """The modules that `vitseek` with these arguments has imported when it ends; without any, `import vitseek`."""
    run = RUN if arguments else "import vitseek"
    code = f"import atexit, sys\natexit.register(lambda: print(LINE, *sys.modules, file=sys.stderr))\n{run}"
    ran = subprocess.run(
        [sys.executable, "-c", code.replace("LINE", repr(LINE)), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return set(ran.stderr.rpartition(LINE)[2].split())


def packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def within(modules: set[str], rooms: tuple[str, ...]) -> set[str]:
    return {module for module in modules if module.startswith(tuple(room + "." for room in rooms))}


@pytest.fixture
def place(tmp_path: Path, rng: np.random.Generator) -> Path:
    """An indexed gallery of JPEGs, and beside it a picture that it does not hold."""
    (tmp_path / "gallery").mkdir()
    for name in ("gallery/a.jpg", "gallery/b.jpg", "query.jpg"):
        Image.fromarray(rng.integers(0, 256, (37, 41, 3), dtype=np.uint8)).save(tmp_path / name)
    with vitseek.Gallery(tmp_path / "gallery") as gallery:
        gallery.index()
    return tmp_path


def test_importing_vitseek_imports_nothing_but_its_version() -> None:
    came = imported()
    assert {module for module in came if module.startswith("vitseek")} == {"vitseek", "vitseek.version"}
    assert not packages(came) & (HEAVY | {"numpy", "PIL", "sqlite3", "typer", "rich", "dataclasses", "inspect"})


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["search", "--help"], ["index", "--help"]], ids=" ".join
)
def test_help_is_shown_without_numbers_pictures_or_a_database(arguments: list[str]) -> None:
    came = imported(*arguments)
    assert not packages(came) & (HEAVY | {"numpy", "PIL", "sqlite3", "threadpoolctl"})


def test_a_called_command_does_not_import_the_others(place: Path) -> None:
    came = imported("search", "--help")
    assert within(came, ("vitseek.cli",)) == {"vitseek.cli.app", "vitseek.cli.common", "vitseek.cli.search"}


def test_a_search_for_a_picture_of_the_gallery_touches_no_model(place: Path) -> None:
    folder = place / "gallery"
    came = imported("search", str(folder / "a.jpg"), "--gallery", str(folder), "--json")
    assert not packages(came) & HEAVY
    assert not packages(came) & {"rich"}, "JSON is plain text"
    assert not came & OTHER_WORK
    assert not within(came, ("vitseek.models", "vitseek.nn", "vitseek.weights", "vitseek.zoo"))
    assert not {module for module in came if module.startswith("PIL.") and module.endswith("Plugin")}
    assert not within(came, OTHER_ROOMS)


def test_a_search_for_a_new_picture_imports_its_decoder_and_no_other_engine(place: Path) -> None:
    came = imported("search", str(place / "query.jpg"), "--gallery", str(place / "gallery"), "--json")
    assert "PIL.JpegImagePlugin" in came  # or the record is not what it seems
    assert not packages(came) & HEAVY
    assert not came & (STRANGE_FORMATS | OTHER_WORK)
    assert not within(came, OTHER_ROOMS)
    others = ("numba_kernels", "onnx_engine", "openvino_engine", "torch_engine", "swin_engine", "text_engine")
    assert not came & {f"vitseek.engines.{engine}" for engine in others}
    assert "vitseek.preprocess.text" not in came


def test_a_table_of_matches_needs_no_bar_of_progress(place: Path) -> None:
    came = imported("search", str(place / "query.jpg"), "--gallery", str(place / "gallery"))
    assert "rich.table" in came
    assert not came & {"rich.progress", "rich.live"}


def test_the_tokenizer_is_imported_for_words_only(place: Path, tiny_clip: Path) -> None:
    folder = str(place / "gallery")
    with vitseek.Gallery(folder) as gallery:
        gallery.index(model=tiny_clip)
    came = imported("search", "a red dress", "--gallery", folder, "--json")
    assert "tokenizers" in packages(came)
    assert not packages(came) & (HEAVY - {"tokenizers"})
    picture = imported("search", str(place / "query.jpg"), "--gallery", folder, "--json")
    assert not packages(picture) & HEAVY
