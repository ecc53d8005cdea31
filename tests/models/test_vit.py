"""What must hold of the forward pass whatever the weights; parity and golden tests show that it is the right pass."""

import dataclasses
import itertools
import re
from typing import get_args

import numpy as np
import pytest

from tests.models.random_weights import FAMILIES, SMALL, random_params, rules
from vitseek.errors import ConfigError, DTypeError, ShapeError
from vitseek.models.config import PosResize
from vitseek.models.tokens import Tokens, pooled_dim
from vitseek.models.vit import (
    attention_pool,
    classify,
    features,
    forward_features,
    image_embedding,
    pool,
    position_embedding,
)
from vitseek.nn.layers import rms_norm


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_the_dtype_and_names_its_tokens(family: str, rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    for dtype in (np.float32, np.float64):
        params = random_params(config, rng, dtype)
        tokens = forward_features(params, config, rng.standard_normal((2, 3, 14, 63)).astype(dtype))
        assert tokens.all.dtype == dtype
        assert tokens.grid == (2, 9)
        assert tokens.all.shape == (2, config.num_prefix_tokens + 18, config.embed_dim)
        assert tokens.patches.shape == (2, 18, config.embed_dim)
        assert tokens.registers.shape == (2, config.num_registers, config.embed_dim)
        named = [tokens.registers, tokens.patches]
        if config.distilled:
            named.insert(0, tokens.dist_token[:, None])
        if config.class_token:
            named.insert(0, tokens.cls_token[:, None])
        np.testing.assert_array_equal(np.concatenate(named, axis=1), tokens.all)
        for rule in rules(config):
            vectors = features(params, config, tokens, rule)
            assert vectors.dtype == dtype
            assert vectors.shape == (2, pooled_dim(config, rule))
        if config.num_classes:
            logits = classify(params, config, tokens)
            assert logits.shape == (2, 11)
            assert logits.dtype == dtype


def test_inputs_are_left_as_they_were(rng: np.random.Generator) -> None:
    params, pixels = random_params(SMALL, rng), rng.standard_normal((2, 3, 35, 49))
    for array in (*params.values(), pixels):
        array.flags.writeable = False
    classify(params, SMALL, forward_features(params, SMALL, pixels, attention_blocks=[0]))


def test_images_of_a_batch_do_not_see_each_other(rng: np.random.Generator) -> None:
    params, pixels = random_params(SMALL, rng), rng.standard_normal((3, 3, 35, 49))
    together = forward_features(params, SMALL, pixels).all
    for image in range(3):
        alone = forward_features(params, SMALL, pixels[image : image + 1]).all
        np.testing.assert_allclose(alone[0], together[image], atol=1e-12)


def test_without_positions_the_order_of_patches_does_not_matter(rng: np.random.Generator) -> None:
    params = random_params(SMALL, rng)
    params["pos_embed"] = np.zeros_like(params["pos_embed"])
    pixels = rng.standard_normal((1, 3, 7, 49))
    order = rng.permutation(7)
    shuffled = pixels.reshape(1, 3, 7, 7, 7)[:, :, :, order].reshape(1, 3, 7, 49)
    before, after = (forward_features(params, SMALL, one) for one in (pixels, shuffled))
    np.testing.assert_allclose(after.cls_token, before.cls_token, atol=1e-12)
    np.testing.assert_allclose(after.patches, before.patches[:, order], atol=1e-12)


def test_attention_is_kept_for_the_blocks_asked_for(rng: np.random.Generator) -> None:
    params, pixels = random_params(SMALL, rng), rng.standard_normal((2, 3, 14, 21))
    kept = forward_features(params, SMALL, pixels, attention_blocks=(-1, 0)).attention
    assert list(kept) == [2, 0]
    for weights in kept.values():
        assert weights.shape == (2, 3, 7, 7)
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-12)
    with pytest.raises(ConfigError, match="no block 3: the model has blocks 0 to 2"):
        forward_features(params, SMALL, pixels, attention_blocks=[3])


