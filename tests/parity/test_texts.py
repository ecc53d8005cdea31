"""Text towers of every family, stage by stage, and the scores of both towers, against transformers.

``python -m tests.parity.texts --full-size`` prints what was measured. In float64 both sides agree to rounding (1.2e-14
at most), so 1e-10 leaves room. In float32 the largest difference of any stage is 3.0e-6, and that of scores, which
reach 23.5, is 7.6e-6; at full size it is 3.7e-6 on embeddings and 2.8e-6 on scores.
"""

import numpy as np
import pytest

from vitseek.models import text as module

pytestmark = pytest.mark.parity
texts = pytest.importorskip("tests.parity.texts", reason="torch and transformers are not installed")

EXACT = 1e-10
FLOAT32 = 5e-6
SCORES_FLOAT32 = 2e-5
FULL_SIZE_FLOAT32 = 1e-5


@pytest.mark.parametrize("name", texts.FAMILIES)
def test_a_saved_checkpoint_is_taken_for_what_it_is(name: str) -> None:
    assert texts.reference(name).config == texts.FAMILIES[name].config


@pytest.mark.parametrize("name", texts.FAMILIES)
def test_every_stage_equals_transformers_in_float64(name: str) -> None:
    found = texts.differences(texts.reference(name), np.float64)
    assert {"embed", "block.0", "block.2", "embedding", "engine"} <= found.keys()
    assert max(found.values()) < EXACT, found


@pytest.mark.parametrize("name", texts.FAMILIES)
def test_float32_stays_within_its_bound(name: str) -> None:
    found = texts.differences(texts.reference(name), np.float32)
    assert max(found.values()) < FLOAT32, found


@pytest.mark.parametrize("name", texts.FAMILIES)
def test_the_scores_of_both_towers_equal_transformers(name: str) -> None:
    assert texts.score_difference(texts.reference(name), np.float64) < EXACT
    assert texts.score_difference(texts.reference(name), np.float32) < SCORES_FLOAT32


def test_the_bounds_catch_small_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = texts.reference("CLIP, exact GELU")
    monkeypatch.setattr(module, "ACTIVATIONS", {**module.ACTIVATIONS, "gelu": module.gelu_tanh})
    found = texts.differences(reference, np.float32)
    assert found["embedding"] > 3 * FLOAT32, found
    assert found["engine"] < FLOAT32
    monkeypatch.undo()
    monkeypatch.setattr(module, "pooled_positions", lambda config, ids: np.zeros(len(ids), dtype=int))
    found = texts.differences(reference, np.float32)
    assert found["norm"] < FLOAT32
    assert found["embedding"] > 0.1, found


@pytest.mark.slow
@pytest.mark.parametrize("name", texts.FULL_SIZE)
def test_models_of_real_size_stay_within_their_bounds(name: str) -> None:
    reference = texts.full_size(name)
    found = texts.differences(reference, np.float32)
    assert max(found["embedding"], found["engine"]) < FULL_SIZE_FLOAT32, found
    assert texts.score_difference(reference, np.float32, pictures=2, side_px=224) < FULL_SIZE_FLOAT32
