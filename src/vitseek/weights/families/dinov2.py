"""DINOv2, with and without registers: facebookresearch's names and transformers'."""

from pathlib import Path

from vitseek.weights.description import Document, Sidecar, labels_of
from vitseek.weights.families import timm, vit
from vitseek.weights.family import Family, encoder, transformers_note
from vitseek.weights.naming import Naming, Table, respelled
from vitseek.weights.pictures import transformers_pictures

_TABLE: Table = {
    **{left: right for left, right in timm.TABLE.items() if left not in ("reg_token", "dist_token")},
    "reg_token": "register_tokens",
}
_IGNORED = {"mask_token": vit.MASK}
_BACKBONE_PREFIXES = ("", "module.", "backbone.", "module.backbone.", "teacher.backbone.", "model.")

DINOV2 = Naming(
    name="dinov2",
    title="facebookresearch/dinov2",
    table=_TABLE,
    prefixes=_BACKBONE_PREFIXES,
    ignored=_IGNORED,
    pos_resize="bicubic-offset",
)
# Training checkpoints keep the blocks in chunks; the number of the block is the second one, the first is the chunk's.
CHUNKED = Naming(
    name="dinov2-chunked",
    title="facebookresearch/dinov2, blocks in chunks",
    table=respelled(_TABLE, [("blocks.#", "blocks.#.#")]),
    prefixes=_BACKBONE_PREFIXES,
    ignored=_IGNORED,
    pos_resize="bicubic-offset",
)

_TRANSFORMERS: Table = {
    **vit.TABLE,
    "reg_token": "embeddings.register_tokens",
    "blocks.#.norm1.*": "encoder.layer.#.norm1.*",
    "blocks.#.ls1.gamma": "encoder.layer.#.layer_scale1.lambda1",
    "blocks.#.norm2.*": "encoder.layer.#.norm2.*",
    "blocks.#.mlp.fc1.*": "encoder.layer.#.mlp.fc1.*",
    "blocks.#.mlp.fc2.*": "encoder.layer.#.mlp.fc2.*",
    "blocks.#.mlp.w12.*": "encoder.layer.#.mlp.weights_in.*",
    "blocks.#.mlp.w3.*": "encoder.layer.#.mlp.weights_out.*",
    "blocks.#.ls2.gamma": "encoder.layer.#.layer_scale2.lambda1",
}
# Also Dinov2WithRegisters, and the course archive vit-dinov2-base.npz.
TRANSFORMERS = Naming(
    name="transformers-dinov2",
    title="transformers Dinov2",
    table=_TRANSFORMERS,
    prefixes=("", "dinov2.", "dinov2_with_registers."),
    heads={"head.*": "classifier.*"},
    ignored={"embeddings.mask_token": vit.MASK},
)
TRANSFORMERS_5 = Naming(
    name="transformers-dinov2-5",
    title="transformers Dinov2, names of release 5",
    table={
        **respelled(_TRANSFORMERS, vit.RELEASE_5_ATTENTION),
        "blocks.#.mlp.w12.*": ("encoder.layer.#.mlp.gate_proj.*", "encoder.layer.#.mlp.up_proj.*"),
        "blocks.#.mlp.w3.*": "encoder.layer.#.mlp.down_proj.*",
    },
    prefixes=TRANSFORMERS.prefixes,
    heads=TRANSFORMERS.heads,
    ignored=TRANSFORMERS.ignored,
)


def _read(file: Path, document: Document) -> Sidecar:
    known = encoder(file, document, norm_eps=1e-6)
    if document["model_type"] == "dinov2_with_registers":  # transformers antialiases in this variant only
        known["pos_resize"] = "bicubic-antialias"
    if document.get("use_swiglu_ffn"):
        known.pop("mlp_layer")  # transformers' gate is SiLU whatever the config says
    return Sidecar(
        file=file,
        known=known,
        preprocessing=transformers_pictures(file, document.get("patch_size", 14)),
        labels=labels_of(document.get("id2label")),
        notes=[transformers_note(file, document)],
    )


FAMILY = Family(
    name="DINOv2",
    namings=(DINOV2, CHUNKED, TRANSFORMERS, TRANSFORMERS_5),
    transformers={"dinov2": _read, "dinov2_with_registers": _read},
)
