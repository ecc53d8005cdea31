"""CLIP: transformers' names, and timm's image towers; OpenAI's own and OpenCLIP's are in open_clip.py.

OpenAI trained with the quick approximation of GELU, most of OpenCLIP's models are trained with the exact one: the
config says which, and without one the naming does.
"""

from pathlib import Path
from typing import Any

from vitseek.errors import ConfigError
from vitseek.weights.description import Document, Sidecar
from vitseek.weights.families import timm
from vitseek.weights.family import Family, activation, encoder, read_timm, section, transformers_note
from vitseek.weights.layouts import positions, scalar, token
from vitseek.weights.naming import Naming, Table
from vitseek.weights.pictures import timm_pretrained, transformers_pictures

NORM_EPS = 1e-5
BEFORE_CORRECTION = 2  # the eos_token_id of early configs, which transformers takes for "the largest number"
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)  # openai/CLIP clip.py
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
PICTURES = {"resize": "shortest-edge", "interpolation": "bicubic", "mean": OPENAI_MEAN, "std": OPENAI_STD}
POSITION_IDS = "position_ids only count the positions"


def transformers_blocks(ours: str, theirs: str) -> Table:
    """The blocks of transformers' CLIP and SigLIP, of either tower."""
    attention = f"{theirs}encoder.layers.#.self_attn"
    return {
        f"{ours}blocks.#.norm1.*": f"{theirs}encoder.layers.#.layer_norm1.*",
        f"{ours}blocks.#.attn.qkv.*": (f"{attention}.q_proj.*", f"{attention}.k_proj.*", f"{attention}.v_proj.*"),
        f"{ours}blocks.#.attn.proj.*": f"{attention}.out_proj.*",
        f"{ours}blocks.#.norm2.*": f"{theirs}encoder.layers.#.layer_norm2.*",
        f"{ours}blocks.#.mlp.fc1.*": f"{theirs}encoder.layers.#.mlp.fc1.*",
        f"{ours}blocks.#.mlp.fc2.*": f"{theirs}encoder.layers.#.mlp.fc2.*",
    }


TRANSFORMERS_TEXT: Table = {
    "text.token_embed.*": "text_model.embeddings.token_embedding.*",
    "text.pos_embed": "text_model.embeddings.position_embedding.weight",
    **transformers_blocks("text.", "text_model."),
    "text.norm.*": "text_model.final_layer_norm.*",
    "logit_scale": "logit_scale",
}
TRANSFORMERS_IGNORED = {
    "embeddings.position_ids": POSITION_IDS,
    "text_model.embeddings.position_ids": POSITION_IDS,
}
TEXT = {"mlp_layer": "quick-gelu", "causal": True, "pooling": "largest", "norm_eps": NORM_EPS}
LAYOUTS = {"cls_token": token, "pos_embed": positions, "logit_scale": scalar, "logit_bias": scalar}

TRANSFORMERS = Naming(
    name="transformers-clip",
    title="transformers CLIP",
    table={
        "cls_token": "embeddings.class_embedding",
        "pos_embed": "embeddings.position_embedding.weight",
        "patch_embed.proj.*": "embeddings.patch_embedding.*",
        "norm_pre.*": "pre_layrnorm.*",  # their spelling
        **transformers_blocks("", ""),
        "norm.*": "post_layernorm.*",
    },
    prefixes=("vision_model.", ""),
    heads={
        "projection.*": "visual_projection.*",
        **TRANSFORMERS_TEXT,
        "text.projection.*": "text_projection.*",
    },
    layouts=LAYOUTS,
    ignored=TRANSFORMERS_IGNORED,
    norm_eps=NORM_EPS,
    assumed={"mlp_layer": "quick-gelu"},
    assumed_text=TEXT,
    pictures=PICTURES,
)

# In timm's copies of whole towers the projection is the head; fine-tuned ones have classes there.
TIMM = Naming(
    name="timm-clip",
    title="timm's image towers of CLIP",
    table=timm.TABLE,
    heads={"projection.weight": "head.weight"},
    ignored={"head.bias": "timm gives CLIP's projection a bias of zeros"},
    norm_eps=NORM_EPS,
    pos_resize="bicubic-antialias",
    assumed={"mlp_layer": "gelu"},
    pictures={**PICTURES, "crop_rounding": "half-even"},
)


def vision_fields(file: Path, vision: Document) -> dict[str, Any]:
    """The image tower as transformers describes it."""
    return {"img_size": (224, 224), **encoder(file, vision, norm_eps=NORM_EPS, act="quick_gelu")}


def _text(file: Path, text: Document) -> dict[str, Any]:
    eos = text.get("eos_token_id", 49407)
    if not isinstance(eos, int):
        raise ConfigError(f"{file}: 'eos_token_id' of the text tower must be one number; it is {eos!r}.")
    vocabulary = text.get("vocab_size", 49408)
    early = eos == BEFORE_CORRECTION
    return {
        **TEXT,
        "mlp_layer": activation(file, text, "quick_gelu"),
        "norm_eps": text.get("layer_norm_eps", NORM_EPS),
        "num_heads": text.get("num_attention_heads", 8),
        "pooling": "largest" if early else "eos",
        # Early configs have BART's numbers; CLIP's vocabulary ends with <|startoftext|> and <|endoftext|>, which also
        # fills up.
        "bos_token_id": vocabulary - 2 if early else text.get("bos_token_id", 49406),
        "eos_token_id": vocabulary - 1 if early else eos,
        "pad_token_id": vocabulary - 1 if early else eos,
    }


def _read(file: Path, document: Document) -> Sidecar:
    vision = section(file, document, "vision_config")
    return Sidecar(
        file=file,
        known=vision_fields(file, vision),
        text_known=_text(file, section(file, document, "text_config")),
        preprocessing=transformers_pictures(file, vision.get("patch_size", 32), drop_edges=True),
        notes=[transformers_note(file, document)],
    )


def _read_vision(file: Path, document: Document) -> Sidecar:
    return Sidecar(
        file=file,
        known=vision_fields(file, document),
        preprocessing=transformers_pictures(file, document.get("patch_size", 32), drop_edges=True),
        notes=[transformers_note(file, document)],
    )


def _read_timm(file: Path, document: Document) -> Sidecar:
    """timm's image towers; "quickgelu" in the name says what it says, "_ft_" in the tag that the head has classes."""
    sidecar = read_timm(file, document)
    architecture, tag = str(document["architecture"]), str(timm_pretrained(document).get("tag", ""))
    sidecar.known.update(norm_eps=NORM_EPS, mlp_layer="quick-gelu" if "quickgelu" in architecture else "gelu")
    if "_ft_" not in tag and sidecar.labels is None:
        sidecar.naming = TIMM.name
    return sidecar


FAMILY = Family(
    name="CLIP",
    namings=(TRANSFORMERS, TIMM),
    transformers={"clip": _read, "clip_vision_model": _read_vision},
    timm={"vit_*_clip_*": _read_timm},
)
