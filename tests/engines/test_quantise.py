"""Eight bits: prepared blocks are the same function, and graphs of bytes stay near NumPy, outliers or not."""

import dataclasses

import numpy as np
import pytest

from tests.engines.runtimes import runtime_of
from tests.models.random_weights import FAMILIES, SMALL, random_params, rules
from vitseek.engines import calibration as calibrations
from vitseek.engines import checked, quantise
from vitseek.engines.calibration import POINTS, Calibration, calibrate
from vitseek.engines.graph_engine import GraphEngine, graph_of
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.quantise import Scale, quantise_block, quantise_weight, scale_of
from vitseek.errors import ConfigError
from vitseek.models.config import ViTConfig

SIZE = (35, 49)
WIDE = 3  # SMALL has 31 hidden channels
# Of a feature's length. Measured with these weights: 0.056 at most; with twice as large queries and keys, whose
# attention is all on one key or another, 0.27.
EIGHT_BITS = 0.08
ERROR_OF_ROUNDING = 2e-5
RUNTIMES = {"int8": ("onnx",), "int8-static": ("onnx", "openvino")}


@pytest.fixture(autouse=True)
def few_wide_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise, "WIDE_CHANNELS", WIDE)


def engine_of(config: ViTConfig, rng: np.random.Generator, rule: str = "patch-mean") -> NumpyEngine:
    params = {name: value.astype(np.float32) for name, value in random_params(config, rng).items()}
    return NumpyEngine(params, config, rule, threads=1)


def pixels_of(rng: np.random.Generator, count: int = 3) -> np.ndarray:
    return rng.standard_normal((count, 3, *SIZE), dtype=np.float32)


