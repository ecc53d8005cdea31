"""The pass of :mod:`vitseek.engines.forward` in PyTorch, on any device, from the folded weights; PyTorch is handed in.

What is exact there is exact here: norms, LayerScale, attention scale and positions are folded into constants, and where
only the class token is wanted, the last block makes neither keys nor values nor any other row. Factors of two that
:mod:`vitseek.engines.fold` moves for NumPy's activations are moved back for PyTorch's, which costs no rounding.

In bfloat16 the products, attention and what lies between them are in it; the tokens that blocks add to, norms, softmax
and pooling are in float32.

Shapes: B images, N tokens, P patches, D width, H heads, d = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.fold import FoldedBlock, FoldedMlp, FoldedNorm, FoldedWeights
from vitseek.models.config import ViTConfig
from vitseek.models.tokens import GEM_FLOOR, GEM_POWER

Array = NDArray[np.floating]
Tensor = Any  # torch is not imported here

VERSION = 1  # raise it with every change of what is computed: checks of older ones are of no use then


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """x @ weightᵀ + bias."""

    weight: Tensor  # (out, in)
    bias: Tensor | None  # (out,)


@dataclass(frozen=True, slots=True, eq=False)
class Mlp:
    """A feed-forward whose activation is PyTorch's."""

    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One block; the bias of keys and values is zero but with rotary positions."""

    qkv: Linear
    proj: Linear
    mlp: Mlp


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The attention pool; see :class:`vitseek.engines.fold.FoldedPool`."""

    score: Linear
    value_weight: Tensor  # (H, D, d)
    value_bias: Tensor  # (D,), float32
    proj: Linear
    mlp: Mlp


class TorchWeights:
    """The folded weights on a device, shared by the passes for all sizes of pictures.

    In float32 on the processor most of them are NumPy's own memory.

    Parameters
    ----------
    torch
        The package.
    precision
        ``"float32"`` or ``"bfloat16"``.
    """

    def __init__(self, torch: Any, weights: FoldedWeights, config: ViTConfig, device: Any, precision: str) -> None:
        self.torch, self.config, self.device = torch, config, device
        self.dtype = getattr(torch, precision)
        self.patch = self._linear(weights.patch_weight)
        self.patch_bias = self.float32(weights.patch_bias)
        self.patch_norm = self._norm(weights.patch_norm)
        self.prefix = self.float32(weights.prefix)
        self.pre_norm = self._norm(weights.pre_norm)
        self.blocks = [self._block(block) for block in weights.blocks]
        self.norm = self._norm(weights.norm)
        self.pool = None
        if (pool := weights.pool) is not None:
            self.pool = Pool(
                self._linear(pool.score_weight), self._put(pool.value_weight), self.float32(pool.value_bias),
                self._linear(pool.proj_weight, pool.proj_bias), self._mlp(pool.mlp),
            )  # fmt: skip
        self.projection = None if weights.projection is None else self._linear(weights.projection)

    def float32(self, array: Array) -> Tensor:
        """Put what is added to or multiplied with tokens, which are in float32."""
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device, self.torch.float32)

    def _put(self, array: Array) -> Tensor:
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device, self.dtype)

    def _linear(self, weight: Array, bias: Array | None = None) -> Linear:
        return Linear(self._put(weight).T, None if bias is None else self._put(bias))

    def _norm(self, norm: FoldedNorm | None) -> tuple[Tensor, Tensor | None] | None:
        if norm is None:
            return None
        return self.float32(norm.weight), None if norm.bias is None else self.float32(norm.bias)

    def _block(self, block: FoldedBlock) -> Block:
        bias = np.zeros(3 * self.config.embed_dim, block.qk_bias.dtype)
        bias[: len(block.qk_bias)] = block.qk_bias
        return Block(
            self._linear(block.qkv_weight, bias), self._linear(block.proj_weight, block.proj_bias), self._mlp(block.mlp)
        )

    def _mlp(self, mlp: FoldedMlp) -> Mlp:
        if self.config.mlp_layer in ("gelu", "gelu-tanh"):  # the folded weights expect twice PyTorch's
            return Mlp(self._linear(mlp.up_weight, mlp.up_bias), self._linear(2 * mlp.down_weight, mlp.down_bias))
        gates = np.ones(mlp.up_weight.shape[1], mlp.up_weight.dtype)
        gates[: len(mlp.down_weight)] = 2  # h (1 + tanh h) = silu(2 h)
        return Mlp(
            self._linear(mlp.up_weight * gates, mlp.up_bias * gates), self._linear(mlp.down_weight, mlp.down_bias)
        )


