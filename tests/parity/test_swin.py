"""Swin, stage by stage, at whole and at odd sizes, against transformers with the same random weights.

Bounds: in float64 both sides agree to rounding (measured: 8.0e-15, Swin-T 1.9e-14), so 1e-10 leaves room and still
catches any difference of method. In float32 the largest difference measured on the final tokens is 3.0e-6, for
values up to 4.8 (Swin-T: 6.0e-6).
"""

import dataclasses

import numpy as np
import pytest

from vitseek.engines.swin_engine import SwinEngine
from vitseek.models import swin
from vitseek.models.swin_config import VARIANTS, SwinConfig, swin_parameter_shapes
from vitseek.weights.rename import rename

pytestmark = pytest.mark.parity
families = pytest.importorskip("tests.parity.families", reason="torch and transformers are not installed")
parity = pytest.importorskip("tests.parity.swin")

EXACT = 1e-10
EAGER = 1e-6  # transformers' eager attention takes softmax in float32 whatever the model's dtype
TOKENS_FLOAT32 = 1e-5  # the final tokens; measured: 6.0e-6
STAGES_FLOAT32 = 2e-5  # before the final norm values are larger; measured: 5.1e-6

CASES = [(name, size) for name, (_, sizes) in parity.FAMILIES.items() for size in sizes]
CASE_IDS = [f"{name} {height}x{width}" for name, (height, width) in CASES]


def plain_stages(params, config, pixels):
    found = {}
    tokens = swin.forward_features(params, config, pixels, stages=found.__setitem__)
    if config.num_classes:
        found["logits"] = swin.classify(params, config, tokens)
    return found


def engine_stages(params, config, pixels):
    found = {}
    engine = SwinEngine(params, config, threads=1, dtype=pixels.dtype)
    engine.tokens(pixels, stages=found.__setitem__)
    if config.num_classes:
        found["logits"] = engine.classify(pixels)
    return found


