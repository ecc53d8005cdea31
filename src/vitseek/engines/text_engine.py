"""The default engine of text towers: the pass of :mod:`vitseek.models.text` on folded weights, without needless work.

- All texts of a pack are the rows of one matrix, each as long as it is: no row is padding, unless the model reads
  padding (SigLIP).
- Behind the token that speaks for a text, a causal tower computes nothing: no token sees what comes after it.
- In the last block only the speaking token is computed beyond keys and values.

All three are exact. Queries are short, so that more time goes into reading weights than into arithmetic; the first
query also folds them. ``python -m benchmarks.texts`` compares with PyTorch.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vitseek.engines import kernels
from vitseek.engines.threads import BLAS, default_threads, run_together
from vitseek.errors import ShapeError
from vitseek.models.text import Ids, TextConfig, TextMlpLayer, check_ids, pooled_positions
from vitseek.nn.activations import gelu, gelu_tanh, quick_gelu

Array = NDArray[np.floating]
Params = Mapping[str, Array]

PACK_ROWS = 600  # rows of a pack, as for images
ACTIVATIONS: Mapping[TextMlpLayer, Callable[..., Array]] = {
    "gelu": gelu,
    "gelu-tanh": gelu_tanh,
    "quick-gelu": quick_gelu,
}


@dataclass(frozen=True, slots=True, eq=False)
class TextNorm:
    """Scale and shift of a LayerNorm that cannot go into the next layer, because the residual needs them too."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True, eq=False)
class TextBlock:
    """Weights of one block, (in, out), W width, F feed-forward width."""

    qkv_weight: Array  # (W, 3 W), the query's part scaled
    qkv_bias: Array
    proj_weight: Array
    proj_bias: Array
    up_weight: Array  # (W, F)
    up_bias: Array
    down_weight: Array  # (F, W), halved
    down_bias: Array
    norm1: TextNorm | None  # of towers that normalise after the branch (BERT)
    norm2: TextNorm | None


@dataclass(frozen=True, slots=True, eq=False)
class _Pack:
    """Texts whose tokens are the rows of one matrix."""

    texts: range
    spans: tuple[slice, ...]  # rows of each text
    pooled: NDArray[np.intp]  # the row of each text's speaking token


