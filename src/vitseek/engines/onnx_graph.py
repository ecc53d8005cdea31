"""The pass of :mod:`vitseek.engines.forward` as an ONNX graph, written from the folded weights; no PyTorch takes part.

What is exact there is exact here: norms, LayerScale, attention scale and positions are folded into constants, and where
only the class token is wanted, the last block makes neither keys nor values nor any other row. One graph is for one
grid of patches (its positions are constants) and for any number of images.

Factors of two that :mod:`vitseek.engines.fold` moves for NumPy's activations are moved back for ONNX's, which costs no
rounding. With rotary positions the channels of queries and keys return to halves, which ONNX turns without complex
numbers.

Shapes: B images, N tokens, P patches, D width, H heads, d = D / H.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.calibration import Calibration
from vitseek.engines.fold import FoldedBlock, FoldedMlp, FoldedNorm, FoldedPool, FoldedWeights
from vitseek.engines.onnx_nodes import CONTRIB, Nodes, import_onnx
from vitseek.engines.onnx_reduction import leave_out, log_sizes
from vitseek.engines.quantise import How, QuantisedBlock, Scale, largest_weight, quantise_block, quantise_weight
from vitseek.engines.reduction import NONE, Reduction
from vitseek.errors import ConfigError
from vitseek.models.config import ViTConfig
from vitseek.models.tokens import GEM_FLOOR, GEM_POWER, check_pooling

Array = NDArray[np.floating]
Scales = Mapping[str, How]  # by layer
FLOAT: Scales = MappingProxyType({})

VERSION = 4  # raise it with every change of the graph: checks of older ones are of no use then
OPSET = 20  # the first with Gelu
IR_VERSION = 9  # of that opset
LARGEST_MESSAGE_BYTES = 2**31 - 2**20  # protobuf's limit, with room for the nodes
PIXELS, TOKENS, FEATURES = "pixels", "tokens", "features"


def build_graph(
    weights: FoldedWeights,
    config: ViTConfig,
    grid: tuple[int, int],
    positions: Array,
    rotation: NDArray[np.complexfloating] | None,
    *,
    pooling: str | None,
    fused_attention: bool = False,
    calibration: Calibration | None = None,
    dynamic: bool = False,
    reduction: Reduction = NONE,
) -> Any:
    """Return an ``onnx.ModelProto`` with the input ``pixels`` (B, 3, height, width), float32.

    Parameters
    ----------
    grid
        (rows, columns) of patches.
    positions, rotation
        What :meth:`vitseek.engines.numpy_engine.NumpyEngine.places` gives for this grid.
    pooling
        The rule whose features, (B, embed_dim), are the output ``features``; ``None`` for the output ``tokens``,
        (B, N, D), after the final norm.
    fused_attention
        Use ONNX Runtime's own operator for attention, which no other runtime has to know.
    calibration
        Compute the layers of the blocks with eight bits; see :mod:`vitseek.engines.quantise`.
    dynamic
        With a calibration: work the scale of what goes into a layer out for each batch.
    reduction
        Which tokens are left out on the way to features; see :mod:`vitseek.engines.reduction`.

    Raises
    ------
    MissingExtraError
        If ``onnx`` is not installed.
    """
    if pooling is not None:
        check_pooling(pooling, config)
    quantised = None
    if calibration is not None:
        calibration.check(config)
        quantised = [
            quantise_block(block, config, calibration, index, dynamic=dynamic)
            for index, block in enumerate(weights.blocks)
        ]
    reduction.check(config)
    if reduction and pooling is None:
        raise ConfigError(f"a graph that gives all tokens cannot leave some out ({reduction.key()!r})")
    writer = _Writer(weights, config, grid, positions, rotation, fused_attention, quantised, reduction)
    return writer.write(pooling)


def weights_bytes(model: Any) -> int:
    """How much a graph's constants take; its own ``ByteSize`` fails beyond protobuf's limit."""
    number, byte = import_onnx().TensorProto.FLOAT, import_onnx().TensorProto.INT8
    widths = {number: 4, byte: 1}
    return sum(math.prod(constant.dims) * widths.get(constant.data_type, 8) for constant in model.graph.initializer)


def save_graph(model: Any, file: Path, *, largest_message_bytes: int = LARGEST_MESSAGE_BYTES) -> list[Path]:
    """Write a graph; one that is too large for a single protobuf message leaves its weights in a second file beside it.

    Parameters
    ----------
    largest_message_bytes
        From which size on there is a second file; runtimes read that without a copy.

    Returns
    -------
    The files written, the graph first
    """
    import onnx

    if weights_bytes(model) <= min(largest_message_bytes, LARGEST_MESSAGE_BYTES):
        file.write_bytes(model.SerializeToString())
        return [file]
    data = file.with_name(f"{file.name}.data")
    data.unlink(missing_ok=True)  # onnx appends to what is there
    onnx.save(model, str(file), save_as_external_data=True, location=data.name)
    return [file, data]


class _Writer(Nodes):
    """Writes the pass; every step takes and gives names of values."""

    def __init__(
        self,
        weights: FoldedWeights,
        config: ViTConfig,
        grid: tuple[int, int],
        positions: Array,
        rotation: NDArray[np.complexfloating] | None,
        fused_attention: bool,
        quantised: Sequence[QuantisedBlock] | None = None,
        reduction: Reduction = NONE,
    ) -> None:
        super().__init__()
        self.weights, self.config, self.grid, self.positions = weights, config, grid, positions
        self.fused_attention = fused_attention
        self.quantised, self.reduction = quantised, reduction
        self.patches = grid[0] * grid[1]  # how many are left
        self.sizes: str | None = None  # how many patches each token stands for, (B, N), once a reduction has begun
        self.largest_weight = largest_weight()
        self.bytes_of: dict[str, tuple[str, ...]] = {}  # what was already made bytes: queries, keys and values share it
        self.turning = None if rotation is None else self._turning(rotation)

    def write(self, pooling: str | None) -> Any:
        helper, number = self.onnx.helper, self.onnx.TensorProto.FLOAT
        output = TOKENS if pooling is None else FEATURES
        found = self._tokens() if pooling is None else self._features(pooling)
        self.nodes.append(helper.make_node("Identity", [found], [output]))
        height, width = (side * self.config.patch_size for side in self.grid)
        # The other axes of the output are left to the runtime: it works them out from the constants.
        axes = ["batch", None, None] if pooling is None else ["batch", None]
        graph = helper.make_graph(
            self.nodes,
            "vitseek",
            [helper.make_tensor_value_info(PIXELS, number, ["batch", 3, height, width])],
            [helper.make_tensor_value_info(output, number, axes)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if self.fused_attention:
            opsets.append(helper.make_opsetid(CONTRIB, 1))
        return helper.make_model(graph, producer_name="vitseek", opset_imports=opsets, ir_version=IR_VERSION)

    # Values.

    def linear(self, x: str, weight: Array, bias: Array | None = None, how: How | None = None) -> str:
        """x W + b; with eight bits where it is said ``how``."""
        if how is None:
            y = self.op("MatMul", x, weight)
        elif isinstance(how, Scale):
            y = self.static_product(x, weight, how)
        else:
            y = self.dynamic_product(x, weight)
        return y if bias is None else self.op("Add", y, bias)

    def static_product(self, x: str, weight: Array, scale: Scale) -> str:
        """Bytes and back again on both sides of a product: what every runtime takes for a product of bytes."""
        if x not in self.bytes_of:
            how = np.array(scale.step, np.float32), np.array(scale.zero, np.uint8)
            self.bytes_of[x] = (self.op("DequantizeLinear", self.op("QuantizeLinear", x, *how), *how),)
        values, steps = quantise_weight(weight, self.largest_weight)
        weights = self.op("DequantizeLinear", values, steps, np.zeros(len(steps), np.int8), axis=1)
        return self.op("MatMul", *self.bytes_of[x], weights)

    def dynamic_product(self, x: str, weight: Array) -> str:
        """The same with a scale of the batch's own: the operators that ONNX Runtime makes one of."""
        if x not in self.bytes_of:
            values = self.op("DynamicQuantizeLinear", x, outputs=3)
            self.bytes_of[x] = (values, f"{values}_1", f"{values}_2")
        values, step, zero = self.bytes_of[x]
        weights, steps = quantise_weight(weight, self.largest_weight)
        sums = self.op("MatMulInteger", values, weights, zero, np.array(0, np.int8))
        return self.op("Mul", self.op("Cast", sums, to=self.onnx.TensorProto.FLOAT), self.op("Mul", step, steps))

    def normalise(self, x: str, norm: FoldedNorm | None = None, *, gain: Array | None = None) -> str:
        """A norm; without scale and shift where they are folded into what follows, or with a ``gain`` alone, (D,)."""
        width, eps = self.config.embed_dim, self.config.norm_eps
        if gain is not None:
            norm = FoldedNorm(gain, None)
        if self.config.norm_layer == "layernorm":
            scale = np.ones(width, np.float32) if norm is None else norm.weight
            shift = [norm.bias] if norm is not None and norm.bias is not None else []
            return self.op("LayerNormalization", x, scale, *shift, axis=-1, epsilon=eps)
        square = self.op("Add", self.mean(self.op("Mul", x, x), -1, keep=True), np.array(eps, np.float32))
        normed = self.op("Div", x, self.op("Sqrt", square))
        return normed if norm is None else self.op("Mul", normed, norm.weight)

    # The pass.

    def _features(self, rule: str) -> str:
        if rule == "cls":
            return self._class_token()
        if rule == "embedding":
            pooled = self._class_token() if self.weights.pool is None else self._pool(self.weights.pool, self._tokens())
            return pooled if self.weights.projection is None else self.linear(pooled, self.weights.projection)
        tokens = self._tokens()
        patches = self.rows(tokens, self.config.num_prefix_tokens, None)  # (B, P, D)
        if rule == "gem":
            floor, power, root = (np.array(value, np.float32) for value in (GEM_FLOOR, GEM_POWER, 1 / GEM_POWER))
            powers = self.op("Pow", self.op("Max", patches, floor), power)
            return self.op("Pow", self._mean_of_patches(powers), root)
        mean = self._mean_of_patches(patches)
        if rule == "patch-mean":
            return mean
        return self.op("Concat", self.reshape(self.rows(tokens, 0, 1), -1, self.config.embed_dim), mean, axis=1)

    def _mean_of_patches(self, patches: str) -> str:
        """(B, P, D) to (B, D); each counts as often as it stands for patches."""
        if self.sizes is None:
            return self.mean(patches, 1, keep=False)
        sizes = self.rows(self.sizes, self.config.num_prefix_tokens, None)  # (B, P)
        total = self.op("MatMul", self.reshape(sizes, 0, 1, -1), patches)  # (B, 1, D)
        count = np.array(self.grid[0] * self.grid[1], np.float32)
        return self.reshape(self.op("Div", total, count), 0, self.config.embed_dim)

    def _tokens(self) -> str:
        """All tokens after the final norm, (B, N, D)."""
        x = self._embed()
        for index in range(self.config.depth):
            x = self._block(index, x)
        return self.normalise(x, self.weights.norm)

    def _class_token(self) -> str:
        """The class token after the final norm, (B, D)."""
        x = self._embed()
        for index in range(self.config.depth - 1):
            x = self._block(index, x)
        return self.normalise(self._last_block(self.weights.blocks[-1], x), self.weights.norm)

    def _embed(self) -> str:
        config, side = self.config, self.config.patch_size
        cut = self.reshape(PIXELS, -1, 3, self.grid[0], side, self.grid[1], side)
        patches = self.reshape(self.turn(cut, 0, 2, 4, 1, 3, 5), -1, self.grid[0] * self.grid[1], 3 * side * side)
        x = self.linear(patches, self.weights.patch_weight)  # (B, P, D)
        if self.weights.patch_norm is not None:
            x = self.normalise(self.op("Add", x, self.weights.patch_bias), self.weights.patch_norm)
        prefix = config.num_prefix_tokens
        if prefix:  # room in front, and the prefix is added with the positions
            x = self.op("Pad", x, np.array([0, prefix, 0, 0, 0, 0], np.int64))
        x = self.op("Add", x, np.concatenate([self.weights.prefix, self.positions]))  # (B, N, D)
        return x if self.weights.pre_norm is None else self.normalise(x, self.weights.pre_norm)

    def _block(self, index: int, x: str) -> str:
        quantised = None if self.quantised is None else self.quantised[index]
        if quantised is None:
            block, scales = self.weights.blocks[index], FLOAT
            mixed, query, key = self._attend(block, self.normalise(x))
        else:
            block, scales = quantised.block, quantised.scales
            mixed, query, key = self._attend(block, self.normalise(x, gain=quantised.qkv_gain), scales)
        x = self.op("Add", x, self.linear(mixed, block.proj_weight, block.proj_bias, scales.get("proj")))
        left = self.reduction.patches_after(index, self.patches, self.config.depth)
        if left < self.patches:
            x, self.sizes = leave_out(
                self, self.reduction, x, self.sizes, query, key, config=self.config, patches=self.patches, left=left
            )
            self.patches = left
        if quantised is None:
            return self.op("Add", x, self._feed_forward(block.mlp, self.normalise(x)))
        normed = self.normalise(x, gain=quantised.up_gain)
        x = self.op("Add", x, self._feed_forward(quantised.wide, normed))
        return self.op("Add", x, self._feed_forward(block.mlp, normed, scales))

    def _feed_forward(self, mlp: FoldedMlp, normed: str, scales: Scales = FLOAT) -> str:
        """What the feed-forward adds. The folded weights expect twice ONNX's GELU."""
        up, down = scales.get("up"), scales.get("down")
        if self.config.mlp_layer in ("gelu", "gelu-tanh"):
            approximate = "tanh" if self.config.mlp_layer == "gelu-tanh" else "none"
            hidden = self.op("Gelu", self.linear(normed, mlp.up_weight, mlp.up_bias, up), approximate=approximate)
            how = down.halved() if isinstance(down, Scale) else down
            return self.linear(hidden, 2 * mlp.down_weight, mlp.down_bias, how)
        # h (1 + tanh h) = g sigmoid(g) with g = 2 h
        gates, values = slice(0, len(mlp.down_weight)), slice(len(mlp.down_weight), None)
        gate = self.linear(normed, 2 * mlp.up_weight[:, gates], 2 * mlp.up_bias[gates], up)
        hidden = self.op("Mul", gate, self.op("Sigmoid", gate))
        if self.config.mlp_layer == "swiglu":
            hidden = self.op("Mul", hidden, self.linear(normed, mlp.up_weight[:, values], mlp.up_bias[values], up))
        return self.linear(hidden, mlp.down_weight, mlp.down_bias, down)

    def _attend(self, block: FoldedBlock, normed: str, scales: Scales = FLOAT) -> tuple[str, str, str]:
        """What all heads mix, (B, N, D), and the queries and keys that it came from."""
        width, heads, head_dim = self.config.embed_dim, self.config.num_heads, self.config.head_dim
        how = scales.get("qkv")
        query, key = self._query(block, normed, how), self._key(block, normed, how)
        value = self.linear(normed, block.qkv_weight[:, 2 * width :], None, how)
        if self.fused_attention:
            if self.turning is not None:
                query, key = (self.reshape(part, 0, 0, width) for part in (query, key))
            bias = [] if self.sizes is None else ["", "", log_sizes(self, self.sizes, rows=self.patches_and_prefix)]
            mixed = self.op(
                "MultiHeadAttention", query, key, value, *bias, domain=CONTRIB, num_heads=heads, scale=1.0
            )  # (B, N, D)
            return mixed, query, key
        asked, seen, given = (self.reshape(part, 0, 0, heads, head_dim) for part in (query, key, value))
        scores = self.op("MatMul", self.turn(asked, 0, 2, 1, 3), self.turn(seen, 0, 2, 3, 1))  # (B, H, N, N)
        if self.sizes is not None:
            scores = self.op("Add", scores, log_sizes(self, self.sizes))
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), self.turn(given, 0, 2, 1, 3))  # (B, H, N, d)
        return self.reshape(self.turn(mixed, 0, 2, 1, 3), 0, 0, width), query, key

    @property
    def patches_and_prefix(self) -> int:
        """How many tokens are left."""
        return self.config.num_prefix_tokens + self.patches

    def _query(self, block: FoldedBlock, normed: str, how: How | None) -> str:
        width = self.config.embed_dim
        weight, bias = self._halves(block.qkv_weight[:, :width]), self._halves(block.qk_bias[None, :width])[0]
        return self._turned(self.linear(normed, weight, bias, how))

    def _key(self, block: FoldedBlock, normed: str, how: How | None = None) -> str:
        width = self.config.embed_dim
        weight = self._halves(block.qkv_weight[:, width : 2 * width])
        bias = None if self.turning is None else self._halves(block.qk_bias[None, width:])[0]
        return self._turned(self.linear(normed, weight, bias, how))

    def _turning(self, rotation: NDArray[np.complexfloating]) -> tuple[str, str]:
        """Cos and sin of each token's angles, (N, 1, d / 2) each: prefix tokens do not turn."""
        still = np.ones((self.config.num_prefix_tokens, rotation.shape[1]), rotation.dtype)
        turns = np.concatenate([still, rotation])[:, None]
        return self.constant(turns.real), self.constant(turns.imag)

    def _turned(self, x: str) -> str:
        """Queries or keys, (B, N, D) -> (B, N, H, d), turned by rotary positions; without such as they are."""
        if self.turning is None:
            return x
        cos, sin = self.turning
        x = self.reshape(x, 0, 0, self.config.num_heads, self.config.head_dim)
        half = self.config.head_dim // 2
        axis = np.array([3], np.int64)
        first, second = (
            self.op("Slice", x, np.array([start], np.int64), np.array([start + half], np.int64), axis)
            for start in (0, half)
        )
        left = self.op("Sub", self.op("Mul", first, cos), self.op("Mul", second, sin))
        right = self.op("Add", self.op("Mul", second, cos), self.op("Mul", first, sin))
        return self.op("Concat", left, right, axis=-1)

    def _halves(self, columns: Array) -> Array:
        """Undo the folded order of rotary channels: pairs side by side become two halves of a head."""
        if self.turning is None:
            return columns
        pairs = columns.reshape(len(columns), self.config.num_heads, self.config.head_dim // 2, 2)
        return pairs.swapaxes(2, 3).reshape(columns.shape)

    def _last_block(self, block: FoldedBlock, x: str) -> str:
        """The class token after the last block, (B, D); see ``Pass._finish_first_tokens`` for why it needs no values.

        Without rotary positions it needs no keys either.
        """
        width, heads, head_dim = self.config.embed_dim, self.config.num_heads, self.config.head_dim
        normed = self.normalise(x)  # (B, N, D)
        first = self.reshape(self.rows(normed, 0, 1), -1, width)
        query = self.linear(  # (B, D); it does not turn, but meets keys in halves
            first, self._halves(block.qkv_weight[:, :width]), self._halves(block.qk_bias[None, :width])[0]
        )
        if self.turning is None:
            key_weight = block.qkv_weight[:, width : 2 * width].reshape(width, heads, head_dim).transpose(1, 2, 0)
            by_head = self.turn(self.reshape(query, -1, heads, head_dim), 1, 0, 2)  # (H, B, d)
            asked = self.turn(self.op("MatMul", by_head, key_weight), 1, 0, 2)  # (B, H, D)
            scores = self.op("MatMul", asked, self.turn(normed, 0, 2, 1))  # (B, H, N)
        else:
            keys = self.turn(self._key(block, normed), 0, 2, 3, 1)  # (B, H, d, N)
            by_head = self.reshape(query, -1, heads, 1, head_dim)
            scores = self.reshape(self.op("MatMul", by_head, keys), 0, heads, -1)
        seen = self.op("MatMul", self.op("Softmax", self._weighted(scores), axis=-1), normed)  # (B, H, D)
        value_weight = block.qkv_weight[:, 2 * width :].reshape(width, heads, head_dim).transpose(1, 0, 2)
        mixed = self._project_heads(seen, value_weight)
        token = self.op("Add", self.reshape(self.rows(x, 0, 1), -1, width),
                        self.linear(mixed, block.proj_weight, block.proj_bias))  # fmt: skip
        return self.op("Add", token, self._feed_forward(block.mlp, self.normalise(token)))

    def _weighted(self, scores: str) -> str:
        """Scores of all tokens, (B, H, N), each counting as often as it stands for patches."""
        return scores if self.sizes is None else self.op("Add", scores, log_sizes(self, self.sizes, axes=3))

    def _project_heads(self, seen: str, value_weight: Array) -> str:
        """Each head's average of tokens to its values: (B, H, D) with (H, D, d) to (B, D)."""
        values = self.op("MatMul", self.turn(seen, 1, 0, 2), value_weight)  # (H, B, d)
        return self.reshape(self.turn(values, 1, 0, 2), -1, self.config.embed_dim)

    def _pool(self, pool: FoldedPool, tokens: str) -> str:
        """The attention pool, as in :mod:`vitseek.engines.attention_pool`; (B, D)."""
        scores = self.turn(self.linear(tokens, pool.score_weight), 0, 2, 1)  # (B, H, N)
        seen = self.op("MatMul", self.op("Softmax", self._weighted(scores), axis=-1), tokens)  # (B, H, D)
        values = self.op("Add", self._project_heads(seen, pool.value_weight), pool.value_bias)
        pooled = self.linear(values, pool.proj_weight, pool.proj_bias)
        return self.op("Add", pooled, self._feed_forward(pool.mlp, self.normalise(pooled)))
