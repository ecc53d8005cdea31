"""Small random models of every family, in transformers and in vitseek with the same weights.

Sizes are small, distinct and mostly prime, so that swapped axes cannot pass. Every parameter is random: transformers
starts many of them at 0 or 1 (LayerScale, registers, biases, norms), where a wrong use would not show. The weights go
through a folder on disk, as a downloaded checkpoint does: names, config and all.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from vitseek.models.config import ViTConfig
from vitseek.weights.loader import load_weights

Array = NDArray[np.floating]

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models: how transformers makes one, and what vitseek must take it for."""

    name: str
    build: Callable[[], torch.nn.Module]
    config: ViTConfig
    resolutions: tuple[tuple[int, int], ...]  # (height, width) in px: the trained one, then others, one not square
    places: Places = dataclasses.field(default_factory=lambda: Places())
    arguments: Callable[[Array, ViTConfig], dict[str, Any]] = lambda pixels, config: _plain(pixels)
    needs_flag: bool = False  # most of transformers' models resize positions only when told to
    in_table: bool = True  # of table.py; towers.py prints its own of image towers
    rounds_positions: bool = False  # DINOv2 and NaFlex resize positions in float32 even in a float64 model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Where transformers has the steps of a model, as dotted names."""

    is_backbone: bool = False  # the model is its own backbone, whatever it calls its base
    embed: str = "embeddings"
    blocks: str = "layers"
    norm: str = "layernorm"
    norm_is_pooled: bool = False  # CLIP normalises the class token alone
    embedding: str | None = None  # of the output: the joint embedding of images and texts


def _plain(pixels: Array) -> dict[str, Any]:
    return {"pixel_values": torch.from_numpy(pixels)}


def _in_order(pixels: Array, config: ViTConfig) -> dict[str, Any]:
    """MAE shuffles patches by random noise, even when none is masked: noise that grows keeps their order."""
    patches = pixels.shape[2] * pixels.shape[3] // config.patch_size**2
    return {**_plain(pixels), "noise": torch.arange(float(patches)).expand(len(pixels), -1)}


def _as_patches(pixels: Array, config: ViTConfig) -> dict[str, Any]:
    """What the processor of NaFlex makes: flat patches, colours last, and how many rows and columns they are."""
    batch, patch = len(pixels), config.patch_size
    rows, columns = (side // patch for side in pixels.shape[2:])
    split = pixels.reshape(batch, 3, rows, patch, columns, patch).transpose(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": torch.from_numpy(np.ascontiguousarray(split.reshape(batch, rows * columns, -1))),
        "pixel_attention_mask": torch.ones((batch, rows * columns), dtype=torch.int32),
        "spatial_shapes": torch.tensor([[rows, columns]] * batch),
    }


SMALL: dict[str, Any] = {"hidden_size": 35, "num_hidden_layers": 3, "num_attention_heads": 5, "num_labels": 11}


def _vit(**options: Any) -> torch.nn.Module:
    config = transformers.ViTConfig(**{**SMALL, "intermediate_size": 53, "layer_norm_eps": 1e-6, **options})
    return transformers.ViTForImageClassification(config)


def _dino() -> torch.nn.Module:
    return transformers.ViTModel(transformers.ViTConfig(**SMALL, intermediate_size=53, patch_size=8, image_size=56))


def _deit_distilled() -> torch.nn.Module:
    config = transformers.DeiTConfig(**SMALL, intermediate_size=53, patch_size=16, image_size=80)
    return transformers.DeiTForImageClassificationWithTeacher(config)


def _dinov2(*, registers: int = 0, swiglu: bool = False) -> torch.nn.Module:
    options = {**SMALL, "mlp_ratio": 4, "patch_size": 14, "image_size": 98, "use_swiglu_ffn": swiglu}
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**options, num_register_tokens=registers)
        return transformers.Dinov2WithRegistersForImageClassification(config)
    return transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**options))


TOWER: dict[str, Any] = {**SMALL, "intermediate_size": 53, "patch_size": 16, "image_size": 80}
ROTARY: dict[str, Any] = {**TOWER, "hidden_size": 60, "num_register_tokens": 3}


def _clip(**options: Any) -> torch.nn.Module:
    config = transformers.CLIPVisionConfig(**{**TOWER, "projection_dim": 13, **options})
    return transformers.CLIPVisionModelWithProjection(config)


