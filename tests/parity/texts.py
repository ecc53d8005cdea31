"""Small random two-tower models, in transformers and in vitseek with the same weights: their text towers and scores.

Like tests/parity/families.py: every parameter is random, and the weights go through a folder on disk.

    python -m tests.parity.texts [--full-size]

prints the largest absolute differences (a part of tests.parity.table); with --full-size also those of CLIP B/32, SigLIP
base and Chinese-CLIP B/16 at their real size, both towers, with random weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from tests.parity.families import randomise
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.text_engine import TextEngine
from vitseek.models.config import ViTConfig
from vitseek.models.text import TextConfig, encode
from vitseek.weights.loader import LoadedWeights, load_weights

Array = NDArray[np.floating]

VISION: dict[str, Any] = {
    "hidden_size": 35, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 53, "image_size": 48,
    "patch_size": 16,
}  # fmt: skip
TEXT: dict[str, Any] = {"hidden_size": 39, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 59}
SHAPE: dict[str, Any] = {"width": 39, "depth": 3, "num_heads": 3, "hidden_dim": 59}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFamily:
    """A two-tower family: how transformers makes one, and what vitseek must take its text tower for."""

    name: str
    build: Callable[[], torch.nn.Module]
    config: TextConfig
    mask: bool = True  # whether its processor hands the tower a mask


def _clip(*, eos: int, act: str = "quick_gelu") -> torch.nn.Module:
    text = {**TEXT, "vocab_size": 103, "max_position_embeddings": 17, "hidden_act": act, "eos_token_id": eos}
    text |= {"bos_token_id": 0 if eos == 2 else 101, "pad_token_id": 1}
    vision = {**VISION, "hidden_act": act}
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=29))


def _siglip(kind: str) -> torch.nn.Module:
    text = {**TEXT, "vocab_size": 103, "max_position_embeddings": 13, "projection_size": 35}
    if kind == "siglip":
        return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION))
    vision = {**{k: v for k, v in VISION.items() if k != "image_size"}, "num_patches": 9}
    return transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision))


def _chinese_clip() -> torch.nn.Module:
    text = {**TEXT, "vocab_size": 107, "max_position_embeddings": 19}
    config = transformers.ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=29)
    return transformers.ChineseCLIPModel(config)


def _metaclip2() -> torch.nn.Module:
    text = {**TEXT, "vocab_size": 103, "max_position_embeddings": 17, "bos_token_id": 0, "eos_token_id": 2}
    config = transformers.MetaClip2Config(text_config=text, vision_config=VISION, projection_dim=29)
    return transformers.MetaClip2Model(config)


CLIP = TextConfig(
    **SHAPE, vocab_size=103, context_length=17, mlp_layer="quick-gelu", pooling="largest", embedding_dim=29,
    bos_token_id=101, eos_token_id=102, pad_token_id=102,
)  # fmt: skip
SIGLIP = TextConfig(
    **SHAPE, vocab_size=103, context_length=13, mlp_layer="gelu-tanh", causal=False, pooling="last", embedding_dim=35,
    projection_bias=True, norm_eps=1e-6, eos_token_id=1, pad_token_id=1, attend_padding=True, cleaning="canonical",
)  # fmt: skip
CHINESE_CLIP = TextConfig(
    **SHAPE, vocab_size=107, context_length=19, causal=False, norm_first=False, embed_norm=True, token_types=2,
    pooling="first", embedding_dim=29, norm_eps=1e-12, bos_token_id=101, eos_token_id=102, pad_token_id=0,
)  # fmt: skip

FAMILIES = {
    family.name: family
    for family in (
        TextFamily(name="CLIP (eos 2)", build=functools.partial(_clip, eos=2), config=CLIP),
        TextFamily(
            name="CLIP", build=functools.partial(_clip, eos=102), config=dataclasses.replace(CLIP, pooling="eos")
        ),
        TextFamily(
            name="CLIP, exact GELU",
            build=functools.partial(_clip, eos=102, act="gelu"),
            config=dataclasses.replace(CLIP, pooling="eos", mlp_layer="gelu"),
        ),
        TextFamily(name="SigLIP", build=functools.partial(_siglip, "siglip"), config=SIGLIP, mask=False),
        TextFamily(
            name="SigLIP 2 (native resolution)",
            build=functools.partial(_siglip, "siglip2"),
            config=dataclasses.replace(SIGLIP, pad_token_id=0, cleaning="lower"),
            mask=False,
        ),
        TextFamily(name="Chinese-CLIP", build=_chinese_clip, config=CHINESE_CLIP),
        TextFamily(
            name="MetaCLIP 2",
            build=_metaclip2,
            config=dataclasses.replace(CLIP, pooling="eos", bos_token_id=0, eos_token_id=2, pad_token_id=1),
        ),
    )
}


@dataclasses.dataclass(kw_only=True)
class Reference:
    """A model of transformers, and what vitseek read from its checkpoint."""

    family: TextFamily
    model: Any
    loaded: LoadedWeights
    text: dict[str, Array]
    image: dict[str, Array]

    @property
    def config(self) -> TextConfig:
        assert self.loaded.text is not None
        return self.loaded.text.config

    def in_dtype(self, dtype: type) -> dict[str, Array]:
        return {name: value.astype(dtype) for name, value in self.text.items()}

    def stages(self, ids: Array, mask: Array, *, float64: bool) -> dict[str, Array]:
        """Run transformers; tokens after the embedding, each block and the final norm, and the embedding."""
        model = self.model.double() if float64 else self.model.float()
        tower = model.text_model
        blocks = tower.encoder.layer if hasattr(tower.encoder, "layer") else tower.encoder.layers
        named = {"embed": tower.embeddings, **{f"block.{index}": block for index, block in enumerate(blocks)}}
        if hasattr(tower, "final_layer_norm"):
            named["norm"] = tower.final_layer_norm
        found: dict[str, Array] = {}

        def keep(name: str) -> Callable[[Any, Any, Any], None]:
            def hook(module: Any, inputs: Any, output: Any) -> None:
                found[name] = (output[0] if isinstance(output, tuple) else output).numpy().copy()

            return hook

        hooks = [module.register_forward_hook(keep(name)) for name, module in named.items()]
        try:
            with torch.inference_mode():
                output = model.get_text_features(**self._inputs(ids, mask))
        finally:
            for hook in hooks:
                hook.remove()
        found["embedding"] = output.pooler_output.numpy().copy()
        return found

    def logits(self, ids: Array, mask: Array, pixels: Array) -> Array:
        """transformers' scores of texts and pictures in the dtype of ``pixels``, shape (texts, pictures)."""
        inputs: dict[str, Any] = {"pixel_values": torch.from_numpy(pixels)}
        if isinstance(self.model, transformers.Siglip2Model):
            batch, _, height, width = pixels.shape
            patch = self.model.config.vision_config.patch_size
            rows, columns = height // patch, width // patch
            patches = pixels.reshape(batch, 3, rows, patch, columns, patch).transpose(0, 2, 4, 3, 5, 1)
            flat = np.ascontiguousarray(patches.reshape(batch, rows * columns, -1))
            inputs = {
                "pixel_values": torch.from_numpy(flat),
                "pixel_attention_mask": torch.ones((batch, rows * columns), dtype=torch.int64),
                "spatial_shapes": torch.tensor([[rows, columns]] * batch),
            }
        with torch.inference_mode():
            model = self.model.double() if pixels.dtype == np.float64 else self.model.float()
            output = model(**inputs, **self._inputs(ids, mask))
        return output.logits_per_text.numpy().copy()

    def _inputs(self, ids: Array, mask: Array) -> dict[str, Any]:
        inputs = {"input_ids": torch.from_numpy(ids)}
        return {**inputs, "attention_mask": torch.from_numpy(mask)} if self.family.mask else inputs


