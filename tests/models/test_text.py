"""Text towers: what a config means for what a token sees, and which token speaks."""

import dataclasses
import json

import numpy as np
import pytest

from tests.models.random_text import BERT, CLIP, SIGLIP, TOWERS, random_ids, random_text_params
from vitseek.errors import ConfigError, ShapeError, UsageError
from vitseek.models.text import TextConfig, encode, pooled_positions, text_parameter_shapes


@pytest.mark.parametrize("name", TOWERS)
def test_a_config_survives_json(name: str) -> None:
    config = TOWERS[name]
    assert TextConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 22}, "does not split over 3 heads"),
        ({"depth": 0}, "depth must be a whole number of at least 1"),
        ({"vocab_size": True}, "vocab_size must be a whole number"),
        ({"eos_token_id": 101}, "eos_token_id 101 is outside the vocabulary of 101 tokens"),
        ({"bos_token_id": -1}, "bos_token_id must be a whole number of at least 0"),
        ({"mlp_layer": "relu"}, "mlp_layer must be one of gelu, quick-gelu, gelu-tanh, not 'relu'"),
        ({"cleaning": "ftfy"}, "cleaning must be one of none, lower, canonical"),
        ({"causal": "yes"}, "causal must be true or false"),
        ({"pooling": "last"}, "attend_padding must be true"),
        ({"embedding_dim": 0, "projection_bias": True}, "without a projection"),
        ({"norm_eps": 0.0}, "norm_eps must be positive"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(change: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        dataclasses.replace(CLIP, **change)


def test_a_config_of_a_newer_version_is_not_half_understood() -> None:
    with pytest.raises(ConfigError, match="unknown text config fields: rope"):
        TextConfig.from_dict({**CLIP.to_dict(), "rope": True})
    with pytest.raises(ConfigError, match="text config lacks: depth, width"):
        TextConfig.from_dict({k: v for k, v in CLIP.to_dict().items() if k not in ("depth", "width")})


@pytest.mark.parametrize("name", TOWERS)
def test_every_parameter_matters(name: str, rng: np.random.Generator) -> None:
    config = TOWERS[name]
    params = random_text_params(config, rng)
    ids, mask = random_ids(config, rng)
    before = encode(params, config, ids, mask)
    for parameter, value in params.items():
        other = value + rng.standard_normal(value.shape)
        after = encode({**params, parameter: other}, config, ids, mask)
        assert np.abs(after - before).max() > 1e-6, parameter


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_embedding_has_the_length_and_dtype_of_the_model(name: str, dtype: type, rng: np.random.Generator) -> None:
    config = TOWERS[name]
    ids, mask = random_ids(config, rng)
    embedding = encode(random_text_params(config, rng, dtype), config, ids, mask)
    assert embedding.shape == (len(ids), config.output_dim)
    assert embedding.dtype == dtype


def test_what_follows_the_end_of_text_does_not_matter_to_clip(rng: np.random.Generator) -> None:
    params = random_text_params(CLIP, rng)
    ids, _ = random_ids(CLIP, rng)
    ends = pooled_positions(CLIP, ids)
    other = ids.copy()
    for row, end in zip(other, ends, strict=True):
        row[end + 1 :] = rng.integers(0, CLIP.eos_token_id, size=len(row) - end - 1)
    assert (other != ids).any()
    np.testing.assert_allclose(encode(params, CLIP, other), encode(params, CLIP, ids), rtol=0, atol=1e-13)


def test_a_word_changes_only_what_comes_after_it_in_a_causal_tower(rng: np.random.Generator) -> None:
    params = random_text_params(CLIP, rng)
    ids, _ = random_ids(CLIP, rng)
    other = ids.copy()
    other[:, 2] = (other[:, 2] + 1) % 50
    stages: dict[str, list[np.ndarray]] = {}
    for numbers in (ids, other):
        encode(params, CLIP, numbers, stages=lambda name, x: stages.setdefault(name, []).append(x.copy()))
    before, after = stages["norm"]
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert (np.abs(before[:, 2:] - after[:, 2:]).max(axis=-1) > 1e-6).all()


def test_masked_padding_is_not_seen_and_siglip_sees_all(rng: np.random.Generator) -> None:
    params = random_text_params(BERT, rng)
    ids, mask = random_ids(BERT, rng)
    other = np.where(mask == 0, 7, ids)
    np.testing.assert_array_equal(encode(params, BERT, other, mask), encode(params, BERT, ids, mask))
    assert np.abs(encode(params, BERT, other) - encode(params, BERT, ids)).max() > 1e-6

    params = random_text_params(SIGLIP, rng)
    ids, mask = random_ids(SIGLIP, rng)
    np.testing.assert_array_equal(encode(params, SIGLIP, ids, mask), encode(params, SIGLIP, ids))
    other = np.where(mask == 0, 7, ids)
    assert np.abs(encode(params, SIGLIP, other, mask) - encode(params, SIGLIP, ids, mask)).max() > 1e-6


def test_each_rule_picks_its_token() -> None:
    ids = np.array([[98, 5, 100, 99, 100, 0], [98, 99, 3, 4, 100, 100]])
    eos = dataclasses.replace(CLIP, pooling="eos", eos_token_id=99)
    assert pooled_positions(eos, ids).tolist() == [3, 1]
    assert pooled_positions(dataclasses.replace(CLIP, pooling="largest"), ids).tolist() == [2, 4]
    assert pooled_positions(SIGLIP, ids).tolist() == [5, 5]
    assert pooled_positions(BERT, ids).tolist() == [0, 0]


def test_a_text_without_its_end_is_refused() -> None:
    with pytest.raises(UsageError, match="text 1 has no end-of-text token 100"):
        pooled_positions(CLIP, np.array([[98, 100, 100], [98, 5, 6]]))


@pytest.mark.parametrize(
    ("ids", "error", "said"),
    [
        (np.array([1, 2, 3]), ShapeError, r"whole and of shape \(batch, length\), not int64 of \(3,\)"),
        (np.array([[1.0, 2.0]]), ShapeError, "whole and of shape"),
        (np.zeros((2, 0), dtype=int), ShapeError, "1 to 13 tokens, not 0"),
        (np.zeros((2, 14), dtype=int), ShapeError, "1 to 13 tokens, not 14: cut it, keep its end"),
        (np.array([[98, 101, 100]]), UsageError, "from 0 to 100, not 98 to 101"),
        (np.array([[98, -1, 100]]), UsageError, "from 0 to 100, not -1 to 100"),
    ],
)
def test_numbers_that_no_tokenizer_of_the_model_gives_are_refused(ids, error, said, rng) -> None:
    with pytest.raises(error, match=said):
        encode(random_text_params(CLIP, rng), CLIP, ids)


def test_siglip_wants_rows_of_full_length_and_a_mask_has_the_shape_of_ids(rng: np.random.Generator) -> None:
    with pytest.raises(ShapeError, match="fill every text up to 11 tokens, not 3"):
        encode(random_text_params(SIGLIP, rng), SIGLIP, np.array([[5, 6, 1]]))
    with pytest.raises(ShapeError, match=r"the mask must have the shape of ids, \(1, 3\), not \(3,\)"):
        encode(random_text_params(BERT, rng), BERT, np.array([[5, 6, 1]]), np.ones(3, dtype=int))


def test_names_and_shapes_are_those_of_the_contract() -> None:
    clip = text_parameter_shapes(CLIP)
    assert clip["text.token_embed.weight"] == (101, 21)
    assert clip["text.pos_embed"] == (13, 21)
    assert clip["text.blocks.1.attn.qkv.weight"] == (63, 21)
    assert clip["text.projection.weight"] == (17, 21)
    assert "text.projection.bias" not in clip
    assert clip["text.norm.bias"] == (21,)
    bert = text_parameter_shapes(BERT)
    assert "text.norm.weight" not in bert
    assert bert["text.token_type_embed.weight"] == (2, 21)
    assert bert["text.norm_embed.weight"] == (21,)
    assert text_parameter_shapes(SIGLIP)["text.projection.bias"] == (23,)
