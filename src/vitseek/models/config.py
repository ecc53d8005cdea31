"""What decides the shape of a Vision Transformer: one frozen description, named sizes, the parameters they imply."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from vitseek.errors import ConfigError
from vitseek.models.fields import check_count, check_fields

MlpLayer = Literal["gelu", "quick-gelu", "gelu-tanh", "swiglu"]
NormLayer = Literal["layernorm", "rmsnorm"]
PosEmbed = Literal["learned", "rope", "none"]
HeadInput = Literal["cls", "cls+patch-mean", "patch-mean"]
PosResize = Literal["bicubic", "bicubic-offset", "bicubic-antialias", "bilinear-antialias"]

ROPE_AXES = 2  # a rotary embedding turns pairs of channels by the row and by the column


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
    class_token
        Whether a class token comes before the patches; SigLIP, AIMv2 and I-JEPA have none.
    num_registers
        Register tokens between the class token and the patches (timm: ``reg_tokens``); they have no position.
    distilled
        DeiT's distillation token after the class token; with classes, its own head ``head_dist``.
    patch_bias
        Whether the patch projection has a bias (CLIP: no).
    patch_norm
        Whether patches are normalised before positions are added (AIMv2; timm: ``patch_embed.norm``).
    pre_norm
        Whether tokens are normalised after positions were added, before the blocks (CLIP; timm: ``norm_pre``).
    pos_embed
        ``"learned"``: a vector per patch, added once. ``"rope"``: in every block, queries and keys of patches are
        turned by angles that grow with row and column (DINOv3). ``"none"``: no positions.
    pos_resize
        How a learned position grid is resized: ``"bicubic"`` to the wanted size (transformers' ViT, DeiT, DINOv2, CLIP,
        SigLIP), ``"bicubic-offset"`` by the factor (size + 0.1) / grid (facebookresearch's DINO and DINOv2),
        ``"bicubic-antialias"`` (DINOv2 with registers), or ``"bilinear-antialias"`` (SigLIP 2 at native resolution).
    rope_theta
        With ``"rope"``: the base of the geometric series of its frequencies; the slowest turns by 1 / base.
    norm_layer
        ``"layernorm"``, or ``"rmsnorm"``, which neither centres nor shifts (AIMv2).
    norm_eps
        Added to the variance, or mean square, in every norm.
    qkv_bias, proj_bias, mlp_bias
        Whether query, key and value have biases; whether the projection behind attention has one; whether the layers
        of the feed-forward have some.
    mlp_layer
        ``"gelu"`` (the paper's), ``"quick-gelu"``: x / (1 + exp(-1.702 x)) (OpenAI's CLIP), ``"gelu-tanh"``: the
        approximation through tanh (SigLIP), or ``"swiglu"`` (DINOv2 giant, some DINOv3, AIMv2).
    layer_scale
        Whether each branch is scaled by a learned vector before it is added (CaiT, DINOv2).
    attention_pool
        Whether a learned query, by attention over all tokens and a feed-forward, makes the image's embedding (SigLIP).
    embedding_dim
        Length of the joint embedding of images and texts, where a projection without bias leads to it (CLIP); 0 for no
        projection.
    num_classes
        Outputs of the classification head; 0 for none.
    head_input
        What the head sees: the class token, the class token followed by the patch mean (transformers'
        ``Dinov2ForImageClassification``), or the patch mean (SigLIP, I-JEPA).

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
    class_token: bool = True
    num_registers: int = 0
    distilled: bool = False
    patch_bias: bool = True
    patch_norm: bool = False
    pre_norm: bool = False
    pos_embed: PosEmbed = "learned"
    pos_resize: PosResize = "bicubic"
    rope_theta: float = 100.0
    norm_layer: NormLayer = "layernorm"
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    proj_bias: bool = True
    mlp_bias: bool = True
    mlp_layer: MlpLayer = "gelu"
    layer_scale: bool = False
    attention_pool: bool = False
    embedding_dim: int = 0
    num_classes: int = 0
    head_input: HeadInput = "cls"

    def __post_init__(self) -> None:
        for name in ("embed_dim", "depth", "num_heads", "patch_size"):
            check_count(name, getattr(self, name), least=1)
        for name in ("num_registers", "embedding_dim", "num_classes"):
            check_count(name, getattr(self, name), least=0)
        if self.hidden_dim is not None:
            check_count("hidden_dim", self.hidden_dim, least=1)
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, not {getattr(self, name)!r}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if self.embed_dim % self.num_heads:
            raise ConfigError(
                f"embed_dim {self.embed_dim} cannot be split over {self.num_heads} heads: choose a multiple"
            )
        if len(self.img_size) != 2:
            raise ConfigError(f"img_size must be (height, width) in pixels, not {self.img_size!r}")
        for side_px in self.img_size:
            check_count("img_size", side_px, least=1)
            if side_px % self.patch_size:
                raise ConfigError(f"img_size {self.img_size} px is not a whole number of {self.patch_size} px patches")
        if not self.norm_eps > 0:
            raise ConfigError(f"norm_eps must be positive, not {self.norm_eps}")
        self._check_tokens()
        self._check_positions()
        if self.attention_pool and self.mlp_layer == "swiglu":
            raise ConfigError("attention_pool has a feed-forward of two layers: mlp_layer 'swiglu' does not go with it")

    def _check_tokens(self) -> None:
        if self.class_token:
            return
        if self.distilled:
            raise ConfigError("distilled adds a token beside the class token: it needs class_token")
        if self.num_classes and self.head_input != "patch-mean":
            raise ConfigError(
                f"head_input {self.head_input!r} needs a class token, and class_token is off: use 'patch-mean'"
            )
        if self.embedding_dim and not self.attention_pool:
            raise ConfigError("embedding_dim projects the class token or the attention pool: this model has neither")

    def _check_positions(self) -> None:
        default = ViTConfig.pos_resize
        if self.pos_embed != "learned" and self.pos_resize != default:
            raise ConfigError(
                f"pos_resize {self.pos_resize!r} resizes learned positions, and pos_embed is {self.pos_embed!r}: "
                f"leave it at {default!r}"
            )
        if not self.rope_theta > 0:
            raise ConfigError(f"rope_theta must be positive, not {self.rope_theta}")
        if self.pos_embed != "rope" and self.rope_theta != ViTConfig.rope_theta:
            raise ConfigError(f"rope_theta {self.rope_theta} has no use with pos_embed {self.pos_embed!r}")
        if self.pos_embed == "rope" and self.head_dim % (2 * ROPE_AXES):
            raise ConfigError(
                f"rotary positions turn pairs of channels by row and by column: heads of {self.head_dim} channels "
                f"do not divide by {2 * ROPE_AXES}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches that ``pos_embed`` was trained for."""
        return self.img_size[0] // self.patch_size, self.img_size[1] // self.patch_size

    @property
    def num_features(self) -> int:
        """Width of the tokens that come out; the same as of those inside, unlike in models that merge patches."""
        return self.embed_dim

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
        """Tokens before the first patch: class, distillation, registers; 0 where there is none."""
        return self.num_position_prefix + self.num_registers

    @property
    def num_position_prefix(self) -> int:
        """Prefix tokens that have a position: class and distillation; registers have none."""
        return self.class_token + self.distilled

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
        check_fields(cls, values, what="model config")
        size = values["img_size"]
        if not isinstance(size, list | tuple):
            raise ConfigError(f"img_size must be [height, width] in pixels, not {size!r}")
        return cls(**{**values, "img_size": tuple(size)})