def _siglip() -> torch.nn.Module:
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**TOWER))


def _naflex() -> torch.nn.Module:
    options = {name: value for name, value in TOWER.items() if name != "image_size"}
    return transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**options, num_patches=25))


def _dinov3(**options: Any) -> torch.nn.Module:
    return transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**{**ROTARY, **options}))


def _mae() -> torch.nn.Module:
    return transformers.ViTMAEModel(transformers.ViTMAEConfig(**TOWER, mask_ratio=0.0))


def _ijepa() -> torch.nn.Module:
    return transformers.IJepaForImageClassification(transformers.IJepaConfig(**TOWER))


SHAPE: dict[str, Any] = {"embed_dim": 35, "depth": 3, "num_heads": 5, "num_classes": 11}
PATCH16: dict[str, Any] = {**SHAPE, "hidden_dim": 53, "patch_size": 16, "img_size": (80, 80)}
DINOV2: dict[str, Any] = {
    **SHAPE, "patch_size": 14, "img_size": (98, 98), "layer_scale": True,
    "head_input": "cls+patch-mean",
}  # fmt: skip
SWIGLU: dict[str, Any] = {**DINOV2, "mlp_layer": "swiglu"}
HEADLESS: dict[str, Any] = {**PATCH16, "num_classes": 0}
CLIP: dict[str, Any] = {
    **HEADLESS, "patch_bias": False, "pre_norm": True, "mlp_layer": "quick-gelu", "embedding_dim": 13, "norm_eps": 1e-5,
}  # fmt: skip
SIGLIP: dict[str, Any] = {**HEADLESS, "class_token": False, "mlp_layer": "gelu-tanh", "attention_pool": True}
DINOV3: dict[str, Any] = {
    **HEADLESS, "embed_dim": 60, "pos_embed": "rope", "layer_scale": True, "num_registers": 3, "norm_eps": 1e-5,
}  # fmt: skip
IN_ENCODER = Places(blocks="encoder.layer")
CLIP_PLACES = Places(
    embed="pre_layrnorm", blocks="encoder.layers", norm="post_layernorm", norm_is_pooled=True, embedding="image_embeds"
)
SIGLIP_PLACES = Places(is_backbone=True, blocks="encoder.layers", norm="post_layernorm", embedding="pooler_output")
DINOV3_PLACES = Places(is_backbone=True, blocks="model.layer", norm="norm")
SIZES16 = ((80, 80), (112, 112), (48, 176))
SIZES14 = ((98, 98), (42, 154), (182, 70))

FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="ViT /16", build=functools.partial(_vit, patch_size=16, image_size=80), config=ViTConfig(**PATCH16),
            resolutions=SIZES16, needs_flag=True,
        ),
        Family(
            name="ViT /32, no qkv bias",
            build=functools.partial(_vit, patch_size=32, image_size=96, qkv_bias=False),
            config=ViTConfig(**{**PATCH16, "patch_size": 32, "img_size": (96, 96), "qkv_bias": False}),
            resolutions=((96, 96), (160, 160), (224, 64)), needs_flag=True,
        ),
        Family(
            name="DeiT /16 (eps 1e-12)",
            build=functools.partial(_vit, patch_size=16, image_size=80, layer_norm_eps=1e-12),
            config=ViTConfig(**PATCH16, norm_eps=1e-12), resolutions=SIZES16, needs_flag=True,
        ),
        Family(
            name="DeiT distilled /16", build=_deit_distilled,
            config=ViTConfig(**PATCH16, distilled=True, norm_eps=1e-12), resolutions=SIZES16, needs_flag=True,
        ),
        Family(
            name="DINO /8", build=_dino,
            config=ViTConfig(**{**PATCH16, "patch_size": 8, "img_size": (56, 56), "num_classes": 0, "norm_eps": 1e-12}),
            resolutions=((56, 56), (88, 88), (40, 104)), needs_flag=True,
        ),
        Family(
            name="DINOv2 /14", build=_dinov2, config=ViTConfig(**DINOV2), resolutions=SIZES14,
            places=IN_ENCODER, rounds_positions=True,
        ),
        Family(
            name="DINOv2 SwiGLU /14", build=functools.partial(_dinov2, swiglu=True), config=ViTConfig(**SWIGLU),
            resolutions=SIZES14, places=IN_ENCODER, rounds_positions=True,
        ),
        Family(
            name="DINOv2 registers /14", build=functools.partial(_dinov2, registers=7),
            config=ViTConfig(**DINOV2, num_registers=7, pos_resize="bicubic-antialias"), resolutions=SIZES14,
            places=IN_ENCODER, rounds_positions=True,
        ),
        Family(
            name="DINOv2 registers SwiGLU /14", build=functools.partial(_dinov2, registers=7, swiglu=True),
            config=ViTConfig(**SWIGLU, num_registers=7, pos_resize="bicubic-antialias"), resolutions=SIZES14,
            places=IN_ENCODER, rounds_positions=True,
        ),
        Family(
            name="MAE /16", in_table=False,
            build=_mae, config=ViTConfig(**HEADLESS, norm_eps=1e-12), resolutions=SIZES16,
            arguments=_in_order, needs_flag=True,
        ),
        Family(
            name="I-JEPA /16", in_table=False, build=_ijepa, resolutions=SIZES16, needs_flag=True,
            config=ViTConfig(**{**PATCH16, "class_token": False, "head_input": "patch-mean", "norm_eps": 1e-12}),
        ),
        Family(
            name="CLIP /16", in_table=False,
            build=_clip, config=ViTConfig(**CLIP), resolutions=SIZES16, places=CLIP_PLACES,
            needs_flag=True,
        ),
        Family(
            name="CLIP /32, exact GELU (OpenCLIP)", in_table=False,
            build=functools.partial(_clip, patch_size=32, image_size=96, hidden_act="gelu"),
            config=ViTConfig(**{**CLIP, "patch_size": 32, "img_size": (96, 96), "mlp_layer": "gelu"}),
            resolutions=((96, 96), (160, 160), (224, 64)), places=CLIP_PLACES, needs_flag=True,
        ),
        Family(
            name="SigLIP /16", in_table=False,
            build=_siglip, config=ViTConfig(**SIGLIP), resolutions=SIZES16, places=SIGLIP_PLACES,
            needs_flag=True,
        ),
        Family(
            name="SigLIP 2 NaFlex /16", in_table=False,
            build=_naflex, config=ViTConfig(**SIGLIP, pos_resize="bilinear-antialias"),
            resolutions=SIZES16, places=SIGLIP_PLACES, arguments=_as_patches, rounds_positions=True,
        ),
        Family(
            name="DINOv3 /16", in_table=False,
            build=_dinov3, config=ViTConfig(**DINOV3), resolutions=SIZES16, places=DINOV3_PLACES
        ),
        Family(
            name="DINOv3 SwiGLU /16, other theta", in_table=False,
            build=functools.partial(_dinov3, use_gated_mlp=True, hidden_act="silu", rope_theta=30.0),
            config=ViTConfig(**DINOV3, mlp_layer="swiglu", rope_theta=30.0), resolutions=SIZES16, places=DINOV3_PLACES,
        ),
    )
}  # fmt: skip


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Give every parameter random values of a size that keeps activations of order 1 and softmax unsaturated."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2 and "token" not in name and "position" not in name:
                values /= parameter[0].numel() ** 0.5  # weights: by fan-in
            else:
                values *= 0.3
            if "norm" in name and name.endswith("weight"):
                values += 1
            parameter.copy_(values)


