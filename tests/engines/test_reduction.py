"""Fewer tokens: what the papers say, written plainly, against the engine; and what must never happen to a token."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.engines.runtimes import runtime_of
from tests.models.random_weights import FAMILIES, SMALL, random_params, rules
from vitseek.engines import checked
from vitseek.engines.fold import fold
from vitseek.engines.graph_engine import graph_of
from vitseek.engines.model import load
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.reduction import FEWEST_PATCHES, NONE, Reduction, merge, prune
from vitseek.errors import ConfigError
from vitseek.models.config import ViTConfig

DEEP = dataclasses.replace(SMALL, depth=7)
WITHOUT_ROPE = [name for name, facts in FAMILIES.items() if facts.get("pos_embed") != "rope"]
ROUNDING = 1e-10  # float64 on both sides
SINGLE = 2e-5  # as test_onnx_graph.py; these weights make numbers up to 10


def engine_of(
    config: ViTConfig, params: dict[str, np.ndarray], text: str, rule: str = "cls", threads: int = 1
) -> NumpyEngine:
    return NumpyEngine(params, config, rule, threads, dtype=np.float64, reduction=Reduction.parse(text))


def plainly(config: ViTConfig, params: dict[str, np.ndarray], pixels: np.ndarray, reduction: Reduction) -> np.ndarray:
    """The class token of one image, with a token list, a loop over pairs, and attention written out."""
    start: list[np.ndarray] = []

    def embedded(name: str, x: np.ndarray) -> None:
        if name == "embed":
            start.append(x[0])

    NumpyEngine(params, config, "cls", 1, dtype=np.float64).tokens(pixels[None], stages=embedded)
    x, sizes, prefix = start[0], np.ones(len(start[0])), config.num_prefix_tokens
    weights = fold(params, config, np.float64)
    for index, block in enumerate(weights.blocks):
        qkv = normal(x, config) @ block.qkv_weight
        qkv[:, : config.embed_dim] += block.qk_bias
        query, key, value = (part.reshape(len(x), config.num_heads, -1) for part in np.split(qkv, 3, axis=1))
        shares = np.exp(np.einsum("qhd,khd->hqk", query, key)) * sizes
        shares /= shares.sum(axis=2, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", shares, value).reshape(len(x), -1) @ block.proj_weight + block.proj_bias
        left = reduction.patches_after(index, len(x) - prefix, config.depth) if index < config.depth - 1 else None
        if left is not None and left < len(x) - prefix:
            if reduction.method == "merge":
                x, sizes = merged_plainly(x, sizes, key.mean(axis=1), prefix, len(x) - prefix - left)
            else:
                looked_at = shares[:, 0].mean(axis=0)
                kept = set(sorted(range(prefix, len(x)), key=lambda token: -looked_at[token])[: left - 1])
                others = [token for token in range(prefix, len(x)) if token not in kept]
                staying = [token for token in range(len(x)) if token not in others]
                one = np.average(x[others], axis=0, weights=looked_at[others])
                x, sizes = np.vstack([x[staying], one]), np.append(sizes[staying], sizes[others].sum())
        hidden = normal(x, config) @ block.mlp.up_weight + block.mlp.up_bias
        from vitseek.nn.activations import gelu

        x = x + gelu(hidden, doubled=True) @ block.mlp.down_weight + block.mlp.down_bias
    return np.asarray(normal(x[:1], config) * weights.norm.weight + weights.norm.bias)[0]


def merged_plainly(
    x: np.ndarray, sizes: np.ndarray, keys: np.ndarray, prefix: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    units = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    first, second = list(range(prefix, len(x), 2)), list(range(prefix + 1, len(x), 2))
    partner = {token: max(second, key=lambda other: units[token] @ units[other]) for token in first}
    going = sorted(first, key=lambda token: -units[token] @ units[partner[token]])[:count]
    groups = [[token] for token in range(prefix)] + [[token] for token in first if token not in going]
    groups += [[other, *(token for token in going if partner[token] == other)] for other in second]
    return (
        np.array([np.average(x[group], axis=0, weights=sizes[group]) for group in groups]),
        np.array([sizes[group].sum() for group in groups]),
    )


def normal(x: np.ndarray, config: ViTConfig) -> np.ndarray:
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + config.norm_eps)


@pytest.mark.parametrize("text", ["merge-1", "merge-5", "merge-9", "prune-0.5", "prune-0.83"])
@pytest.mark.parametrize("family", ["vit", "distilled", "registers"])
def test_the_engine_leaves_out_what_the_papers_say(family: str, text: str, rng: np.random.Generator) -> None:
    config = dataclasses.replace(DEEP, **FAMILIES[family])
    params, pixels = random_params(config, rng), rng.standard_normal((5, 3, 35, 49))
    wanted = [plainly(config, params, one, Reduction.parse(text)) for one in pixels]
    exact = engine_of(config, params, "none").embed_pixels(pixels)
    for threads in (1, 2, 3):  # packs of several images, and teams that share one
        found = engine_of(config, params, text, threads=threads).embed_pixels(pixels)
        np.testing.assert_allclose(found, wanted, atol=ROUNDING)
    assert np.abs(found - exact).max() > 1e-3


@pytest.mark.parametrize("text", ["merge-5", "prune-0.7"])
@pytest.mark.parametrize("family", WITHOUT_ROPE)
def test_every_pooling_counts_a_token_as_often_as_it_stands_for_patches(
    family: str, text: str, rng: np.random.Generator
) -> None:
    """A picture with as few patches as are always left has the exact features; a larger one has some near them."""
    config = dataclasses.replace(DEEP, **FAMILIES[family])
    reduction = Reduction.parse(text)
    if reduction.method == "prune" and not config.class_token:
        with pytest.raises(ConfigError, match="class token"):
            reduction.check(config)
        return
    params, pixels = random_params(config, rng), rng.standard_normal((3, 3, 35, 49))
    few = pixels[:, :, :14, :14]
    for rule in rules(config):
        reduced, exact = (engine_of(config, params, kind, rule) for kind in (text, "none"))
        np.testing.assert_allclose(reduced.embed_pixels(few), exact.embed_pixels(few), atol=ROUNDING, err_msg=rule)
        found = reduced.embed_pixels(pixels)
        assert np.isfinite(found).all()
        apart = np.linalg.norm(found - exact.embed_pixels(pixels)) / np.linalg.norm(found)
        assert 1e-6 < apart < 1, rule


def test_patches_that_are_the_same_merge_without_a_loss(rng: np.random.Generator) -> None:
    """Pairs of equal tokens become one that counts twice: attention over them gives the same."""
    x = np.repeat(rng.standard_normal((6, 5)), 2, axis=0)
    found, sizes = merge(x, np.ones(12), x, 6)
    assert sizes.tolist() == [2.0] * 6
    np.testing.assert_allclose(sorted(found.tolist()), sorted(x[::2].tolist()))


def test_no_patch_is_lost_and_none_counts_twice(rng: np.random.Generator) -> None:
    x, sizes = rng.standard_normal((23, 5)), rng.integers(1, 5, 23).astype(float)
    for found, counts in (merge(x, sizes, x, 9), prune(x, sizes, rng.random(23) + 0.1, 7)):
        assert len(found) == len(counts)
        assert counts.sum() == sizes.sum()
    merged, counts = merge(x, sizes, x, 9)
    np.testing.assert_allclose(counts @ merged, sizes @ x, err_msg="an average weighted by size keeps the sum")


def test_equal_similarities_are_decided_by_place(rng: np.random.Generator) -> None:
    x = np.arange(12.0)[:, None] * np.ones(3)
    keys = np.ones((12, 4))
    found, _ = merge(x, np.ones(12), keys, 2)
    np.testing.assert_allclose(found[:4, 0], [4, 6, 8, 10], err_msg="the first two of the first set went")
    np.testing.assert_allclose(found[4, 0], (0 + 1 + 2) / 3)


@pytest.mark.parametrize("text", ["none", "merge-1", "merge-24", "merge-1024", "prune-0.7", "prune-0.125"])
def test_a_reduction_is_read_as_it_is_written(text: str) -> None:
    assert Reduction.parse(text).key() == text
    assert bool(Reduction.parse(text)) == (text != "none")


@pytest.mark.parametrize(
    "text",
    ["", "merge", "merge-0", "merge--1", "merge-1025", "merge-99999", "prune-1.5", "prune-0", "prune-0.0", "tome"],
)
def test_what_is_no_reduction_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match="there are 'none', 'merge-R'"):
        Reduction.parse(text)


def test_a_tiny_picture_keeps_some_patches() -> None:
    greedy = Reduction.parse("merge-1024")
    counts = greedy.tokens_after(1 + 30, DEEP, all_blocks=True)
    assert counts[:3] == [31, 31, 31], "the first half is left as it is"
    assert counts[3:] == [16, 9, 5, 5]
    assert counts[-1] == 1 + FEWEST_PATCHES
    assert Reduction.parse("prune-0.001").tokens_after(1 + 30, DEEP, all_blocks=True)[-1] == 1 + FEWEST_PATCHES + 1
    assert NONE.tokens_after(31, DEEP, all_blocks=False) == [31] * DEEP.depth


def test_rotary_positions_are_refused_by_name() -> None:
    rotary = dataclasses.replace(DEEP, **FAMILIES["dinov3"])
    with pytest.raises(ConfigError, match=r"'merge-4': the model turns queries .* smaller pictures"):
        Reduction.parse("merge-4").check(rotary)
    NONE.check(rotary)


def test_everything_but_features_is_computed_from_all_tokens(rng: np.random.Generator) -> None:
    params, pixels = random_params(DEEP, rng), rng.standard_normal((2, 3, 35, 49))
    reduced, exact = (engine_of(DEEP, params, kind) for kind in ("merge-5", "none"))
    np.testing.assert_array_equal(reduced.forward(pixels), exact.forward(pixels))
    np.testing.assert_array_equal(reduced.classify(pixels), exact.classify(pixels))
    tokens = reduced.tokens(pixels, attention_blocks=[-1])
    np.testing.assert_array_equal(tokens.attention[6], exact.tokens(pixels, attention_blocks=[-1]).attention[6])


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("text", ["merge-5", "merge-9", "prune-0.7"])
@pytest.mark.parametrize("family", WITHOUT_ROPE)
def test_the_graph_leaves_out_what_numpy_does(family: str, text: str, runtime: str, rng: np.random.Generator) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'vitseek[onnx]'")
    from vitseek.engines.graph_engine import GraphEngine

    config = dataclasses.replace(DEEP, **FAMILIES[family])
    reduction = Reduction.parse(text)
    if reduction.method == "prune" and not config.class_token:
        pytest.skip("nothing to prune by: see test_every_pooling_counts_a_token_as_often_as_it_stands_for_patches")
    compiler = runtime_of(runtime)
    params = {name: value.astype(np.float32) for name, value in random_params(config, rng).items()}
    for size in ((35, 49), (28, 35)):  # an odd and an even number of patches
        pixels = rng.standard_normal((3, 3, *size), dtype=np.float32)
        for rule in rules(config):
            said: list[str] = []
            engine = GraphEngine(params, config, rule, compiler, 1, reduction=reduction, report=said.append)
            found, wanted = engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels)
            np.testing.assert_allclose(found, wanted, atol=SINGLE, err_msg=rule)
            assert (engine.computes, said) == (runtime, [])
        np.testing.assert_allclose(engine.forward(pixels), engine.numpy.forward(pixels), atol=SINGLE)


@pytest.mark.parametrize("text", ["merge-12", "prune-0.7"])
def test_eight_bits_and_fewer_tokens_go_together(text: str, photos: Path) -> None:
    """With trained weights: random ones are no more alike in one pair of patches than in another."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'vitseek[onnx]'")
    pictures = sorted(photos.rglob("*.png"))
    model, exact = load(engine="onnx", precision="int8", reduction=text), load(reduction=text)
    apart = checked.distance(model.embed(pictures), exact.embed(pictures))
    assert 1e-5 < apart < checked.TOLERANCES["int8"]
    assert (model.space().precision, model.space().reduction, model.late_notes) == ("int8", text, [])


def test_a_graph_of_all_tokens_leaves_none_out(rng: np.random.Generator) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'vitseek[onnx]'")
    engine = NumpyEngine(random_params(DEEP, rng, np.float32), DEEP, "cls", 1)
    with pytest.raises(ConfigError, match="all tokens cannot leave some out"):
        graph_of(engine, (35, 49), pooling=None, reduction=Reduction.parse("merge-5"))


def test_smaller_pictures_and_fewer_tokens_are_other_spaces() -> None:
    usual, merged, small = load(), load(reduction="merge-4"), load(size_px=96)
    assert len({usual.space(), merged.space(), small.space()}) == 3
    assert merged.space()._replace(reduction="none") == usual.space()
    assert small.preprocess(Image.new("RGB", (640, 480))).shape == (3, 96, 96)
    for size_px in (0, 100, 1 << 20):
        with pytest.raises(ConfigError, match="take a multiple of that up to 4096"):
            load(size_px=size_px)
