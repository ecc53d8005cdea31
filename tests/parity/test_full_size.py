"""DINOv2-base at its real size, and real ViT-Ti weights on real photos, against transformers."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.parity
full_size = pytest.importorskip("tests.parity.full_size", reason="torch and transformers are not installed")

TOKENS_FLOAT32 = 1e-5
LOGITS_REAL_WEIGHTS = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(224, 224), (518, 518), (154, 308)])
def test_dinov2_base_with_random_weights(height: int, width: int) -> None:
    differences = full_size.dinov2_base_differences(height, width)
    assert max(differences.values()) < TOKENS_FLOAT32, differences


def test_real_vit_tiny_gives_the_logits_of_transformers_on_ten_photos(shared_dir: Path) -> None:
    ours, theirs = full_size.vit_tiny_logits(shared_dir)
    assert ours.shape == (10, 1000)
    assert np.abs(ours - theirs).max() < LOGITS_REAL_WEIGHTS
    best = np.argsort(-ours)[:, :5]
    np.testing.assert_array_equal(best, np.argsort(-theirs)[:, :5])
    assert len({tuple(row) for row in best.tolist()}) > 5, "ten photos must not look alike"
