"""How pictures are prepared, as transformers' and timm's configs say it, in the fields of ``ImagePreprocessing``."""

import math
from pathlib import Path
from typing import Any

from vitseek.errors import ConfigError
from vitseek.weights.description import Document, pair, read_json, square

PROCESSOR = "preprocessor_config.json"
PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # transformers stores Pillow's numbers
TIMM_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
TIMM_CROP_PCT = 0.875  # timm's DEFAULT_CROP_PCT


def transformers_pictures(config: Path, patch_size: Any, *, drop_edges: bool = False) -> dict[str, Any] | None:
    """What ``preprocessor_config.json`` beside a config says; ``None`` without one.

    Parameters
    ----------
    drop_edges
        Whether the family's convolution passes over what fills no patch; else such a picture is an error later on.
    """
    file = config.with_name(PROCESSOR)
    if not file.is_file():
        return None
    document = read_json(file)
    if not document.get("do_resize", True) or not document.get("do_normalize", True):
        raise ConfigError(f"{file} switches resizing or normalising off; vitseek has no such preprocessing.")
    if "max_num_patches" in document:
        size = _native(file, document)
    else:
        resize_px, exact = _resize(file, document.get("size", 224))
        crops = document.get("do_center_crop", "crop_size" in document)
        size_px = square(file, "crop_size", document.get("crop_size", resize_px)) if crops else resize_px
        size = {"size_px": size_px, "resize": "exact" if exact else "shortest-edge", "resize_px": resize_px}
        size |= _whole_patches(size_px, patch_size) if drop_edges else {}
    return {
        **size,
        "interpolation": PILLOW_FILTERS.get(document.get("resample", 2), "bilinear"),
        "mean": list(document.get("image_mean", (0.5, 0.5, 0.5))),
        "std": list(document.get("image_std", (0.5, 0.5, 0.5))),
        "patch_size_px": document.get("patch_size", patch_size if isinstance(patch_size, int) else 16),
    }


def _whole_patches(size_px: int, patch_size: Any) -> dict[str, Any]:
    """What is left of a square that is no whole number of patches: without the right and the lower edge."""
    if not isinstance(patch_size, int) or patch_size < 1 or size_px % patch_size == 0 or size_px < patch_size:
        return {}
    return {"size_px": size_px // patch_size * patch_size, "crop_rounding": "corner"}


def _native(file: Path, document: Document) -> dict[str, Any]:
    """SigLIP 2's processor for native resolution."""
    patches, patch = document["max_num_patches"], document.get("patch_size", 16)
    if not all(isinstance(one, int) and one > 0 for one in (patches, patch)):
        raise ConfigError(
            f"{file}: 'max_num_patches' and 'patch_size' must be numbers; they are {patches!r}, {patch!r}."
        )
    return {"resize": "max-patches", "max_patches": patches, "size_px": math.isqrt(patches) * patch}


def _resize(file: Path, size: Any) -> tuple[int, bool]:
    if isinstance(size, dict) and "shortest_edge" in size:
        return square(file, "size", size["shortest_edge"]), False
    return square(file, "size", size), True


def timm_pretrained(document: Document) -> Document:
    """timm's ``pretrained_cfg``; older files have everything on one level."""
    pretrained = document.get("pretrained_cfg")
    return pretrained if isinstance(pretrained, dict) else document


def timm_pictures(file: Path, document: Document) -> dict[str, Any]:
    """What timm's ``config.json`` says."""
    pretrained = timm_pretrained(document)
    height, width = timm_size(file, document)
    if height != width:
        raise ConfigError(f"{file}: 'input_size' is {height}×{width} px; vitseek preprocesses to squares only.")
    crop_pct = float(pretrained.get("crop_pct") or TIMM_CROP_PCT)
    interpolation = pretrained.get("interpolation", "bicubic")
    return {
        "size_px": height,
        "resize": "exact" if pretrained.get("crop_mode") == "squash" else "shortest-edge",
        "resize_px": int(height // crop_pct),
        "interpolation": interpolation if interpolation in TIMM_FILTERS else "bicubic",
        "mean": list(pretrained.get("mean", (0.485, 0.456, 0.406))),
        "std": list(pretrained.get("std", (0.229, 0.224, 0.225))),
        "crop_rounding": "half-even",
    }


def timm_size(file: Path, document: Document) -> tuple[int, int]:
    """(height, width) in pixels that the model was made for."""
    size = timm_pretrained(document).get("input_size", [3, 224, 224])
    return pair(file, "input_size", size[1:] if isinstance(size, list) else size)
