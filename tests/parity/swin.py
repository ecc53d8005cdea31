"""Random Swin Transformers in transformers and in vitseek with the same weights, and how far apart they are.

    python -m tests.parity.swin [--markdown] [--full-size]

prints family × resolution × largest absolute difference of the final tokens, two images each; "float32" is vitseek's
engine against transformers, both float32, "float64" the same in float64. With --full-size, Swin-T at 224 px and at a
size that no window divides, and Swin-B with windows of 12 at 384 px, follow.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from tests.parity.families import in_dtype, random_pixels, randomise
from vitseek.engines.swin_engine import SwinEngine
from vitseek.models.swin_config import VARIANTS, SwinConfig
from vitseek.weights.loader import load_weights

Array = NDArray[np.floating]

# name: config, (height, width) in px: the trained one; sizes that no patch, window or pair divides; not square ones
SMALL = SwinConfig(
    embed_dim=10, depths=(2, 3, 2), num_heads=(2, 5, 4), window_size=7, patch_size=3, img_size=(84, 84), mlp_ratio=2.3,
    num_classes=11,
)  # fmt: skip
FAMILIES: dict[str, tuple[SwinConfig, tuple[tuple[int, int], ...]]] = {
    "Swin /3, windows of 7": (SMALL, ((84, 84), (97, 112), (169, 131), (85, 203))),
    "Swin /4, windows of 5, eps 1e-3": (
        dataclasses.replace(SMALL, window_size=5, patch_size=4, img_size=(80, 80), num_classes=0, norm_eps=1e-3),
        ((80, 80), (113, 113), (81, 155)),
    ),
    "Swin /2, no qkv bias, 4 stages": (
        dataclasses.replace(
            SMALL, depths=(1, 2, 1, 2), num_heads=(5, 2, 4, 8), window_size=3, patch_size=2, img_size=(48, 48),
            qkv_bias=False,
        ),
        ((48, 48), (53, 53), (49, 91)),
    ),
}  # fmt: skip


@dataclasses.dataclass(kw_only=True)
class Reference:
    """A model of transformers, and vitseek's parameters and config read from its checkpoint."""

    model: Any
    params: dict[str, Array]
    config: SwinConfig

    def stages(self, pixels: Array) -> dict[str, Array]:
        """Run transformers in the dtype of ``pixels``; tokens after each step by vitseek's names, and the logits."""
        model = self.ready(pixels.dtype)
        backbone = getattr(model, "swin", model)
        named = {"embed": backbone.embeddings, "norm": backbone.layernorm}
        for stage, layer in enumerate(backbone.encoder.layers):
            if layer.downsample is not None:
                named[f"merge.{stage + 1}"] = layer.downsample
        named.update({f"block.{index}": block for index, block in enumerate(self.blocks)})
        found: dict[str, Array] = {}

        def keep(name: str) -> Callable[[Any, Any, Any], None]:
            def hook(module: Any, inputs: Any, output: Any) -> None:
                found[name] = (output[0] if isinstance(output, tuple) else output).numpy().copy()

            return hook

        hooks = [module.register_forward_hook(keep(name)) for name, module in named.items()]
        try:
            with torch.inference_mode():
                output = model(torch.from_numpy(pixels))
        finally:
            for hook in hooks:
                hook.remove()
        if "logits" in output:
            found["logits"] = output.logits.numpy().copy()
        return found

    def window_weights(self, pixels: Array) -> list[Array]:
        """The attention weights of every block by window, from the eager implementation."""
        model = self.ready(pixels.dtype)
        found: list[Array] = []
        hooks = [
            block.register_forward_hook(lambda module, inputs, output: found.append(output[1].numpy().copy()))
            for block in self.blocks
        ]
        used = model.config._attn_implementation
        model.set_attn_implementation("eager")
        try:
            with torch.inference_mode():
                model(torch.from_numpy(pixels))
        finally:
            model.set_attn_implementation(used)
            for hook in hooks:
                hook.remove()
        return found

    @property
    def blocks(self) -> list[Any]:
        layers = getattr(self.model, "swin", self.model).encoder.layers
        return [block for layer in layers for block in layer.blocks]

    def ready(self, dtype: np.dtype[Any]) -> Any:
        """The model in a dtype, with the windows of its config: transformers remembers those of a smaller picture."""
        for block, (_, place) in zip(self.blocks, self.config.blocks(), strict=True):
            block.window_size = self.config.window_size
            block.shift_size = self.config.window_size // 2 if place % 2 else 0
        return self.model.double() if dtype == np.float64 else self.model.float()


