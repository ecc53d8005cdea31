"""Work out a config from the shapes of the parameters, and say what had to be assumed."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitseek.errors import WeightsError
from vitseek.models.config import ViTConfig
from vitseek.weights.naming import Naming

Shapes = Mapping[str, tuple[int, ...]]

HEAD_DIM = 64  # the width of an attention head in every published ViT, DeiT, DINO and DINOv2 but ViT-H (80)
ASK = "Put a config.json beside the file, or give a zoo name with the weights."


def infer_config(
    shapes: Shapes, naming: Naming, *, where: str, known: Mapping[str, Any] | None = None
) -> tuple[ViTConfig, list[str]]:
    """Read width, depth, patch, grid and layers off the shapes.

    Parameters
    ----------
    shapes
        Canonical names and shapes.
    naming
        The family that the names belong to: it decides what shapes cannot tell.
    where
        The file, for messages.
    known
        Fields that another source has already settled; they are taken as they are.

    Returns
    -------
    The config, and one sentence for every assumption.

    Raises
    ------
    WeightsError
        If the shapes leave more than one possibility open.
    """
    known = dict(known or {})
    notes: list[str] = []
    fields: dict[str, Any] = {}

    fields["embed_dim"] = width = _size(shapes, "cls_token", 2, where)
    fields["patch_size"] = patch = _size(shapes, "patch_embed.proj.weight", 3, where)
    fields["depth"] = depth = _depth(shapes)
    fields["distilled"] = "dist_token" in shapes
    fields["num_registers"] = shapes["reg_token"][1] if len(shapes.get("reg_token", ())) == 3 else 0
    fields["layer_scale"] = "blocks.0.ls1.gamma" in shapes
    fields["qkv_bias"] = "blocks.0.attn.qkv.bias" in shapes
    fields["mlp_layer"] = "swiglu" if "blocks.0.mlp.w12.weight" in shapes else "gelu"
    fields["hidden_dim"] = _hidden_dim(shapes)
    fields.update(_head(shapes, width))

    if "img_size" not in known:
        prefix = 2 if fields["distilled"] else 1
        side = _square_side(shapes, prefix, fields["num_registers"], where)
        fields["img_size"] = (side * patch, side * patch)
    if "num_heads" not in known:
        if width % HEAD_DIM:
            raise WeightsError(
                f"{where}: the number of attention heads cannot be told from the shapes (width {width} is no multiple "
                f"of {HEAD_DIM}). {ASK}"
            )
        fields["num_heads"] = width // HEAD_DIM
        notes.append(f"num_heads = {width // HEAD_DIM}, assuming {HEAD_DIM} dimensions a head")
    if "norm_eps" not in known:
        fields["norm_eps"] = naming.norm_eps
        notes.append(f"norm_eps = {naming.norm_eps:g}, the default of {naming.title}")
    if "pos_resize" not in known:
        fields["pos_resize"] = _pos_resize(naming, fields["num_registers"])
        notes.append(f"pos_resize = {fields['pos_resize']}, as {naming.title} does it")
    fields.update(known)
    height, wide = fields["img_size"]
    notes.insert(0, f"{depth} blocks of width {width}, {patch} px patches, grid for {height}×{wide} px")
    return _with_usual_hidden_dim(ViTConfig(**fields)), notes


def _with_usual_hidden_dim(config: ViTConfig) -> ViTConfig:
    """Write the usual feed-forward width as the zoo does, so that equal models have equal configs."""
    usual = replace(config, hidden_dim=None)
    return usual if usual.mlp_dim == config.mlp_dim else config


def _size(shapes: Shapes, name: str, axis: int, where: str) -> int:
    shape = shapes.get(name, ())
    if len(shape) <= axis or shape[axis] < 1:
        came = f"has shape {shape}" if name in shapes else "is missing"
        raise WeightsError(f"{where}: the config cannot be inferred, because {name} {came}. {ASK}")
    return shape[axis]


def _depth(shapes: Shapes) -> int:
    numbers = (name.split(".")[1] for name in shapes if name.startswith("blocks."))
    return max((int(number) for number in numbers if number.isdigit()), default=-1) + 1


def _hidden_dim(shapes: Shapes) -> int | None:
    for name in ("blocks.0.mlp.fc2.weight", "blocks.0.mlp.w3.weight"):
        if len(shapes.get(name, ())) == 2:
            return shapes[name][1]
    return None


def _head(shapes: Shapes, width: int) -> dict[str, Any]:
    shape = shapes.get("head.weight", ())
    if len(shape) != 2:
        return {"num_classes": 0}
    return {"num_classes": shape[0], "head_input": "cls+patch-mean" if shape[1] == 2 * width else "cls"}


def _square_side(shapes: Shapes, prefix: int, registers: int, where: str) -> int:
    positions = _size(shapes, "pos_embed", 1, where)
    # timm's models without a class position (no_embed_class), or with one for every prefix token: see adapt.py.
    sides = {math.isqrt(positions - rest) for rest in (prefix, 0, prefix + registers) if _is_square(positions - rest)}
    if len(sides) != 1:
        raise WeightsError(
            f"{where}: pos_embed has {positions} positions, which fit no square grid of patches "
            f"({prefix} of them before the grid); the image size is ambiguous. {ASK}"
        )
    return sides.pop()


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def _pos_resize(naming: Naming, registers: int) -> str:
    # Both DINOv2 implementations antialias in their register variant only.
    return "bicubic-antialias" if registers and "dinov2" in naming.name else naming.pos_resize
