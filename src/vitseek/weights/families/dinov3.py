"""DINOv3's Vision Transformers: transformers' names, facebookresearch's and timm's.

There is no position embedding; queries and keys are turned instead (see ``ViTConfig.pos_embed``). The key has no bias:
transformers leaves it out, facebookresearch masks it, timm leaves out all three where they came out as zeros.
"""

from pathlib import Path

from vitseek.errors import ConfigError
from vitseek.weights.description import Document, Sidecar
from vitseek.weights.families import timm, vit
from vitseek.weights.family import Family, encoder, read_timm, transformers_note
from vitseek.weights.layouts import without_key_bias
from vitseek.weights.naming import Naming, Table, respelled
from vitseek.weights.pictures import transformers_pictures

NORM_EPS = 1e-5
ROPE_THETA = 100.0
SIZE = (224, 224)  # of the pictures in the published settings; there is no grid that could tell
ASSUMED = {"pos_embed": "rope", "rope_theta": ROPE_THETA, "img_size": SIZE}
# preprocessor_config.json of facebook/dinov3-*; mean and std are ImageNet's, as is usual.
PICTURES = {"resize": "exact", "interpolation": "bilinear"}
_ATTENTION = "layer.#.attention"

_TABLE: Table = {
    "cls_token": "embeddings.cls_token",
    "reg_token": "embeddings.register_tokens",
    "patch_embed.proj.*": "embeddings.patch_embeddings.*",
    "blocks.#.norm1.*": "layer.#.norm1.*",
    "blocks.#.attn.qkv.*": (f"{_ATTENTION}.q_proj.*", f"{_ATTENTION}.k_proj.*", f"{_ATTENTION}.v_proj.*"),
    "blocks.#.attn.proj.*": f"{_ATTENTION}.o_proj.*",
    "blocks.#.ls1.gamma": "layer.#.layer_scale1.lambda1",
    "blocks.#.norm2.*": "layer.#.norm2.*",
    "blocks.#.mlp.fc1.*": "layer.#.mlp.up_proj.*",
    "blocks.#.mlp.fc2.*": "layer.#.mlp.down_proj.*",
    "blocks.#.ls2.gamma": "layer.#.layer_scale2.lambda1",
    "norm.*": "norm.*",
}
_GATED: Table = {
    **{left: right for left, right in _TABLE.items() if ".mlp." not in left},
    "blocks.#.mlp.w12.*": ("layer.#.mlp.gate_proj.*", "layer.#.mlp.up_proj.*"),
    "blocks.#.mlp.w3.*": "layer.#.mlp.down_proj.*",
}
_RELEASE_5 = (("layer.#", "model.layer.#"),)


def _naming(name: str, title: str, table: Table) -> Naming:
    return Naming(
        name=name,
        title=title,
        table=table,
        zeros=frozenset(part.replace(".q_proj.*", ".k_proj.bias") for part in table["blocks.#.attn.qkv.*"]),
        ignored={"embeddings.mask_token": vit.MASK},
        norm_eps=NORM_EPS,
        assumed=ASSUMED,
        pictures=PICTURES,
    )


