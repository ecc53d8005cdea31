"""SigLIP and SigLIP 2, fixed and native resolution: transformers' names, and timm's image towers.

The models of SigLIP 2 with a fixed resolution are SigLIP's architecture with another vocabulary, and call themselves
so. At native resolution (NaFlex) patches go through a linear layer instead of a convolution: the same numbers in
another order, and positions are resized to every picture's own grid.
"""

from pathlib import Path
from typing import Any

from vitseek.errors import ConfigError
from vitseek.weights.description import Document, Sidecar
from vitseek.weights.families.clip import LAYOUTS, TRANSFORMERS_IGNORED, TRANSFORMERS_TEXT, transformers_blocks
from vitseek.weights.family import Family, activation, encoder, read_timm, section, transformers_note
from vitseek.weights.layouts import first_third, other_thirds, patches_to_kernel
from vitseek.weights.naming import Naming, Shapes, Table
from vitseek.weights.pictures import transformers_pictures

NORM_EPS = 1e-6
GEMMA_VOCABULARY = 256_000  # SigLIP 2's; SigLIP has 32,000 pieces, or 250,000 for many languages
NAFLEX_PATCHES = 256
HALF = (0.5, 0.5, 0.5)
PICTURES = {"resize": "exact", "interpolation": "bicubic", "mean": HALF, "std": HALF}
TEXT = {"mlp_layer": "gelu-tanh", "causal": False, "attend_padding": True, "pooling": "last", "norm_eps": NORM_EPS}


def special_tokens(vocabulary: int, *, second: bool = False) -> dict[str, Any]:
    """Ends, fills and cleaning, by the vocabulary.

    The configs of transformers give the numbers of another vocabulary here, so they are not used. Source: the
    tokenizers of google/siglip-* (``</s>``, number 1, ends and fills) and google/siglip2-* (``<eos>`` 1, ``<pad>`` 0).
    """
    gemma = second or vocabulary == GEMMA_VOCABULARY
    return {"eos_token_id": 1, "pad_token_id": 0 if gemma else 1, "cleaning": "lower" if gemma else "canonical"}


_TABLE: Table = {
    "pos_embed": "embeddings.position_embedding.weight",
    "patch_embed.proj.*": "embeddings.patch_embedding.*",
    **transformers_blocks("", ""),
    "norm.*": "post_layernorm.*",
    "attn_pool.latent": "head.probe",
    **{f"attn_pool.{part}.weight": "head.attention.in_proj_weight" for part in ("q", "kv")},
    **{f"attn_pool.{part}.bias": "head.attention.in_proj_bias" for part in ("q", "kv")},
    "attn_pool.proj.*": "head.attention.out_proj.*",
    "attn_pool.norm.*": "head.layernorm.*",
    "attn_pool.mlp.fc1.*": "head.mlp.fc1.*",
    "attn_pool.mlp.fc2.*": "head.mlp.fc2.*",
}
_LAYOUTS = {**LAYOUTS, "attn_pool.q.*": first_third, "attn_pool.kv.*": other_thirds}


def _naming(name: str, title: str, **options: Any) -> Naming:
    return Naming(
        name=name,
        title=title,
        table=_TABLE,
        prefixes=("vision_model.", ""),
        heads={**TRANSFORMERS_TEXT, "text.projection.*": "text_model.head.*", "logit_bias": "logit_bias"},
        ignored=TRANSFORMERS_IGNORED,
        norm_eps=NORM_EPS,
        assumed={"mlp_layer": "gelu-tanh"},
        assumed_text={**TEXT, **special_tokens(0)},
        **options,
    )


TRANSFORMERS = _naming(
    "transformers-siglip",
    "transformers SigLIP, and SigLIP 2 of fixed resolution",
    layouts=_LAYOUTS,
    pictures=PICTURES,
)


def _is_linear(shapes: Shapes) -> bool:
    return any(name.endswith("patch_embedding.weight") and len(shape) == 2 for name, shape in shapes.items())


NAFLEX = _naming(
    "transformers-siglip2",
    "transformers SigLIP 2 of native resolution",
    layouts={**_LAYOUTS, "patch_embed.proj.weight": patches_to_kernel},
    told_by=_is_linear,
    pictures={**PICTURES, "resize": "max-patches", "interpolation": "bilinear"},
    pos_resize="bilinear-antialias",
)


def _vision(file: Path, vision: Document) -> dict[str, Any]:
    if not vision.get("vision_use_head", True):
        raise ConfigError(f"{file} has no pooling head (vision_use_head): there is nothing to compare with texts.")
    return {"img_size": (224, 224), **encoder(file, vision, norm_eps=NORM_EPS, act="gelu_pytorch_tanh")}


def _naflex(file: Path, vision: Document) -> dict[str, Any]:
    known = _vision(file, vision)
    patch = vision.get("patch_size", 16)
    side = int(vision.get("num_patches", NAFLEX_PATCHES)) ** 0.5
    if side != int(side):
        raise ConfigError(f"{file}: 'num_patches' must be a square number; it is {vision['num_patches']!r}.")
    return {**known, "pos_resize": "bilinear-antialias", "img_size": (int(side) * patch, int(side) * patch)}


def _text(file: Path, text: Document, *, second: bool) -> dict[str, Any]:
    return {
        **TEXT,
        "mlp_layer": activation(file, text, "gelu_pytorch_tanh"),
        "norm_eps": text.get("layer_norm_eps", NORM_EPS),
        "num_heads": text.get("num_attention_heads", 12),
        **special_tokens(text.get("vocab_size", 32_000), second=second),
    }


def _read(file: Path, document: Document) -> Sidecar:
    naflex = str(document["model_type"]).startswith("siglip2")
    whole = "vision" not in str(document["model_type"])
    vision = section(file, document, "vision_config") if whole else document
    return Sidecar(
        file=file,
        known=_naflex(file, vision) if naflex else _vision(file, vision),
        text_known=_text(file, section(file, document, "text_config"), second=naflex) if whole else {},
        preprocessing=transformers_pictures(file, vision.get("patch_size", 16), drop_edges=True),
        naming=NAFLEX.name if naflex else None,
        notes=[transformers_note(file, document)],
    )


def _read_timm(file: Path, document: Document) -> Sidecar:
    """timm's image towers, which compute the exact GELU but for the newest."""
    sidecar = read_timm(file, document)
    tanh = any(name in str(document["architecture"]) for name in ("patch32_siglip", "gopt"))
    sidecar.known["mlp_layer"] = "gelu-tanh" if tanh else "gelu"
    return sidecar


FAMILY = Family(
    name="SigLIP",
    namings=(TRANSFORMERS, NAFLEX),
    transformers=dict.fromkeys(("siglip", "siglip_vision_model", "siglip2", "siglip2_vision_model"), _read),
    timm={"vit_*_siglip_*": _read_timm},
)
