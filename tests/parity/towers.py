"""Small random image towers of MAE, CLIP, SigLIP, DINOv3, I-JEPA, MSN and AIMv2, in transformers and in vitseek.

Like tests/parity/families.py: every parameter is random, sizes are distinct and mostly prime, and the weights go
through a folder on disk, as a downloaded checkpoint does: names, config and all.

    python -m tests.parity.towers [--markdown]      (a part of tests.parity.table)

prints the largest absolute differences of the final tokens and of the image embedding. Three references compute in
float32 even in a float64 model: SigLIP 2 resizes positions so, DINOv3 computes its rotary angles so, and AIMv2 its
norms. "same positions" gives both sides one precision there, and shows that nothing else differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import inspect
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from tests.parity.families import in_dtype, random_pixels, randomise
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.models.config import ViTConfig
from vitseek.weights.loader import load_weights

Array = NDArray[np.floating]
Size = tuple[int, int]

VISION: dict[str, Any] = {
    "hidden_size": 60, "num_hidden_layers": 3, "num_attention_heads": 5, "intermediate_size": 53, "patch_size": 7,
}  # fmt: skip
SQUARE = {**VISION, "image_size": 35}
TEXT: dict[str, Any] = {
    "hidden_size": 39, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 19, "vocab_size": 103,
    "max_position_embeddings": 17, "bos_token_id": 101, "eos_token_id": 102,
}  # fmt: skip
SHAPE: dict[str, Any] = {
    "embed_dim": 60, "depth": 3, "num_heads": 5, "hidden_dim": 53, "patch_size": 7, "img_size": (35, 35),
}  # fmt: skip
SIZES: tuple[Size, ...] = ((35, 35), (56, 56), (21, 77))
NATIVE_SIZES: tuple[Size, ...] = ((35, 35), (14, 91), (70, 21), (49, 42))
EMBEDDING = 29


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tower:
    """An image tower: how transformers makes one, and what vitseek must take it for.

    ``native`` says that transformers takes patches instead of pixels, ``precise`` whether it keeps to float64 in a
    float64 model. ``pooling`` is what vitseek must choose; "embedding" is compared with transformers' own.
    """

    name: str
    build: Callable[[], torch.nn.Module]
    config: ViTConfig
    sizes: tuple[Size, ...] = SIZES
    pooling: str = "cls"
    native: bool = False
    precise: bool = True


def _clip(kind: str, act: str = "quick_gelu") -> torch.nn.Module:
    vision = {**SQUARE, "hidden_act": act}
    if kind == "both":
        text = {**TEXT, "hidden_act": act}
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBEDDING)
        return transformers.CLIPModel(config)
    made = transformers.CLIPVisionConfig(**vision, projection_dim=EMBEDDING)
    return (
        transformers.CLIPVisionModelWithProjection(made) if kind == "projected" else transformers.CLIPVisionModel(made)
    )


def _siglip(kind: str) -> torch.nn.Module:
    if kind == "both":
        config = transformers.SiglipConfig(text_config={**TEXT, "projection_size": 60}, vision_config=SQUARE)
        return transformers.SiglipModel(config)
    # 37 px are five patches of 7 px and 2 px that the convolution drops, as in SigLIP so400m.
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**{**VISION, "image_size": 37}))


def _siglip2(*, both: bool) -> torch.nn.Module:
    vision = {**VISION, "num_patches": 25}
    if both:
        config = transformers.Siglip2Config(text_config={**TEXT, "projection_size": 60}, vision_config=vision)
        return transformers.Siglip2Model(config)
    return transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**vision))


def _mae(*, decoder: bool) -> torch.nn.Module:
    options = {**SQUARE, "mask_ratio": 0.0, "decoder_hidden_size": 16, "decoder_num_attention_heads": 2}
    config = transformers.ViTMAEConfig(**options, decoder_num_hidden_layers=2, decoder_intermediate_size=11)
    return transformers.ViTMAEForPreTraining(config) if decoder else transformers.ViTMAEModel(config)


def _dinov3(**options: Any) -> torch.nn.Module:
    return transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**SQUARE, num_register_tokens=4, **options))


def _ijepa(*, classes: int = 0) -> torch.nn.Module:
    config = transformers.IJepaConfig(**SQUARE, num_labels=classes or 2)
    return transformers.IJepaForImageClassification(config) if classes else transformers.IJepaModel(config)


def _aimv2() -> torch.nn.Module:
    """Without its attention pool; transformers takes pictures of the trained size only."""
    return transformers.Aimv2VisionModel(transformers.Aimv2VisionConfig(**SQUARE, use_head=False))


def _msn(*, classes: int = 0, mask_token: bool = False) -> torch.nn.Module:
    config = transformers.ViTMSNConfig(**SQUARE, num_labels=classes or 2)
    if classes:
        return transformers.ViTMSNForImageClassification(config)
    return transformers.ViTMSNModel(config, use_mask_token=mask_token)


CLIP = ViTConfig(**SHAPE, patch_bias=False, pre_norm=True, norm_eps=1e-5, mlp_layer="quick-gelu", embedding_dim=29)
SIGLIP = ViTConfig(**SHAPE, class_token=False, mlp_layer="gelu-tanh", attention_pool=True)
NAFLEX = dataclasses.replace(SIGLIP, pos_resize="bilinear-antialias")
MAE = ViTConfig(**SHAPE, norm_eps=1e-12)
IJEPA = ViTConfig(**SHAPE, class_token=False, norm_eps=1e-12)
MSN = ViTConfig(**SHAPE, norm_eps=1e-6)
AIMV2 = ViTConfig(
    **SHAPE, class_token=False, norm_layer="rmsnorm", norm_eps=1e-5, patch_norm=True, mlp_layer="swiglu",
    qkv_bias=False, proj_bias=False, mlp_bias=False,
)  # fmt: skip
DINOV3 = ViTConfig(**SHAPE, pos_embed="rope", num_registers=4, layer_scale=True, norm_eps=1e-5)

TOWERS = {
    tower.name: tower
    for tower in (
        Tower(name="MAE", build=functools.partial(_mae, decoder=False), config=MAE, pooling="patch-mean"),
        Tower(name="MAE with decoder", build=functools.partial(_mae, decoder=True), config=MAE, pooling="patch-mean"),
        Tower(name="CLIP", build=functools.partial(_clip, "both"), config=CLIP, pooling="embedding"),
        Tower(
            name="CLIP, exact GELU", build=functools.partial(_clip, "both", "gelu"), pooling="embedding",
            config=dataclasses.replace(CLIP, mlp_layer="gelu"),
        ),
        Tower(
            name="CLIP image tower, projected", build=functools.partial(_clip, "projected"), config=CLIP,
            pooling="embedding",
        ),
        Tower(
            name="CLIP image tower", build=functools.partial(_clip, "plain"),
            config=dataclasses.replace(CLIP, embedding_dim=0),
        ),
        Tower(name="SigLIP", build=functools.partial(_siglip, "both"), config=SIGLIP, pooling="embedding"),
        Tower(
            name="SigLIP image tower, 37 px", build=functools.partial(_siglip, "plain"), config=SIGLIP,
            pooling="embedding",
        ),
        Tower(
            name="SigLIP 2 NaFlex", build=functools.partial(_siglip2, both=True), config=NAFLEX, sizes=NATIVE_SIZES,
            pooling="embedding", native=True, precise=False,
        ),
        Tower(
            name="SigLIP 2 NaFlex image tower", build=functools.partial(_siglip2, both=False), config=NAFLEX,
            sizes=NATIVE_SIZES, pooling="embedding", native=True, precise=False,
        ),
        Tower(name="I-JEPA", build=_ijepa, config=IJEPA, pooling="patch-mean"),
        Tower(
            name="I-JEPA with classes", build=functools.partial(_ijepa, classes=11), pooling="patch-mean",
            config=dataclasses.replace(IJEPA, num_classes=11, head_input="patch-mean"),
        ),
        Tower(name="MSN", build=_msn, config=MSN),
        Tower(name="MSN with mask token", build=functools.partial(_msn, mask_token=True), config=MSN),
        Tower(
            name="MSN with classes", build=functools.partial(_msn, classes=13),
            config=dataclasses.replace(MSN, num_classes=13),
        ),
        Tower(name="AIMv2", build=_aimv2, config=AIMV2, sizes=((35, 35),), pooling="patch-mean", precise=False),
        Tower(name="DINOv3", build=_dinov3, config=DINOV3, precise=False),
        Tower(
            name="DINOv3, gated", build=functools.partial(_dinov3, use_gated_mlp=True, hidden_act="silu"),
            config=dataclasses.replace(DINOV3, mlp_layer="swiglu"), precise=False,
        ),
        Tower(
            name="DINOv3, few biases, theta 50",
            build=functools.partial(_dinov3, rope_theta=50.0, proj_bias=False, mlp_bias=False, key_bias=True),
            config=dataclasses.replace(DINOV3, rope_theta=50.0, proj_bias=False, mlp_bias=False), precise=False,
        ),
    )
}  # fmt: skip


@dataclasses.dataclass(kw_only=True)
class Reference:
    """A model of transformers, and vitseek's parameters and config read from its checkpoint."""

    tower: Tower
    model: Any
    params: dict[str, Array]
    config: ViTConfig
    pooling: str

    @property
    def backbone(self) -> Any:
        for name in ("vision_model", "vit", "ijepa"):
            if hasattr(self.model, name):
                return getattr(self.model, name)
        return self.model

    def stages(self, pixels: Array, *, float64: bool) -> dict[str, Array]:
        """Run transformers; tokens after the embedding, each block and the final norm, and the image embedding."""
        self.model.double() if float64 else self.model.float()
        backbone = self.backbone
        named = {"embed": getattr(backbone, "pre_layrnorm", backbone.embeddings)}
        named.update({f"block.{index}": block for index, block in enumerate(self._blocks())})
        found: dict[str, torch.Tensor] = {}

        def keep(name: str) -> Callable[[Any, Any, Any], None]:
            def hook(module: Any, inputs: Any, output: Any) -> None:
                found[name] = output[0] if isinstance(output, tuple) else output

            return hook

        hooks = [module.register_forward_hook(keep(name)) for name, module in named.items()]
        try:
            with torch.inference_mode():
                pooled = self._run(pixels)
                # CLIP normalises the class token alone; the others have done this to all tokens, with this result.
                norm = next(getattr(backbone, name) for name in FINAL_NORMS if hasattr(backbone, name))
                found["norm"] = norm(found[f"block.{self.config.depth - 1}"])
        finally:
            for hook in hooks:
                hook.remove()
        if self.tower.pooling == "embedding":
            found["embedding"] = pooled
        return {name: tensor.numpy().copy() for name, tensor in found.items()}

    def positions(self, size: Size) -> Array:
        """What transformers' SigLIP 2 makes of the position embedding for another grid, computed in float32."""
        rows, columns = (side // self.config.patch_size for side in size)
        embeddings = self.backbone.embeddings
        side = embeddings.position_embedding_size
        grid = embeddings.position_embedding.weight.detach().reshape(side, side, -1)
        shapes = torch.tensor([[rows, columns]])
        return embeddings.resize_positional_embeddings(grid, shapes, rows * columns).numpy().copy()

    def _blocks(self) -> list[Any]:
        backbone = self.backbone
        holder = getattr(backbone, "encoder", getattr(backbone, "model", backbone))
        return list(holder.layer if hasattr(holder, "layer") else holder.layers)

    def _run(self, pixels: Array) -> torch.Tensor | None:
        """Run the tower and return its image embedding, if it has one."""
        patch = self.config.patch_size
        inputs: dict[str, Any] = {"pixel_values": torch.from_numpy(pixels)}
        call = self.model.get_image_features if hasattr(self.model, "text_model") else self.model
        if hasattr(self.model, "vit"):  # pre-training models run a decoder behind the tower
            call = self.backbone
        takes = inspect.signature(getattr(call, "forward", call)).parameters
        if self.tower.native:
            inputs = native(pixels, patch)
        if "interpolate_pos_encoding" in takes:
            inputs["interpolate_pos_encoding"] = True
        if "noise" in takes:  # MAE shuffles the patches by it: so they keep their order
            patches = (pixels.shape[2] // patch) * (pixels.shape[3] // patch)
            inputs["noise"] = torch.arange(patches, dtype=torch.float32).repeat(pixels.shape[0], 1)
        output = call(**inputs)
        pooled: torch.Tensor | None = output.get("image_embeds", output.get("pooler_output"))
        return pooled


FINAL_NORMS = ("post_layernorm", "layernorm", "norm", "rms_norm")


def native(pixels: Array, patch: int) -> dict[str, torch.Tensor]:
    """Pixels as SigLIP 2's processor hands them over: patches row by row, colours last, and the shape of the grid."""
    batch, _, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    patches = pixels.reshape(batch, 3, rows, patch, columns, patch).transpose(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": torch.from_numpy(np.ascontiguousarray(patches.reshape(batch, rows * columns, -1))),
        "pixel_attention_mask": torch.ones((batch, rows * columns), dtype=torch.int64),
        "spatial_shapes": torch.tensor([[rows, columns]] * batch),
    }


@functools.cache
def reference(name: str) -> Reference:
    """Return the tower's model and what vitseek made of its checkpoint; the same every time."""
    return load(TOWERS[name], seed=sum(map(ord, name)))


def load(tower: Tower, *, seed: int) -> Reference:
    """Build the model with random parameters, save it as a checkpoint and load that with vitseek."""
    model = tower.build().eval()
    randomise(model, seed)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = load_weights(Path(folder))
        params = {key: np.array(value) for key, value in loaded.params.items()}
    assert isinstance(loaded.config, ViTConfig)
    return Reference(
        tower=tower,
        model=model,
        params=params,
        config=loaded.config,
        pooling=loaded.pooling or "cls",
    )


class PreciseAngles(torch.nn.Module):
    """DINOv3's rotary angles in float64, written down from the paper: pairs of channels turn by row, then by column."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows, columns = (side // self.config.patch_size for side in pixels.shape[2:])
        pairs = self.config.hidden_size // self.config.num_attention_heads // 4
        wave = [self.config.rope_theta ** (pair / pairs) for pair in range(pairs)]
        angles = [
            [2 * math.pi * (2 * (place + 0.5) / count - 1) / one for place, count in ((row, rows), (column, columns))
             for one in wave]
            for row in range(rows) for column in range(columns)
        ]  # fmt: skip
        table = torch.tensor(angles, dtype=torch.float64).repeat(1, 2)
        return table.cos(), table.sin()


def precise_rms_norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """AIMv2's norm in the model's own precision; transformers casts to float32."""
    return norm.weight * x / (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()


def same_positions(made: Reference, size: Size) -> Reference:
    """The reference with positions (AIMv2: norms) of one precision on both sides, in float64."""
    if made.config.pos_embed == "rope":
        twin = load(made.tower, seed=sum(map(ord, made.tower.name)))
        twin.model.rope_embeddings = PreciseAngles(twin.model.config)
        return twin
    if made.config.norm_layer == "rmsnorm":
        twin = load(made.tower, seed=sum(map(ord, made.tower.name)))
        for module in twin.model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.forward = functools.partial(precise_rms_norm, module)
        return twin
    if made.tower.native:
        params = {**made.params, "pos_embed": made.positions(size)}
        return dataclasses.replace(made, params=params, config=dataclasses.replace(made.config, img_size=size))
    return made


def differences(made: Reference, size: Size, dtype: type) -> dict[str, float]:
    """Largest absolute differences of vitseek's engine from transformers, stage by stage."""
    pixels = random_pixels(*size, dtype=dtype)
    engine = NumpyEngine(
        in_dtype(made.params, dtype), made.config, made.tower.pooling, threads=1, dtype=dtype
    )  # fmt: skip
    ours: dict[str, Array] = {}
    engine.tokens(pixels, stages=ours.__setitem__)
    if made.tower.pooling == "embedding":
        ours["embedding"] = engine.embed_pixels(pixels)
    return compare(ours, made.stages(pixels, float64=dtype is np.float64))


def compare(ours: dict[str, Array], theirs: dict[str, Array]) -> dict[str, float]:
    """Largest absolute differences; the stages, shapes and dtypes must be the same."""
    assert ours.keys() == theirs.keys()
    for name, wanted in theirs.items():
        assert ours[name].shape == wanted.shape, name
        assert ours[name].dtype == wanted.dtype, name
    return {name: float(np.abs(ours[name] - wanted).max()) for name, wanted in theirs.items()}


def print_table(*, markdown: bool = False) -> None:
    line = "| {:28} | {:>7} | {:>7} | {:>7} | {:>14} | {:>8} | {:>8} |" if markdown else "{:29}" + " {:>8}" * 6
    print(line.format("image tower", "h x w", "float32", "float64", "same positions"[: 14 if markdown else 8],
                      "emb. f32", "emb. f64"))  # fmt: skip
    if markdown:
        print("|---|" + "---:|" * 6)
    for name, tower in TOWERS.items():
        made = reference(name)
        for size in tower.sizes:
            found = [differences(made, size, dtype) for dtype in (np.float32, np.float64)]
            same = found[1] if tower.precise else differences(same_positions(made, size), size, np.float64)
            shown = [f"{one:.1e}" for one in (found[0]["norm"], found[1]["norm"], same["norm"])]
            shown += [f"{one['embedding']:.1e}" if "embedding" in one else "" for one in (found[0], same)]
            print(line.format(name, f"{size[0]}x{size[1]}", *shown))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="as in docs/models.md")
    print_table(markdown=parser.parse_args().markdown)
