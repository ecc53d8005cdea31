"""The ONNX graph computes what NumPy computes: every family, every pooling, by each runtime that is installed."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.engines.runtimes import RUNTIMES, runtime_of
from tests.models.random_weights import FAMILIES, SMALL, random_params, rules
from vitseek.engines import graph_engine, onnx_graph
from vitseek.engines.graph_engine import GraphEngine, graph_of
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.errors import ShapeError
from vitseek.models.config import ViTConfig
from vitseek.models.vit import features, forward_features

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'vitseek[onnx]'")

FLOAT32 = 2e-5  # as test_numpy_engine.py; these weights make numbers up to 10


def single(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value.astype(np.float32) for name, value in params.items()}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_gives_the_features_and_tokens_of_the_plain_pass(
    family: str, runtime: str, rng: np.random.Generator
) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    params = random_params(config, rng)
    pixels = rng.standard_normal((3, 3, 35, 49))
    tokens = forward_features(params, config, pixels)
    compiler = runtime_of(runtime)
    said: list[str] = []
    for rule in rules(config):
        engine = GraphEngine(single(params), config, rule, compiler, threads=1, report=said.append)
        wanted = features(params, config, tokens, rule)
        found = engine.embed_pixels(pixels.astype(np.float32))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=FLOAT32, err_msg=rule)
    np.testing.assert_allclose(engine.forward(pixels.astype(np.float32)), tokens.all, atol=FLOAT32)
    assert not said
    assert engine.computes == runtime


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("family", ["vit", "dinov3", "siglip"])
def test_both_ways_to_write_attention_give_the_same(family: str, fused: bool, rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    params, pixels = random_params(config, rng), rng.standard_normal((2, 3, 14, 63))
    numpy = NumpyEngine(single(params), config, "patch-mean", threads=1)
    graph = graph_of(numpy, (14, 63), pooling=None, fused_attention=fused)
    assert ("MultiHeadAttention" in {node.op_type for node in graph.graph.node}) == fused
    run = runtime_of("onnx").compile(graph.SerializeToString())
    wanted = forward_features(params, config, pixels).all
    np.testing.assert_allclose(run(pixels.astype(np.float32)), wanted, atol=FLOAT32)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_is_valid_onnx_with_standard_operators_alone(family: str, rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    engine = NumpyEngine(single(random_params(config, rng)), config, rules(config)[-1], threads=1)
    graph = graph_of(engine, (21, 14), pooling=rules(config)[-1])
    onnx.checker.check_model(graph, full_check=True)
    assert {node.domain for node in graph.graph.node} == {""}


def test_one_graph_takes_any_number_of_images(rng: np.random.Generator) -> None:
    params = single(random_params(SMALL, rng))
    for name in RUNTIMES:
        engine = GraphEngine(params, SMALL, "cls", runtime_of(name), threads=1)
        for batch in (1, 5, 2, 0):
            pixels = rng.standard_normal((batch, 3, 35, 49), dtype=np.float32)
            np.testing.assert_allclose(engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels), atol=FLOAT32)


def test_the_last_block_makes_neither_keys_nor_values_nor_other_rows_for_the_class_token(
    rng: np.random.Generator,
) -> None:
    config = ViTConfig(embed_dim=22, depth=2, num_heads=2, patch_size=7, img_size=(35, 49))
    engine = NumpyEngine(single(random_params(config, rng)), config, threads=1)
    width = config.embed_dim

    def token_products(pooling: str | None) -> int:
        """Matrix products of all tokens with weights of D x D: queries, keys, values, projections."""
        graph = onnx.shape_inference.infer_shapes(graph_of(engine, (35, 49), pooling=pooling)).graph
        shapes = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info}
        square = {constant.name for constant in graph.initializer if tuple(constant.dims) == (width, width)}
        return sum(
            node.op_type == "MatMul" and node.input[1] in square and shapes[node.input[0]] == 3 for node in graph.node
        )

    assert token_products(None) == 2 * 4
    assert token_products("cls") == 4


def test_a_graph_too_large_for_one_message_keeps_its_weights_beside_it(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "LARGEST_MESSAGE_BYTES", 10_000)
    config = dataclasses.replace(SMALL, embed_dim=42, hidden_dim=127)
    params, pixels = single(random_params(config, rng)), rng.standard_normal((2, 3, 35, 49), dtype=np.float32)
    numpy = NumpyEngine(params, config, threads=1)
    for _ in range(2):  # the second time over the first's files
        files = onnx_graph.save_graph(graph_of(numpy, (35, 49), pooling="cls"), tmp_path / "large.onnx")
    assert [file.name for file in files] == ["large.onnx", "large.onnx.data"]
    weights_bytes = sum(array.nbytes for name, array in params.items() if name.startswith("blocks"))
    assert files[0].stat().st_size < weights_bytes / 2
    assert weights_bytes / 2 < files[1].stat().st_size < 2 * weights_bytes
    for name in RUNTIMES:
        said: list[str] = []
        engine = GraphEngine(params, config, "cls", runtime_of(name), threads=1, report=said.append)
        np.testing.assert_allclose(engine.embed_pixels(pixels), numpy.embed_pixels(pixels), atol=FLOAT32)
        assert not said
        np.testing.assert_allclose(runtime_of(name).compile(files[0])(pixels), numpy.embed_pixels(pixels), atol=FLOAT32)


def test_pictures_that_do_not_divide_into_patches_are_refused(rng: np.random.Generator) -> None:
    engine = NumpyEngine(single(random_params(SMALL, rng)), SMALL, threads=1)
    with pytest.raises(ShapeError, match="35 x 50 px"):
        graph_of(engine, (35, 50), pooling=None)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_large_graph_goes_through_a_file_that_is_gone_afterwards(
    runtime: str, rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_engine, "IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    compiler, compiled = runtime_of(runtime), []
    usual = compiler.compile
    monkeypatch.setattr(compiler, "compile", lambda graph, *rest: compiled.append(graph) or usual(graph, *rest))
    params, pixels = single(random_params(SMALL, rng)), rng.standard_normal((2, 3, 35, 49), dtype=np.float32)
    engine = GraphEngine(params, SMALL, "cls", compiler, threads=1)
    np.testing.assert_allclose(engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels), atol=FLOAT32)
    assert [type(graph) for graph in compiled] == [type(tmp_path)]
    assert not list(tmp_path.iterdir())
    assert engine.computes == runtime
