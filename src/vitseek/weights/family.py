"""What there is to know about the checkpoints of one family; each file in :mod:`vitseek.weights.families` makes one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitseek.errors import ConfigError
from vitseek.weights.description import Document, Sidecar, pair
from vitseek.weights.infer import Infer, infer_config
from vitseek.weights.naming import Naming
from vitseek.weights.pictures import timm_pictures, timm_pretrained, timm_size

Read = Callable[[Path, Document], Sidecar]


@dataclass(frozen=True, kw_only=True)
class Family:
    """The checkpoints of one family of models.

    Parameters
    ----------
    name
        What its authors call it.
    namings
        One key table for each way in which its parameters are called.
    transformers
        ``model_type`` of transformers' config.json to what reads it.
    timm
        Pattern of timm's ``architecture`` (``vit_*_clip_*``) to what reads its config.json; the longest one counts.
    others
        Key at the top of any other JSON description to what reads it.
    infer
        What makes a config of the shapes and of what is known.
    """

    name: str
    namings: tuple[Naming, ...]
    transformers: Mapping[str, Read] = field(default_factory=dict)
    timm: Mapping[str, Read] = field(default_factory=dict)
    others: Mapping[str, Read] = field(default_factory=dict)
    infer: Infer = infer_config


ACTIVATIONS = {
    "gelu": "gelu",
    "quick_gelu": "quick-gelu",
    "gelu_pytorch_tanh": "gelu-tanh",
    "gelu_new": "gelu-tanh",
}


def activation(file: Path, document: Document, default: str = "gelu") -> str:
    """The feed-forward's activation by vitseek's name, from transformers' ``hidden_act``."""
    came = document.get("hidden_act", default)
    if came not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ConfigError(f"{file} asks for the activation {came!r}; vitseek computes {known}.")
    return ACTIVATIONS[came]


def check_encoder(file: Path, document: Document) -> None:
    """Refuse all but three colours and the exact GELU, for architectures that have no choice."""
    _check_colours(file, document)
    if (came := activation(file, document)) != "gelu":
        raise ConfigError(f"{file} asks for the activation {came!r}; vitseek computes exact 'gelu' here.")


def _check_colours(file: Path, document: Document) -> None:
    if (channels := document.get("num_channels", 3)) != 3:
        raise ConfigError(f"{file} asks for {channels} colour channels; vitseek feeds 3.")


def encoder(file: Path, document: Document, *, norm_eps: float, heads: int = 12, act: str = "gelu") -> dict[str, Any]:
    """The fields of a Vision Transformer by the words that most of transformers' configs share, with its defaults."""
    _check_colours(file, document)
    known: dict[str, Any] = {
        "norm_eps": document.get("layer_norm_eps", norm_eps),
        "num_heads": document.get("num_attention_heads", heads),
        "mlp_layer": activation(file, document, act),
        "pos_resize": "bicubic",
    }
    if "image_size" in document:
        known["img_size"] = _whole_patches(file, document)
    return known


def _whole_patches(file: Path, document: Document) -> tuple[int, int]:
    """The picture's size without the edges that fill no patch: SigLIP so400m has 14 px patches and 384 px pictures."""
    height, width = pair(file, "image_size", document["image_size"])
    patch = document.get("patch_size")
    if not isinstance(patch, int) or not 1 <= patch <= min(height, width):
        return height, width
    return height // patch * patch, width // patch * patch


def section(file: Path, document: Document, name: str) -> Document:
    """A part of a config such as ``text_config``; transformers leaves it out, or empty, where all is as usual."""
    part = document.get(name)
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise ConfigError(f"{file}: {name!r} must be an object; it is {part!r}.")
    # Early files of transformers' CLIP say a second time, and with precedence, what differs from the defaults.
    second = document.get(f"{name}_dict")
    return {**part, **second} if isinstance(second, dict) else part


def read_timm(file: Path, document: Document) -> Sidecar:
    """timm's config.json: picture size and preprocessing; the rest is in the shapes."""
    names = timm_pretrained(document).get("label_names")
    return Sidecar(
        file=file,
        known={"norm_eps": 1e-6, "pos_resize": "bicubic-antialias", "img_size": timm_size(file, document)},
        preprocessing=timm_pictures(file, document),
        labels=names if isinstance(names, list) else None,
        notes=[f"config from {file.name} (timm, {document['architecture']})"],
    )


def transformers_note(file: Path, document: Document) -> str:
    return f"config from {file.name} (transformers, {document['model_type']})"
