"""timm's ViT and DeiT, facebookresearch/dino and vitseek's own files: the canonical names."""

from vitseek.weights.family import Family, read_timm
from vitseek.weights.layouts import scalar
from vitseek.weights.naming import Naming, Shapes, Table

BLOCK: Table = {
    "blocks.#.norm1.*": "blocks.#.norm1.*",
    "blocks.#.attn.qkv.*": "blocks.#.attn.qkv.*",
    "blocks.#.attn.proj.*": "blocks.#.attn.proj.*",
    "blocks.#.ls1.gamma": "blocks.#.ls1.gamma",
    "blocks.#.norm2.*": "blocks.#.norm2.*",
    "blocks.#.mlp.fc1.*": "blocks.#.mlp.fc1.*",
    "blocks.#.mlp.fc2.*": "blocks.#.mlp.fc2.*",
    "blocks.#.ls2.gamma": "blocks.#.ls2.gamma",
}
TABLE: Table = {
    "cls_token": "cls_token",
    "dist_token": "dist_token",
    "reg_token": "reg_token",
    "pos_embed": "pos_embed",
    "patch_embed.proj.*": "patch_embed.proj.*",
    "patch_embed.norm.*": "patch_embed.norm.*",
    "norm_pre.*": "norm_pre.*",
    **BLOCK,
    "blocks.#.mlp.w12.*": "blocks.#.mlp.w12.*",  # vitseek's own files; timm packs them into fc1 (see SWIGLU)
    "blocks.#.mlp.w3.*": "blocks.#.mlp.w3.*",
    "norm.*": "norm.*",
    **{f"attn_pool.{one}": f"attn_pool.{one}" for one in ("latent", "q.*", "kv.*", "proj.*", "norm.*")},
    **{f"attn_pool.mlp.{one}.*": f"attn_pool.mlp.{one}.*" for one in ("fc1", "fc2")},
}
HEADS: Table = {"head.*": "head.*", "head_dist.*": "head_dist.*"}

# What vitseek's own two-tower files hold besides.
_TEXT_BLOCK = ("norm1.*", "attn.qkv.*", "attn.proj.*", "norm2.*", "mlp.fc1.*", "mlp.fc2.*")
_TEXT = (
    *("text.token_embed.*", "text.token_type_embed.*", "text.pos_embed", "text.norm_embed.*", "text.norm.*"),
    *(f"text.blocks.#.{one}" for one in _TEXT_BLOCK),
    *("text.projection.*", "projection.*", "logit_scale", "logit_bias"),
)

# facebookresearch/dino uses the same names.
TIMM = Naming(
    name="timm",
    title="timm",
    table=TABLE,
    heads={**HEADS, **{name: name for name in _TEXT}},
    layouts={"logit_scale": scalar, "logit_bias": scalar},
    pos_resize="bicubic-antialias",
)


def _is_packed(shapes: Shapes) -> bool:
    """A packed fc1 has twice as many outputs as fc2 has inputs; a plain one just as many."""
    first, second = shapes.get("blocks.0.mlp.fc1.weight", ()), shapes.get("blocks.0.mlp.fc2.weight", ())
    return len(first) == 2 and len(second) == 2 and first[0] == 2 * second[1] > 0


# timm's SwiGLUPacked keeps gate and value in one fc1 of twice the width: DINOv2 giant.
SWIGLU = Naming(
    name="timm-swiglu",
    title="timm with a packed SwiGLU (DINOv2 giant)",
    table={
        **{left: right for left, right in TABLE.items() if ".mlp." not in left},
        "blocks.#.mlp.w12.*": "blocks.#.mlp.fc1.*",
        "blocks.#.mlp.w3.*": "blocks.#.mlp.fc2.*",
    },
    heads=HEADS,
    told_by=_is_packed,
    pos_resize="bicubic-antialias",
)

FAMILY = Family(name="ViT", namings=(TIMM, SWIGLU), timm={"vit_*": read_timm, "deit_*": read_timm})
