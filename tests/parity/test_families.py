"""Every family, three resolutions, stage by stage, against transformers with the same random weights.

Bounds: in float64 both sides agree to rounding (measured: 1.5e-14 at most), so 1e-10 leaves room and still catches any
difference of method; the last test shows that GELU's tanh approximation, for one, is far outside. Where transformers
works positions out in float32 although the model is float64 (DINOv2 and NaFlex resize so, DINOv3 turns by such angles),
that step is bound by float32 and all others are compared at 1e-10 with transformers' own positions. In float32 the
largest difference measured on the final tokens is 7.8e-6, for values up to 6.
"""

import dataclasses

import numpy as np
import pytest

from vitseek.engines import numpy_engine
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.models import vit
from vitseek.models.tokens import usual_pooling

pytestmark = pytest.mark.parity
families = pytest.importorskip("tests.parity.families", reason="torch and transformers are not installed")

EXACT = 1e-10
POSITIONS_FLOAT32 = 2e-6  # measured: 9.6e-7
ANGLES_FLOAT32 = 1e-6  # on the tokens, from angles that transformers works out in float32; measured: 4.5e-7
TOKENS_FLOAT32 = 1e-5  # the final tokens; measured: 7.8e-6
STAGES_FLOAT32 = 2e-5  # before the final norm values are larger; measured: 1.2e-5

CASES = [(name, size) for name, family in families.FAMILIES.items() for size in family.resolutions]
CASE_IDS = [f"{name} {height}x{width}" for name, (height, width) in CASES]
LEARNED = [case for case in CASES if families.FAMILIES[case[0]].config.pos_embed == "learned"]


def plain_stages(reference, params, config, pixels):
    found = {}
    tokens = vit.forward_features(params, config, pixels, stages=found.__setitem__)
    if config.num_classes:
        found["logits"] = vit.classify(params, config, tokens)
    if reference.family.places.embedding is not None:
        found["embedding"] = vit.image_embedding(params, config, tokens)
    return found


def engine_stages(reference, params, config, pixels):
    found = {}
    engine = NumpyEngine(params, config, usual_pooling(config), threads=1, dtype=pixels.dtype)
    engine.tokens(pixels, stages=found.__setitem__)
    if config.num_classes:
        found["logits"] = engine.classify(pixels)
    if reference.family.places.embedding is not None:
        found["embedding"] = engine.embed_pixels(pixels)
    return found