def largest_differences(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, wanted in theirs.items():
        assert ours[name].shape == wanted.shape, name
        assert ours[name].dtype == wanted.dtype, name
    return {name: float(np.abs(ours[name] - wanted).max()) for name, wanted in theirs.items()}


@pytest.mark.parametrize("name", parity.FAMILIES)
def test_a_saved_checkpoint_is_taken_for_what_it_is(name: str) -> None:
    assert parity.reference(name).config == parity.FAMILIES[name][0]


@pytest.mark.parametrize("stages", [plain_stages, engine_stages], ids=["plain", "engine"])
@pytest.mark.parametrize(("name", "size"), CASES, ids=CASE_IDS)
def test_every_stage_equals_transformers_in_float64(name: str, size: tuple[int, int], stages) -> None:
    reference = parity.reference(name)
    pixels = families.random_pixels(*size)
    ours = stages(families.in_dtype(reference.params, np.float64), reference.config, pixels)
    differences = largest_differences(ours, reference.stages(pixels))
    assert max(differences.values()) < EXACT, differences


@pytest.mark.parametrize("stages", [plain_stages, engine_stages], ids=["plain", "engine"])
@pytest.mark.parametrize(("name", "size"), CASES, ids=CASE_IDS)
def test_float32_stays_within_its_bound(name: str, size: tuple[int, int], stages) -> None:
    reference = parity.reference(name)
    pixels = families.random_pixels(*size, dtype=np.float32)
    differences = largest_differences(stages(reference.params, reference.config, pixels), reference.stages(pixels))
    assert differences["norm"] < TOKENS_FLOAT32, differences
    assert differences.get("logits", 0) < TOKENS_FLOAT32, differences
    assert max(differences.values()) < STAGES_FLOAT32, differences


@pytest.mark.parametrize(("name", "size"), CASES, ids=CASE_IDS)
def test_attention_weights_equal_transformers(name: str, size: tuple[int, int]) -> None:
    reference = parity.reference(name)
    config, pixels = reference.config, families.random_pixels(*size)
    params = families.in_dtype(reference.params, np.float64)
    everyone = range(config.depth)
    plain = swin.forward_features(params, config, pixels, attention_blocks=everyone).attention
    engine = SwinEngine(params, config, dtype=np.float64, threads=3)
    folded = engine.tokens(pixels, attention_blocks=everyone).attention
    rows, columns = (-(-side // config.patch_size) for side in size)
    for block, (theirs, (stage, place)) in enumerate(
        zip(reference.window_weights(pixels), config.blocks(), strict=True)
    ):  # fmt: skip
        grid = -(-rows // 2**stage), -(-columns // 2**stage)
        wanted = swin.spread_weights(theirs, *swin.window_and_shift(config, place, *grid), *grid)
        np.testing.assert_allclose(plain[block], wanted, rtol=0, atol=EAGER)
        np.testing.assert_allclose(folded[block], plain[block], rtol=0, atol=EXACT)


def test_a_window_shrunk_to_the_grid_is_a_model_with_the_middle_of_the_table() -> None:
    """transformers cannot run it, but a model of its with a smaller window is the same."""
    config = dataclasses.replace(parity.SMALL, depths=(2,), num_heads=(2,))
    reference = parity.load(config, seed=5)
    pixels = families.random_pixels(12, 27)  # 4 x 9 patches, windows of 7
    with pytest.raises(RuntimeError):
        reference.stages(pixels)
    smaller = parity.load(dataclasses.replace(config, window_size=4), seed=5)
    state = reference.model.state_dict()
    for name in state:
        if "bias_table" in name:
            middle = state[name].reshape(13, 13, -1)[3:10, 3:10]  # distances -3 … 3 of -6 … 6
            state[name] = middle.reshape(49, -1)
    smaller.model.load_state_dict(state)
    ours = plain_stages(families.in_dtype(reference.params, np.float64), config, pixels)
    differences = largest_differences(ours, smaller.stages(pixels))
    assert max(differences.values()) < EXACT, differences


@pytest.mark.parametrize(
    ("size", "window", "side_px"), [(size, 7, 224) for size in VARIANTS] + [("swin_base", 12, 384)]
)
def test_named_sizes_have_the_names_and_shapes_of_transformers(size: str, window: int, side_px: int) -> None:
    import torch

    config = SwinConfig(**VARIANTS[size], window_size=window, img_size=(side_px, side_px), num_classes=1000)
    with torch.device("meta"):
        theirs = {name: tuple(value.shape) for name, value in parity.build(config).state_dict().items()}
    renamed = rename(theirs)
    assert renamed.naming.name == "transformers-swin-5"
    assert not renamed.extra
    assert not renamed.incomplete
    wanted = swin_parameter_shapes(config)
    assert renamed.sources.keys() == wanted.keys()
    for name, parts in renamed.sources.items():
        shapes = [theirs[part] for part in parts if part is not None]
        assert (sum(shape[0] for shape in shapes), *shapes[0][1:]) == wanted[name]


def test_swin_t_at_full_size_equals_transformers() -> None:
    config, sizes = parity.FULL_SIZE["Swin-T, 224 px, windows of 7"]
    reference = parity.load(config, seed=7)
    for size in sizes:
        assert parity.difference(reference, size, np.float64, batch=1) < EXACT
        assert parity.difference(reference, size, np.float32, batch=1) < TOKENS_FLOAT32


def tanh_gelu(x, *, out=None):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def turned_bias(table, window, trained=None):
    return usual_bias(table, window, trained).swapaxes(1, 2)


def no_mask(rows, columns, window, shift, dtype):
    return np.zeros_like(usual_mask(rows, columns, window, shift, dtype))


def right_before_down(grid):
    return usual_merge(grid.swapaxes(1, 2)).swapaxes(1, 2)


usual_bias, usual_mask, usual_merge = swin.relative_position_bias, swin.shift_mask, swin.merge_patches
MISTAKES = [
    ("gelu", tanh_gelu), ("relative_position_bias", turned_bias), ("shift_mask", no_mask),
    ("merge_patches", right_before_down),
]  # fmt: skip


@pytest.mark.parametrize(("function", "mistake"), MISTAKES, ids=[case[0] for case in MISTAKES])
def test_the_bounds_catch_small_mistakes(function, mistake, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = parity.reference("Swin /3, windows of 7")
    pixels = families.random_pixels(84, 84, dtype=np.float32)
    theirs = reference.stages(pixels)
    monkeypatch.setattr(swin, function, mistake)
    ours = plain_stages(reference.params, reference.config, pixels)
    assert np.abs(ours["norm"] - theirs["norm"]).max() > 3 * TOKENS_FLOAT32
