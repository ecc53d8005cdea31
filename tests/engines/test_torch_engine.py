"""PyTorch computes what NumPy computes: every family, every pooling; what is checked and what is put back."""

import dataclasses
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.models.random_weights import FAMILIES, SMALL, random_params, rules
from vitseek.engines import available, checked
from vitseek.engines.build import build_engine, check_engine
from vitseek.engines.model import load
from vitseek.engines.reduction import Reduction
from vitseek.engines.torch_engine import (
    DEVICE_VARIABLE,
    LARGEST_EAGER,
    EagerRun,
    TorchEngine,
    choose_device,
    exact_float32,
    limited_threads,
)
from vitseek.engines.torch_pass import TorchPass
from vitseek.errors import ConfigError, MissingExtraError, ShapeError
from vitseek.models.vit import features, forward_features

FLOAT32 = 2e-5  # as test_numpy_engine.py; measured: 1.8e-5 at most, AIMv2's tokens, which reach 10
# Of a feature's length. Measured with these weights: 0.028 at most.
BFLOAT16 = checked.TOLERANCES["bfloat16"]
SIZE = (35, 49)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed: pip install 'vitseek[torch]'")


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEVICE_VARIABLE, "cpu")


@pytest.fixture
def params(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return single(random_params(SMALL, rng))


def single(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value.astype(np.float32) for name, value in params.items()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_features_and_tokens_are_those_of_the_plain_pass(
    family: str, precision: str, rng: np.random.Generator, torch: Any
) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])  # type: ignore[arg-type]
    params, pixels = random_params(config, rng), rng.standard_normal((3, 3, *SIZE))
    tokens = forward_features(params, config, pixels)
    said: list[str] = []
    for rule in rules(config):
        engine = TorchEngine(single(params), config, rule, 1, precision=precision, report=said.append)
        wanted = {"features": features(params, config, tokens, rule), "tokens": tokens.all}
        found = {
            "features": engine.embed_pixels(pixels.astype(np.float32)),
            "tokens": engine.forward(pixels.astype(np.float32)),
        }
        for what, values in found.items():
            assert values.dtype == np.float32
            if precision == "float32":
                np.testing.assert_allclose(values, wanted[what], atol=FLOAT32, err_msg=f"{rule}, {what}")
            else:
                assert 1e-6 < checked.distance(values, wanted[what]) < BFLOAT16, f"{rule}, {what}"
        assert (said, engine.computes, engine.precision) == ([], "torch", precision)


@pytest.mark.parametrize("size", [(7, 7), (14, 63), (63, 14), (70, 98)])
def test_any_grid_of_patches_is_computed(
    size: tuple[int, int], params: dict[str, np.ndarray], rng: np.random.Generator, torch: Any
) -> None:
    engine = TorchEngine(params, SMALL, "cls", 1)
    pixels = rng.standard_normal((2, 3, *size), dtype=np.float32)
    np.testing.assert_allclose(engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels), atol=FLOAT32)
    assert engine.computes == "torch"


@pytest.mark.parametrize("images", [0, 1, 2, LARGEST_EAGER + 5])
def test_any_number_of_images_is_computed(
    images: int, params: dict[str, np.ndarray], rng: np.random.Generator, torch: Any
) -> None:
    engine = TorchEngine(params, SMALL, "cls", 1)
    pixels = rng.standard_normal((images, 3, *SIZE), dtype=np.float32)
    found = engine.embed_pixels(pixels)
    assert found.shape == (images, SMALL.embed_dim)
    np.testing.assert_allclose(found, engine.numpy.embed_pixels(pixels), atol=FLOAT32)


def test_pixels_that_are_read_only_or_out_of_order_are_taken(
    params: dict[str, np.ndarray], rng: np.random.Generator, torch: Any
) -> None:
    engine = TorchEngine(params, SMALL, "cls", 1)
    pixels = rng.standard_normal((5, *SIZE, 3), dtype=np.float32)
    pixels.flags.writeable = False
    turned = pixels.transpose(0, 3, 1, 2)[::-1]
    np.testing.assert_allclose(engine.embed_pixels(turned), engine.numpy.embed_pixels(turned), atol=FLOAT32)


def test_the_weights_of_products_are_numpy_s_own_memory_in_float32(params: dict[str, np.ndarray], torch: Any) -> None:
    engine = TorchEngine(params, SMALL, "cls", 1)
    engine.settle(SIZE)
    assert engine._weights is not None
    for ours, theirs in zip(engine._weights.blocks, engine.numpy.weights.blocks, strict=True):
        assert np.shares_memory(ours.qkv.weight.numpy(), theirs.qkv_weight)
        assert np.shares_memory(ours.mlp.up.weight.numpy(), theirs.mlp.up_weight)


