"""Read the description beside a weights file: vitseek's own, transformers' or timm's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitseek.errors import ConfigError
from vitseek.models.config import ViTConfig

LIMIT_BYTES = 50_000_000
OWN_FORMAT = "vitseek"
OWN_VERSION = 1

TRANSFORMERS_MODELS = ("vit", "deit", "dinov2", "dinov2_with_registers")
PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # transformers stores Pillow's numbers
TIMM_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclass
class Sidecar:
    """What the files beside the weights say.

    ``config`` is set where it is said completely (vitseek's own format); ``known`` holds the fields of a foreign
    description, to be completed from the shapes.
    """

    file: Path | None = None
    name: str | None = None
    config: ViTConfig | None = None
    known: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] | None = None
    pooling: str | None = None
    labels: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def read_sidecar(weights: Path) -> Sidecar:
    """Find and read the description that belongs to a weights file.

    ``NAME.json`` beside ``NAME.safetensors`` comes first, then ``config.json`` with an optional
    ``preprocessor_config.json`` in the same folder. Without either, the result is empty.

    Raises
    ------
    ConfigError
        If a description is there, but describes no model that vitseek can run.
    """
    stem = weights.name.removesuffix(".index.json").removesuffix(".safetensors").removesuffix(".npz")
    for file in (weights.parent / f"{stem}.json", weights.parent / "config.json"):
        if file.is_file() and file != weights:
            document = _read(file)
            if document.get("format") == OWN_FORMAT:
                return _own(file, document)
            if "model_type" in document or "architecture" in document:
                read = _transformers if "model_type" in document else _timm
                try:
                    return read(file, document)
                except (TypeError, ValueError, ArithmeticError) as error:
                    raise ConfigError(f"{file} has a value of the wrong kind ({error}); repair it.") from error
            if file.name == "config.json":
                raise ConfigError(
                    f"{file} describes no model that vitseek knows: it has neither vitseek's 'format', nor "
                    "transformers' 'model_type', nor timm's 'architecture'. Move it away to let the shapes decide."
                )
    return Sidecar()


def _read(file: Path) -> dict[str, Any]:
    if file.stat().st_size > LIMIT_BYTES:
        raise ConfigError(f"{file} is larger than {LIMIT_BYTES} bytes; that is no model description.")
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON ({error}); repair it or move it away.") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{file} is not a JSON object; repair it or move it away.")
    return document


def _own(file: Path, document: Mapping[str, Any]) -> Sidecar:
    if document.get("version") != OWN_VERSION:
        raise ConfigError(
            f"{file} has version {document.get('version')!r}; this vitseek reads {OWN_VERSION}. "
            "Upgrade vitseek, or export the model again."
        )
    config, preprocessing = document.get("config"), document.get("preprocessing")
    if not isinstance(config, dict) or not isinstance(preprocessing, dict | None):
        raise ConfigError(f"{file} lacks a 'config' object; export the model again.")
    labels = document.get("labels")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ConfigError(f"{file}: 'labels' must be a list of class names.")
    try:
        parsed = ViTConfig.from_dict(config)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    return Sidecar(
        file=file,
        name=document.get("name"),
        config=parsed,
        preprocessing=preprocessing,
        pooling=document.get("pooling"),
        labels=labels,
    )


def _transformers(file: Path, document: Mapping[str, Any]) -> Sidecar:
    model = document["model_type"]
    if model not in TRANSFORMERS_MODELS:
        raise ConfigError(
            f"{file} describes a transformers model of type {model!r}; vitseek runs {', '.join(TRANSFORMERS_MODELS)}."
        )
    if (activation := document.get("hidden_act", "gelu")) != "gelu":
        raise ConfigError(f"{file} asks for the activation {activation!r}; vitseek computes exact 'gelu' only.")
    if (channels := document.get("num_channels", 3)) != 3:
        raise ConfigError(f"{file} asks for {channels} colour channels; vitseek feeds 3.")
    dinov2 = model.startswith("dinov2")
    known: dict[str, Any] = {
        "norm_eps": document.get("layer_norm_eps", 1e-6 if dinov2 else 1e-12),
        "num_heads": document.get("num_attention_heads", 12),
        "pos_resize": "bicubic-antialias" if model == "dinov2_with_registers" else "bicubic",
    }
    if "image_size" in document:
        known["img_size"] = _pair(file, "image_size", document["image_size"])
    labels = document.get("id2label")
    return Sidecar(
        file=file,
        known=known,
        preprocessing=_processor(file.with_name("preprocessor_config.json"), document.get("patch_size", 16)),
        labels=_labels(labels),
        notes=[f"config from {file.name} (transformers, {model})"],
    )


def _labels(id2label: Any) -> list[str] | None:
    if not isinstance(id2label, dict):
        return None
    try:
        numbered = {int(number): str(label) for number, label in id2label.items()}
    except ValueError:
        return None
    named = [numbered[number] for number in sorted(numbered)]
    plain = all(label.startswith("LABEL_") for label in named)
    return None if plain or sorted(numbered) != list(range(len(numbered))) else named


def _processor(file: Path, patch_size: Any) -> dict[str, Any] | None:
    """transformers' preprocessor_config.json as fields of ImagePreprocessing."""
    if not file.is_file():
        return None
    document = _read(file)
    if not document.get("do_resize", True) or not document.get("do_normalize", True):
        raise ConfigError(f"{file} switches resizing or normalising off; vitseek has no such preprocessing.")
    resize_px, exact = _resize(file, document.get("size", 224))
    crops = document.get("do_center_crop", "crop_size" in document)
    size_px = _square(file, "crop_size", document.get("crop_size", resize_px)) if crops else resize_px
    return {
        "size_px": size_px,
        "resize": "exact" if exact else "shortest-edge",
        "resize_px": resize_px,
        "interpolation": PILLOW_FILTERS.get(document.get("resample", 2), "bilinear"),
        "mean": list(document.get("image_mean", (0.5, 0.5, 0.5))),
        "std": list(document.get("image_std", (0.5, 0.5, 0.5))),
        "patch_size_px": patch_size if isinstance(patch_size, int) else 16,
    }


def _resize(file: Path, size: Any) -> tuple[int, bool]:
    if isinstance(size, dict) and "shortest_edge" in size:
        return _square(file, "size", size["shortest_edge"]), False
    return _square(file, "size", size), True


def _square(file: Path, name: str, size: Any) -> int:
    if isinstance(size, dict):
        sides = {size.get("height"), size.get("width")}
        size = sides.pop() if len(sides) == 1 else None
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigError(f"{file}: '{name}' must be one number of pixels or a square; it is {size!r}.")
    return size


def _pair(file: Path, name: str, size: Any) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else size
    if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(side, int) for side in pair)):
        raise ConfigError(f"{file}: '{name}' must be a number of pixels or [height, width]; it is {size!r}.")
    return int(pair[0]), int(pair[1])


