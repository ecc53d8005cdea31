"""The way of pictures to a GPU and back, on a GPU that is pretended; and on a real one where there is one."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest

from tests.engines.pretend_cuda import PretendTorch
from tests.models.random_weights import SMALL, random_params
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.torch_engine import RECORDED, RecordedRun, TorchEngine, _Recorder
from vitseek.engines.torch_pass import TorchPass, TorchWeights

FLOAT32 = 2e-5  # as test_torch_engine.py
SIZE = (14, 21)
TIMEOUT_S = 60


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed: pip install 'vitseek[torch]'")


@pytest.fixture
def numpy(rng: np.random.Generator) -> NumpyEngine:
    return NumpyEngine({name: value.astype(np.float32) for name, value in random_params(SMALL, rng).items()}, SMALL)


def recorded(
    pretended: PretendTorch, numpy: NumpyEngine, report: Any = None, pooling: str | None = "cls"
) -> RecordedRun:
    weights = TorchWeights(pretended, numpy.weights, SMALL, "cpu", "float32")
    compute = TorchPass(weights, (2, 3), *numpy.places(2, 3), pooling=pooling)
    recorder = _Recorder(pretended, "cpu")
    record = recorder.record
    recorder.record = lambda step, pixels: record(pretended.step(step), pixels)  # type: ignore[method-assign]
    return RecordedRun(compute, SIZE, recorder, report=report)


def pixels_of(rng: np.random.Generator, images: int) -> np.ndarray:
    return rng.standard_normal((images, 3, *SIZE), dtype=np.float32)


def test_batches_of_any_number_are_filled_up_to_recorded_ones(
    torch: Any, numpy: NumpyEngine, rng: np.random.Generator
) -> None:
    pretended = PretendTorch(torch)
    run = recorded(pretended, numpy)
    for images in (3, 4, 9, 3, 1):
        pixels = pixels_of(rng, images)
        np.testing.assert_allclose(run(pixels), numpy.embed_pixels(pixels), atol=FLOAT32)
    assert pretended.recorded == [4, 8, 1], "each once, when it is first needed"


def test_a_large_batch_comes_in_pieces_in_its_order(torch: Any, numpy: NumpyEngine, rng: np.random.Generator) -> None:
    pretended = PretendTorch(torch)
    run = recorded(pretended, numpy, pooling=None)
    pixels = pixels_of(rng, 2 * RECORDED[-1] + 5)
    np.testing.assert_allclose(run(pixels), numpy.forward(pixels), atol=FLOAT32)
    assert pretended.recorded == [RECORDED[-1], 4, 1]


@pytest.mark.parametrize("late", [False, True], ids=["warming up", "recording"])
def test_without_room_for_a_batch_its_halves_are_recorded(
    late: bool, torch: Any, numpy: NumpyEngine, rng: np.random.Generator
) -> None:
    pretended = PretendTorch(torch, rows_that_fit=5, late=late)
    said: list[str] = []
    run = recorded(pretended, numpy, said.append)
    small, large = pixels_of(rng, 2), pixels_of(rng, 16)
    np.testing.assert_allclose(run(small), numpy.embed_pixels(small), atol=FLOAT32)
    np.testing.assert_allclose(run(large), numpy.embed_pixels(large), atol=FLOAT32)
    assert said == ["memory does not suffice for 16 pictures at a time: 8 or fewer are computed at once"]
    np.testing.assert_allclose(run(small), numpy.embed_pixels(small), atol=FLOAT32)
    assert pretended.recorded == [2, 4, 2], "all recordings are let go when one has no room"


def test_several_threads_get_what_one_gets(torch: Any, numpy: NumpyEngine, rng: np.random.Generator) -> None:
    run = recorded(PretendTorch(torch), numpy)
    batches = [pixels_of(rng, 1 + number % 5) for number in range(16)]
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(run, batches))
    for ours, pixels in zip(found, batches, strict=True):
        np.testing.assert_allclose(ours, numpy.embed_pixels(pixels), atol=FLOAT32)


def test_features_are_read_while_another_thread_records(
    torch: Any, numpy: NumpyEngine, rng: np.random.Generator
) -> None:
    pretended = PretendTorch(torch)
    run = recorded(pretended, numpy)
    small, large = pixels_of(rng, 2), pixels_of(rng, 8)
    run(small)  # which records it
    computed, recording = threading.Event(), threading.Event()
    compute_all = run.ladder.run

    def pause(images: int, compute: Callable[..., None]) -> None:
        compute_all(images, compute)
        if images == len(small):
            computed.set()
            assert recording.wait(TIMEOUT_S)

    run.ladder.run = pause  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        reads = pool.submit(run, small)

        def let_it_read() -> None:
            recording.set()
            wait([reads], TIMEOUT_S)

        assert computed.wait(TIMEOUT_S)
        pretended.while_recording = let_it_read
        records = pool.submit(run, large)
        np.testing.assert_allclose(reads.result(), numpy.embed_pixels(small), atol=FLOAT32)
        np.testing.assert_allclose(records.result(), numpy.embed_pixels(large), atol=FLOAT32)
    assert pretended.recorded == [2, 8]


def test_memory_is_not_let_go_while_another_engine_records(
    torch: Any, numpy: NumpyEngine, rng: np.random.Generator
) -> None:
    pretended = PretendTorch(torch)
    first, second = recorded(pretended, numpy), recorded(pretended, numpy)
    pixels = pixels_of(rng, 2)
    with ThreadPoolExecutor(1) as pool:
        lets_go: list[Any] = []

        def let_go() -> None:
            lets_go.append(pool.submit(second._forget, 1))
            wait(lets_go, 0.2)  # long enough to spoil the recording, if it did not wait

        pretended.while_recording = let_go
        np.testing.assert_allclose(first(pixels), numpy.embed_pixels(pixels), atol=FLOAT32)
        (forgotten,) = lets_go
        assert forgotten.result(TIMEOUT_S) is None


def test_memory_for_pieces_is_the_copying_stream_s(torch: Any, numpy: NumpyEngine, rng: np.random.Generator) -> None:
    """Memory of another stream may still be written to by what was started there before."""
    pretended = PretendTorch(torch)
    run = recorded(pretended, numpy)
    run(pixels_of(rng, 2))
    assert pretended.made_on == [run._recorder.copy]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_real_gpu_records_for_several_threads_at_once(precision: str, torch: Any, rng: np.random.Generator) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU that PyTorch can use")
    params = {name: value.astype(np.float32) for name, value in random_params(SMALL, rng).items()}
    said: list[str] = []
    engine = TorchEngine(params, SMALL, "cls", precision=precision, device="cuda", report=said.append)
    batches = [pixels_of(rng, 1 << number % 9) for number in range(36)]  # every size, while others are computed
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(engine.embed_pixels, batches))
    for ours, pixels in zip(found, batches, strict=True):
        wanted = engine.numpy.embed_pixels(pixels)
        np.testing.assert_allclose(ours, wanted, atol=FLOAT32 if precision == "float32" else 0.2)
    assert (said, engine.computes) == ([], "torch")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_real_gpu_computes_what_numpy_computes(precision: str, torch: Any, rng: np.random.Generator) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU that PyTorch can use")
    params = {name: value.astype(np.float32) for name, value in random_params(SMALL, rng).items()}
    said: list[str] = []
    engine = TorchEngine(params, SMALL, "cls", precision=precision, device="cuda", report=said.append)
    for images in (3, 11, 300, 3):
        pixels = pixels_of(rng, images)
        found, wanted = engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels)
        np.testing.assert_allclose(found, wanted, atol=FLOAT32 if precision == "float32" else 0.2)
    with ThreadPoolExecutor(4) as pool:
        for one in pool.map(engine.embed_pixels, [pixels] * 8):
            np.testing.assert_array_equal(one, found)
    assert (said, engine.computes) == ([], "torch")
