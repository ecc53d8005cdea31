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
from collections.abc import Mapping
from typing import Any, Literal, get_args

from vitseek.errors import ConfigError

TextMlpLayer = Literal["gelu", "quick-gelu", "gelu-tanh"]
TextPooling = Literal["eos", "largest", "last", "first"]


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
    eos_token_id
        Number of the token that ends a text; ``[SEP]`` in BERT.
    pad_token_id
        Number of the token that fills up a row.
    attend_padding
        Whether padding is read like words, so that every row must have the full length (SigLIP).

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
    eos_token_id: int
    pad_token_id: int
    attend_padding: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "width", "depth", "num_heads"):
            _check_count(name, getattr(self, name), least=1)
        for name in ("token_types", "embedding_dim", "eos_token_id", "pad_token_id"):
            _check_count(name, getattr(self, name), least=0)
        if self.hidden_dim is not None:
            _check_count("hidden_dim", self.hidden_dim, least=1)
        for name in ("causal", "norm_first", "embed_norm", "projection_bias", "attend_padding"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"text: {name} must be true or false, not {getattr(self, name)!r}")
        for name, choices in (("mlp_layer", TextMlpLayer), ("pooling", TextPooling)):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ConfigError(f"text: {name} must be one of {known}, not {getattr(self, name)!r}")
        if self.width % self.num_heads:
            raise ConfigError(f"text: width {self.width} does not split over {self.num_heads} heads: choose a multiple")
        for name in ("eos_token_id", "pad_token_id"):
            if getattr(self, name) >= self.vocab_size:
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
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise ConfigError(
                f"unknown text config fields: {', '.join(unknown)} (known: {', '.join(fields)}). "
                "The file may come from a newer vitseek: upgrade, or remove the fields"
            )
        required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
        if missing := sorted(set(required) - set(values)):
            raise ConfigError(f"text config lacks: {', '.join(missing)}")
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


def _with_bias(name: str, *weight_shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight_shape, f"{name}.bias": weight_shape[:1]}


def _check_count(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"text: {name} must be a whole number of at least {least}, not {value!r}")