def test_several_threads_get_what_one_gets(params: dict[str, np.ndarray], rng: np.random.Generator, torch: Any) -> None:
    engine = TorchEngine(params, SMALL, "patch-mean", 2)
    batches = [rng.standard_normal((1 + number % 3, 3, *SIZE), dtype=np.float32) for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine.embed_pixels, batches))
    for ours, pixels in zip(found, batches, strict=True):
        np.testing.assert_allclose(ours, engine.numpy.embed_pixels(pixels), atol=FLOAT32)


def test_attention_maps_and_classes_are_numpy_s(
    params: dict[str, np.ndarray], rng: np.random.Generator, torch: Any
) -> None:
    engine = TorchEngine(params, SMALL, "cls", 1)
    pixels = rng.standard_normal((2, 3, *SIZE), dtype=np.float32)
    found, wanted = (one.tokens(pixels, attention_blocks=(1,)) for one in (engine, engine.numpy))
    np.testing.assert_array_equal(found.attention[1], wanted.attention[1])
    np.testing.assert_array_equal(engine.classify(pixels), engine.numpy.classify(pixels))


@pytest.mark.parametrize("fails", [False, True], ids=["wrong numbers", "an error"])
def test_a_pass_that_is_wrong_is_refused_in_a_sentence_and_numpy_computes(
    fails: bool, params: dict[str, np.ndarray], rng: np.random.Generator, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = TorchPass.__call__

    def spoiled(self: TorchPass, pixels: Any) -> Any:
        if fails:
            raise RuntimeError("no kernel\nand a page of stack")
        return right(self, pixels).flip(-1)

    monkeypatch.setattr(TorchPass, "__call__", spoiled)
    said: list[str] = []
    engine = TorchEngine(params, SMALL, "cls", 1, precision="bfloat16", report=said.append)
    pixels = rng.standard_normal((2, 3, *SIZE), dtype=np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels))
    why = "failed (RuntimeError: no kernel)" if fails else "gives features "
    (sentence,) = said
    assert sentence.startswith(f"PyTorch {torch.__version__} on cpu is not used in bfloat16, because it {why}")
    assert sentence.endswith("NumPy computes instead")
    assert (engine.computes, engine.precision) == ("numpy", "float32")


def test_a_batch_that_memory_does_not_suffice_for_is_computed_in_halves(
    params: dict[str, np.ndarray], rng: np.random.Generator, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = TorchPass.__call__

    def small(self: TorchPass, pixels: Any) -> Any:
        if len(pixels) > 7:
            raise torch.OutOfMemoryError("no room")
        return right(self, pixels)

    monkeypatch.setattr(TorchPass, "__call__", small)
    said: list[str] = []
    engine = TorchEngine(params, SMALL, "cls", 1, report=said.append)
    pixels = rng.standard_normal((31, 3, *SIZE), dtype=np.float32)
    np.testing.assert_allclose(engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels), atol=FLOAT32)
    assert said == ["memory does not suffice for 31 pictures at a time: 15 or fewer are computed at once"]
    assert engine.computes == "torch"


OTHER_DEVICES_WORDS = {
    "processor": "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: ...",
    "Windows": "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: ...",
    "MPS": "MPS backend out of memory (MPS allocated: 5.50 GB, other allocations: 14.76 GB, ...",
    "MPS, one buffer": "Invalid buffer size: 24.00 GB",
}


@pytest.mark.parametrize("words", [None, *OTHER_DEVICES_WORDS.values()], ids=["for real", *OTHER_DEVICES_WORDS])
def test_want_of_memory_is_known_by_its_words_where_it_has_no_type(
    words: str | None, params: dict[str, np.ndarray], rng: np.random.Generator, torch: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    right = TorchPass.__call__

    def small(self: TorchPass, pixels: Any) -> Any:
        if len(pixels) > 7:
            if words is None:
                torch.empty(1 << 56)  # more than a processor can address
            raise RuntimeError(words)
        return right(self, pixels)

    monkeypatch.setattr(TorchPass, "__call__", small)
    said: list[str] = []
    engine = TorchEngine(params, SMALL, "cls", 1, report=said.append)
    pixels = rng.standard_normal((31, 3, *SIZE), dtype=np.float32)
    np.testing.assert_allclose(engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels), atol=FLOAT32)
    assert said == ["memory does not suffice for 31 pictures at a time: 15 or fewer are computed at once"]