@functools.cache
def reference(name: str) -> Reference:
    """Return the family's model and what vitseek made of its checkpoint; the same every time."""
    return load(FAMILIES[name], seed=sum(map(ord, name)))


def load(family: TextFamily, *, seed: int, steps: int | None = None) -> Reference:
    """Build the family's model with random parameters, save it as a checkpoint and load that with vitseek.

    With ``steps``, parameters are rounded to multiples of 1 / steps, so that they take little room on disk.
    """
    model = family.build().eval()
    randomise(model, seed)
    if steps is not None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.round(parameter * steps) / steps)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(23.5))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = load_weights(Path(folder))
        assert loaded.text is not None
        text = {key: np.array(value) for key, value in loaded.text.params.items()}
        image = {key: np.array(value) for key, value in loaded.params.items()}
    return Reference(family=family, model=model, loaded=loaded, text=text, image=image)


def random_texts(config: TextConfig, *, seed: int = 20260, texts: int = 7) -> tuple[Array, Array]:
    """Texts of different lengths with start, end and padding, (B, L) numbers and mask."""
    rng = np.random.default_rng(seed)
    ids = np.full((texts, config.context_length), config.pad_token_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    front = [] if config.bos_token_id is None else [config.bos_token_id]
    for row, length in enumerate([config.context_length, len(front) + 1, *rng.integers(4, 12, size=texts - 2)]):
        words = rng.integers(3, 98, size=length - len(front) - 1)
        ids[row, :length] = [*front, *words, config.eos_token_id]
        mask[row, :length] = 1
    return ids, mask


def scores(reference: Reference, ids: Array, mask: Array, pixels: Array) -> Array:
    """vitseek's scores of texts and pictures in the dtype of ``pixels``, shape (texts, pictures)."""
    loaded, dtype = reference.loaded, pixels.dtype
    assert isinstance(loaded.config, ViTConfig)
    assert loaded.text is not None
    assert loaded.text.logit_scale is not None
    image = NumpyEngine(reference.image, loaded.config, "embedding", dtype=dtype).embed_pixels(pixels)
    text = TextEngine(reference.text, reference.config, dtype=dtype).encode(ids, mask)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (text, image)]
    cosines: Array = unit[0] @ unit[1].T
    return cosines * math.exp(loaded.text.logit_scale) + (loaded.text.logit_bias or 0.0)