class TorchPass:
    """Computes pictures of one size: pixels (B, 3, height, width) in the weights' dtype to float32.

    Parameters
    ----------
    grid
        (rows, columns) of patches.
    positions, rotation
        What :meth:`vitseek.engines.numpy_engine.NumpyEngine.places` gives for this grid.
    pooling
        The rule whose features, (B, embed_dim), it returns; ``None`` for all tokens after the final norm, (B, N, D).
    """

    def __init__(
        self,
        weights: TorchWeights,
        grid: tuple[int, int],
        positions: Array,
        rotation: NDArray[np.complexfloating] | None,
        *,
        pooling: str | None,
    ) -> None:
        self.weights, self.config, self.grid, self.pooling = weights, weights.config, grid, pooling
        self.torch: Any = weights.torch
        self.functional: Any = weights.torch.nn.functional
        self._positions = weights.float32(positions)
        self._turning: tuple[Tensor, Tensor] | None = None
        if rotation is not None:
            still = np.ones((self.config.num_prefix_tokens, rotation.shape[1]), rotation.dtype)
            turns = np.concatenate([still, rotation])[:, None]  # (N, 1, d / 2): prefix tokens do not turn
            self._turning = weights.float32(turns.real), weights.float32(turns.imag)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return features or tokens, float32."""
        if self.pooling is None:
            return self._tokens(pixels)
        if self.pooling == "cls":
            return self._class_token(pixels)
        if self.pooling == "embedding":
            pooled = self._class_token(pixels) if self.weights.pool is None else self._pool(self._tokens(pixels))
            if self.weights.projection is None:
                return pooled
            return self._linear(pooled, self.weights.projection).float()
        tokens = self._tokens(pixels)
        patches = tokens[:, self.config.num_prefix_tokens :]
        if self.pooling == "gem":
            powers: Tensor = patches.clamp(min=GEM_FLOOR).pow(GEM_POWER).mean(dim=1)
            return powers.pow(1 / GEM_POWER)
        if self.pooling == "patch-mean":
            return patches.mean(dim=1)
        return self.torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=1)

    def _linear(self, x: Tensor, linear: Linear) -> Tensor:
        return self.functional.linear(x.to(self.weights.dtype), linear.weight, linear.bias)

    def _normalise(self, x: Tensor, norm: tuple[Tensor, Tensor | None] | None = None) -> Tensor:
        """A norm in float32; without scale and shift where they are folded into what follows."""
        width, eps = (self.config.embed_dim,), self.config.norm_eps
        weight, bias = (None, None) if norm is None else norm
        if self.config.norm_layer == "layernorm":
            return self.functional.layer_norm(x, width, weight, bias, eps)
        return self.functional.rms_norm(x, width, weight, eps)

    def _tokens(self, pixels: Tensor) -> Tensor:
        """All tokens after the final norm, (B, N, D)."""
        x = self._embed(pixels)
        for block in self.weights.blocks:
            self._through(block, x)
        return self._normalise(x, self.weights.norm)

    def _class_token(self, pixels: Tensor) -> Tensor:
        """The class token after the final norm, (B, D)."""
        x = self._embed(pixels)
        for block in self.weights.blocks[:-1]:
            self._through(block, x)
        return self._normalise(self._last_block(self.weights.blocks[-1], x), self.weights.norm)

    def _embed(self, pixels: Tensor) -> Tensor:
        """Tokens before the first block, (B, N, D)."""
        (rows, columns), side, weights = self.grid, self.config.patch_size, self.weights
        cut = pixels.reshape(-1, 3, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
        patches = self._linear(cut.reshape(len(pixels), rows * columns, 3 * side * side), weights.patch)
        if weights.patch_norm is not None:
            patches = self._normalise(patches + weights.patch_bias, weights.patch_norm)
        prefix = self.config.num_prefix_tokens
        x = self._positions.new_empty(len(pixels), prefix + rows * columns, self.config.embed_dim)
        x[:, :prefix] = weights.prefix
        self.torch.add(patches, self._positions, out=x[:, prefix:])
        return x if weights.pre_norm is None else self._normalise(x, weights.pre_norm)

    def _through(self, block: Block, x: Tensor) -> None:
        """Add to tokens what a block finds, in place."""
        x += self._linear(self._attend(block, self._normalise(x)), block.proj)
        x += self._feed_forward(block.mlp, self._normalise(x))

    def _feed_forward(self, mlp: Mlp, normed: Tensor) -> Tensor:
        hidden = self._linear(normed, mlp.up)
        if self.config.mlp_layer == "swiglu":
            gate, value = hidden.chunk(2, dim=-1)
            return self._linear(self.functional.silu(gate) * value, mlp.down)
        if self.config.mlp_layer == "quick-gelu":
            return self._linear(self.functional.silu(hidden), mlp.down)
        approximate = "tanh" if self.config.mlp_layer == "gelu-tanh" else "none"
        return self._linear(self.functional.gelu(hidden, approximate=approximate), mlp.down)

    def _attend(self, block: Block, normed: Tensor) -> Tensor:
        """What all heads mix, (B, N, D)."""
        images, tokens, width = normed.shape
        heads, head_dim = self.config.num_heads, self.config.head_dim
        qkv = self._linear(normed, block.qkv).view(images, tokens, 3, heads, head_dim)
        query, key, value = qkv.unbind(dim=2)  # (B, N, H, d)
        query, key, value = (part.transpose(1, 2) for part in (self._turned(query), self._turned(key), value))
        mixed = self.functional.scaled_dot_product_attention(query, key, value, scale=1.0)  # (B, H, N, d)
        return mixed.transpose(1, 2).reshape(images, tokens, width)

    def _turned(self, x: Tensor) -> Tensor:
        """Queries or keys, (B, N, H, d), turned by rotary positions; the two channels of a pair are neighbours."""
        if self._turning is None:
            return x
        cos, sin = self._turning
        first, second = x[..., 0::2], x[..., 1::2]
        turned = self.torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1)
        return turned.flatten(-2).to(x.dtype)

    def _last_block(self, block: Block, x: Tensor) -> Tensor:
        """The class token after the last block, (B, D); see ``Pass._finish_first_tokens`` for why it needs no values.

        Without rotary positions it needs no keys either.
        """
        width, heads, head_dim = self.config.embed_dim, self.config.num_heads, self.config.head_dim
        normed = self._normalise(x).to(self.weights.dtype)  # (B, N, D)
        assert block.qkv.bias is not None
        query_weight, key_weight, value_weight = block.qkv.weight.split(width)  # (D, D) each, (out, in)
        query_bias, key_bias, _ = block.qkv.bias.split(width)
        query = self.functional.linear(normed[:, 0], query_weight, query_bias).view(-1, heads, head_dim)
        if self._turning is None:
            asked = self.torch.bmm(query.transpose(0, 1), key_weight.view(heads, head_dim, width))  # (H, B, D)
            scores = self.torch.matmul(asked.transpose(0, 1), normed.transpose(1, 2))  # (B, H, N)
        else:  # the query does not turn: it is the class token's
            keys = self.functional.linear(normed, key_weight, key_bias).unflatten(-1, (heads, head_dim))
            keys = self._turned(keys).permute(0, 2, 3, 1)  # (B, H, d, N)
            scores = self.torch.matmul(query[:, :, None], keys)[:, :, 0]
        seen = self._average(scores, normed)
        mixed = self._project_heads(seen, value_weight.view(heads, head_dim, width).transpose(1, 2))
        token = x[:, 0] + self._linear(mixed, block.proj)
        return token + self._feed_forward(block.mlp, self._normalise(token))

    def _average(self, scores: Tensor, tokens: Tensor) -> Tensor:
        """Average tokens (B, N, D) by scores (B, H, N): (B, H, D)."""
        shares = scores.float().softmax(dim=-1).to(tokens.dtype)
        return self.torch.matmul(shares, tokens)

    def _project_heads(self, seen: Tensor, value_weight: Tensor) -> Tensor:
        """Each head's average of tokens to its values: (B, H, D) with (H, D, d) to (B, D)."""
        return self.torch.bmm(seen.transpose(0, 1), value_weight).transpose(0, 1).flatten(1)

    def _pool(self, tokens: Tensor) -> Tensor:
        """The attention pool, as in :mod:`vitseek.engines.attention_pool`; (B, D)."""
        pool = self.weights.pool
        assert pool is not None
        tokens = tokens.to(self.weights.dtype)
        scores = self._linear(tokens, pool.score).transpose(1, 2)  # (B, H, N)
        values = self._project_heads(self._average(scores, tokens), pool.value_weight) + pool.value_bias
        pooled = self._linear(values, pool.proj).float()
        return pooled + self._feed_forward(pool.mlp, self._normalise(pooled))
