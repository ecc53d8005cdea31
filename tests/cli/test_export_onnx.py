"""`vitseek export MODEL --onnx FILE`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.tiny_model import write_tiny_model
from vitseek.engines import checked
from vitseek.engines.model import load

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'vitseek[onnx]'")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


def test_the_graph_computes_the_model_s_features_and_says_how_to_use_it(
    run_command: Callable, model: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'vitseek[onnx]'")
    file = tmp_path / "tiny.onnx"
    ran = run_command("export", model, "--onnx", file)
    assert ran.status == 0, ran.err
    assert "ONNX Runtime and NumPy agree" in ran.err
    assert "input pixels (batch, 3, 32, 32), float32, normalised; output features" in ran.err
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    pixels = rng.standard_normal((5, 3, 32, 32), dtype=np.float32)
    wanted = load(model).embed_pixels(pixels)
    np.testing.assert_allclose(session.run(["features"], {"pixels": pixels})[0], wanted, atol=1e-5)
    facts = {fact.key: fact.value for fact in onnx.load(file).metadata_props}
    assert (facts["name"], facts["pooling"]) == ("tiny-random", "cls")
    assert facts["weights_sha256"] == load(model).weights_sha256
    assert json.loads(facts["preprocessing"]) == load(model).preprocessing.to_dict()


def test_tokens_and_another_size_are_written_on_request(run_command: Callable, model: Path, tmp_path: Path) -> None:
    ran = run_command("export", model, "--onnx", tmp_path / "t.onnx", "--tokens", "--size", "48", "--json")
    assert ran.status == 0, ran.err
    document = json.loads(ran.out)
    assert document["input"] == ["batch", 3, 48, 48]
    assert document["output"] == "tokens"
    assert [Path(file).name for file in document["files"]] == ["t.onnx"]


def test_a_graph_with_fewer_tokens_says_so_and_computes_what_numpy_does(
    run_command: Callable, tmp_path: Path, rng: np.random.Generator
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'vitseek[onnx]'")
    file = tmp_path / "fewer.onnx"
    ran = run_command("export", "vitseek-tiny", "--onnx", file, "--reduction", "merge-12")
    assert ran.status == 0, ran.err
    pixels = rng.standard_normal((2, 3, 192, 192), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = session.run(["features"], {"pixels": pixels})[0]
    assert checked.distance(found, load(reduction="merge-12").embed_pixels(pixels)) < 1e-4
    assert checked.distance(found, load().embed_pixels(pixels)) > 1e-3
    assert {fact.key: fact.value for fact in onnx.load(file).metadata_props}["reduction"] == "merge-12"
    ran = run_command("export", "vitseek-tiny", "--onnx", file, "--reduction", "merge-12", "--tokens")
    assert "take one of them" in ran.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "50"], "do not divide into 8 px patches"),
        (["--onnx", "nowhere/t.onnx"], "the folder nowhere does not exist"),
    ],
)
def test_what_cannot_be_written_is_said(
    run_command: Callable, model: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    ran = run_command("export", model, "--onnx", tmp_path / "t.onnx", *options)
    assert ran.status == 2
    assert message in ran.err
    assert not (tmp_path / "t.onnx").exists()


def test_a_file_is_replaced_only_on_request(run_command: Callable, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.onnx"
    file.write_bytes(b"something dear")
    assert "--overwrite" in run_command("export", model, "--onnx", file).err
    assert file.read_bytes() == b"something dear"
    assert run_command("export", model, "--onnx", file, "--overwrite").status == 0
    onnx.checker.check_model(onnx.load(file))


def test_a_graph_that_computes_something_else_is_not_written(
    run_command: Callable, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'vitseek[onnx]'")
    monkeypatch.setitem(checked.TOLERANCES, "float32", -1.0)
    (tmp_path / "t.onnx").write_bytes(b"something dear")
    ran = run_command("export", model, "--onnx", tmp_path / "t.onnx", "--overwrite")
    assert ran.status == 2
    assert "was not written" in ran.err
    assert (tmp_path / "t.onnx").read_bytes() == b"something dear"
    assert {path.name for path in tmp_path.iterdir()} <= {"t.onnx", "model"}


def test_a_run_s_checkpoint_and_options_without_onnx_are_refused_with_the_way(
    run_command: Callable, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").touch()
    assert "export it as it is first" in run_command("export", tmp_path / "run", "--onnx", tmp_path / "t.onnx").err
    assert "belong to --onnx" in run_command("export", tmp_path / "run", "--tokens").err
