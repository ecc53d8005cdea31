"""OpenAI's own names of CLIP and OpenCLIP's, the latter also for SigLIP, whose image tower comes from timm there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitseek.errors import ConfigError
from vitseek.weights.description import Document, Sidecar, pair
from vitseek.weights.families import timm
from vitseek.weights.families.clip import LAYOUTS, NORM_EPS, OPENAI_MEAN, OPENAI_STD, PICTURES, TEXT
from vitseek.weights.families.siglip import NORM_EPS as SIGLIP_NORM_EPS
from vitseek.weights.families.siglip import PICTURES as SIGLIP_PICTURES
from vitseek.weights.families.siglip import TEXT as SIGLIP_TEXT
from vitseek.weights.families.siglip import special_tokens
from vitseek.weights.family import Family, section
from vitseek.weights.layouts import transposed
from vitseek.weights.naming import Naming, Table

HEAD_WIDTH = 64  # CLIPVisionCfg.head_width
RESIZE_MODES = {"shortest": "shortest-edge", "squash": "exact"}
POOL_TYPES = {"argmax": "largest", "last": "last", "first": "first"}


def _blocks(ours: str) -> Table:
    block = "transformer.resblocks.#"
    return {
        f"{ours}blocks.#.norm1.*": f"{block}.ln_1.*",
        f"{ours}blocks.#.attn.qkv.weight": f"{block}.attn.in_proj_weight",
        f"{ours}blocks.#.attn.qkv.bias": f"{block}.attn.in_proj_bias",
        f"{ours}blocks.#.attn.proj.*": f"{block}.attn.out_proj.*",
        f"{ours}blocks.#.norm2.*": f"{block}.ln_2.*",
        f"{ours}blocks.#.mlp.fc1.*": f"{block}.mlp.c_fc.*",
        f"{ours}blocks.#.mlp.fc2.*": f"{block}.mlp.c_proj.*",
    }


_VISION: Table = {
    "cls_token": "class_embedding",
    "pos_embed": "positional_embedding",
    "patch_embed.proj.*": "conv1.*",
    "norm_pre.*": "ln_pre.*",
    **_blocks(""),
    "norm.*": "ln_post.*",
    "projection.weight": "proj",
}
_TEXT: Table = {
    "text.token_embed.*": "token_embedding.*",
    "text.pos_embed": "positional_embedding",
    **_blocks("text."),
    "text.norm.*": "ln_final.*",
    "text.projection.weight": "text_projection",
}
_CUSTOM_TEXT: Table = {ours: f"text.{theirs}" for ours, theirs in _TEXT.items()}
_SCALARS: Table = {"logit_scale": "logit_scale", "logit_bias": "logit_bias"}
# Numbers that OpenAI's archives keep beside the parameters, and OpenCLIP's mask.
_COUNTED = dict.fromkeys(
    ("attn_mask", "text.attn_mask", "input_resolution", "context_length", "vocab_size"), "a setting, not a parameter"
)


def _naming(name: str, title: str, text: Table) -> Naming:
    return Naming(
        name=name,
        title=title,
        table=_VISION,
        prefixes=("visual.",),
        heads={**text, **_SCALARS},
        layouts={**LAYOUTS, "projection.weight": transposed, "text.projection.weight": transposed},
        ignored=_COUNTED,
        norm_eps=NORM_EPS,
        pos_resize="bicubic-antialias",
        assumed={"mlp_layer": "gelu"},
        assumed_text={**TEXT, "mlp_layer": "gelu"},
        pictures={**PICTURES, "crop_rounding": "half-even"},
    )


CLIP = _naming("open_clip", "OpenCLIP and OpenAI's own CLIP", _TEXT)
CUSTOM = _naming("open_clip-custom", "OpenCLIP, the text tower apart (custom_text)", _CUSTOM_TEXT)
SIGLIP = Naming(
    name="open_clip-siglip",
    title="OpenCLIP's SigLIP",
    table=timm.TABLE,
    prefixes=("visual.trunk.",),
    heads={
        **{ours: theirs for ours, theirs in _CUSTOM_TEXT.items() if "projection" not in ours},
        "text.projection.*": "text.text_projection.*",
        **_SCALARS,
    },
    layouts=LAYOUTS,
    norm_eps=SIGLIP_NORM_EPS,
    pos_resize="bicubic-antialias",
    # timm and OpenCLIP compute the exact GELU, where Google's code and transformers approximate it.
    assumed={"mlp_layer": "gelu"},
    assumed_text={**SIGLIP_TEXT, **special_tokens(0), "mlp_layer": "gelu"},
    pictures=SIGLIP_PICTURES,
)


def _read(file: Path, document: Document) -> Sidecar:
    model = section(file, document, "model_cfg")
    vision, text = section(file, model, "vision_cfg"), section(file, model, "text_cfg")
    trunk = str(vision.get("timm_model_name") or "")
    if trunk and "siglip" not in trunk:
        raise ConfigError(f"{file} takes timm's {trunk!r} for its image tower; vitseek runs its SigLIP towers only.")
    siglip = bool(trunk)
    for part, settings in ((vision, _VISION_REFUSED), (text, _TEXT_REFUSED)):
        if refused := [name for name in settings if part.get(name)]:
            raise ConfigError(f"{file} asks for {', '.join(refused)}, which vitseek does not compute.")
    if (pool := vision.get("pool_type", "tok")) != "tok":
        raise ConfigError(f"{file} pools the image tower by {pool!r}; vitseek takes the class token ('tok').")
    quick = bool(model.get("quick_gelu", False))
    size = pair(file, "image_size", vision.get("image_size", 224))
    known: dict[str, Any] = {"img_size": size, "pos_resize": "bicubic-antialias"}
    if siglip:
        known |= {"norm_eps": SIGLIP_NORM_EPS, "mlp_layer": "gelu-tanh" if "gopt" in trunk else "gelu"}
    else:
        known |= {"norm_eps": NORM_EPS, "mlp_layer": "quick-gelu" if quick else "gelu"}
        if isinstance(width := vision.get("width"), int):
            known["num_heads"] = width // int(vision.get("head_width", HEAD_WIDTH))
    return Sidecar(
        file=file,
        known=known,
        text_known=_text(file, text, siglip=siglip, quick=quick),
        preprocessing=_pictures(file, size, section(file, document, "preprocess_cfg"), siglip=siglip),
        notes=[f"config from {file.name} (OpenCLIP{', SigLIP' if siglip else ''})"],
    )


_VISION_REFUSED = ("attentional_pool", "final_ln_after_pool", "no_ln_pre", "qk_norm")
_TEXT_REFUSED = ("hf_model_name", "embed_cls", "qk_norm", "scaled_cosine")


def _text(file: Path, text: Document, *, siglip: bool, quick: bool) -> dict[str, Any]:
    pool = str(text.get("pool_type", "argmax"))
    if pool not in POOL_TYPES:
        raise ConfigError(f"{file} pools the text tower by {pool!r}; vitseek knows {', '.join(POOL_TYPES)}.")
    tanh = section(file, text, "act_kwargs").get("approximate") == "tanh"
    vocabulary = int(text.get("vocab_size", 49408))
    special = special_tokens(vocabulary) if siglip else _special_tokens(vocabulary)
    return {
        "mlp_layer": "gelu-tanh" if tanh else "quick-gelu" if quick else "gelu",
        "causal": not text.get("no_causal_mask", False),
        "attend_padding": bool(text.get("no_causal_mask", False)),
        "pooling": POOL_TYPES[pool],
        "num_heads": text.get("heads", 8),
        "norm_eps": section(file, text, "norm_kwargs").get("eps", NORM_EPS),
        **special,
    }


def _special_tokens(vocabulary: int) -> dict[str, int]:
    """CLIP's vocabulary ends with the tokens that begin and end a text; OpenCLIP fills up with zeros."""
    return {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": 0}


def _pictures(file: Path, size: tuple[int, int], settings: Mapping[str, Any], *, siglip: bool) -> dict[str, Any]:
    height, width = size
    if height != width:
        raise ConfigError(f"{file}: 'image_size' is {height}×{width} px; vitseek preprocesses to squares only.")
    mode = settings.get("resize_mode", "squash" if siglip else "shortest")
    if mode not in RESIZE_MODES:
        raise ConfigError(f"{file} resizes by {mode!r}; vitseek knows {', '.join(RESIZE_MODES)}.")
    usual = ((0.5,) * 3, (0.5,) * 3) if siglip else (OPENAI_MEAN, OPENAI_STD)
    return {
        "size_px": height,
        "resize": RESIZE_MODES[mode],
        "resize_px": height,
        "interpolation": settings.get("interpolation", "bicubic"),
        "mean": list(settings.get("mean", usual[0])),
        "std": list(settings.get("std", usual[1])),
        "crop_rounding": "half-even",
    }


FAMILY = Family(name="OpenCLIP", namings=(CLIP, CUSTOM, SIGLIP), others={"model_cfg": _read})
