"""Work out a config from the shapes of the parameters, and say what had to be assumed."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from vitseek.errors import WeightsError
from vitseek.models.architectures import ModelConfig
from vitseek.models.config import ViTConfig
from vitseek.models.text import TextConfig
from vitseek.weights.naming import Naming
from vitseek.weights.naming import Shapes as Shapes

HEAD_DIM = 64  # the width of an attention head in nearly every published model
# The exceptions, by the width of a token: SigLIP so400m; ViT-H, and g and bigG of CLIP. All have 16 heads.
HEADS_OF_WIDTH = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
TEXT_HEADS_OF_WIDTH = {1152: 16}
ASK = "Put a config.json beside the file, or give a zoo name with the weights."


class Infer(Protocol):
    """What makes a config of the shapes; `infer_config` for a Vision Transformer."""

    def __call__(
        self, shapes: Shapes, naming: Naming, *, where: str, known: Mapping[str, Any] | None = None
    ) -> tuple[ModelConfig, list[str]]: ...


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

    fields["embed_dim"] = width = _size(shapes, "patch_embed.proj.weight", 0, where)
    fields["patch_size"] = patch = _size(shapes, "patch_embed.proj.weight", 3, where)
    fields["depth"] = depth = _depth(shapes, "blocks.")
    fields["class_token"] = "cls_token" in shapes
    fields["distilled"] = "dist_token" in shapes
    fields["num_registers"] = shapes["reg_token"][1] if len(shapes.get("reg_token", ())) == 3 else 0
    fields.update(_layers(shapes))
    fields["hidden_dim"] = _hidden_dim(shapes)
    fields.update(_head(shapes, width))

    for name, value in naming.assumed.items():
        if name not in known and (name != "mlp_layer" or fields["mlp_layer"] == "gelu"):
            fields[name] = value
            notes.append(f"{name} = {value}, the default of {naming.title}")
    if known.get("mlp_layer", "gelu") != "gelu" and fields["mlp_layer"] == "swiglu":
        raise WeightsError(
            f"{where}: the feed-forward layers have a gate, but the description beside the file wants the activation "
            f"{known['mlp_layer']!r} between two plain layers. {ASK}"
        )
    positions = {**fields, **known}.get("pos_embed", "learned")
    if "img_size" not in known and "img_size" not in fields:
        prefix = int(fields["class_token"]) + int(fields["distilled"])
        side = _square_side(shapes, prefix, fields["num_registers"], where)
        fields["img_size"] = (side * patch, side * patch)
    if "num_heads" not in known:
        heads = None if positions == "rope" else HEADS_OF_WIDTH.get(width)
        fields["num_heads"], note = _heads(width, heads, where)
        notes.append(note)
    if "norm_eps" not in known:
        fields["norm_eps"] = naming.norm_eps
        notes.append(f"norm_eps = {naming.norm_eps:g}, the default of {naming.title}")
    if "pos_resize" not in known and positions == "learned":
        fields["pos_resize"] = _pos_resize(naming, fields["num_registers"])
        notes.append(f"pos_resize = {fields['pos_resize']}, as {naming.title} does it")
    fields.update(known)
    height, wide = fields["img_size"]
    grid = f"grid for {height}×{wide} px" if positions == "learned" else f"pictures of {height}×{wide} px"
    notes.insert(0, f"{depth} blocks of width {width}, {patch} px patches, {grid}")
    return _with_usual_hidden_dim(ViTConfig(**fields)), notes


def infer_text(
    shapes: Shapes, naming: Naming, *, where: str, known: Mapping[str, Any] | None = None
) -> tuple[TextConfig, list[str]]:
    """The same for a text tower: sizes and layers off the shapes, the rest as the family has it."""
    known = dict(known or {})
    notes: list[str] = []
    fields: dict[str, Any] = {}
    fields["vocab_size"] = vocabulary = _size(shapes, "text.token_embed.weight", 0, where)
    fields["width"] = width = _size(shapes, "text.token_embed.weight", 1, where)
    fields["context_length"] = context = _size(shapes, "text.pos_embed", 0, where)
    fields["depth"] = depth = _depth(shapes, "text.blocks.")
    fields["hidden_dim"] = _size(shapes, "text.blocks.0.mlp.fc2.weight", 1, where)
    fields["token_types"] = shapes.get("text.token_type_embed.weight", (0,))[0]
    fields["embed_norm"] = "text.norm_embed.weight" in shapes
    fields["norm_first"] = "text.norm.weight" in shapes
    fields["embedding_dim"] = shapes.get("text.projection.weight", (0,))[0]
    fields["projection_bias"] = "text.projection.bias" in shapes
    for name, value in naming.assumed_text.items():
        if name not in known:
            fields[name] = value
            notes.append(f"text: {name} = {value}, the default of {naming.title}")
    if "num_heads" not in known:
        fields["num_heads"], note = _heads(width, TEXT_HEADS_OF_WIDTH.get(width), where)
        notes.append(f"text: {note}")
    last = vocabulary - 1  # where CLIP's vocabulary has its end-of-text token, which also fills up; the start is before
    special = {"eos_token_id": last, "pad_token_id": last}
    if "eos_token_id" not in known and "eos_token_id" not in fields:
        special["bos_token_id"] = last - 1
    for name, number in special.items():
        if name not in known and name not in fields:
            fields[name] = number
            notes.append(f"text: {name} = {number}, at the end of the vocabulary")
    fields.update(known)
    notes.insert(0, f"text tower of {depth} blocks of width {width} for {context} of {vocabulary} tokens")
    config = TextConfig(**fields)
    usual = replace(config, hidden_dim=None)
    return usual if usual.mlp_dim == config.mlp_dim else config, notes


def _heads(width: int, published: int | None, where: str) -> tuple[int, str]:
    if published:
        return published, f"num_heads = {published}, as in the published models of width {width}"
    if width % HEAD_DIM:
        raise WeightsError(
            f"{where}: the number of attention heads cannot be told from the shapes (width {width} is no multiple "
            f"of {HEAD_DIM}). {ASK}"
        )
    return width // HEAD_DIM, f"num_heads = {width // HEAD_DIM}, assuming {HEAD_DIM} dimensions a head"


def _layers(shapes: Shapes) -> dict[str, Any]:
    """Which layers there are and which of them have biases."""
    swiglu = "blocks.0.mlp.w12.weight" in shapes
    return {
        "layer_scale": "blocks.0.ls1.gamma" in shapes,
        "patch_bias": "patch_embed.proj.bias" in shapes,
        "patch_norm": "patch_embed.norm.weight" in shapes,
        "pre_norm": "norm_pre.weight" in shapes,
        "norm_layer": "layernorm" if "norm.bias" in shapes else "rmsnorm",
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        "proj_bias": "blocks.0.attn.proj.bias" in shapes,
        "mlp_layer": "swiglu" if swiglu else "gelu",
        "mlp_bias": f"blocks.0.mlp.{'w3' if swiglu else 'fc2'}.bias" in shapes,
        "attention_pool": "attn_pool.latent" in shapes,
        "embedding_dim": shapes.get("projection.weight", (0,))[0],
    }


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


def _depth(shapes: Shapes, blocks: str) -> int:
    numbers = (name.removeprefix(blocks).split(".")[0] for name in shapes if name.startswith(blocks))
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
    single = "cls" if "cls_token" in shapes else "patch-mean"
    return {"num_classes": shape[0], "head_input": "cls+patch-mean" if shape[1] == 2 * width else single}


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