def build(config: SwinConfig) -> Any:
    """transformers' model of a config."""
    options = {
        "image_size": config.img_size[0],
        "patch_size": config.patch_size,
        "embed_dim": config.embed_dim,
        "depths": config.depths,
        "num_heads": config.num_heads,
        "window_size": config.window_size,
        "mlp_ratio": config.mlp_ratio,
        "qkv_bias": config.qkv_bias,
        "layer_norm_eps": config.norm_eps,
    }
    if config.num_classes:
        return transformers.SwinForImageClassification(
            transformers.SwinConfig(**options, num_labels=config.num_classes)
        )
    return transformers.SwinModel(transformers.SwinConfig(**options))


def load(config: SwinConfig, *, seed: int, steps: int | None = None) -> Reference:
    """Build transformers' model with random parameters, save it as a checkpoint and load that with vitseek.

    With ``steps``, parameters are rounded to multiples of 1 / steps, so that they take little room on disk.
    """
    model = build(config).eval()
    randomise(model, seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias_table" in name:  # by fan-in they would be too small to tell one row from another
                parameter.copy_(torch.randn(parameter.shape, generator=_own(name)) * 0.5)
            if steps is not None:
                parameter.copy_(torch.round(parameter * steps) / steps)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = load_weights(Path(folder))
        params = {key: np.array(value) for key, value in loaded.params.items()}
    assert isinstance(loaded.config, SwinConfig)
    return Reference(model=model, params=params, config=loaded.config)


def _own(name: str) -> torch.Generator:
    """Random numbers for a parameter: not two blocks have the same."""
    return torch.Generator().manual_seed(sum(place * ord(letter) for place, letter in enumerate(name)))


@functools.cache
def reference(name: str) -> Reference:
    """The family's model and what vitseek made of its checkpoint; the same every time."""
    return load(FAMILIES[name][0], seed=sum(map(ord, name)))


def difference(model: Reference, size: tuple[int, int], dtype: type, *, batch: int = 2) -> float:
    """The largest absolute difference of the final tokens."""
    pixels = random_pixels(*size, batch=batch, dtype=dtype)
    ours = SwinEngine(in_dtype(model.params, dtype), model.config, dtype=dtype).forward(pixels)
    return float(np.abs(ours - model.stages(pixels)["norm"]).max())


FULL_SIZE: dict[str, tuple[SwinConfig, tuple[tuple[int, int], ...]]] = {
    "Swin-T, 224 px, windows of 7": (SwinConfig(**VARIANTS["swin_tiny"]), ((224, 224), (250, 330))),
    "Swin-B, 384 px, windows of 12": (
        SwinConfig(**VARIANTS["swin_base"], window_size=12, img_size=(384, 384)),
        ((384, 384),),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="as in docs/models.md")
    parser.add_argument("--full-size", action="store_true", help="minutes instead of seconds")
    options = parser.parse_args()
    line = "| {:31} | {:>7} | {:>7} | {:>7} |" if options.markdown else "{:32} {:>8} {:>8} {:>8}"
    print(line.format("family", "h x w", "float32", "float64"))
    if options.markdown:
        print("|---|---:|---:|---:|")
    for name, (config, sizes) in {**FAMILIES, **(FULL_SIZE if options.full_size else {})}.items():
        model = reference(name) if name in FAMILIES else load(config, seed=7)
        for size in sizes:
            found = [difference(model, size, dtype) for dtype in (np.float32, np.float64)]
            print(line.format(name, f"{size[0]}x{size[1]}", *(f"{value:.1e}" for value in found)), flush=True)


if __name__ == "__main__":
    main()