def largest_differences(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, wanted in theirs.items():
        assert ours[name].shape == wanted.shape, name
        assert ours[name].dtype == wanted.dtype, name
    return {name: float(np.abs(ours[name] - wanted).max()) for name, wanted in theirs.items()}


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_saved_checkpoint_is_taken_for_what_it_is(name: str) -> None:
    assert families.reference(name).config == families.FAMILIES[name].config


@pytest.mark.parametrize("stages", [plain_stages, engine_stages], ids=["plain", "engine"])
@pytest.mark.parametrize(("name", "size"), CASES, ids=CASE_IDS)
def test_every_stage_equals_transformers_in_float64(
    name: str, size: tuple[int, int], stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = families.reference(name)
    for module in (vit, numpy_engine):
        monkeypatch.setattr(module, "rotary_positions", reference.rotation)
    config, params = reference.config, families.in_dtype(reference.params, np.float64)
    pixels = families.random_pixels(*size)
    grid = size[0] // config.patch_size, size[1] // config.patch_size
    if reference.family.rounds_positions and grid != config.grid:
        params["pos_embed"] = reference.positions(*grid, float64=True)
        config = dataclasses.replace(config, img_size=size)
    differences = largest_differences(
        stages(reference, params, config, pixels), reference.stages(pixels, float64=True)
    )  # fmt: skip
    assert max(differences.values()) < EXACT, differences


@pytest.mark.parametrize(("name", "size"), LEARNED, ids=[f"{name} {size}" for name, size in LEARNED])
def test_resized_positions_equal_transformers(name: str, size: tuple[int, int]) -> None:
    reference = families.reference(name)
    rows, columns = (side // reference.config.patch_size for side in size)
    params = families.in_dtype(reference.params, np.float64)
    ours = vit.position_embedding(params, reference.config, rows, columns)
    theirs = reference.positions(rows, columns, float64=True)
    resized = (rows, columns) != reference.config.grid
    bound = POSITIONS_FLOAT32 if reference.family.rounds_positions and resized else EXACT
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)


@pytest.mark.parametrize("stages", [plain_stages, engine_stages], ids=["plain", "engine"])
@pytest.mark.parametrize(("name", "size"), CASES, ids=CASE_IDS)
def test_float32_stays_within_its_bound(name: str, size: tuple[int, int], stages) -> None:
    reference = families.reference(name)
    pixels = families.random_pixels(*size, dtype=np.float32)
    ours = stages(reference, reference.params, reference.config, pixels)
    differences = largest_differences(ours, reference.stages(pixels, float64=False))
    assert differences["norm"] < TOKENS_FLOAT32, differences
    assert differences.get("logits", 0) < TOKENS_FLOAT32, differences
    assert differences.get("embedding", 0) < TOKENS_FLOAT32, differences
    assert max(differences.values()) < STAGES_FLOAT32, differences


@pytest.mark.parametrize("name", families.FAMILIES)
def test_attention_weights_equal_transformers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = families.reference(name)
    for module in (vit, numpy_engine):
        monkeypatch.setattr(module, "rotary_positions", reference.rotation)
    pixels = families.random_pixels(*reference.family.resolutions[0])
    theirs = reference.attention(pixels)
    params = families.in_dtype(reference.params, np.float64)
    plain = vit.forward_features(params, reference.config, pixels, attention_blocks=range(3)).attention
    engine = NumpyEngine(params, reference.config, "patch-mean", dtype=np.float64, threads=3)
    folded = engine.tokens(pixels, attention_blocks=range(3)).attention
    # transformers' ViT, CLIP and SigLIP take softmax in float32 whatever the model's dtype.
    bound = EXACT if "DINOv" in name else 1e-6
    for block in range(3):
        np.testing.assert_allclose(plain[block], theirs[block], rtol=0, atol=bound)
        np.testing.assert_allclose(folded[block], theirs[block], rtol=0, atol=bound)


WITH_CLASS_TOKEN = [name for name, family in families.FAMILIES.items() if family.config.class_token]


@pytest.mark.parametrize("name", WITH_CLASS_TOKEN)
def test_class_token_alone_equals_transformers(name: str) -> None:
    reference = families.reference(name)
    height, width = reference.family.resolutions[0]
    pixels = families.random_pixels(height, width, batch=5)
    engine = NumpyEngine(reference.params, reference.config, threads=3, dtype=np.float64)
    wanted = reference.stages(pixels, float64=True)["norm"][:, 0]
    bound = EXACT if reference.config.pos_embed == "learned" else ANGLES_FLOAT32
    np.testing.assert_allclose(engine.embed_pixels(pixels), wanted, rtol=0, atol=bound)


def tanh_gelu(x, *, out=None):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def no_layer_scale(params, name, branch):
    return branch


def shifted_grid(grid, size, *, method, offset):
    return vit_resize(grid, size, method=method, offset=0.1)


vit_resize = vit.resize_grid
MISTAKES = [
    ("ACTIVATIONS", {"gelu": tanh_gelu}, 0),
    ("_layer_scale", no_layer_scale, 0),
    ("resize_grid", shifted_grid, 1),
]


@pytest.mark.parametrize(("function", "mistake", "resolution"), MISTAKES, ids=[case[0] for case in MISTAKES])
def test_the_bounds_catch_small_mistakes(function, mistake, resolution, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = families.reference("DINOv2 /14")
    pixels = families.random_pixels(*reference.family.resolutions[resolution], dtype=np.float32)
    theirs = reference.stages(pixels, float64=False)
    monkeypatch.setattr(vit, function, mistake)
    ours = plain_stages(reference, reference.params, reference.config, pixels)
    difference = np.abs(ours["norm"] - theirs["norm"]).max()
    assert difference > 3 * TOKENS_FLOAT32, difference