TRANSFORMERS = _naming("transformers-dinov3", "transformers DINOv3", _TABLE)
GATED = _naming("transformers-dinov3-gated", "transformers DINOv3 with a gated feed-forward (H+, 7B)", _GATED)
TRANSFORMERS_5 = _naming(
    "transformers-dinov3-5", "transformers DINOv3, names of release 5", respelled(_TABLE, _RELEASE_5)
)
GATED_5 = _naming(
    "transformers-dinov3-gated-5", "transformers DINOv3, gated, names of release 5", respelled(_GATED, _RELEASE_5)
)
FACEBOOK = Naming(
    name="dinov3",
    title="facebookresearch/dinov3",
    table={
        **{left: right for left, right in timm.TABLE.items() if left not in ("pos_embed", "dist_token", "reg_token")},
        "reg_token": "storage_tokens",
        "blocks.#.mlp.w12.*": ("blocks.#.mlp.w1.*", "blocks.#.mlp.w2.*"),
    },
    prefixes=("", "module.", "backbone.", "teacher.backbone."),
    layouts={"blocks.#.attn.qkv.bias": without_key_bias},
    ignored={
        "mask_token": vit.MASK,
        "rope_embed.periods": "the periods of the rotary embedding are computed",
        "blocks.#.attn.qkv.bias_mask": "the key's bias is always masked",
        "local_cls_norm.*": "the norm of local crops is for training only",
    },
    norm_eps=NORM_EPS,
    assumed=ASSUMED,
    pictures=PICTURES,
)
# timm: here the biases of query and value are apart, and every kind of feed-forward has words of its own.
_REPLACED = {"blocks.#.attn.qkv.*", *(name for name in timm.TABLE if ".mlp." in name and name.startswith("blocks."))}
_TIMM_COMMON: Table = {
    **{left: right for left, right in timm.TABLE.items() if left not in ("pos_embed", "dist_token", *_REPLACED)},
    "blocks.#.ls1.gamma": "blocks.#.gamma_1",
    "blocks.#.ls2.gamma": "blocks.#.gamma_2",
    "blocks.#.attn.qkv.weight": "blocks.#.attn.qkv.weight",
    "blocks.#.attn.qkv.bias": ("blocks.#.attn.q_bias", "blocks.#.attn.k_bias", "blocks.#.attn.v_bias"),
}
_TIMM_TABLE: Table = {**_TIMM_COMMON, **{name: name for name in ("blocks.#.mlp.fc1.*", "blocks.#.mlp.fc2.*")}}
_TIMM_GATED: Table = {
    **_TIMM_COMMON,
    "blocks.#.mlp.w12.*": ("blocks.#.mlp.fc1_g.*", "blocks.#.mlp.fc1_x.*"),
    "blocks.#.mlp.w3.*": "blocks.#.mlp.fc2.*",
}


def _timm_naming(name: str, title: str, table: Table) -> Naming:
    return Naming(
        name=name,
        title=title,
        table=table,
        zeros=frozenset({"blocks.#.attn.k_bias"}),
        norm_eps=NORM_EPS,
        assumed=ASSUMED,
        pictures=PICTURES,
    )


TIMM = _timm_naming("timm-dinov3", "timm's DINOv3", _TIMM_TABLE)
TIMM_GATED = _timm_naming("timm-dinov3-gated", "timm's DINOv3 with a gated feed-forward", _TIMM_GATED)


def _read(file: Path, document: Document) -> Sidecar:
    gated, act = bool(document.get("use_gated_mlp", False)), document.get("hidden_act", "gelu")
    if gated and act != "silu":
        raise ConfigError(f"{file} gates the feed-forward by {act!r}; vitseek computes 'silu' only.")
    known = encoder(file, {**document, "hidden_act": "gelu"} if gated else document, norm_eps=NORM_EPS, heads=6)
    if gated:
        known.pop("mlp_layer")
    return Sidecar(
        file=file,
        known={"img_size": SIZE, **known, "pos_embed": "rope", "rope_theta": document.get("rope_theta", ROPE_THETA)},
        preprocessing=transformers_pictures(file, document.get("patch_size", 16)),
        notes=[transformers_note(file, document)],
    )


def _read_timm(file: Path, document: Document) -> Sidecar:
    sidecar = read_timm(file, document)
    sidecar.known.update(norm_eps=NORM_EPS, pos_embed="rope", rope_theta=ROPE_THETA)
    return sidecar


FAMILY = Family(
    name="DINOv3",
    namings=(TRANSFORMERS, GATED, TRANSFORMERS_5, GATED_5, FACEBOOK, TIMM, TIMM_GATED),
    transformers={"dinov3_vit": _read},
    timm={"vit_*_dinov3*": _read_timm},
)
