"""Rotary positions against complex numbers, and against what they are for: only distances count."""

import cmath
import math

import numpy as np
import pytest

from vitseek.nn.rotary import rotary_angles, rotate

THETA = 50.0


def test_angles_follow_the_centres_of_the_patches_along_rows_then_columns() -> None:
    angles = rotary_angles(3, 5, 12, theta=THETA)
    assert angles.shape == (15, 6)
    for row, column, k in np.ndindex(3, 5, 3):
        frequency = THETA ** (-4 * k / 12)
        patch = angles[5 * row + column]
        assert patch[k] == pytest.approx(2 * math.pi * (2 * (row + 0.5) / 3 - 1) * frequency, abs=1e-12)
        assert patch[3 + k] == pytest.approx(2 * math.pi * (2 * (column + 0.5) / 5 - 1) * frequency, abs=1e-12)


def test_rotation_multiplies_pairs_by_a_complex_unit_and_leaves_the_prefix(rng: np.random.Generator) -> None:
    angles = rotary_angles(2, 3, 8, theta=THETA)
    x = rng.standard_normal((2, 7, 5 + 6, 8))
    before = x.copy()
    turned = rotate(x, np.cos(angles), np.sin(angles))
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(turned[..., :5, :], x[..., :5, :])
    for image, head, patch, pair in np.ndindex(2, 7, 6, 4):
        old = complex(*x[image, head, 5 + patch, [pair, pair + 4]])
        new = old * cmath.exp(1j * angles[patch, pair])
        np.testing.assert_allclose(turned[image, head, 5 + patch, [pair, pair + 4]], [new.real, new.imag], atol=1e-14)


def test_products_depend_on_the_distance_of_two_patches_only(rng: np.random.Generator) -> None:
    angles = rotary_angles(5, 7, 8, theta=THETA)
    query, key = (np.broadcast_to(vector, (35, 8)) for vector in rng.standard_normal((2, 8)))
    cos, sin = np.cos(angles), np.sin(angles)
    scores = (rotate(query, cos, sin) @ rotate(key, cos, sin).T).reshape(5, 7, 5, 7)
    np.testing.assert_allclose(scores[0, 1, 2, 4], scores[2, 3, 4, 6], atol=1e-12)
    np.testing.assert_allclose(scores[3, 5, 1, 0], scores[4, 6, 2, 1], atol=1e-12)
    assert abs(scores[0, 1, 2, 4] - scores[0, 1, 2, 5]) > 1e-3


def test_float32_stays_float32(rng: np.random.Generator) -> None:
    angles = rotary_angles(2, 3, 4, theta=THETA).astype(np.float32)
    x = rng.standard_normal((1, 6, 4), dtype=np.float32)
    assert rotate(x, np.cos(angles), np.sin(angles)).dtype == np.float32


@pytest.mark.parity
def test_transformers_turns_dinov3_by_the_same_angles() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from transformers import DINOv3ViTConfig
    from transformers.models.dinov3_vit import modeling_dinov3_vit as dinov3

    config = DINOv3ViTConfig(hidden_size=24, num_attention_heads=2, patch_size=7, image_size=35, rope_theta=THETA)
    cos, sin = dinov3.DINOv3ViTRopePositionEmbedding(config).eval()(torch.zeros(1, 3, 21, 35, dtype=torch.float64))
    angles = rotary_angles(3, 5, 12, theta=THETA)
    atol = 2e-6  # measured 5e-7: transformers works the angles out in float32
    np.testing.assert_allclose(np.tile(np.cos(angles), 2), cos.numpy(), rtol=0, atol=atol)
    np.testing.assert_allclose(np.tile(np.sin(angles), 2), sin.numpy(), rtol=0, atol=atol)
    x = torch.from_numpy(np.random.default_rng(3).standard_normal((1, 2, 4 + 15, 12)))
    wanted = dinov3.apply_rotary_pos_emb(x, x, cos, sin)[0].numpy()
    half = (cos.numpy()[:, :6], sin.numpy()[:, :6])
    np.testing.assert_allclose(rotate(x.numpy(), *half), wanted, rtol=0, atol=1e-14)