def test_stages_are_told_in_order(rng: np.random.Generator) -> None:
    params, pixels = random_params(SMALL, rng), rng.standard_normal((2, 3, 14, 21))
    told: list[str] = []
    forward_features(params, SMALL, pixels, stages=lambda name, tokens: told.append(f"{name} {tokens.shape}"))
    assert told == [f"{name} (2, 7, 21)" for name in ("embed", "block.0", "block.1", "block.2", "norm")]


def test_the_trained_grid_keeps_its_positions_even_with_the_offset(rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, pos_resize="bicubic-offset")
    params = random_params(config, rng)
    assert position_embedding(params, config, 5, 7) is params["pos_embed"]
    # Seven rows of five have as many patches as five rows of seven, and are another grid all the same.
    turned = position_embedding(params, config, 7, 5)
    assert turned.shape == params["pos_embed"].shape
    np.testing.assert_array_equal(turned[:, 0], params["pos_embed"][:, 0])
    assert np.abs(turned[:, 1:] - params["pos_embed"][:, 1:]).max() > 0.1


def test_the_ways_to_resize_positions_differ(rng: np.random.Generator) -> None:
    params = random_params(SMALL, rng)
    ways = [dataclasses.replace(SMALL, pos_resize=way) for way in get_args(PosResize)]
    resized = [position_embedding(params, config, 3, 11) for config in ways]
    assert len(resized) == 4
    for one, other in itertools.combinations(resized, 2):
        assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 35, 49), "must have the shape \\(batch, 3, height, width\\), not \\(3, 35, 49\\)"),
        ((1, 1, 35, 49), "must have the shape"),
        ((1, 3, 35, 50), "35 x 50 px \\(height x width\\) does not divide into 7 px patches"),
        ((1, 3, 0, 49), "does not divide"),
    ],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], message: str, rng: np.random.Generator) -> None:
    with pytest.raises(ShapeError, match=message):
        forward_features(random_params(SMALL, rng), SMALL, np.zeros(shape))


@pytest.mark.parametrize(
    ("pixels", "params"), [(np.float32, np.float64), (np.float64, np.float32), (np.float16, np.float16)]
)
def test_mixed_or_other_dtypes_are_refused(pixels: type, params: type, rng: np.random.Generator) -> None:
    with pytest.raises(DTypeError, match="make both float32"):
        forward_features(random_params(SMALL, rng, params), SMALL, np.zeros((1, 3, 35, 49), dtype=pixels))


def test_a_model_without_head_cannot_classify(rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, num_classes=0)
    params = random_params(config, rng)
    with pytest.raises(ConfigError, match="no classification head"):
        classify(params, config, forward_features(params, config, np.zeros((1, 3, 35, 49))))


def test_logits_of_a_distilled_model_are_the_mean_of_both_heads(rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, distilled=True)
    params = random_params(config, rng)
    tokens = forward_features(params, config, rng.standard_normal((2, 3, 35, 49)))
    first = tokens.all[:, 0] @ params["head.weight"].T + params["head.bias"]
    second = tokens.all[:, 1] @ params["head_dist.weight"].T + params["head_dist.bias"]
    np.testing.assert_allclose(classify(params, config, tokens), (first + second) / 2, atol=1e-13)


def test_pooling_rules_are_what_they_say(rng: np.random.Generator) -> None:
    values = rng.standard_normal((2, 1 + 1 + 3 + 6, 5))
    tokens = Tokens(all=values, grid=(2, 3), num_registers=3, distilled=True)
    mean = values[:, 5:].mean(axis=1)
    np.testing.assert_array_equal(pool(tokens, "cls"), values[:, 0])
    np.testing.assert_allclose(pool(tokens, "patch-mean"), mean, atol=1e-15)
    np.testing.assert_allclose(pool(tokens, "cls+patch-mean"), np.hstack([values[:, 0], mean]), atol=1e-15)
    cubes = [[sum(max(v, 1e-6) ** 3 for v in column) / 6 for column in image.T] for image in values[:, 5:]]
    np.testing.assert_allclose(pool(tokens, "gem"), np.cbrt(cubes), atol=1e-12)
    pool(tokens, "cls")[:] = 0
    assert tokens.all[0, 0].any(), "a pooled vector must not be a window on the tokens"


