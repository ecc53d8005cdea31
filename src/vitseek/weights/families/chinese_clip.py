"""Chinese-CLIP: CLIP's image tower beside a Chinese BERT (RoBERTa-wwm), under transformers' names.

The repositories of its authors (OFA-Sys/chinese-clip-*) have ``vocab.txt`` for a tokenizer.
"""

from pathlib import Path
from typing import Any

from vitseek.weights.description import Document, Sidecar
from vitseek.weights.families import clip
from vitseek.weights.family import Family, activation, section, transformers_note
from vitseek.weights.naming import Naming
from vitseek.weights.pictures import transformers_pictures

NORM_EPS = 1e-12  # transformers' ChineseCLIPTextConfig
# bert-base-chinese's vocab.txt, which all five models use; their config.json gives no numbers but the padding's.
START, END, PADDING = 101, 102, 0  # [CLS], [SEP], [PAD]
TEXT = {
    "mlp_layer": "gelu",
    "causal": False,
    "pooling": "first",
    "norm_eps": NORM_EPS,
    "bos_token_id": START,
    "eos_token_id": END,
    "pad_token_id": PADDING,
}

_LAYER = "text_model.encoder.layer.#"
_ATTENTION = f"{_LAYER}.attention.self"
TRANSFORMERS = Naming(
    name="transformers-chinese-clip",
    title="transformers Chinese-CLIP",
    table=clip.TRANSFORMERS.table,
    prefixes=clip.TRANSFORMERS.prefixes,
    heads={
        "projection.*": "visual_projection.*",
        "text.token_embed.*": "text_model.embeddings.word_embeddings.*",
        "text.pos_embed": "text_model.embeddings.position_embeddings.weight",
        "text.token_type_embed.*": "text_model.embeddings.token_type_embeddings.*",
        "text.norm_embed.*": "text_model.embeddings.LayerNorm.*",
        "text.blocks.#.attn.qkv.*": (f"{_ATTENTION}.query.*", f"{_ATTENTION}.key.*", f"{_ATTENTION}.value.*"),
        "text.blocks.#.attn.proj.*": f"{_LAYER}.attention.output.dense.*",
        "text.blocks.#.norm1.*": f"{_LAYER}.attention.output.LayerNorm.*",
        "text.blocks.#.mlp.fc1.*": f"{_LAYER}.intermediate.dense.*",
        "text.blocks.#.mlp.fc2.*": f"{_LAYER}.output.dense.*",
        "text.blocks.#.norm2.*": f"{_LAYER}.output.LayerNorm.*",
        "text.projection.*": "text_projection.*",
        "logit_scale": "logit_scale",
    },
    layouts=clip.LAYOUTS,
    ignored={
        **clip.TRANSFORMERS_IGNORED,
        "text_model.pooler.dense.*": "the pooler is not part of the embedding: it comes straight from the first token",
    },
    norm_eps=clip.NORM_EPS,
    assumed={"mlp_layer": "quick-gelu"},
    assumed_text=TEXT,
)


def _text(file: Path, text: Document) -> dict[str, Any]:
    return {
        **TEXT,
        "mlp_layer": activation(file, text),
        "norm_eps": text.get("layer_norm_eps", NORM_EPS),
        "num_heads": text.get("num_attention_heads", 12),
        "pad_token_id": text.get("pad_token_id", PADDING),
    }


def _read(file: Path, document: Document) -> Sidecar:
    vision = section(file, document, "vision_config")
    return Sidecar(
        file=file,
        known=clip.vision_fields(file, vision),
        text_known=_text(file, section(file, document, "text_config")),
        preprocessing=transformers_pictures(file, vision.get("patch_size", 32)),
        notes=[transformers_note(file, document)],
    )


FAMILY = Family(name="Chinese-CLIP", namings=(TRANSFORMERS,), transformers={"chinese_clip": _read})
