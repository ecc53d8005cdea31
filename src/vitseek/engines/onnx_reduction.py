"""The steps of :mod:`vitseek.engines.reduction` as nodes of an ONNX graph, for a batch of images at once.

Shapes: B images, N tokens, P patches, of which A are in the first set; D width, H heads, d = D / H.
"""

from __future__ import annotations

import numpy as np

from vitseek.engines.onnx_nodes import Nodes
from vitseek.engines.reduction import Reduction
from vitseek.models.config import ViTConfig

LEAST_LENGTH = np.array(np.finfo(np.float32).tiny, np.float32)


def leave_out(
    nodes: Nodes,
    reduction: Reduction,
    x: str,
    sizes: str | None,
    query: str,
    key: str,
    *,
    config: ViTConfig,
    patches: int,
    left: int,
) -> tuple[str, str]:
    """Reduce ``patches`` of each image to ``left``.

    Parameters
    ----------
    x, query, key : shape (B, N, D)
    sizes : shape (B, N)
        How many patches each token stands for; ``None``: one.

    Returns
    -------
    The tokens (B, prefix + left, D) and their sizes
    """
    prefix = config.num_prefix_tokens
    if sizes is None:
        sizes = _ones(nodes, x, prefix + patches)
    front, patch_tokens = nodes.rows(x, 0, prefix), nodes.rows(x, prefix, None)
    front_sizes, patch_sizes = nodes.rows(sizes, 0, prefix), nodes.rows(sizes, prefix, None)
    if reduction.method == "merge":
        by_head = nodes.reshape(nodes.rows(key, prefix, None), 0, 0, config.num_heads, config.head_dim)
        keys = nodes.mean(by_head, 2, keep=False)  # (B, P, d)
        x, sizes = _merge(nodes, patch_tokens, patch_sizes, keys, patches=patches, merged=patches - left)
    else:
        attention = nodes.rows(_attention_of_first(nodes, query, key, sizes, config), prefix, None)
        x, sizes = _prune(nodes, patch_tokens, patch_sizes, attention, patches=patches, kept=left - 1)
    if not prefix:
        return x, sizes
    return nodes.op("Concat", front, x, axis=1), nodes.op("Concat", front_sizes, sizes, axis=1)


def log_sizes(nodes: Nodes, sizes: str, *, axes: int = 4, rows: int | None = None) -> str:
    """What is added to the scores of each key: (B, 1, 1, N), (B, 1, N) with three axes, (B, 1, rows, N) with rows."""
    bias = nodes.reshape(nodes.op("Log", sizes), 0, *[1] * (axes - 2), -1)
    if rows is None:
        return bias
    return nodes.op("Expand", bias, np.array([1, 1, rows, 1], np.int64))


def _ones(nodes: Nodes, x: str, tokens: int) -> str:
    """(B, N) ones for x (B, N, D)."""
    images = nodes.op("Shape", x, start=0, end=1)
    shape = nodes.op("Concat", images, np.array([tokens], np.int64), axis=0)
    return nodes.op("Expand", np.ones((1, tokens), np.float32), shape)


