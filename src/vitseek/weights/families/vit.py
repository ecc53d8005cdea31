"""transformers' ViT and DeiT, with and without distillation."""

from pathlib import Path

from vitseek.weights.description import Document, Sidecar, labels_of
from vitseek.weights.family import Family, encoder, transformers_note
from vitseek.weights.naming import Naming, Table, respelled
from vitseek.weights.pictures import transformers_pictures

MASK = "the mask token is for pre-training only"
POOLER = "the pooler (a dense layer with tanh) is not part of the features: they come straight from the final norm"
NORM_EPS = 1e-12  # transformers' ViTConfig and DeiTConfig

_ATTENTION = "encoder.layer.#.attention.attention"
TABLE: Table = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.*": "embeddings.patch_embeddings.projection.*",
    "blocks.#.norm1.*": "encoder.layer.#.layernorm_before.*",
    "blocks.#.attn.qkv.*": (f"{_ATTENTION}.query.*", f"{_ATTENTION}.key.*", f"{_ATTENTION}.value.*"),
    "blocks.#.attn.proj.*": "encoder.layer.#.attention.output.dense.*",
    "blocks.#.norm2.*": "encoder.layer.#.layernorm_after.*",
    "blocks.#.mlp.fc1.*": "encoder.layer.#.intermediate.dense.*",
    "blocks.#.mlp.fc2.*": "encoder.layer.#.output.dense.*",
    "norm.*": "layernorm.*",
}
# In memory, release 5 of transformers renamed the attention; its save_pretrained still writes the old names.
RELEASE_5_ATTENTION = (
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
)
RELEASE_5 = (
    *RELEASE_5_ATTENTION,
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("encoder.layer.", "layers."),
)
IGNORED = {"pooler.dense.*": POOLER, "embeddings.mask_token": MASK}

VIT = Naming(
    name="transformers-vit",
    title="transformers ViT, and DeiT without distillation",
    table=TABLE,
    prefixes=("", "vit.", "deit."),
    heads={"head.*": "classifier.*"},
    ignored=IGNORED,
    norm_eps=NORM_EPS,
)
VIT_5 = Naming(
    name="transformers-vit-5",
    title="transformers ViT, names of release 5",
    table=respelled(TABLE, RELEASE_5),
    prefixes=VIT.prefixes,
    heads=VIT.heads,
    ignored=IGNORED,
    norm_eps=NORM_EPS,
)

_DEIT: Table = {**TABLE, "dist_token": "embeddings.distillation_token"}
_DEIT_IGNORED = {
    **IGNORED,
    "classifier.*": "a head for the class token alone, where the model also has a distillation token, is not run",
}
DEIT = Naming(
    name="transformers-deit",
    title="transformers DeiT with distillation",
    table=_DEIT,
    prefixes=("", "deit."),
    heads={"head.*": "cls_classifier.*", "head_dist.*": "distillation_classifier.*"},
    ignored=_DEIT_IGNORED,
    norm_eps=NORM_EPS,
)
DEIT_5 = Naming(
    name="transformers-deit-5",
    title="transformers DeiT with distillation, names of release 5",
    table=respelled(_DEIT, RELEASE_5),
    prefixes=DEIT.prefixes,
    heads=DEIT.heads,
    ignored=_DEIT_IGNORED,
    norm_eps=NORM_EPS,
)


def _read(file: Path, document: Document) -> Sidecar:
    return Sidecar(
        file=file,
        known=encoder(file, document, norm_eps=NORM_EPS),
        preprocessing=transformers_pictures(file, document.get("patch_size", 16)),
        labels=labels_of(document.get("id2label")),
        notes=[transformers_note(file, document)],
    )


FAMILY = Family(name="ViT", namings=(VIT, DEIT, VIT_5, DEIT_5), transformers={"vit": _read, "deit": _read})