def test_threads_are_those_asked_for_in_the_call_and_the_process_s_afterwards(
    params: dict[str, np.ndarray], rng: np.random.Generator, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, seen = TorchPass.__call__, []

    def watched(self: TorchPass, pixels: Any) -> Any:
        seen.append(torch.get_num_threads())
        return right(self, pixels)

    monkeypatch.setattr(TorchPass, "__call__", watched)
    pixels = rng.standard_normal((2, 3, *SIZE), dtype=np.float32)
    with limited_threads(torch, 3):
        for threads in (1, 2):
            TorchEngine(params, SMALL, "cls", threads).embed_pixels(pixels)
            assert torch.get_num_threads() == 3
    assert set(seen) == {1, 2}


def test_a_process_that_allows_less_than_float32_does_not_get_it_here_and_keeps_its_switch(
    params: dict[str, np.ndarray], rng: np.random.Generator, torch: Any
) -> None:
    usual = torch.get_float32_matmul_precision()
    pixels = rng.standard_normal((2, 3, *SIZE), dtype=np.float32)
    engine = TorchEngine(params, SMALL, "cls", 1)
    wanted = engine.embed_pixels(pixels)
    try:
        for allowed in ("medium", "high", "highest"):
            torch.set_float32_matmul_precision(allowed)
            np.testing.assert_array_equal(engine.embed_pixels(pixels), wanted)
            assert torch.get_float32_matmul_precision() == allowed
    finally:
        torch.set_float32_matmul_precision(usual)


def test_a_process_that_allows_less_everywhere_can_still_take_it_back_everywhere(torch: Any) -> None:
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("before PyTorch 2.9 there is one switch for all")
    cuda, mkldnn = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    usual = torch.backends.fp32_precision, cuda.fp32_precision, mkldnn.fp32_precision
    try:
        cuda.fp32_precision = mkldnn.fp32_precision = "none"
        torch.backends.fp32_precision = "tf32"  # and the products', which say nothing themselves, with it
        with exact_float32(torch):
            assert (cuda.fp32_precision, mkldnn.fp32_precision) == ("ieee", "ieee")
        assert (cuda.fp32_precision, mkldnn.fp32_precision) == ("tf32", "tf32")
        torch.backends.fp32_precision = "ieee"
        assert (cuda.fp32_precision, mkldnn.fp32_precision) == ("ieee", "ieee")
    finally:
        torch.backends.fp32_precision, cuda.fp32_precision, mkldnn.fp32_precision = usual


def switch(**values: str) -> SimpleNamespace:
    return SimpleNamespace(matmul=SimpleNamespace(**values), fp32_precision="none")


def test_float32_is_exact_inside_under_both_names_that_pytorch_has_for_it() -> None:
    new = SimpleNamespace(
        backends=SimpleNamespace(
            cuda=switch(fp32_precision="tf32"), mkldnn=switch(fp32_precision="bf16"), fp32_precision="none"
        )
    )
    with exact_float32(new):
        assert (new.backends.cuda.matmul.fp32_precision, new.backends.mkldnn.matmul.fp32_precision) == ("ieee", "ieee")
    assert (new.backends.cuda.matmul.fp32_precision, new.backends.mkldnn.matmul.fp32_precision) == ("tf32", "bf16")

    set_to = ["high"]
    old = SimpleNamespace(  # as in 2.5 to 2.8: mkldnn has no switch for products, and cuda's has another name
        backends=SimpleNamespace(cuda=SimpleNamespace(matmul=SimpleNamespace()), mkldnn=SimpleNamespace()),
        get_float32_matmul_precision=lambda: set_to[-1],
        set_float32_matmul_precision=set_to.append,
    )
    context = exact_float32(old)
    context.__enter__()
    assert set_to[-1] == "highest"
    assert not context.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert set_to == ["high", "highest", "high"]


class Package:
    """Stands for torch on a machine with these devices."""

    __version__ = "2.99"

    def __init__(self, gpus: int, mps: bool) -> None:
        self.cuda = SimpleNamespace(is_available=lambda: gpus > 0, device_count=lambda: gpus)
        self.backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps))
        self.device = str


@pytest.mark.parametrize(
    ("gpus", "mps", "wanted", "found"),
    [
        (2, False, None, "cuda:0"),
        (2, False, "", "cuda:0"),
        (2, False, "cuda", "cuda:0"),
        (2, False, "cuda:1", "cuda:1"),
        (2, False, "cpu", "cpu"),
        (0, True, None, "mps"),
        (0, True, "cpu", "cpu"),
        (0, False, None, "cpu"),
    ],
)
def test_the_first_device_there_is_computes_unless_another_is_wanted(
    gpus: int, mps: bool, wanted: str | None, found: str
) -> None:
    assert choose_device(Package(gpus, mps), wanted) == found


