"""`vitseek index --engine` where a package is missing, broken or gives wrong numbers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitseek
from tests.cli.conftest import Ran
from vitseek.engines import available, build, graph_engine

Run = Callable[..., Ran]
OTHERS = [name for name in available.ENGINES if available.PACKAGES[name]]


@pytest.mark.parametrize("engine", OTHERS)
def test_a_missing_package_is_named_with_the_extra(
    engine: str, run_command: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(available, "find_spec", lambda name: None)
    ran = run_command("index", photos, "--engine", engine)
    assert (ran.status, ran.out) == (2, "")
    [line] = ran.err.splitlines()
    assert line.startswith(f"error: engine {engine!r} needs {available.PACKAGES[engine][0]}")
    assert f"pip install 'vitseek[{engine}]'" in line


@pytest.mark.parametrize("failure", ["ImportError('a symbol is missing')", "OSError('libgomp.so.1: cannot open')"])
@pytest.mark.parametrize("engine", [name for name in OTHERS if name != "numba"])
def test_a_package_that_cannot_be_loaded_is_named_with_the_reason(
    engine: str, failure: str, photos: Path, tmp_path: Path
) -> None:
    for package in available.PACKAGES[engine]:
        (tmp_path / "broken" / package).mkdir(parents=True)
        (tmp_path / "broken" / package / "__init__.py").write_text(f"raise {failure}\n")
    source = str(Path(vitseek.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-m", "vitseek", "index", str(photos), "--engine", engine],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "broken"), source])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (2, "")
    [line] = ran.stderr.splitlines()
    assert line.startswith(f"error: engine {engine!r} needs ")
    assert f"pip install 'vitseek[{engine}]'" in line
    assert failure.partition("'")[2].rstrip("')") in line


class Wrong:
    """A runtime that computes something else."""

    name, version, fused_attention = "onnx", "Wrong 1.0", True

    def compile(self, graph: Any, precision: str = "float32") -> Callable[[np.ndarray], np.ndarray]:
        return lambda pixels: np.ones((len(pixels), 192), np.float32)


class Message:
    """Stands for a graph."""

    def SerializeToString(self) -> bytes:
        return b""


@pytest.mark.parametrize("output", [[], ["--json"]], ids=["words", "json"])
def test_an_engine_with_wrong_numbers_is_told_once_and_numpy_s_vectors_are_kept(
    output: list[str], run_command: Run, photos: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        pixels = rng.integers(0, 256, (31, 37 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    monkeypatch.setattr(available, "find_spec", lambda name: object())
    monkeypatch.setattr(build, "_runtime", lambda engine, threads: Wrong())
    monkeypatch.setattr(graph_engine, "graph_of", lambda *_, **__: Message())
    monkeypatch.setattr(graph_engine, "weights_bytes", lambda graph: 0)
    ran = run_command("index", photos, "--engine", "onnx", "--batch-size", "2", *output)
    assert ran.status == 0, ran.err
    told = json.loads(ran.out)["notes"] if output else ran.err.splitlines()
    [sentence] = [line for line in told if "NumPy computes instead" in line]
    assert sentence.startswith("Wrong 1.0 is not used, because it gives features ")
    with vitseek.Gallery(photos) as gallery:
        ids, vectors = gallery.vectors()
        wanted = vitseek.load().embed([gallery.image(number).path for number in ids.tolist()])
    assert len(ids) == 12
    np.testing.assert_allclose(vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5)
