"""Another runtime is used only as far as it computes what NumPy computes; no runtime has to be installed for this."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.random_weights import SMALL, random_params
from vitseek.engines import available, checked, graph_engine
from vitseek.engines.build import build_engine, check_engine
from vitseek.engines.graph_engine import GraphEngine
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.errors import ConfigError, MissingExtraError, ShapeError
from vitseek.models.swin_config import SwinConfig
from vitseek.paths import cache_dir

Array = np.ndarray
Spoil = Callable[[Array], Array]


class Obedient:
    """A runtime that computes by NumPy, and then does to the result what a test wants."""

    name, version, fused_attention = "obedient", "Obedient 1.0", False

    def __init__(self, engine: NumpyEngine, spoil: Spoil = lambda found: found) -> None:
        self.engine, self.spoil = engine, spoil
        self.compiled: list[tuple[int, int]] = []
        self.calls: list[tuple[int, ...]] = []

    def compile(self, graph: Any, precision: str = "float32") -> Callable[[Array], Array]:
        size, pooling = graph
        self.compiled.append(size)

        def run(pixels: Array) -> Array:
            self.calls.append(pixels.shape)
            return self.spoil(self.engine.forward(pixels) if pooling is None else self.engine.embed_pixels(pixels))

        return run


class Ask(tuple):  # type: ignore[type-arg]
    """Stands for a graph: its size and pooling."""

    def SerializeToString(self) -> "Ask":
        return self


@pytest.fixture(autouse=True)
def no_onnx_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_engine, "graph_of", lambda engine, size_px, *, pooling, **_: Ask((size_px, pooling)))
    monkeypatch.setattr(graph_engine, "weights_bytes", lambda graph: 0)


@pytest.fixture
def params(rng: np.random.Generator) -> dict[str, Array]:
    return {name: value.astype(np.float32) for name, value in random_params(SMALL, rng).items()}


def engine_of(
    params: dict[str, Array], spoil: Spoil = lambda found: found, **options: Any
) -> tuple[GraphEngine, Obedient, list[str]]:
    runtime, said = Obedient(NumpyEngine(params, SMALL, threads=1), spoil), []
    return GraphEngine(params, SMALL, "cls", runtime, 1, report=said.append, **options), runtime, said


def pixels_of(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def wrong(found: Array) -> Array:
    return found * np.float32(1 + 2 * checked.TOLERANCES["float32"])


def test_a_runtime_that_agrees_computes_everything_but_attention_and_classes(
    params: dict[str, Array], rng: np.random.Generator
) -> None:
    engine, runtime, said = engine_of(params)
    pixels = pixels_of(rng, 2, 3, 35, 49)
    np.testing.assert_array_equal(engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels))
    np.testing.assert_array_equal(engine.forward(pixels), engine.numpy.forward(pixels))
    tokens = engine.tokens(pixels)
    assert (tokens.grid, tokens.attention) == ((5, 7), {})
    np.testing.assert_allclose(engine.pool(tokens), engine.numpy.embed_pixels(pixels), atol=1e-5)
    probe, asked = (checked.PROBES, 3, 35, 49), pixels.shape
    assert runtime.calls == [probe, asked, probe, asked, asked]
    found, wanted = (one.tokens(pixels, attention_blocks=(1,)) for one in (engine, engine.numpy))
    np.testing.assert_array_equal(found.attention[1], wanted.attention[1])
    np.testing.assert_array_equal(engine.classify(pixels), engine.numpy.classify(pixels))
    assert len(runtime.calls) == 5
    assert (said, engine.computes) == ([], "obedient")


@pytest.mark.parametrize(
    "spoil",
    [wrong, lambda found: found[:, ::-1], lambda found: found * np.nan, lambda found: found[..., :-1]],
    ids=["a little off", "channels reversed", "not numbers", "too short"],
)
def test_a_runtime_that_gives_wrong_numbers_is_refused_and_numpy_computes(
    spoil: Spoil, params: dict[str, Array], rng: np.random.Generator
) -> None:
    engine, runtime, said = engine_of(params, spoil)
    pixels = pixels_of(rng, 2, 3, 35, 49)
    for _ in range(2):
        np.testing.assert_array_equal(engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels))
    np.testing.assert_array_equal(engine.forward(pixels), engine.numpy.forward(pixels))
    assert len(runtime.calls) == 1, "never asked again"
    assert engine.computes == "numpy"
    (sentence,) = said
    assert sentence.startswith("Obedient 1.0 is not used, because it gives features ")
    assert sentence.endswith("NumPy computes instead")


def test_rounding_within_the_tolerance_is_accepted(params: dict[str, Array], rng: np.random.Generator) -> None:
    engine, _, said = engine_of(params, lambda found: found * np.float32(1 + checked.TOLERANCES["float32"] / 2))
    pixels = pixels_of(rng, 1, 3, 35, 49)
    assert np.abs(engine.embed_pixels(pixels) - engine.numpy.embed_pixels(pixels)).max() > 0
    assert not said


def test_a_runtime_that_raises_is_refused_with_its_reason(params: dict[str, Array], rng: np.random.Generator) -> None:
    def fail(found: Array) -> Array:
        raise RuntimeError("no kernel for Gelu(20)\nand a page of stack")

    engine, _, said = engine_of(params, fail)
    pixels = pixels_of(rng, 1, 3, 35, 49)
    np.testing.assert_array_equal(engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels))
    assert said == [
        "Obedient 1.0 is not used, because it failed (RuntimeError: no kernel for Gelu(20)): NumPy computes instead"
    ]


def test_every_new_size_is_checked_and_a_failure_there_gives_the_runtime_up(
    params: dict[str, Array], rng: np.random.Generator
) -> None:
    engine, runtime, said = engine_of(params, lambda found: wrong(found) if len(runtime.compiled) == 2 else found)
    small, wide = pixels_of(rng, 1, 3, 14, 21), pixels_of(rng, 1, 3, 7, 63)
    engine.embed_pixels(small)
    assert engine.computes == "obedient"
    np.testing.assert_array_equal(engine.embed_pixels(wide), engine.numpy.embed_pixels(wide))
    assert runtime.compiled == [(14, 21), (7, 63)]
    assert engine.computes == "numpy"
    assert len(said) == 1


def test_a_check_is_remembered_for_the_same_weights_and_runtime_only(
    params: dict[str, Array], rng: np.random.Generator
) -> None:
    pixels = pixels_of(rng, 2, 3, 35, 49)

    def checks(identity: str | None, version: str = "Obedient 1.0", spoil: Spoil = lambda x: x) -> int:
        engine, runtime, _ = engine_of(params, spoil, weights_sha256=identity)
        runtime.version = version
        engine.embed_pixels(pixels)
        return sum(shape[0] == checked.PROBES for shape in runtime.calls)

    assert checks("aa") == 1
    assert checks("aa") == 0
    assert checks("bb") == 1
    assert checks("aa", version="Obedient 1.1") == 1
    assert checks(None) == checks(None) == 1
    assert checks("cc", spoil=wrong) == 1
    assert checks("cc", spoil=wrong) == 0, "a refusal is remembered too"
    damaged = '{"distance": "far"'
    notes = list((cache_dir() / "engines").glob("*.json"))
    for file in notes:
        file.write_text(damaged, "utf-8")
    assert checks("aa") == 1, "a damaged note is measured again"
    mended = [text for file in notes if (text := file.read_text("utf-8")) != damaged]
    assert len(mended) == 1
    assert json.loads(mended[0])


def test_a_remembered_refusal_is_said_again(params: dict[str, Array], rng: np.random.Generator) -> None:
    pixels = pixels_of(rng, 2, 3, 35, 49)
    for _ in range(2):
        engine, runtime, said = engine_of(params, lambda found: found * np.nan, weights_sha256="aa")
        np.testing.assert_array_equal(engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels))
        assert len(said) == 1
    assert not runtime.calls


def test_a_cache_that_cannot_be_written_costs_only_time(
    params: dict[str, Array], rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VITSEEK_CACHE", str(tmp_path / "file"))
    engine, runtime, said = engine_of(params, weights_sha256="aa")
    engine.embed_pixels(pixels_of(rng, 1, 3, 35, 49))
    assert (len(runtime.calls), said, engine.computes) == (2, [], "obedient")


def test_only_the_latest_graphs_are_kept(params: dict[str, Array], rng: np.random.Generator) -> None:
    engine, runtime, _ = engine_of(params)
    sizes = [(7, 7 * side) for side in range(1, graph_engine.GRAPHS_KEPT + 2)]
    for size in [*sizes, sizes[-1], sizes[0]]:
        engine.embed_pixels(pixels_of(rng, 1, 3, *size))
    assert runtime.compiled == [*sizes, sizes[0]]


def test_several_threads_compile_a_graph_once(params: dict[str, Array], rng: np.random.Generator) -> None:
    engine, runtime, _ = engine_of(params)
    pixels = pixels_of(rng, 2, 3, 35, 49)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: engine.embed_pixels(pixels), range(8)))
    assert len(runtime.compiled) == 1
    for one in found:
        np.testing.assert_array_equal(one, engine.numpy.embed_pixels(pixels))


def test_pixels_of_a_wrong_shape_are_refused_before_anything_is_compiled(params: dict[str, Array]) -> None:
    engine, runtime, _ = engine_of(params)
    with pytest.raises(ShapeError, match="does not divide"):
        engine.embed_pixels(np.zeros((1, 3, 35, 50), np.float32))
    assert (runtime.compiled, engine.computes) == ([], "obedient")


@pytest.mark.parametrize("engine", [name for name in available.ENGINES if available.PACKAGES[name]])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = available.PACKAGES[engine][-1]
    monkeypatch.setattr(available, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(MissingExtraError, match=rf"pip install 'vitseek\[{engine}\]'"):
        check_engine(engine)
    check_engine("numpy")


def test_swin_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "find_spec", lambda name: object())
    config = SwinConfig(embed_dim=24, depths=(2, 2), num_heads=(3, 6), img_size=(56, 56), window_size=7)
    with pytest.raises(ConfigError, match="this is a Swin: take engine 'numpy'"):
        build_engine({}, config, "patch-mean", engine="onnx")


def test_probes_are_the_same_every_time_and_fit_any_size() -> None:
    for size in ((7, 7), (224, 126), (3, 500)):
        np.testing.assert_array_equal(checked.probes(*size), checked.probes(*size))
        assert checked.probes(*size).shape == (checked.PROBES, 3, *size)


def test_distance_is_the_worst_vector_s_share_of_its_length() -> None:
    wanted = np.array([[3.0, 4.0], [0.0, 100.0]])
    found = np.array([[3.0, 4.5], [1.0, 100.0]])
    assert checked.distance(found, wanted) == pytest.approx(0.1)
    assert checked.distance(found[:1], wanted) == np.inf
    assert checked.distance(found * np.inf, wanted) == np.inf
    assert checked.distance(np.zeros((1, 2)), np.zeros((1, 2))) == 0