class TextEngine:
    """A text tower ready to run. May be called from several threads.

    Parameters
    ----------
    params
        Under the names of :func:`vitseek.models.text.text_parameter_shapes`; the table of tokens is kept as it is
        (mapped from its file), everything else is copied.
    threads
        Cores to use; by default all that this process may run on.
    dtype
        float32; float64 is for tests.
    """

    def __init__(
        self, params: Params, config: TextConfig, threads: int | None = None, *, dtype: DTypeLike = np.float32
    ) -> None:
        self.config = config
        self.threads = threads or default_threads()
        self.dtype = np.dtype(dtype)
        self._tokens = params["text.token_embed.weight"]  # (V, W)
        places = params["text.pos_embed"].astype(np.float64)
        if config.token_types:
            places = places + params["text.token_type_embed.weight"][0]  # all of segment 0
        self._places = places.astype(dtype)  # (L, W)
        self._embed_norm = _norm(params, "text.norm_embed", dtype) if config.embed_norm else None
        self._blocks = tuple(_fold_block(params, config, index, dtype) for index in range(config.depth))
        self._out_weight, self._out_bias = _fold_output(params, config, dtype)

    @property
    def embed_dim(self) -> int:
        """Length of a text's embedding."""
        return self.config.output_dim

    def encode(self, ids: Ids, mask: Ids | None = None) -> Array:
        """Return what :func:`vitseek.models.text.encode` returns, shape (B, embed_dim).

        Parameters
        ----------
        mask : shape (B, L)
            Ones, then zeros: padding stands at the end of a row.
        """
        check_ids(self.config, ids)
        pooled, lengths = self._lengths(ids, mask)
        out = np.empty((len(ids), self.embed_dim), dtype=self.dtype)
        packs = iter(self._packs(lengths, pooled))
        lock = threading.Lock()
        failed = threading.Event()

        def work() -> None:
            while not failed.is_set():
                with lock:
                    pack = next(packs, None)
                if pack is None:
                    return
                out[pack.texts.start : pack.texts.stop] = self._run(ids, pack)

        if len(ids) <= 1:  # nothing to share: BLAS may use the cores
            work()
            return out
        with BLAS.single_threaded():
            run_together([work] * min(self.threads, len(ids)), on_failure=failed.set)
        return out

    def _lengths(self, ids: Ids, mask: Ids | None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The place of each text's speaking token, and how many of its tokens matter to it."""
        rows, longest = ids.shape
        pooled = pooled_positions(self.config, ids)
        lengths = np.full(rows, longest, dtype=np.intp)
        if mask is not None and not self.config.attend_padding:
            if mask.shape != ids.shape:
                raise ShapeError(f"the mask must have the shape of ids, {ids.shape}, not {mask.shape}")
            lengths = np.count_nonzero(mask, axis=1)
            if not np.array_equal(mask != 0, np.arange(longest) < lengths[:, None]) or (lengths <= pooled).any():
                raise ShapeError("the mask must be ones for a text with its end, then zeros: pad on the right")
        return pooled, np.minimum(lengths, pooled + 1) if self.config.causal else lengths

    def _packs(self, lengths: NDArray[np.intp], pooled: NDArray[np.intp]) -> list[_Pack]:
        """Cut the texts into packs of about the same number of rows, at least one for each thread."""
        limit = max(1, min(PACK_ROWS, -(-int(lengths.sum()) // self.threads)))
        packs: list[_Pack] = []
        start = 0
        while start < len(lengths):
            stop, rows = start + 1, int(lengths[start])
            while stop < len(lengths) and rows + lengths[stop] <= limit:
                rows += int(lengths[stop])
                stop += 1
            edges = np.concatenate([[0], np.cumsum(lengths[start:stop])])
            spans = tuple(slice(int(a), int(b)) for a, b in pairwise(edges))
            packs.append(_Pack(range(start, stop), spans, edges[:-1] + pooled[start:stop]))
            start = stop
        return packs

    def _run(self, ids: Ids, pack: _Pack) -> Array:
        """Return the embeddings of a pack's texts."""
        counts = [span.stop - span.start for span in pack.spans]
        numbers = np.concatenate([ids[text, :count] for text, count in zip(pack.texts, counts, strict=True)])
        x = self._tokens[numbers].astype(self.dtype)  # (R, W); a copy, whatever the dtype
        for span, count in zip(pack.spans, counts, strict=True):
            x[span] += self._places[:count]
        if self._embed_norm is not None:
            self._normalise(x, self._embed_norm, out=x)
        for index, block in enumerate(self._blocks):
            x = self._block(block, x, pack, last=index == len(self._blocks) - 1)
        if self.config.norm_first:
            self._normalise(x, None, out=x)
        y: Array = x if self._out_weight is None else x @ self._out_weight
        if self._out_bias is not None:
            y += self._out_bias
        return y

    def _block(self, block: TextBlock, x: Array, pack: _Pack, *, last: bool) -> Array:
        """Run one block on rows (R, W); the last one returns the speaking rows only, (texts, W)."""
        width = self.config.width
        source = self._normalise(x, None) if self.config.norm_first else x
        keep: NDArray[np.intp] | slice = pack.pooled if last else slice(None)
        if last:
            both = source @ block.qkv_weight[:, width:]
            both += block.qkv_bias[width:]
            query = source[keep] @ block.qkv_weight[:, :width]
            query += block.qkv_bias[:width]
        else:
            qkv = source @ block.qkv_weight
            qkv += block.qkv_bias
            query, both = qkv[:, :width], qkv[:, width:]
        mixed = self._attend(query, both[:, :width], both[:, width:], pack, last=last)
        branch = mixed @ block.proj_weight
        branch += block.proj_bias
        branch += x[keep]
        x = branch if block.norm1 is None else self._normalise(branch, block.norm1, out=branch)
        hidden: Array = (self._normalise(x, None) if self.config.norm_first else x) @ block.up_weight
        hidden += block.up_bias
        hidden = ACTIVATIONS[self.config.mlp_layer](hidden, out=hidden, doubled=True)
        branch = hidden @ block.down_weight
        branch += block.down_bias
        branch += x
        return branch if block.norm2 is None else self._normalise(branch, block.norm2, out=branch)

    def _attend(self, query: Array, key: Array, value: Array, pack: _Pack, *, last: bool) -> Array:
        """Mix values text by text, all heads at once; queries are scaled. Shape of ``query``."""
        heads, size = self.config.num_heads, self.config.head_dim
        out = np.empty(query.shape, dtype=self.dtype)
        for place, span in enumerate(pack.spans):
            mine = slice(place, place + 1) if last else span  # a speaking token sees all that is left of its text
            count = span.stop - span.start
            q = query[mine].reshape(-1, heads, size).transpose(1, 0, 2)  # (H, M, d)
            k = key[span].reshape(count, heads, size).transpose(1, 2, 0)  # (H, d, N)
            v = value[span].reshape(count, heads, size).transpose(1, 0, 2)  # (H, N, d)
            scores = q @ k
            if self.config.causal and not last:
                scores[:, *np.triu_indices(count, 1)] = -np.inf
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            total = scores.sum(axis=-1, keepdims=True)
            mixed = scores @ v
            mixed /= total
            out[mine].reshape(-1, heads, size)[:] = mixed.transpose(1, 0, 2)
        return out

    def _normalise(self, x: Array, norm: TextNorm | None, *, out: Array | None = None) -> Array:
        result = np.empty_like(x) if out is None else out
        kernels.normalise(x, eps=self.config.norm_eps, out=result)
        if norm is not None:
            result *= norm.weight
            result += norm.bias
        return result


def _fold_block(params: Params, config: TextConfig, index: int, dtype: DTypeLike) -> TextBlock:
    block = f"text.blocks.{index}"
    scale: Array = np.ones(3 * config.width)
    scale[: config.width] = 1 / math.sqrt(config.head_dim)
    first = config.norm_first
    qkv_weight, qkv_bias = _linear(params, f"{block}.attn.qkv", f"{block}.norm1" if first else None, scale, dtype)
    proj_weight, proj_bias = _linear(params, f"{block}.attn.proj", None, None, dtype)
    up_weight, up_bias = _linear(params, f"{block}.mlp.fc1", f"{block}.norm2" if first else None, None, dtype)
    down_weight, down_bias = _linear(params, f"{block}.mlp.fc2", None, None, dtype)
    down_weight *= 0.5  # exact; the activations leave their last half out
    norm1, norm2 = (None if first else _norm(params, f"{block}.norm{place}", dtype) for place in (1, 2))
    return TextBlock(
        qkv_weight, qkv_bias, proj_weight, proj_bias, up_weight, up_bias, down_weight, down_bias, norm1, norm2
    )  # fmt: skip


def _fold_output(params: Params, config: TextConfig, dtype: DTypeLike) -> tuple[Array | None, Array | None]:
    """The projection with the final norm in it; without a projection, the norm's scale becomes a diagonal."""
    if config.embedding_dim:
        norm = "text.norm" if config.norm_first else None
        weight, bias = _linear(params, "text.projection", norm, None, dtype)
        return weight, bias
    if not config.norm_first:
        return None, None
    return np.diag(params["text.norm.weight"]).astype(dtype), params["text.norm.bias"].astype(dtype)


def _linear(params: Params, name: str, norm: str | None, scale: Array | None, dtype: DTypeLike) -> tuple[Array, Array]:
    """Return ``scale (weight norm + bias)`` as one (in, out) weight and one bias, which is worked out in float64."""
    weight = params[f"{name}.weight"]  # (out, in)
    bias = params.get(f"{name}.bias")
    total = np.zeros(len(weight)) if bias is None else bias.astype(np.float64)
    folded = np.array(weight.T, dtype=dtype, order="C")
    if norm is not None:
        total += weight.astype(np.float64) @ params[f"{norm}.bias"].astype(np.float64)
        folded *= params[f"{norm}.weight"].astype(dtype)[:, None]
    if scale is not None:
        folded *= scale.astype(dtype)
        total *= scale
    return folded, total.astype(dtype)


def _norm(params: Params, name: str, dtype: DTypeLike) -> TextNorm:
    return TextNorm(params[f"{name}.weight"].astype(dtype), params[f"{name}.bias"].astype(dtype))
