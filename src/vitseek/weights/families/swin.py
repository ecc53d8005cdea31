"""Swin Transformer: microsoft's original files, timm's and transformers'.

They differ in where merging is written down. microsoft, transformers and timm before 0.9 count it to the stage before
(``layers.0.downsample`` leads to stage 1), timm from 0.9 on, and so the canonical names, to the stage behind.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitseek.errors import ConfigError, WeightsError
from vitseek.models.swin_config import MAX_STAGES, SwinConfig, block_name
from vitseek.weights.description import Document, Sidecar, labels_of, pair
from vitseek.weights.family import Family, check_encoder, read_timm, transformers_note
from vitseek.weights.infer import ASK, Shapes
from vitseek.weights.naming import Naming, Table, respelled
from vitseek.weights.pictures import transformers_pictures

NORM_EPS = 1e-5  # torch's default, which all three use
MERGE_AHEAD = {
    f"layers.{stage}.downsample.{layer}.*": f"layers.{stage - 1}.downsample.{layer}.*"
    for stage in range(1, MAX_STAGES)
    for layer in ("norm", "reduction")
}
MERGE_BEHIND = {canonical: canonical for canonical in MERGE_AHEAD}
COMPUTED = "computed from the window's size, not learned"
PRE_TRAINING = "for pre-training only"

_BLOCK: Table = {
    f"layers.#.blocks.#.{layer}": f"layers.#.blocks.#.{layer}"
    for layer in (
        "norm1.*", "attn.qkv.*", "attn.proj.*", "attn.relative_position_bias_table", "norm2.*", "mlp.fc1.*", "mlp.fc2.*"
    )
}  # fmt: skip
_STEM: Table = {"patch_embed.proj.*": "patch_embed.proj.*", "patch_embed.norm.*": "patch_embed.norm.*"}
_IGNORED = {
    "layers.#.blocks.#.attn_mask": COMPUTED,
    "layers.#.blocks.#.attn.relative_position_index": COMPUTED,
    "mask_token": PRE_TRAINING,
}

TIMM = Naming(
    name="timm-swin",
    title="timm's Swin",
    table={**_STEM, **_BLOCK, **MERGE_BEHIND, "norm.*": "norm.*", "head.fc.*": "head.fc.*"},
    ignored=_IGNORED,
    norm_eps=NORM_EPS,
)
# The prefixes: what training code wraps around a model; "encoder." is SimMIM's.
MICROSOFT = Naming(
    name="microsoft-swin",
    title="microsoft/Swin-Transformer, and timm's Swin before 0.9",
    table={**_STEM, **_BLOCK, **MERGE_AHEAD, "norm.*": "norm.*", "head.fc.*": "head.*"},
    prefixes=("", "module.", "model.", "backbone.", "encoder."),
    ignored={**_IGNORED, "decoder.#.*": PRE_TRAINING},
    norm_eps=NORM_EPS,
)

_BLOCKS, _SELF = "encoder.layers.#.blocks.#", "encoder.layers.#.blocks.#.attention.self"
_TABLE: Table = {
    "patch_embed.proj.*": "embeddings.patch_embeddings.projection.*",
    "patch_embed.norm.*": "embeddings.norm.*",
    "layers.#.blocks.#.norm1.*": f"{_BLOCKS}.layernorm_before.*",
    "layers.#.blocks.#.attn.qkv.*": (f"{_SELF}.query.*", f"{_SELF}.key.*", f"{_SELF}.value.*"),
    "layers.#.blocks.#.attn.relative_position_bias_table": f"{_SELF}.relative_position_bias_table",
    "layers.#.blocks.#.attn.proj.*": f"{_BLOCKS}.attention.output.dense.*",
    "layers.#.blocks.#.norm2.*": f"{_BLOCKS}.layernorm_after.*",
    "layers.#.blocks.#.mlp.fc1.*": f"{_BLOCKS}.intermediate.dense.*",
    "layers.#.blocks.#.mlp.fc2.*": f"{_BLOCKS}.output.dense.*",
    **{canonical: f"encoder.{behind}" for canonical, behind in MERGE_AHEAD.items()},
    "norm.*": "layernorm.*",
}
# In memory, release 5 of transformers renamed the attention; its save_pretrained still writes the old names.
_RELEASE_5 = (
    ("attention.self.query", "attention.q_proj"),
    ("attention.self.key", "attention.k_proj"),
    ("attention.self.value", "attention.v_proj"),
    ("attention.self.relative", "attention.relative_position_bias.relative"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)
_IGNORED_HERE = {
    f"{_SELF}.relative_position_index": COMPUTED,
    f"{_BLOCKS}.attention.relative_position_bias.relative_position_index": COMPUTED,
    "embeddings.mask_token": PRE_TRAINING,
    "decoder.#.*": PRE_TRAINING,
}
TRANSFORMERS = Naming(
    name="transformers-swin",
    title="transformers Swin",
    table=_TABLE,
    prefixes=("", "swin."),
    heads={"head.fc.*": "classifier.*"},
    ignored=_IGNORED_HERE,
    norm_eps=NORM_EPS,
)
TRANSFORMERS_5 = Naming(
    name="transformers-swin-5",
    title="transformers Swin, names of release 5",
    table=respelled(_TABLE, _RELEASE_5),
    prefixes=TRANSFORMERS.prefixes,
    heads=TRANSFORMERS.heads,
    ignored=_IGNORED_HERE,
    norm_eps=NORM_EPS,
)


def _read(file: Path, document: Document) -> Sidecar:
    check_encoder(file, document)
    if document.get("use_absolute_embeddings", False):
        raise ConfigError(f"{file} asks for absolute positions (use_absolute_embeddings); vitseek's Swin has none.")
    # transformers' SwinConfig writes every field; the defaults are those of a file that lacks one.
    depths = tuple(document.get("depths", (2, 2, 6, 2)))
    patch_size = document.get("patch_size", 4)
    pictures = transformers_pictures(file, 1)  # any size works
    if pictures is not None:
        pictures["patch_size_px"] = patch_size << (len(depths) - 1)  # but with multiples of it no merging is padded
    known: dict[str, Any] = {
        "embed_dim": document.get("embed_dim", 96),
        "depths": depths,
        "num_heads": tuple(document.get("num_heads", (3, 6, 12, 24))),
        "window_size": document.get("window_size", 7),
        "patch_size": patch_size,
        "img_size": pair(file, "image_size", document.get("image_size", 224)),
        "mlp_ratio": document.get("mlp_ratio", 4.0),
        "norm_eps": document.get("layer_norm_eps", NORM_EPS),
    }
    return Sidecar(
        file=file,
        known=known,
        preprocessing=pictures,
        labels=labels_of(document.get("id2label")),
        notes=[transformers_note(file, document)],
    )


def _read_timm(file: Path, document: Document) -> Sidecar:
    """timm's config says the picture's size; everything else is in the shapes."""
    sidecar = read_timm(file, document)
    sidecar.known = {"img_size": sidecar.known["img_size"], "norm_eps": NORM_EPS}
    return sidecar


def infer_swin(
    shapes: Shapes, naming: Naming, *, where: str, known: Mapping[str, Any] | None = None
) -> tuple[SwinConfig, list[str]]:
    """Read width, stages, heads and window off the shapes; only the size of the pictures is not in them.

    Raises
    ------
    WeightsError
        If a shape that decides is missing, or a table of relative positions fits no window.
    """
    known = dict(known or {})
    kernel = _shape(shapes, "patch_embed.proj.weight", 4, where)
    depths = known.get("depths") or _depths(shapes)
    if not depths:
        raise WeightsError(f"{where}: the config cannot be inferred, because block 0 of stage 0 is missing. {ASK}")
    tables = [
        _shape(shapes, f"{block_name(stage, 0)}.attn.relative_position_bias_table", 2, where)
        for stage in range(len(depths))
    ]
    hidden = _shape(shapes, f"{block_name(0, 0)}.mlp.fc1.weight", 2, where)[0]
    window = known.get("window_size") or _window(tables[0], where)
    fields: dict[str, Any] = {
        "embed_dim": kernel[0],
        "patch_size": kernel[3],
        "depths": depths,
        "num_heads": tuple(heads for _, heads in tables),
        "window_size": window,
        "mlp_ratio": _ratio(hidden, kernel[0]),
        "qkv_bias": f"{block_name(0, 0)}.attn.qkv.bias" in shapes,
        "num_classes": shapes["head.fc.weight"][0] if len(shapes.get("head.fc.weight", ())) == 2 else 0,
    }
    notes = []
    if "norm_eps" not in known:
        fields["norm_eps"] = naming.norm_eps
        notes.append(f"norm_eps = {naming.norm_eps:g}, the default of {naming.title}")
    if "img_size" not in known:
        # So that every stage divides into windows: 224 px for windows of 7, 384 px for 12, as the published models.
        side = kernel[3] * window * 2 ** (len(depths) - 1)
        fields["img_size"] = (side, side)
        notes.append(f"img_size = {side} px, the picture whose last stage is one window")
    config = SwinConfig(**{**fields, **known})
    stages = "+".join(map(str, config.depths))
    notes.insert(0, f"Swin of {stages} blocks from width {config.embed_dim}, windows of {config.window_size}")
    return config, notes


def _shape(shapes: Shapes, name: str, axes: int, where: str) -> tuple[int, ...]:
    shape = shapes.get(name, ())
    if len(shape) != axes or min(shape) < 1:
        came = f"has shape {shape}" if name in shapes else "is missing"
        raise WeightsError(f"{where}: the config cannot be inferred, because {name} {came}. {ASK}")
    return shape


def _depths(shapes: Shapes) -> tuple[int, ...]:
    """Blocks of each stage, as far as stages and blocks follow each other without a gap."""
    places = {tuple(name.split(".")[1:4:2]) for name in shapes if name.startswith("layers.") and ".blocks." in name}
    depths: list[int] = []
    while (stage := str(len(depths)), "0") in places:
        depths.append(max(int(place) for own, place in places if own == stage) + 1)
    return tuple(depths)


def _window(table: tuple[int, ...], where: str) -> int:
    side = math.isqrt(table[0])
    if side * side != table[0] or side % 2 == 0:
        raise WeightsError(
            f"{where}: a table of {table[0]} relative positions fits no window; one of w x w tokens has (2 w - 1)², "
            f"for example 169 for 7. {ASK}"
        )
    return (side + 1) // 2


def _ratio(hidden: int, width: int) -> float:
    """The ratio from which ``int(ratio * width)`` gives back ``hidden``."""
    ratio = hidden / width
    return ratio if int(ratio * width) == hidden else math.nextafter(ratio, math.inf)


FAMILY = Family(
    name="Swin",
    namings=(TIMM, MICROSOFT, TRANSFORMERS, TRANSFORMERS_5),
    transformers={"swin": _read},
    timm={"swin_*": _read_timm},
    infer=infer_swin,
)
