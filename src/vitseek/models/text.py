"""Text towers, read from top to bottom as in their papers: CLIP, SigLIP, BERT (Chinese-CLIP), one forward pass.

They differ in the mask (CLIP sees only what came before, SigLIP and BERT see everything), in where the LayerNorms stand
(before each branch, or after it in BERT), in which token speaks for the text, and in the projection;
:class:`TextConfig` says which. This is the reference: the engine (:mod:`vitseek.engines.text_engine`) computes the same
faster and is tested against it.

Papers: "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al., 2021), "Sigmoid Loss
for Language Image Pre-Training" (Zhai et al., 2023), "BERT" (Devlin et al., 2019), "Chinese CLIP" (Yang et al., 2022).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import ConfigError, ShapeError, UsageError
from vitseek.models.fields import check_count, check_fields
from vitseek.nn.activations import gelu, gelu_tanh, quick_gelu, softmax
from vitseek.nn.attention import split_heads
from vitseek.nn.layers import layer_norm, linear

Array = NDArray[np.floating]
Params = Mapping[str, Array]
Stages = Callable[[str, Array], None]
Ids = NDArray[np.integer]

TextMlpLayer = Literal["gelu", "quick-gelu", "gelu-tanh"]
TextPooling = Literal["eos", "largest", "last", "first"]
TextCleaning = Literal["none", "lower", "canonical"]

ACTIVATIONS: Mapping[TextMlpLayer, Callable[[Array], Array]] = {
    "gelu": gelu, "quick-gelu": quick_gelu, "gelu-tanh": gelu_tanh,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The shape of a text tower and the few rules in which its families differ.

    Parameters
    ----------
    vocab_size
        Tokens that have an embedding.
    context_length
        Positions that have an embedding: the longest text in tokens, special tokens included.
    width
        Width of a token.
    depth
        Number of blocks.
    num_heads
        Attention heads; they split the width evenly.
    hidden_dim
        Width of the feed-forward layer; ``None`` stands for 4 * width.
    mlp_layer
        ``"gelu"`` (exact), ``"quick-gelu"`` (OpenAI's CLIP) or ``"gelu-tanh"`` (SigLIP).
    causal
        Whether a token sees only itself and those before it (CLIP).
    norm_first
        Whether LayerNorm stands before each branch (CLIP, SigLIP; one more at the end) or after it (BERT; none more).
    embed_norm
        Whether the sum of embeddings is normalised (BERT).
    token_types
        Segment embeddings; every token of a query is of segment 0 (BERT: 2). 0 for none.
    pooling
        Which token speaks for the text: ``"eos"``, the first end-of-text token; ``"largest"``, the largest number,
        which is the end-of-text token in CLIP's vocabulary (OpenAI's own rule); ``"last"``, the last position, padding
        included (SigLIP); ``"first"``, the class token (BERT).
    embedding_dim
        Length of the joint embedding that the pooled token is projected to; 0 for no projection.
    projection_bias
        Whether the projection has a bias (SigLIP).
    norm_eps
        Added to the variance in every LayerNorm.
    bos_token_id
        Number of the token that a text begins with (CLIP; ``[CLS]`` in BERT); ``None`` for none (SigLIP).
    eos_token_id
        Number of the token that ends a text; ``[SEP]`` in BERT.
    pad_token_id
        Number of the token that fills up a row.
    attend_padding
        Whether padding is read like words, so that every row must have the full length (SigLIP).
    cleaning
        What is done to a text before its tokenizer sees it: ``"none"`` (the tokenizer's file says all there is to do),
        ``"lower"`` (SigLIP 2: lower case), ``"canonical"`` (SigLIP: lower case, no ASCII punctuation, single spaces).

    Raises
    ------
    ConfigError
        If the values contradict each other.
    """

    vocab_size: int
    context_length: int
    width: int
    depth: int
    num_heads: int
    hidden_dim: int | None = None
    mlp_layer: TextMlpLayer = "gelu"
    causal: bool = True
    norm_first: bool = True
    embed_norm: bool = False
    token_types: int = 0
    pooling: TextPooling = "eos"
    embedding_dim: int = 0
    projection_bias: bool = False
    norm_eps: float = 1e-5
    bos_token_id: int | None = None
    eos_token_id: int
    pad_token_id: int
    attend_padding: bool = False
    cleaning: TextCleaning = "none"

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "width", "depth", "num_heads"):
            check_count(f"text: {name}", getattr(self, name), least=1)
        for name in ("token_types", "embedding_dim", "eos_token_id", "pad_token_id"):
            check_count(f"text: {name}", getattr(self, name), least=0)
        if self.hidden_dim is not None:
            check_count("text: hidden_dim", self.hidden_dim, least=1)
        if self.bos_token_id is not None:
            check_count("text: bos_token_id", self.bos_token_id, least=0)
        for name in ("causal", "norm_first", "embed_norm", "projection_bias", "attend_padding"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"text: {name} must be true or false, not {getattr(self, name)!r}")
        choices_of = (("mlp_layer", TextMlpLayer), ("pooling", TextPooling), ("cleaning", TextCleaning))
        for name, choices in choices_of:
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ConfigError(f"text: {name} must be one of {known}, not {getattr(self, name)!r}")
        if self.width % self.num_heads:
            raise ConfigError(f"text: width {self.width} does not split over {self.num_heads} heads: choose a multiple")
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if (getattr(self, name) or 0) >= self.vocab_size:
                raise ConfigError(
                    f"text: {name} {getattr(self, name)} is outside the vocabulary of {self.vocab_size} tokens"
                )
        if self.projection_bias and not self.embedding_dim:
            raise ConfigError("text: projection_bias without a projection: give embedding_dim")
        if self.pooling == "last" and not self.attend_padding:
            raise ConfigError('text: pooling "last" reads the last position, so attend_padding must be true')
        if not self.norm_eps > 0:
            raise ConfigError(f"text: norm_eps must be positive, not {self.norm_eps}")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.num_heads

    @property
    def mlp_dim(self) -> int:
        """``hidden_dim`` with its default worked out."""
        return 4 * self.width if self.hidden_dim is None else self.hidden_dim

    @property
    def output_dim(self) -> int:
        """Length of what :func:`encode` returns for a text."""
        return self.embedding_dim or self.width

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; :meth:`from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TextConfig:
        """Build a config from :meth:`to_dict`'s output.

        Raises
        ------
        ConfigError
            If a field is unknown or missing: a file from a newer version must not be half understood.
        """
        check_fields(cls, values, what="text config")
        return cls(**values)


def text_parameter_shapes(config: TextConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every parameter of a text tower: the one truth for loading and for tests.

    Linear weights are (out, in), as in PyTorch; query, key and value are one matrix, in this order.
    """
    width, hidden = config.width, config.mlp_dim
    shapes: dict[str, tuple[int, ...]] = {
        "text.token_embed.weight": (config.vocab_size, width),
        "text.pos_embed": (config.context_length, width),
    }
    if config.token_types:
        shapes["text.token_type_embed.weight"] = (config.token_types, width)
    if config.embed_norm:
        shapes.update(_with_bias("text.norm_embed", width))
    for index in range(config.depth):
        block = f"text.blocks.{index}"
        shapes.update(_with_bias(f"{block}.norm1", width))
        shapes.update(_with_bias(f"{block}.attn.qkv", 3 * width, width))
        shapes.update(_with_bias(f"{block}.attn.proj", width, width))
        shapes.update(_with_bias(f"{block}.norm2", width))
        shapes.update(_with_bias(f"{block}.mlp.fc1", hidden, width))
        shapes.update(_with_bias(f"{block}.mlp.fc2", width, hidden))
    if config.norm_first:
        shapes.update(_with_bias("text.norm", width))
    if config.embedding_dim:
        shapes["text.projection.weight"] = (config.embedding_dim, width)
    if config.projection_bias:
        shapes["text.projection.bias"] = (config.embedding_dim,)
    return shapes


def encode(
    params: Params, config: TextConfig, ids: Ids, mask: Ids | None = None, *, stages: Stages | None = None
) -> Array:
    """Turn token numbers into one embedding a text.

    Parameters
    ----------
    params
        Arrays under the names and shapes of :func:`text_parameter_shapes`; their dtype is the result's.
    ids : shape (B, L)
        Token numbers, special tokens and padding included; L is at most ``config.context_length``.
    mask : shape (B, L)
        1 for tokens, 0 for padding; by default all are tokens. Not looked at where padding is read like words.
    stages
        Called with a name and tokens of shape (B, L, W) after each step: ``"embed"``, ``"block.0"`` …, and ``"norm"``
        where there is a final norm.

    Returns
    -------
    shape (B, config.output_dim), not normalised

    Raises
    ------
    ShapeError
        If ``ids`` or ``mask`` have another shape, or a row is longer than the context.
    UsageError
        If a number is outside the vocabulary, or a text has no end where the end speaks for it.
    """
    check_ids(config, ids)
    visible = visible_keys(config, ids, mask)  # (B, 1, L, L)
    tell = stages or _ignore

    x = embed_tokens(params, config, ids)  # (B, L, W)
    tell("embed", x)
    for index in range(config.depth):
        block = f"text.blocks.{index}"
        if config.norm_first:
            x = x + _attend(params, config, block, _norm(params, config, f"{block}.norm1", x), visible)
            x = x + _feed_forward(params, config, block, _norm(params, config, f"{block}.norm2", x))
        else:
            x = _norm(params, config, f"{block}.norm1", x + _attend(params, config, block, x, visible))
            x = _norm(params, config, f"{block}.norm2", x + _feed_forward(params, config, block, x))
        tell(f"block.{index}", x)
    if config.norm_first:
        x = _norm(params, config, "text.norm", x)
        tell("norm", x)
    pooled: Array = x[np.arange(len(x)), pooled_positions(config, ids)]  # (B, W)
    if not config.embedding_dim:
        return pooled
    return linear(pooled, params["text.projection.weight"], params.get("text.projection.bias"))


def embed_tokens(params: Params, config: TextConfig, ids: Ids) -> Array:
    """Look up tokens and add positions (and BERT's segment 0, and its norm); shape (B, L, W)."""
    x: Array = params["text.token_embed.weight"][ids] + params["text.pos_embed"][: ids.shape[1]]
    if config.token_types:
        x += params["text.token_type_embed.weight"][0]
    return _norm(params, config, "text.norm_embed", x) if config.embed_norm else x


def visible_keys(config: TextConfig, ids: Ids, mask: Ids | None) -> NDArray[np.bool_]:
    """Which keys (last axis) each query sees, shape (B or 1, 1, L, L)."""
    length = ids.shape[1]
    visible = np.ones((1, 1, length, length), dtype=np.bool_)
    if config.causal:
        visible = np.tril(visible)
    if mask is None or config.attend_padding:
        return visible
    if mask.shape != ids.shape:
        raise ShapeError(f"the mask must have the shape of ids, {ids.shape}, not {mask.shape}")
    both: NDArray[np.bool_] = visible & (mask[:, None, None, :] != 0)
    return both


def pooled_positions(config: TextConfig, ids: Ids) -> NDArray[np.intp]:
    """The place of the token that speaks for each text, shape (B,).

    Source: ``CLIPTextModel.forward`` of transformers, which keeps OpenAI's rule, the largest number, for checkpoints
    whose config has the end-of-text number 2, and takes the first end-of-text token otherwise.
    """
    rows, length = ids.shape
    positions: NDArray[np.intp] = np.zeros(rows, dtype=np.intp)
    if config.pooling == "largest":
        positions = ids.argmax(axis=1)
    elif config.pooling == "last":
        positions += length - 1
    elif config.pooling == "eos":
        ends = ids == config.eos_token_id
        if not ends.any(axis=1).all():
            row = int(ends.any(axis=1).argmin())
            raise UsageError(f"text {row} has no end-of-text token {config.eos_token_id}: use the model's tokenizer")
        positions = ends.argmax(axis=1)
    return positions


def check_ids(config: TextConfig, ids: Ids) -> None:
    """Refuse token numbers that this tower cannot read."""
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise ShapeError(f"token numbers must be whole and of shape (batch, length), not {ids.dtype} of {ids.shape}")
    length = ids.shape[1]
    if not 1 <= length <= config.context_length:
        raise ShapeError(f"a text must have 1 to {config.context_length} tokens, not {length}: cut it, keep its end")
    if config.attend_padding and length != config.context_length:
        raise ShapeError(
            f"this model reads padding too: fill every text up to {config.context_length} tokens, not {length}"
        )
    if ids.size and not (ids.min() >= 0 and ids.max() < config.vocab_size):
        raise UsageError(
            f"token numbers must be from 0 to {config.vocab_size - 1}, not {ids.min()} to {ids.max()}: "
            "they come from another model's tokenizer"
        )


def _attend(params: Params, config: TextConfig, block: str, x: Array, visible: NDArray[np.bool_]) -> Array:
    qkv = linear(x, params[f"{block}.attn.qkv.weight"], params[f"{block}.attn.qkv.bias"])  # (B, L, 3 W)
    query, key, value = (split_heads(part, config.num_heads) for part in np.split(qkv, 3, axis=-1))  # (B, H, L, d)
    scores = query @ key.swapaxes(-1, -2)  # (B, H, L, L)
    scores *= scores.dtype.type(1 / math.sqrt(config.head_dim))
    np.copyto(scores, -np.inf, where=~visible)
    mixed = (softmax(scores, out=scores) @ value).swapaxes(1, 2).reshape(x.shape)  # (B, L, W)
    return linear(mixed, params[f"{block}.attn.proj.weight"], params[f"{block}.attn.proj.bias"])


def _feed_forward(params: Params, config: TextConfig, block: str, x: Array) -> Array:
    hidden = linear(x, params[f"{block}.mlp.fc1.weight"], params[f"{block}.mlp.fc1.bias"])  # (B, L, F)
    hidden = ACTIVATIONS[config.mlp_layer](hidden)
    return linear(hidden, params[f"{block}.mlp.fc2.weight"], params[f"{block}.mlp.fc2.bias"])


def _norm(params: Params, config: TextConfig, name: str, x: Array) -> Array:
    return layer_norm(x, params[f"{name}.weight"], params[f"{name}.bias"], eps=config.norm_eps)


def _ignore(name: str, tokens: Array) -> None:
    pass


def _with_bias(name: str, *weight_shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight_shape, f"{name}.bias": weight_shape[:1]}