_FLAGS = (
    "class_token", "distilled", "patch_bias", "patch_norm", "pre_norm", "qkv_bias", "proj_bias", "mlp_bias",
    "layer_scale", "attention_pool",
)  # fmt: skip
_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mlp_layer": get_args(MlpLayer),
        "norm_layer": get_args(NormLayer),
        "pos_embed": get_args(PosEmbed),
        "pos_resize": get_args(PosResize),
        "head_input": get_args(HeadInput),
    }
)


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
    width, patch = config.embed_dim, config.patch_size
    rows, columns = config.grid
    shapes: dict[str, tuple[int, ...]] = {}
    if config.class_token:
        shapes["cls_token"] = (1, 1, width)
    if config.distilled:
        shapes["dist_token"] = (1, 1, width)
    if config.num_registers:
        shapes["reg_token"] = (1, config.num_registers, width)
    if config.pos_embed == "learned":
        shapes["pos_embed"] = (1, config.num_position_prefix + rows * columns, width)
    shapes.update(_linear("patch_embed.proj", width, 3, patch, patch, bias=config.patch_bias))
    if config.patch_norm:
        shapes.update(_norm("patch_embed.norm", config))
    if config.pre_norm:
        shapes.update(_norm("norm_pre", config))
    for index in range(config.depth):
        shapes.update(_block_shapes(f"blocks.{index}", config))
    shapes.update(_norm("norm", config))
    if config.attention_pool:
        shapes.update(_attention_pool_shapes(config))
    if config.embedding_dim:
        shapes.update(_linear("projection", config.embedding_dim, width, bias=False))
    if config.num_classes:
        head_width = 2 * width if config.head_input == "cls+patch-mean" else width
        shapes.update(_linear("head", config.num_classes, head_width))
        if config.distilled:
            shapes.update(_linear("head_dist", config.num_classes, head_width))
    return shapes


def _block_shapes(block: str, config: ViTConfig) -> dict[str, tuple[int, ...]]:
    width, hidden = config.embed_dim, config.mlp_dim
    shapes = _norm(f"{block}.norm1", config)
    shapes.update(_linear(f"{block}.attn.qkv", 3 * width, width, bias=config.qkv_bias))
    shapes.update(_linear(f"{block}.attn.proj", width, width, bias=config.proj_bias))
    if config.layer_scale:
        shapes[f"{block}.ls1.gamma"] = (width,)
    shapes.update(_norm(f"{block}.norm2", config))
    if config.mlp_layer == "swiglu":
        shapes.update(_linear(f"{block}.mlp.w12", 2 * hidden, width, bias=config.mlp_bias))
        shapes.update(_linear(f"{block}.mlp.w3", width, hidden, bias=config.mlp_bias))
    else:
        shapes.update(_linear(f"{block}.mlp.fc1", hidden, width, bias=config.mlp_bias))
        shapes.update(_linear(f"{block}.mlp.fc2", width, hidden, bias=config.mlp_bias))
    if config.layer_scale:
        shapes[f"{block}.ls2.gamma"] = (width,)
    return shapes


def _attention_pool_shapes(config: ViTConfig) -> dict[str, tuple[int, ...]]:
    width, hidden = config.embed_dim, config.mlp_dim
    return {
        "attn_pool.latent": (1, 1, width),
        **_linear("attn_pool.q", width, width),
        **_linear("attn_pool.kv", 2 * width, width),
        **_linear("attn_pool.proj", width, width),
        **_norm("attn_pool.norm", config),
        **_linear("attn_pool.mlp.fc1", hidden, width),
        **_linear("attn_pool.mlp.fc2", width, hidden),
    }


def _linear(name: str, *weight_shape: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": weight_shape}
    if bias:
        shapes[f"{name}.bias"] = weight_shape[:1]
    return shapes


def _norm(name: str, config: ViTConfig) -> dict[str, tuple[int, ...]]:
    return _linear(name, config.embed_dim, bias=config.norm_layer == "layernorm")