def test_pooling_says_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match="one of cls, patch-mean, cls\\+patch-mean, gem, embedding, not 'max'"):
        pool(Tokens(all=np.zeros((1, 2, 3)), grid=(1, 1)), "max")
    with pytest.raises(ShapeError, match="needs patch tokens, but the 1 tokens hold none"):
        pool(Tokens(all=np.zeros((1, 1, 3)), grid=(0, 0)), "gem")


def test_rotary_positions_make_patches_of_equal_content_differ(rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES["dinov3"])
    params = random_params(config, rng)
    pixels = np.tile(rng.standard_normal((1, 3, 7, 7)), (1, 1, 3, 2))  # six times the same patch
    turned = forward_features(params, config, pixels).patches[0]
    assert np.abs(turned[0] - turned[1]).max() > 1e-3
    without = dataclasses.replace(config, pos_embed="none", rope_theta=100.0)
    alike = forward_features(params, without, pixels).patches[0]
    np.testing.assert_allclose(alike, np.broadcast_to(alike[0], alike.shape), atol=1e-12)


def test_the_first_norms_stand_before_and_after_the_positions(rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **{**FAMILIES["no positions"], "pos_embed": "learned"})
    params, pixels = random_params(config, rng), rng.standard_normal((1, 3, 7, 7))
    kernel = params["patch_embed.proj.weight"].reshape(21, -1)
    patch = rms_norm(kernel @ pixels.ravel(), params["patch_embed.norm.weight"], eps=config.norm_eps)
    placed = patch + position_embedding(params, config, 1, 1)[0, 0]
    tokens = [*params["reg_token"][0], placed]
    wanted = [rms_norm(token, params["norm_pre.weight"], eps=config.norm_eps) for token in tokens]
    stages: dict[str, np.ndarray] = {}
    forward_features(params, config, pixels, stages=stages.__setitem__)
    np.testing.assert_allclose(stages["embed"][0], wanted, atol=1e-12)


def test_the_embedding_is_the_attention_pool_or_the_class_token_then_the_projection(rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES["pool beside class token"])
    params = random_params(config, rng)
    tokens = forward_features(params, config, rng.standard_normal((2, 3, 35, 49)))
    pooled = attention_pool(params, config, tokens)
    wanted = pooled @ params["projection.weight"].T
    np.testing.assert_allclose(image_embedding(params, config, tokens), wanted, atol=1e-13)
    clip = dataclasses.replace(config, attention_pool=False)
    wanted = tokens.cls_token @ params["projection.weight"].T
    np.testing.assert_allclose(image_embedding(params, clip, tokens), wanted, atol=1e-13)
    plain = dataclasses.replace(clip, embedding_dim=0)
    np.testing.assert_array_equal(image_embedding(params, plain, tokens), tokens.cls_token)
    plain_pool = dataclasses.replace(config, embedding_dim=0)
    np.testing.assert_array_equal(image_embedding(params, plain_pool, tokens), pooled)


def test_a_model_without_class_token_says_how_else_to_pool(rng: np.random.Generator) -> None:
    config = dataclasses.replace(SMALL, **FAMILIES["ijepa"])
    params = random_params(config, rng)
    tokens = forward_features(params, config, np.zeros((1, 3, 35, 49)))
    for rule in ("cls", "cls+patch-mean", "embedding"):
        with pytest.raises(ConfigError, match=f"{re.escape(rule)}.*no class token: choose the pooling 'patch-mean'"):
            features(params, config, tokens, rule)
    with pytest.raises(ConfigError, match="no class token"):
        _ = tokens.cls_token
    siglip = dataclasses.replace(SMALL, **FAMILIES["siglip"])
    with pytest.raises(ConfigError, match="or 'embedding' for its attention pool"):
        pooled_dim(siglip, "cls")


def test_the_embedding_cannot_be_pooled_from_tokens_alone() -> None:
    with pytest.raises(ConfigError, match="ask the model itself"):
        pool(Tokens(all=np.zeros((1, 2, 3)), grid=(1, 1)), "embedding")
