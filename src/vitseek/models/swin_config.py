"""What decides the shape of a Swin Transformer: a frozen description, the paper's sizes, the parameters they imply."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from vitseek.errors import ConfigError
from vitseek.models.fields import check_count, check_fields

MERGED = 4  # tokens that patch merging puts into one, of twice their width
MAX_STAGES = 8
MAX_BLOCKS = 1000  # of all stages; the largest published has 24. More is a damaged description, and takes all memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """The shape of a Swin Transformer (Liu et al., 2021).

    Parameters
    ----------
    embed_dim
        Width C of a token in the first stage; every later stage doubles it.
    depths
        Blocks of each stage; even ones have plain windows, odd ones shifted windows.
    num_heads
        Attention heads of each stage; they split its width evenly.
    window_size
        Side of a window in tokens.
    patch_size
        Side of a square patch in pixels.
    img_size
        (height, width) in pixels that the model was trained for. No parameter depends on it: any size works, and what
        is no multiple of patches, windows or pairs is padded with zeros.
    mlp_ratio
        Width of the feed-forward layer as a multiple of the token's.
    qkv_bias
        Whether query, key and value have biases.
    num_classes
        Outputs of the classification head, which sees the mean of all tokens; 0 for none.
    norm_eps
        Added to the variance in the LayerNorms of blocks and in the last one. Those behind the patch projection and
        before each merging always have :data:`vitseek.models.swin.MERGE_EPS`.

    Raises
    ------
    ConfigError
        If the values contradict each other.
    """

    architecture: ClassVar[str] = "swin"
    # What a plain Vision Transformer may have and Swin has not; see ViTConfig.
    class_token: ClassVar[bool] = False
    num_prefix_tokens: ClassVar[int] = 0
    num_registers: ClassVar[int] = 0
    attention_pool: ClassVar[bool] = False
    embedding_dim: ClassVar[int] = 0

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int = 7
    patch_size: int = 4
    img_size: tuple[int, int] = (224, 224)
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    num_classes: int = 0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name, least in (("embed_dim", 1), ("window_size", 2), ("patch_size", 1), ("num_classes", 0)):
            check_count(name, getattr(self, name), least=least)
        for name in ("depths", "num_heads", "img_size"):
            for value in getattr(self, name):
                check_count(name, value, least=1)
        if not 1 <= len(self.depths) <= MAX_STAGES:
            raise ConfigError(f"depths lists {len(self.depths)} stages, wanted 1 to {MAX_STAGES}")
        if self.depth > MAX_BLOCKS:
            raise ConfigError(f"depths asks for {self.depth} blocks, more than {MAX_BLOCKS}")
        if len(self.depths) != len(self.num_heads):
            raise ConfigError(
                f"depths has {len(self.depths)} stages and num_heads {len(self.num_heads)}: one number for each stage"
            )
        if len(self.img_size) != 2:
            raise ConfigError(f"img_size must be (height, width) in pixels, not {self.img_size!r}")
        for stage, heads in enumerate(self.num_heads):
            if self.width(stage) % heads:
                raise ConfigError(f"stage {stage} is {self.width(stage)} wide, which {heads} heads cannot split evenly")
        for name in ("mlp_ratio", "norm_eps"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise ConfigError(f"{name} must be a positive number, not {value!r}")
        if not isinstance(self.qkv_bias, bool):
            raise ConfigError(f"qkv_bias must be true or false, not {self.qkv_bias!r}")
        if self.mlp_width(0) < 1:
            raise ConfigError(
                f"mlp_ratio {self.mlp_ratio} leaves no channel for a feed-forward of width {self.embed_dim}"
            )

    @property
    def depth(self) -> int:
        """Blocks of all stages together."""
        return sum(self.depths)

    @property
    def num_features(self) -> int:
        """Width of a token behind the last stage: the length of a feature vector."""
        return self.width(len(self.depths) - 1)

    def width(self, stage: int) -> int:
        """Width of a token in a stage."""
        return self.embed_dim << stage

    def mlp_width(self, stage: int) -> int:
        """Width of the feed-forward layer in a stage."""
        return int(self.mlp_ratio * self.width(stage))

    def blocks(self) -> list[tuple[int, int]]:
        """(stage, place in the stage) of every block, in order."""
        return [(stage, place) for stage, depth in enumerate(self.depths) for place in range(depth)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; :meth:`from_dict` reads them back."""
        values = dataclasses.asdict(self)
        lists = {name: list(values[name]) for name in _TUPLES}
        return {"architecture": self.architecture, **values, **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SwinConfig:
        """Build a config from :meth:`to_dict`'s output; its ``"architecture"`` may be left out.

        Raises
        ------
        ConfigError
            If a field is unknown, missing or of another kind.
        """
        values = dict(values)
        if (named := values.pop("architecture", cls.architecture)) != cls.architecture:
            raise ConfigError(f"architecture {named!r} is not {cls.architecture!r}")
        check_fields(cls, values, what="Swin config")
        for name in _TUPLES:
            if name in values and not isinstance(values[name], list | tuple):
                raise ConfigError(f"{name} must be a list of numbers, not {values[name]!r}")
        fixed: dict[str, Any] = {name: tuple(value) if name in _TUPLES else value for name, value in values.items()}
        return cls(**fixed)


_TUPLES = ("depths", "num_heads", "img_size")


# Section 3.3 of the paper. Window and image size belong to a checkpoint: 7 tokens at 224 px, 12 at 384 px.
VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "swin_tiny": MappingProxyType({"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}),
        "swin_small": MappingProxyType({"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)}),
        "swin_base": MappingProxyType({"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)}),
        "swin_large": MappingProxyType({"embed_dim": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)}),
    }
)


def swin_parameter_shapes(config: SwinConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every parameter, under timm's names: the one truth for loading and for tests.

    Linear weights are (out, in), as in PyTorch. As in timm from release 0.9 on, merging belongs to the stage behind it
    (``layers.1.downsample`` leads from stage 0 to stage 1) and the classifier is ``head.fc``.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    patch, first = config.patch_size, config.embed_dim
    shapes.update(_linear_or_norm("patch_embed.proj", first, 3, patch, patch))
    shapes.update(_linear_or_norm("patch_embed.norm", first))
    for stage, depth in enumerate(config.depths):
        width, hidden = config.width(stage), config.mlp_width(stage)
        if stage:
            before = MERGED * config.width(stage - 1)
            shapes.update(_linear_or_norm(f"layers.{stage}.downsample.norm", before))
            shapes.update(_linear_or_norm(f"layers.{stage}.downsample.reduction", width, before, bias=False))
        for place in range(depth):
            block = block_name(stage, place)
            shapes.update(_linear_or_norm(f"{block}.norm1", width))
            distances = (2 * config.window_size - 1) ** 2
            shapes[f"{block}.attn.relative_position_bias_table"] = (distances, config.num_heads[stage])
            shapes.update(_linear_or_norm(f"{block}.attn.qkv", 3 * width, width, bias=config.qkv_bias))
            shapes.update(_linear_or_norm(f"{block}.attn.proj", width, width))
            shapes.update(_linear_or_norm(f"{block}.norm2", width))
            shapes.update(_linear_or_norm(f"{block}.mlp.fc1", hidden, width))
            shapes.update(_linear_or_norm(f"{block}.mlp.fc2", width, hidden))
    shapes.update(_linear_or_norm("norm", config.num_features))
    if config.num_classes:
        shapes.update(_linear_or_norm("head.fc", config.num_classes, config.num_features))
    return shapes


def block_name(stage: int, place: int) -> str:
    """What timm calls a block."""
    return f"layers.{stage}.blocks.{place}"


def _linear_or_norm(name: str, *weight_shape: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": weight_shape}
    if bias:
        shapes[f"{name}.bias"] = weight_shape[:1]
    return shapes
