"""Image towers of MAE, CLIP, SigLIP, DINOv3, I-JEPA, MSN and AIMv2, stage by stage, against transformers.

Bounds: in float64 both sides agree to rounding (measured: 6.2e-15 at most on the final tokens), so 1e-10 leaves room
and still catches any difference of method; the last test shows it. Where transformers keeps to float32 in a float64
model (positions of SigLIP 2, angles of DINOv3, norms of AIMv2) that step is bound by float32 (measured: 7.0e-7) and
everything else is compared at 1e-10 with both sides of one precision. In float32 the largest difference measured on the
final tokens is 3.9e-6, for values up to 6.
"""

import dataclasses

import numpy as np
import pytest

from vitseek.models import vit

pytestmark = pytest.mark.parity
towers = pytest.importorskip("tests.parity.towers", reason="torch and transformers are not installed")

EXACT = 1e-10
ANGLES_FLOAT32 = 5e-6  # of any stage, where transformers' own positions or angles are float32
STAGES_FLOAT32 = 2e-5

CASES = [(name, size) for name, tower in towers.TOWERS.items() for size in tower.sizes]
CASE_IDS = [f"{name} {height}x{width}" for name, (height, width) in CASES]


@pytest.mark.parametrize("name", towers.TOWERS)
def test_a_saved_checkpoint_is_taken_for_what_it_is(name: str) -> None:
    made = towers.reference(name)
    assert made.config == towers.TOWERS[name].config
    assert made.pooling == towers.TOWERS[name].pooling


@pytest.mark.parametrize(("name", "size"), CASES, ids=CASE_IDS)
def test_every_stage_of_the_engine_equals_transformers_in_float64(name: str, size: tuple[int, int]) -> None:
    made = towers.reference(name)
    if not made.tower.precise:
        as_it_is = towers.differences(made, size, np.float64)
        assert max(as_it_is.values()) < ANGLES_FLOAT32, as_it_is
        made = towers.same_positions(made, size)
    differences = towers.differences(made, size, np.float64)
    assert max(differences.values()) < EXACT, differences


@pytest.mark.parametrize(("name", "size"), CASES, ids=CASE_IDS)
def test_every_stage_of_the_plain_pass_equals_transformers_in_float64(name: str, size: tuple[int, int]) -> None:
    made = towers.reference(name)
    if not made.tower.precise:
        made = towers.same_positions(made, size)
    params = towers.in_dtype(made.params, np.float64)
    pixels = towers.random_pixels(*size)
    ours: dict[str, np.ndarray] = {}
    tokens = vit.forward_features(params, made.config, pixels, stages=ours.__setitem__)
    if made.tower.pooling == "embedding":
        ours["embedding"] = vit.image_embedding(params, made.config, tokens)
    differences = towers.compare(ours, made.stages(pixels, float64=True))
    assert max(differences.values()) < EXACT, differences


@pytest.mark.parametrize(("name", "size"), CASES, ids=CASE_IDS)
def test_float32_stays_within_its_bound(name: str, size: tuple[int, int]) -> None:
    differences = towers.differences(towers.reference(name), size, np.float32)
    assert max(differences.values()) < STAGES_FLOAT32, differences


MISTAKES = {
    "CLIP": {"mlp_layer": "gelu"},
    "CLIP, exact GELU": {"mlp_layer": "gelu-tanh"},
    "SigLIP": {"norm_eps": 1e-5},
    "SigLIP 2 NaFlex": {"pos_resize": "bicubic-antialias"},
    "DINOv3": {"rope_theta": 101.0},
    "MAE": {"pos_resize": "bicubic-offset"},
    "I-JEPA": {"pos_resize": "bicubic-antialias"},
    "MSN": {"mlp_layer": "gelu-tanh"},
    "AIMv2": {"norm_eps": 1e-4},
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_bounds_catch_small_mistakes(name: str) -> None:
    made = towers.reference(name)
    size = made.tower.sizes[-1]
    wrong = dataclasses.replace(made, config=dataclasses.replace(made.config, **MISTAKES[name]))
    # In float64, where the positions of both sides are float32's at worst.
    assert towers.differences(wrong, size, np.float64)["norm"] > 3 * ANGLES_FLOAT32