def differences(reference: Reference, dtype: type) -> dict[str, float]:
    """Largest absolute differences from transformers of each stage of the plain pass, and of the engine."""
    ids, mask = random_texts(reference.config)
    ours: dict[str, Array] = {}
    params = reference.in_dtype(dtype)
    ours["embedding"] = encode(
        params, reference.config, ids, mask, stages=lambda name, x: ours.__setitem__(name, x.copy())
    )
    theirs = reference.stages(ids, mask, float64=dtype is np.float64)
    assert ours.keys() == theirs.keys()
    found = {}
    for name, wanted in theirs.items():
        assert ours[name].shape == wanted.shape, name
        assert ours[name].dtype == wanted.dtype, name
        difference = np.abs(ours[name] - wanted)  # between words alone: nobody reads the rest of the others
        found[name] = float((difference if name == "embedding" else difference[mask == 1]).max())
    engine = TextEngine(reference.text, reference.config, dtype=dtype).encode(ids, mask)
    found["engine"] = float(np.abs(engine - theirs["embedding"]).max())
    return found


def score_difference(reference: Reference, dtype: type, *, pictures: int = 5, side_px: int = 48) -> float:
    """The largest absolute difference of the scores, both towers together."""
    ids, mask = random_texts(reference.config)
    pixels = np.random.default_rng(11).standard_normal((pictures, 3, side_px, side_px)).astype(dtype)
    ours, theirs = scores(reference, ids, mask, pixels), reference.logits(ids, mask, pixels)
    assert ours.shape == theirs.shape
    found = float(np.abs(ours - theirs).max())
    assert np.ptp(theirs) > 1000 * found, f"the scores are all alike, {np.ptp(theirs)} from one another at most"
    return found


FULL_SIZE = ("CLIP B/32", "SigLIP base", "Chinese-CLIP B/16")


def full_size(name: str) -> Reference:
    """A model of the real size with random weights, through a checkpoint on disk."""
    builds: dict[str, Callable[[], torch.nn.Module]] = {
        "CLIP B/32": lambda: transformers.CLIPModel(transformers.CLIPConfig(text_config={"eos_token_id": 2})),
        "SigLIP base": lambda: transformers.SiglipModel(transformers.SiglipConfig()),
        "Chinese-CLIP B/16": lambda: transformers.ChineseCLIPModel(
            transformers.ChineseCLIPConfig(text_config={"vocab_size": 21_128}, vision_config={"patch_size": 16})
        ),
    }
    config = FAMILIES["SigLIP" if "SigLIP" in name else "CLIP"].config
    return load(
        TextFamily(name=name, build=builds[name], config=config, mask="SigLIP" not in name), seed=sum(map(ord, name))
    )


def print_table(*, markdown: bool = False) -> None:
    line = "| {:28} | {:>7} | {:>7} | {:>7} | {:>7} |" if markdown else "{:28} {:>8} {:>8} {:>8} {:>8}"
    print(line.format("text tower", "float32", "float64", "scores", "scores"))
    print("|---|---:|---:|---:|---:|" if markdown else line.format("", "", "", "float32", "float64"))
    for name in FAMILIES:
        made = reference(name)
        found = [max(differences(made, dtype).values()) for dtype in (np.float32, np.float64)]
        found += [score_difference(made, dtype) for dtype in (np.float32, np.float64)]
        print(line.format(name, *(f"{value:.1e}" for value in found)))


def print_full_size() -> None:
    for name in FULL_SIZE:
        made = full_size(name)
        found = differences(made, np.float32)
        together = score_difference(made, np.float32, pictures=2, side_px=224)
        print(
            f"{name}, random weights, float32: plain embedding {found['embedding']:.1e}, engine {found['engine']:.1e}, "
            f"scores of both towers {together:.1e}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--full-size", action="store_true")
    options = parser.parse_args()
    print_table(markdown=options.markdown)
    if options.full_size:
        print_full_size()