@dataclasses.dataclass(kw_only=True)
class Reference:
    """A model of transformers, and vitseek's parameters and config read from its checkpoint."""

    family: Family
    model: torch.nn.Module
    params: dict[str, Array]
    config: ViTConfig

    @property
    def backbone(self) -> Any:
        if self.family.places.is_backbone:
            return self.model
        return getattr(self.model, getattr(self.model, "base_model_prefix", ""), self.model)

    def stages(self, pixels: Array, *, float64: bool) -> dict[str, Array]:
        """Run transformers; tokens after the embedding, each block and the final norm; logits or embedding if any."""
        model = self.model.double() if float64 else self.model.float()
        places = self.family.places
        named = {"embed": self._step(places.embed), "norm": self._step(places.norm)}
        named.update({f"block.{index}": block for index, block in enumerate(self._step(places.blocks))})
        found: dict[str, Array] = {}

        def keep(name: str) -> Callable[[Any, Any, Any], None]:
            def hook(module: Any, inputs: Any, output: Any) -> None:
                found[name] = (output[0] if isinstance(output, tuple) else output).numpy().copy()

            return hook

        hooks = [module.register_forward_hook(keep(name)) for name, module in named.items()]
        try:
            with torch.inference_mode():
                output = model(**self._arguments(pixels))
                if places.norm_is_pooled:  # once more, for all tokens; the hook keeps what comes last
                    self._step(places.norm)(output.last_hidden_state)
        finally:
            for hook in hooks:
                hook.remove()
        if places.embedding is not None:
            found["embedding"] = output[places.embedding].numpy().copy()
        if "logits" in output:
            found["logits"] = output.logits.numpy().copy()
        return found

    def attention(self, pixels: Array) -> list[Array]:
        """The attention weights of every block, from transformers' eager implementation in float64."""
        model = self.model.double()
        used = model.config._attn_implementation
        model.set_attn_implementation("eager")
        try:
            with torch.inference_mode():
                output = model(**self._arguments(pixels), output_attentions=True)
            return [weights.numpy().copy() for weights in output.attentions]
        finally:
            model.set_attn_implementation(used)

    def positions(self, rows: int, columns: int, *, float64: bool) -> Array:
        """What transformers makes of the position embedding for another grid."""
        self.model.double() if float64 else self.model.float()
        dtype = torch.float64 if float64 else torch.float32
        prefix, patch = self.config.num_position_prefix, self.config.patch_size
        tokens = torch.empty((1, prefix + rows * columns, self.config.embed_dim), dtype=dtype)
        embeddings = self.backbone.embeddings
        with torch.inference_mode():
            if not hasattr(embeddings, "interpolate_pos_encoding"):  # NaFlex
                grid = embeddings.position_embedding.weight.reshape(*self.config.grid, -1)
                shapes = torch.tensor([[rows, columns]])
                return embeddings.resize_positional_embeddings(grid, shapes, max_length=rows * columns).numpy().copy()
            positions: Array = embeddings.interpolate_pos_encoding(tokens, rows * patch, columns * patch).numpy()
        return positions.copy()

    def rotation(self, config: ViTConfig, rows: int, columns: int, dtype: Any) -> tuple[Array, Array]:
        """What transformers makes of rotary positions, in the place of :func:`vitseek.models.vit.rotary_positions`."""
        self.model.double()
        tensor = torch.empty((1, 3, rows * config.patch_size, columns * config.patch_size), dtype=torch.float64)
        cos, sin = (table.numpy()[:, : config.head_dim // 2] for table in self.backbone.rope_embeddings(tensor))
        return cos.astype(dtype), sin.astype(dtype)

    def _step(self, name: str) -> Any:
        return operator.attrgetter(name)(self.backbone)

    def _arguments(self, pixels: Array) -> dict[str, Any]:
        flags = {"interpolate_pos_encoding": True} if self.family.needs_flag else {}
        return {**self.family.arguments(pixels, self.config), **flags}


@functools.cache
def reference(name: str) -> Reference:
    """Return the family's model and what vitseek made of its checkpoint; the same every time."""
    return load(FAMILIES[name], seed=sum(map(ord, name)))


def load(family: Family, *, seed: int, steps: int | None = None) -> Reference:
    """Build the family's model with random parameters, save it as a checkpoint and load that with vitseek.

    With ``steps``, parameters are rounded to multiples of 1 / steps, so that they take little room on disk.
    """
    model = family.build().eval()
    randomise(model, seed)
    if steps is not None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.round(parameter * steps) / steps)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = load_weights(Path(folder))
        params = {key: np.array(value) for key, value in loaded.params.items()}
    return Reference(family=family, model=model, params=params, config=loaded.config)


def random_pixels(height: int, width: int, *, batch: int = 2, dtype: type = np.float64) -> Array:
    """Seeded normalised pixels, shape (batch, 3, height, width); the same numbers in either dtype."""
    rng = np.random.default_rng(height * 1009 + width)
    return rng.standard_normal((batch, 3, height, width)).astype(np.float32).astype(dtype)


def in_dtype(params: dict[str, Array], dtype: type) -> dict[str, Array]:
    return {name: value.astype(dtype) for name, value in params.items()}