@pytest.mark.parametrize("family", FAMILIES)
def test_smoothing_and_splitting_change_nothing_but_rounding(family: str, rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    engine = engine_of(config, rng)
    weights, calibration = engine.weights, calibrate(engine, SIZE)
    normed = rng.standard_normal((11, config.embed_dim)).astype(np.float32)
    for index, block in enumerate(weights.blocks):
        ready = quantise_block(block, config, calibration, index, dynamic=False)
        width = config.embed_dim
        smoothed = (normed * ready.qkv_gain) @ ready.block.qkv_weight
        plain = normed @ block.qkv_weight
        np.testing.assert_allclose(smoothed[:, : 2 * width], plain[:, : 2 * width], atol=ERROR_OF_ROUNDING)
        np.testing.assert_allclose(
            smoothed[:, 2 * width :] @ ready.block.proj_weight, plain[:, 2 * width :] @ block.proj_weight, atol=1e-4
        )
        up = normed * ready.up_gain
        halves = [
            hidden_of(config, up @ part.up_weight + part.up_bias) @ part.down_weight + part.down_bias
            for part in (ready.wide, ready.block.mlp)
        ]
        wanted = hidden_of(config, normed @ block.mlp.up_weight + block.mlp.up_bias) @ block.mlp.down_weight
        np.testing.assert_allclose(sum(halves), wanted + block.mlp.down_bias, atol=1e-4)
        assert len(ready.wide.down_weight) == WIDE


def hidden_of(config: ViTConfig, before: np.ndarray) -> np.ndarray:
    """Any non-linear step channel by channel does; gates stay beside their values."""
    if config.mlp_layer != "swiglu":
        return np.tanh(before)
    gate, value = np.split(before, 2, axis=1)
    return np.tanh(gate) * value


@pytest.mark.parametrize(("precision", "runtime"), [(kind, one) for kind, able in RUNTIMES.items() for one in able])
@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_of_bytes_stay_near_numpy(family: str, precision: str, runtime: str, rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    compiler = runtime_of(runtime)
    pixels = pixels_of(rng)
    params = {name: value.astype(np.float32) for name, value in random_params(config, rng).items()}
    for name in params:
        if name.endswith(("qkv.weight", "qkv.bias")):
            params[name] /= 2
    for rule in rules(config):
        numpy = NumpyEngine(params, config, rule, threads=1)
        calibration = calibrate(numpy, SIZE, [pixels]) if precision == "int8-static" else None
        said: list[str] = []
        engine = GraphEngine(
            params, config, rule, compiler, 1, precision=precision, calibration=calibration, report=said.append
        )
        apart = checked.distance(engine.embed_pixels(pixels), numpy.embed_pixels(pixels))
        assert 1e-5 < apart < EIGHT_BITS, (rule, said)  # not float32 in disguise
        assert (engine.computes, engine.precision, said) == (runtime, precision, [])
    assert checked.distance(engine.forward(pixels), numpy.forward(pixels)) < EIGHT_BITS


def test_the_products_of_a_quantised_graph_are_products_of_bytes(rng: np.random.Generator) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'vitseek[onnx]'")
    engine = engine_of(SMALL, rng)
    calibration = calibrate(engine, SIZE)
    for dynamic, kind in ((False, "DequantizeLinear"), (True, "MatMulInteger")):
        graph = graph_of(engine, SIZE, pooling=None, calibration=calibration, dynamic=dynamic).graph
        weights = [constant for constant in graph.initializer if constant.data_type == 3 and len(constant.dims) == 2]
        assert len(weights) == 6 * SMALL.depth, "queries, keys, values, proj, up and down of every block"
        assert kind in {node.op_type for node in graph.node}


def test_one_massive_channel_does_not_cost_the_others_their_precision(rng: np.random.Generator) -> None:
    """One hidden channel 100 times the others, as in ViT-Ti's eighth block: kept wide, it costs nothing."""
    onnx_runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert onnx_runtime
    params = {name: value.astype(np.float32) for name, value in random_params(SMALL, rng).items()}
    params["blocks.1.mlp.fc1.weight"][5] *= 100
    pixels = pixels_of(rng)

    def apart(wide: int, monkeypatch: pytest.MonkeyPatch) -> float:
        monkeypatch.setattr(quantise, "WIDE_CHANNELS", wide)
        engine = GraphEngine(params, SMALL, "cls", runtime_of("onnx"), 1, precision="int8")
        run = engine._compile(SIZE, "cls")
        return checked.distance(run(pixels), engine.numpy.embed_pixels(pixels))

    with pytest.MonkeyPatch.context() as patch:
        with_it, without = apart(WIDE, patch), apart(0, patch)
    assert with_it < without / 3


def test_zero_is_one_of_the_steps_and_every_value_is_in_reach() -> None:
    scale = scale_of(np.array([-0.17, 0.2], np.float32), np.array([5.0, 1.0], np.float32))
    assert (round(-0.17 / scale.step) + scale.zero, round(5.0 / scale.step) + scale.zero) == (0, 255)
    assert scale_of(np.array([2.0]), np.array([3.0])) == Scale(3 / 255, 0)
    assert scale_of(np.array([0.0]), np.array([0.0])).step > 0, "a channel that is always zero"


def test_weights_of_bytes_are_within_half_a_step(rng: np.random.Generator) -> None:
    weight = rng.standard_normal((13, 7), dtype=np.float32)
    weight[:, 3] = 0
    for largest in (127, 63):
        values, steps = quantise_weight(weight, largest)
        assert values.dtype == np.int8
        assert np.abs(values).max() == largest
        assert (np.abs(values * steps - weight) <= steps / 2 * 1.001).all()


def test_x86_without_vnni_leaves_one_bit_of_the_weights_free() -> None:
    assert quantise.largest_weight_of("processor: 0\nflags\t\t: fpu avx2 avx512f\n") == 63
    assert quantise.largest_weight_of("processor: 0\nflags\t\t: fpu avx2 avx512_vnni\n") == 127
    assert quantise.largest_weight_of("processor: 0\nFeatures\t: fp asimd asimddp\n") == 127


def test_a_calibration_survives_being_written_and_keeps_its_digest(rng: np.random.Generator) -> None:
    engine = engine_of(SMALL, rng)
    found = calibrate(engine, SIZE, [pixels_of(rng)])
    again = Calibration.from_bytes(found.to_bytes())
    assert (again.digest(), again.images) == (found.digest(), 3)
    for point in POINTS:
        np.testing.assert_array_equal(again.lows[point], found.lows[point])
        assert (found.lows[point] <= found.highs[point]).all()
    assert calibrate(engine, SIZE, [pixels_of(rng)]).digest() != found.digest()


def test_a_calibration_is_the_same_by_one_thread_and_by_several(rng: np.random.Generator) -> None:
    params = {name: value.astype(np.float32) for name, value in random_params(SMALL, rng).items()}
    pixels = pixels_of(rng, 5)
    alone, shared = (calibrate(NumpyEngine(params, SMALL, threads=threads), SIZE, [pixels]) for threads in (1, 3))
    for point in POINTS:
        np.testing.assert_allclose(alone.highs[point], shared.highs[point], atol=ERROR_OF_ROUNDING)


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:40], lambda data: b"", lambda data: data.replace(b"lows.up", b"lows.xx")]
)
def test_a_damaged_calibration_is_refused(spoil: object, rng: np.random.Generator) -> None:
    data = calibrate(engine_of(SMALL, rng), SIZE).to_bytes()
    with pytest.raises(ConfigError, match="calibrate again"):
        Calibration.from_bytes(spoil(data))  # type: ignore[operator]


def test_another_model_s_calibration_is_refused(rng: np.random.Generator) -> None:
    deeper = dataclasses.replace(SMALL, depth=5)
    calibration = calibrate(engine_of(deeper, rng), SIZE)
    with pytest.raises(ConfigError, match="calibrate with this model"):
        calibration.check(SMALL)


def test_a_model_that_makes_no_numbers_cannot_be_calibrated(rng: np.random.Generator) -> None:
    params = {name: value.astype(np.float32) for name, value in random_params(SMALL, rng).items()}
    params["blocks.0.mlp.fc1.bias"][0] = np.inf
    with pytest.raises(ConfigError, match="not finite"), np.errstate(all="ignore"):
        calibrate(NumpyEngine(params, SMALL, threads=1), SIZE)


def test_enough_pictures_are_looked_at() -> None:
    assert calibrations.PICTURES >= 16
