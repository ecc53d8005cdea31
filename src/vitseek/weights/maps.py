"""One table per foreign naming: canonical (timm) name on the left, the checkpoint's name on the right.

``#`` stands for the block number, ``*`` for ``weight`` or ``bias``. Several names on the right are rows of one
matrix, stacked in that order (query, key, value).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

Table = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class Naming:
    """How one family of checkpoints calls its parameters.

    Parameters
    ----------
    name
        What ``--naming`` and error messages call it.
    title
        Where such files come from.
    table
        Canonical name to name in the file.
    prefixes
        What may stand before every name of the backbone; the head has none.
    heads
        Like ``table``, for the classification heads, which carry no prefix.
    ignored
        Names that a search engine does not need, each with the reason that is told to the user.
    norm_eps
        The family's LayerNorm epsilon, for files that come without a config.
    pos_resize
        How the family's reference code resizes the position grid.
    """

    name: str
    title: str
    table: Table
    prefixes: tuple[str, ...] = ("",)
    heads: Table = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    norm_eps: float = 1e-6
    pos_resize: str = "bicubic"

    def place(self, pattern: "Pattern") -> tuple[str | None, int] | None:
        """Translate one foreign name, prefix already taken off.

        Returns
        -------
        ``(canonical name, part)``; ``(None, 0)`` for a name that is ignored; ``None`` for an unknown one.
        """
        place = self._places.get(pattern.template)
        if place is None or place[0] is None:
            return place
        return pattern.fill(place[0]), place[1]

    def parts(self, canonical: str) -> tuple[str, ...]:
        """The foreign names that make up a canonical one, without prefix; empty if the family has no such thing."""
        pattern = Pattern.of(canonical)
        templates = self.table.get(pattern.template) or self.heads.get(pattern.template) or ()
        return tuple(pattern.fill(one) for one in ((templates,) if isinstance(templates, str) else templates))

    @cached_property
    def _places(self) -> dict[str, tuple[str | None, int]]:
        places: dict[str, tuple[str | None, int]] = dict.fromkeys(self.ignored, (None, 0))
        for canonical, foreign in {**self.table, **self.heads}.items():
            for part, template in enumerate((foreign,) if isinstance(foreign, str) else foreign):
                places[template] = canonical, part
        return places


@dataclass(frozen=True)
class Pattern:
    """A name with its block number and its last word taken out: ``blocks.#.norm1.*`` for ``blocks.3.norm1.bias``."""

    template: str
    block: str = ""
    kind: str = ""

    @classmethod
    def of(cls, name: str) -> "Pattern":
        words = name.split(".")
        kind = words[-1] if words[-1] in ("weight", "bias") else ""
        if kind:
            words[-1] = "*"
        block = ""
        for position, word in enumerate(words):
            # Only plain decimals, so that no two names of a file can mean one block: 03 is not 3.
            if _DECIMAL.fullmatch(word):
                words[position], block = "#", word  # chunked blocks have two numbers; the second is the block's
        return cls(".".join(words), block, kind)

    def fill(self, template: str) -> str:
        """Put this name's block number and last word into another template."""
        head, _, tail = template.rpartition("#")
        filled = head.replace("#", "?") + (self.block if head else "") + tail
        return filled.replace("*", self.kind)


_DECIMAL = re.compile("0|[1-9][0-9]{0,3}", re.ASCII)


def _respelled(table: Table, spelling: Iterable[tuple[str, str]]) -> Table:
    """A copy of a table in which some pieces of the foreign names are spelled otherwise."""

    def respell(template: str) -> str:
        for old, new in spelling:
            template = template.replace(old, new)
        return template

    return {
        left: respell(right) if isinstance(right, str) else tuple(respell(one) for one in right)
        for left, right in table.items()
    }


_BLOCK_COMMON: Table = {
    "blocks.#.norm1.*": "blocks.#.norm1.*",
    "blocks.#.attn.qkv.*": "blocks.#.attn.qkv.*",
    "blocks.#.attn.proj.*": "blocks.#.attn.proj.*",
    "blocks.#.ls1.gamma": "blocks.#.ls1.gamma",
    "blocks.#.norm2.*": "blocks.#.norm2.*",
    "blocks.#.mlp.fc1.*": "blocks.#.mlp.fc1.*",
    "blocks.#.mlp.fc2.*": "blocks.#.mlp.fc2.*",
    "blocks.#.ls2.gamma": "blocks.#.ls2.gamma",
}

_TIMM: Table = {
    "cls_token": "cls_token",
    "dist_token": "dist_token",
    "reg_token": "reg_token",
    "pos_embed": "pos_embed",
    "patch_embed.proj.*": "patch_embed.proj.*",
    **_BLOCK_COMMON,
    "blocks.#.mlp.w12.*": "blocks.#.mlp.w12.*",  # vitseek's own files; timm packs them into fc1 (see TIMM_SWIGLU)
    "blocks.#.mlp.w3.*": "blocks.#.mlp.w3.*",
    "norm.*": "norm.*",
}
_TIMM_HEADS: Table = {"head.*": "head.*", "head_dist.*": "head_dist.*"}

# facebookresearch/dino uses the same names.
TIMM = Naming(
    name="timm",
    title="timm",
    table=_TIMM,
    heads=_TIMM_HEADS,
    pos_resize="bicubic-antialias",
)

