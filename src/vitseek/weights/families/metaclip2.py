"""MetaCLIP 2: CLIP's architecture and transformers' names of it, with a vocabulary for all languages (XLM-V's).

Only the text tower's special tokens differ, so this family has a reader and no key table of its own.
"""

from pathlib import Path
from typing import Any

from vitseek.weights.description import Document, Sidecar
from vitseek.weights.families import clip
from vitseek.weights.family import Family, activation, section, transformers_note
from vitseek.weights.pictures import transformers_pictures

START, PADDING, END = 0, 1, 2  # <s>, <pad>, </s> of XLM-V, as of XLM-RoBERTa


def _text(file: Path, text: Document) -> dict[str, Any]:
    """Unlike in CLIP's configs, 2 is really the end's number: the first one is pooled, not the largest number."""
    return {
        **clip.TEXT,
        "mlp_layer": activation(file, text, "quick_gelu"),
        "norm_eps": text.get("layer_norm_eps", clip.NORM_EPS),
        "num_heads": text.get("num_attention_heads", 8),
        "pooling": "eos",
        "bos_token_id": START,
        "eos_token_id": text.get("eos_token_id", END),
        "pad_token_id": PADDING,
    }


def _read(file: Path, document: Document) -> Sidecar:
    vision = section(file, document, "vision_config")
    return Sidecar(
        file=file,
        known=clip.vision_fields(file, vision),
        text_known=_text(file, section(file, document, "text_config")),
        preprocessing=transformers_pictures(file, vision.get("patch_size", 32)),
        naming=clip.TRANSFORMERS.name,
        notes=[transformers_note(file, document)],
    )


FAMILY = Family(name="MetaCLIP 2", namings=(), transformers={"metaclip_2": _read})