def _merge(nodes: Nodes, x: str, sizes: str, keys: str, *, patches: int, merged: int) -> tuple[str, str]:
    first, second = (patches + 1) // 2, patches // 2
    square = nodes.op("ReduceSum", nodes.op("Mul", keys, keys), np.array([2], np.int64), keepdims=1)
    units = nodes.op("Div", keys, nodes.op("Max", nodes.op("Sqrt", square), LEAST_LENGTH))
    alike = nodes.op("MatMul", _every_other(nodes, units, 0), nodes.turn(_every_other(nodes, units, 1), 0, 2, 1))
    best = nodes.op("ReduceMax", alike, np.array([2], np.int64), keepdims=0)  # (B, A)
    partner = nodes.op("ArgMax", alike, axis=2, keepdims=0)  # (B, A)
    order = _by_size(nodes, best, first)
    going = nodes.rows(order, 0, merged)
    x_first, x_second = (_every_other(nodes, x, start) for start in (0, 1))
    size_first, size_second = (_every_other(nodes, sizes, start) for start in (0, 1))
    going_sizes = nodes.reshape(_pick(nodes, size_first, going), 0, -1, 1)  # (B, merged, 1)
    places = nodes.op("OneHot", _pick(nodes, partner, going), np.array([second]), np.array([0, 1], np.float32))
    onto = nodes.turn(places, 0, 2, 1)  # (B, second, merged)
    column = nodes.reshape(size_second, 0, -1, 1)
    weights = nodes.op("Add", column, nodes.op("MatMul", onto, going_sizes))  # (B, second, 1)
    arriving = nodes.op("MatMul", onto, nodes.op("Mul", _pick(nodes, x_first, going), going_sizes))
    average = nodes.op("Div", nodes.op("Add", nodes.op("Mul", x_second, column), arriving), weights)
    counts = nodes.reshape(weights, 0, -1)
    if merged == first:
        return average, counts
    staying = _ascending(nodes, nodes.rows(order, merged, None), first - merged)
    x = nodes.op("Concat", _pick(nodes, x_first, staying), average, axis=1)
    return x, nodes.op("Concat", _pick(nodes, size_first, staying), counts, axis=1)


def _prune(nodes: Nodes, x: str, sizes: str, attention: str, *, patches: int, kept: int) -> tuple[str, str]:
    order = _by_size(nodes, attention, patches)
    staying = _ascending(nodes, nodes.rows(order, 0, kept), kept)
    going = nodes.rows(order, kept, None)
    given = _pick(nodes, attention, going)  # (B, patches - kept)
    shares = nodes.op("Div", given, nodes.op("ReduceSum", given, np.array([1], np.int64), keepdims=1))
    one = nodes.op("MatMul", nodes.reshape(shares, 0, 1, -1), _pick(nodes, x, going))  # (B, 1, D)
    count = nodes.op("ReduceSum", _pick(nodes, sizes, going), np.array([1], np.int64), keepdims=1)  # (B, 1)
    x = nodes.op("Concat", _pick(nodes, x, staying), one, axis=1)
    return x, nodes.op("Concat", _pick(nodes, sizes, staying), count, axis=1)


def _attention_of_first(nodes: Nodes, query: str, key: str, sizes: str, config: ViTConfig) -> str:
    """What the first token gives to each, the mean over its heads, (B, N)."""
    heads, head_dim = config.num_heads, config.head_dim
    asked = nodes.reshape(nodes.rows(query, 0, 1), 0, heads, 1, head_dim)  # (B, H, 1, d)
    seen = nodes.turn(nodes.reshape(key, 0, 0, heads, head_dim), 0, 2, 3, 1)  # (B, H, d, N)
    scores = nodes.op("Add", nodes.op("MatMul", asked, seen), log_sizes(nodes, sizes))
    shares = nodes.op("Softmax", scores, axis=-1)
    return nodes.op("ReduceMean", shares, np.array([1, 2], np.int64), keepdims=0)


def _every_other(nodes: Nodes, x: str, start: int) -> str:
    """The first, third, … or the second, fourth, … along axis 1."""
    end = np.iinfo(np.int64).max
    return nodes.op("Slice", x, *(np.array([number], np.int64) for number in (start, end, 1, 2)))


def _by_size(nodes: Nodes, values: str, count: int) -> str:
    """The places of (B, count) values, the largest first."""
    return f"{nodes.op('TopK', values, np.array([count], np.int64), outputs=2, axis=1)}_1"


def _ascending(nodes: Nodes, places: str, count: int) -> str:
    return nodes.op("TopK", places, np.array([count], np.int64), outputs=2, axis=1, largest=0)


def _pick(nodes: Nodes, x: str, places: str) -> str:
    """x (B, n, …) at each image's own places (B, m): (B, m, …)."""
    return nodes.op("GatherND", x, nodes.op("Unsqueeze", places, np.array([2], np.int64)), batch_dims=1)