def _timm(file: Path, document: Mapping[str, Any]) -> Sidecar:
    architecture = str(document["architecture"])
    if not architecture.startswith(("vit_", "deit_")):
        raise ConfigError(f"{file} describes timm's {architecture!r}; vitseek runs its vit_* and deit_* models.")
    pretrained = document.get("pretrained_cfg")
    if not isinstance(pretrained, dict):
        pretrained = dict(document)  # older files have everything on one level
    known: dict[str, Any] = {"norm_eps": 1e-6, "pos_resize": "bicubic-antialias"}
    size = pretrained.get("input_size", [3, 224, 224])
    known["img_size"] = _pair(file, "input_size", size[1:] if isinstance(size, list) else size)
    height, width = known["img_size"]
    if height != width:
        raise ConfigError(f"{file}: 'input_size' is {height}×{width} px; vitseek preprocesses to squares only.")
    crop_pct = float(pretrained.get("crop_pct") or 0.875)  # timm's DEFAULT_CROP_PCT
    names = pretrained.get("label_names")
    interpolation = pretrained.get("interpolation", "bicubic")
    return Sidecar(
        file=file,
        known=known,
        preprocessing={
            "size_px": height,
            "resize": "exact" if pretrained.get("crop_mode") == "squash" else "shortest-edge",
            "resize_px": int(height // crop_pct),
            "interpolation": interpolation if interpolation in TIMM_FILTERS else "bicubic",
            "mean": list(pretrained.get("mean", (0.485, 0.456, 0.406))),
            "std": list(pretrained.get("std", (0.229, 0.224, 0.225))),
            "crop_rounding": "half-even",
        },
        labels=names if isinstance(names, list) else None,
        notes=[f"config from {file.name} (timm, {architecture})"],
    )