@pytest.mark.parametrize(
    ("gpus", "mps", "wanted", "there"),
    [
        (0, False, "cuda", "there is cpu;"),
        (2, False, "cuda:2", "there is cuda:0, cuda:1, cpu;"),
        (0, True, "tpu", "mps, cpu;"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    gpus: int, mps: bool, wanted: str, there: str
) -> None:
    with pytest.raises(ConfigError, match=rf"has no device '{wanted}' here: .*{there} set {DEVICE_VARIABLE}"):
        choose_device(Package(gpus, mps), wanted)


def test_the_environment_chooses_the_device(
    params: dict[str, np.ndarray], torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEVICE_VARIABLE, "cuda:99")
    with pytest.raises(ConfigError, match="has no device 'cuda:99' here"):
        build_engine(params, SMALL, "cls", engine="torch")
    assert str(TorchEngine(params, SMALL, "cls", device="cpu").device) == "cpu"


def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    params: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vitseek\[torch\]'"):
        TorchEngine(params, SMALL, "cls")
    monkeypatch.setattr(available, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"engine 'torch' needs torch: pip install 'vitseek\[torch\]'"):
        check_engine("torch")


def test_an_engine_that_leaves_out_no_tokens_says_so(params: dict[str, np.ndarray], torch: Any) -> None:
    with pytest.raises(ConfigError, match="'merge-4': engine 'torch' leaves out no tokens: take 'none'"):
        build_engine(params, SMALL, "cls", engine="torch", reduction=Reduction("merge", 4))
    assert available.ALL_TOKENS == ("torch",)


def test_bfloat16_means_openvino_or_else_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for missing, engine in (((), "openvino"), (("openvino",), "torch"), (("openvino", "torch"), "openvino")):
        monkeypatch.setattr(available, "find_spec", lambda name, missing=missing: None if name in missing else object())
        assert available.engine_for("bfloat16") == engine


def test_pictures_that_do_not_divide_into_patches_are_refused_before_anything_is_given_up(
    params: dict[str, np.ndarray], torch: Any
) -> None:
    engine = TorchEngine(params, SMALL, "cls", 1)
    with pytest.raises(ShapeError, match="35 x 50 px"):
        engine.settle((35, 50))
    assert engine.computes == "torch"


def test_a_model_in_bfloat16_has_a_space_of_its_own(torch: Any, photos: Path) -> None:
    pictures = sorted(photos.rglob("*.png"))
    numpy, other = load(), load(engine="torch", precision="bfloat16")
    assert 1e-6 < checked.distance(other.embed(pictures), numpy.embed(pictures)) < BFLOAT16
    assert other.space().precision == "bfloat16"
    assert (other.engine, other.late_notes) == ("torch", [])


def test_real_weights_in_bfloat16_stay_near_float32(torch: Any, shared_dir: Path) -> None:
    weights = shared_dir / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
    pictures = [shared_dir / "data" / "pairs" / photo for photo in ("cat.jpg", "dog.jpg")]
    found = load(weights, engine="torch", precision="bfloat16").embed(pictures)
    assert checked.distance(found, load(weights).embed(pictures)) < 0.035  # measured: 0.0175


def test_memory_is_not_kept_from_call_to_call(torch: Any, params: dict[str, np.ndarray]) -> None:
    engine = TorchEngine(params, SMALL, "cls", 1)
    pixels = np.ones((1, 3, *SIZE), np.float32)
    first = engine.embed_pixels(pixels)
    kept = first.copy()
    engine.embed_pixels(pixels * 2)
    np.testing.assert_array_equal(first, kept)


def test_the_eager_run_frees_its_lock_when_a_pass_fails(
    torch: Any, params: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: TorchPass, pixels: Any) -> Any:
        raise RuntimeError("lost")

    engine = TorchEngine(params, SMALL, "cls", 1)
    run = engine._compile(SIZE, "cls")
    assert isinstance(run, EagerRun)
    pixels = np.ones((1, 3, *SIZE), np.float32)
    with monkeypatch.context() as patched:
        patched.setattr(TorchPass, "__call__", fail)
        with pytest.raises(RuntimeError, match="lost"):
            run(pixels)
    found: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: found.append(run(pixels)), daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert len(found) == 1