# timm's SwiGLUPacked keeps gate and value in one fc1 of twice the width: DINOv2 giant.
TIMM_SWIGLU = Naming(
    name="timm-swiglu",
    title="timm with a packed SwiGLU (DINOv2 giant)",
    table={
        **{left: right for left, right in _TIMM.items() if ".mlp." not in left},
        "blocks.#.mlp.w12.*": "blocks.#.mlp.fc1.*",
        "blocks.#.mlp.w3.*": "blocks.#.mlp.fc2.*",
    },
    heads=_TIMM_HEADS,
    pos_resize="bicubic-antialias",
)

_MASK = "the mask token is for pre-training only"
_DINOV2: Table = {
    **{left: right for left, right in _TIMM.items() if left not in ("reg_token", "dist_token")},
    "reg_token": "register_tokens",
}
_BACKBONE_PREFIXES = ("", "module.", "backbone.", "module.backbone.", "teacher.backbone.", "model.")

DINOV2 = Naming(
    name="dinov2",
    title="facebookresearch/dinov2",
    table=_DINOV2,
    prefixes=_BACKBONE_PREFIXES,
    ignored={"mask_token": _MASK},
    pos_resize="bicubic-offset",
)

# Training checkpoints keep the blocks in chunks; the number of the block is the second one, the first is the chunk's.
DINOV2_CHUNKED = Naming(
    name="dinov2-chunked",
    title="facebookresearch/dinov2, blocks in chunks",
    table=_respelled(_DINOV2, [("blocks.#", "blocks.#.#")]),
    prefixes=_BACKBONE_PREFIXES,
    ignored={"mask_token": _MASK},
    pos_resize="bicubic-offset",
)

_POOLER = "the pooler (a dense layer with tanh) is not part of the features: they come straight from the final norm"
_ATTENTION = "encoder.layer.#.attention.attention"
_TRANSFORMERS: Table = {
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
_RELEASE_5_ATTENTION = (
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
)
_RELEASE_5_VIT = (
    *_RELEASE_5_ATTENTION,
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("encoder.layer.", "layers."),
)
_VIT_IGNORED = {"pooler.dense.*": _POOLER, "embeddings.mask_token": _MASK}

VIT = Naming(
    name="transformers-vit",
    title="transformers ViT, and DeiT without distillation",
    table=_TRANSFORMERS,
    prefixes=("", "vit.", "deit."),
    heads={"head.*": "classifier.*"},
    ignored=_VIT_IGNORED,
    norm_eps=1e-12,
)
_DEIT: Table = {**_TRANSFORMERS, "dist_token": "embeddings.distillation_token"}
_DEIT_IGNORED = {
    **_VIT_IGNORED,
    "classifier.*": "a head for the class token alone, where the model also has a distillation token, is not run",
}
DEIT = Naming(
    name="transformers-deit",
    title="transformers DeiT with distillation",
    table=_DEIT,
    prefixes=("", "deit."),
    heads={"head.*": "cls_classifier.*", "head_dist.*": "distillation_classifier.*"},
    ignored=_DEIT_IGNORED,
    norm_eps=1e-12,
)
_DINOV2_TRANSFORMERS: Table = {
    **_TRANSFORMERS,
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
_DINOV2_PREFIXES = ("", "dinov2.", "dinov2_with_registers.")
# Also Dinov2WithRegisters, and the course archive vit-dinov2-base.npz.
DINOV2_HF = Naming(
    name="transformers-dinov2",
    title="transformers Dinov2",
    table=_DINOV2_TRANSFORMERS,
    prefixes=_DINOV2_PREFIXES,
    heads={"head.*": "classifier.*"},
    ignored={"embeddings.mask_token": _MASK},
)
VIT_5 = Naming(
    name="transformers-vit-5",
    title="transformers ViT, names of release 5",
    table=_respelled(_TRANSFORMERS, _RELEASE_5_VIT),
    prefixes=VIT.prefixes,
    heads=VIT.heads,
    ignored=_VIT_IGNORED,
    norm_eps=VIT.norm_eps,
)
DEIT_5 = Naming(
    name="transformers-deit-5",
    title="transformers DeiT with distillation, names of release 5",
    table=_respelled(_DEIT, _RELEASE_5_VIT),
    prefixes=DEIT.prefixes,
    heads=DEIT.heads,
    ignored=_DEIT_IGNORED,
    norm_eps=DEIT.norm_eps,
)
DINOV2_HF_5 = Naming(
    name="transformers-dinov2-5",
    title="transformers Dinov2, names of release 5",
    table={
        **_respelled(_DINOV2_TRANSFORMERS, _RELEASE_5_ATTENTION),
        "blocks.#.mlp.w12.*": ("encoder.layer.#.mlp.gate_proj.*", "encoder.layer.#.mlp.up_proj.*"),
        "blocks.#.mlp.w3.*": "encoder.layer.#.mlp.down_proj.*",
    },
    prefixes=_DINOV2_PREFIXES,
    heads=DINOV2_HF.heads,
    ignored=DINOV2_HF.ignored,
)

# In this order: where two tables explain a file equally well, the simpler one comes first.
NAMINGS: Mapping[str, Naming] = {
    naming.name: naming
    for naming in (TIMM, TIMM_SWIGLU, DINOV2, DINOV2_CHUNKED, VIT, DEIT, DINOV2_HF, VIT_5, DEIT_5, DINOV2_HF_5)
}
