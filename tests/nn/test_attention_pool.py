"""Attention pooling against a loop, and against torch's own layer where it is installed."""

import math

import numpy as np
import pytest

from vitseek.nn.attention_pool import pool_by_attention

WIDTH, HEADS = 21, 3


def random_params(rng: np.random.Generator) -> dict[str, np.ndarray]:
    shapes = {
        "pool.latent": (1, 1, WIDTH), "pool.q.weight": (WIDTH, WIDTH), "pool.q.bias": (WIDTH,),
        "pool.kv.weight": (2 * WIDTH, WIDTH), "pool.kv.bias": (2 * WIDTH,),
        "pool.proj.weight": (WIDTH, WIDTH), "pool.proj.bias": (WIDTH,),
    }  # fmt: skip
    return {name: rng.standard_normal(shape) * 0.4 for name, shape in shapes.items()}


def test_each_head_of_the_query_averages_the_values_it_finds(rng: np.random.Generator) -> None:
    params, tokens = random_params(rng), rng.standard_normal((2, 5, WIDTH))
    found = pool_by_attention(params, "pool", tokens, num_heads=HEADS)
    assert found.shape == (2, 1, WIDTH)
    query = params["pool.q.weight"] @ params["pool.latent"][0, 0] + params["pool.q.bias"]
    for image in range(2):
        both = [params["pool.kv.weight"] @ token + params["pool.kv.bias"] for token in tokens[image]]
        mixed = np.zeros(WIDTH)
        for head in range(HEADS):
            here = slice(7 * head, 7 * head + 7)
            shares = [math.exp(float(query[here] @ one[:WIDTH][here]) / math.sqrt(7)) for one in both]
            for share, one in zip(shares, both, strict=True):
                mixed[here] += share / sum(shares) * one[WIDTH:][here]
        wanted = params["pool.proj.weight"] @ mixed + params["pool.proj.bias"]
        np.testing.assert_allclose(found[image, 0], wanted, atol=1e-13)


def test_the_order_of_the_tokens_does_not_matter(rng: np.random.Generator) -> None:
    params, tokens = random_params(rng), rng.standard_normal((2, 5, WIDTH))
    first = pool_by_attention(params, "pool", tokens, num_heads=HEADS)
    np.testing.assert_allclose(pool_by_attention(params, "pool", tokens[:, ::-1], num_heads=HEADS), first, atol=1e-13)


@pytest.mark.parity
def test_torch_multihead_attention_gives_the_same(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    params, tokens = random_params(rng), rng.standard_normal((2, 5, WIDTH))
    layer = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
    tensors = {name.removeprefix("pool."): torch.from_numpy(value) for name, value in params.items()}
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.cat([tensors["q.weight"], tensors["kv.weight"]]))
        layer.in_proj_bias.copy_(torch.cat([tensors["q.bias"], tensors["kv.bias"]]))
        layer.out_proj.weight.copy_(tensors["proj.weight"])
        layer.out_proj.bias.copy_(tensors["proj.bias"])
        keys = torch.from_numpy(tokens)
        wanted = layer(tensors["latent"].expand(2, 1, WIDTH), keys, keys)[0].numpy()
    np.testing.assert_allclose(pool_by_attention(params, "pool", tokens, num_heads=HEADS), wanted, atol=1e-13)
