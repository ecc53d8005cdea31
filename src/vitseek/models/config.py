"""What decides the shape of a Vision Transformer: one frozen description, named sizes, the parameters they imply."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from vitseek.errors import ConfigError

MlpLayer = Literal["gelu", "swiglu"]
HeadInput = Literal["cls", "cls+patch-mean"]
PosResize = Literal["bicubic", "bicubic-offset", "bicubic-antialias"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """The shape of a plain Vision Transformer and the few rules in which its families differ.

    Parameters
    ----------
    embed_dim
        Width D of a token.
    depth
        Number of blocks.
    num_heads
        Attention heads; they split the width evenly.
    patch_size
        Side of a square patch in pixels.
    img_size
        (height, width) in pixels of the grid that ``pos_embed`` was trained for; 518 px for DINOv2. Any other multiple
        of the patch works: the grid is resized.
    hidden_dim
        Width of the feed-forward layer. ``None`` stands for 4 * embed_dim, or with ``swiglu`` for what DINOv2 makes of
        that: two thirds of it, rounded up to a multiple of 8. With ``swiglu`` it is the input width of ``w3``.
    mlp_layer
        ``"gelu"`` (the paper's) or ``"swiglu"`` (DINOv2 giant).
    qkv_bias
        Whether query, key and value have biases.
    layer_scale
        Whether each branch is scaled by a learned vector before it is added (CaiT, DINOv2).
    num_registers
        Register tokens between the class token and the patches (timm: ``reg_tokens``); they have no position.
    distilled
        DeiT's distillation token after the class token; with classes, its own head ``head_dist``.
    num_classes
        Outputs of the classification head; 0 for none.
    head_input
        What the head sees: the class token, or the class token followed by the patch mean (transformers'
        ``Dinov2ForImageClassification``).
    pos_resize
        How the position grid is resized: ``"bicubic"`` to the wanted size (transformers' ViT, DeiT, DINOv2),
        ``"bicubic-offset"`` by the factor (size + 0.1) / grid (facebookresearch's DINO and DINOv2), or
        ``"bicubic-antialias"`` (DINOv2 with registers).
    norm_eps
        Added to the variance in every LayerNorm.

    Raises
    ------
    ConfigError
        If the values contradict each other.
    """

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int
    img_size: tuple[int, int]
    hidden_dim: int | None = None
    mlp_layer: MlpLayer = "gelu"
    qkv_bias: bool = True
    layer_scale: bool = False
    num_registers: int = 0
    distilled: bool = False
    num_classes: int = 0
    head_input: HeadInput = "cls"
    pos_resize: PosResize = "bicubic"
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("embed_dim", "depth", "num_heads", "patch_size"):
            _check_count(name, getattr(self, name), least=1)
        for name in ("num_registers", "num_classes"):
            _check_count(name, getattr(self, name), least=0)
        if self.hidden_dim is not None:
            _check_count("hidden_dim", self.hidden_dim, least=1)
        for name, choices in (("mlp_layer", MlpLayer), ("head_input", HeadInput), ("pos_resize", PosResize)):
            if getattr(self, name) not in get_args(choices):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(choices))}, not {getattr(self, name)!r}")
        if self.embed_dim % self.num_heads:
            raise ConfigError(
                f"embed_dim {self.embed_dim} cannot be split over {self.num_heads} heads: choose a multiple"
            )
        if len(self.img_size) != 2:
            raise ConfigError(f"img_size must be (height, width) in pixels, not {self.img_size!r}")
        for side_px in self.img_size:
            _check_count("img_size", side_px, least=1)
            if side_px % self.patch_size:
                raise ConfigError(f"img_size {self.img_size} px is not a whole number of {self.patch_size} px patches")
        if not self.norm_eps > 0:
            raise ConfigError(f"norm_eps must be positive, not {self.norm_eps}")

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches that ``pos_embed`` was trained for."""
        return self.img_size[0] // self.patch_size, self.img_size[1] // self.patch_size

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.embed_dim // self.num_heads

    @property
    def mlp_dim(self) -> int:
        """``hidden_dim`` with its default worked out."""
        if self.hidden_dim is not None:
            return self.hidden_dim
        if self.mlp_layer == "swiglu":
            return (4 * self.embed_dim * 2 // 3 + 7) // 8 * 8
        return 4 * self.embed_dim

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the first patch: class, distillation, registers."""
        return self.num_position_prefix + self.num_registers

    @property
    def num_position_prefix(self) -> int:
        """Prefix tokens that have a position: class and distillation; registers have none."""
        return 2 if self.distilled else 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; :meth:`from_dict` reads them back."""
        return {**dataclasses.asdict(self), "img_size": list(self.img_size)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ViTConfig:
        """Build a config from :meth:`to_dict`'s output.

        Raises
        ------
        ConfigError
            If a field is unknown or missing: a file from a newer version must not be half understood.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise ConfigError(
                f"unknown model config fields: {', '.join(unknown)} (known: {', '.join(fields)}). "
                "The file may come from a newer vitseek: upgrade, or remove the fields"
            )
        required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
        if missing := sorted(set(required) - set(values)):
            raise ConfigError(f"model config lacks: {', '.join(missing)}")
        size = values["img_size"]
        if not isinstance(size, list | tuple):
            raise ConfigError(f"img_size must be [height, width] in pixels, not {size!r}")
        return cls(**{**values, "img_size": tuple(size)})


def _check_count(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")


# Width, depth and heads: tiny and small from DeiT, base to huge from ViT, giant from DINOv2. Patch and image size
# belong to a checkpoint, not to a size: ViTConfig(**VARIANTS["vit_base"], patch_size=14, img_size=(518, 518)).
VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "vit_tiny": MappingProxyType({"embed_dim": 192, "depth": 12, "num_heads": 3}),
        "vit_small": MappingProxyType({"embed_dim": 384, "depth": 12, "num_heads": 6}),
        "vit_base": MappingProxyType({"embed_dim": 768, "depth": 12, "num_heads": 12}),
        "vit_large": MappingProxyType({"embed_dim": 1024, "depth": 24, "num_heads": 16}),
        "vit_huge": MappingProxyType({"embed_dim": 1280, "depth": 32, "num_heads": 16}),
        "vit_giant": MappingProxyType({"embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_layer": "swiglu"}),
    }
)


def parameter_shapes(config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every parameter, under timm's names: the one truth for loading and for tests.

    Linear weights are (out, in), as in PyTorch. The SwiGLU layer keeps facebookresearch's names ``w12`` (gate over
    value) and ``w3``.
    """
    width, hidden, patch = config.embed_dim, config.mlp_dim, config.patch_size
    rows, columns = config.grid
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, width)}
    if config.distilled:
        shapes["dist_token"] = (1, 1, width)
    if config.num_registers:
        shapes["reg_token"] = (1, config.num_registers, width)
    shapes["pos_embed"] = (1, config.num_position_prefix + rows * columns, width)
    shapes["patch_embed.proj.weight"] = (width, 3, patch, patch)
    shapes["patch_embed.proj.bias"] = (width,)
    for index in range(config.depth):
        block = f"blocks.{index}"
        shapes.update(_linear_or_norm(f"{block}.norm1", width))
        shapes.update(_linear_or_norm(f"{block}.attn.qkv", 3 * width, width, bias=config.qkv_bias))
        shapes.update(_linear_or_norm(f"{block}.attn.proj", width, width))
        if config.layer_scale:
            shapes[f"{block}.ls1.gamma"] = (width,)
        shapes.update(_linear_or_norm(f"{block}.norm2", width))
        if config.mlp_layer == "swiglu":
            shapes.update(_linear_or_norm(f"{block}.mlp.w12", 2 * hidden, width))
            shapes.update(_linear_or_norm(f"{block}.mlp.w3", width, hidden))
        else:
            shapes.update(_linear_or_norm(f"{block}.mlp.fc1", hidden, width))
            shapes.update(_linear_or_norm(f"{block}.mlp.fc2", width, hidden))
        if config.layer_scale:
            shapes[f"{block}.ls2.gamma"] = (width,)
    shapes.update(_linear_or_norm("norm", width))
    if config.num_classes:
        head_width = 2 * width if config.head_input == "cls+patch-mean" else width
        shapes.update(_linear_or_norm("head", config.num_classes, head_width))
        if config.distilled:
            shapes.update(_linear_or_norm("head_dist", config.num_classes, head_width))
    return shapes


def _linear_or_norm(name: str, *weight_shape: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": weight_shape}
    if bias:
        shapes[f"{name}.bias"] = weight_shape[:1]
    return shapes
