"""AIMv2: RMSNorm, gated feed-forwards, no biases; transformers' names and Apple's own.

Pictures are represented by the mean of the patches. The attention pool and the text tower of the "lit" models are of
another make than CLIP's and SigLIP's and are not run; neither are models of native resolution, whose positions are
computed.
"""

from pathlib import Path
from typing import Any

from vitseek.errors import ConfigError
from vitseek.weights.description import Document, Sidecar
from vitseek.weights.family import Family, encoder, transformers_note
from vitseek.weights.layouts import positions
from vitseek.weights.naming import Naming
from vitseek.weights.pictures import transformers_pictures

NORM_EPS = 1e-5
DEFAULTS: dict[str, Any] = {"num_attention_heads": 8, "patch_size": 14, "image_size": 224}
LIMIT = "Take a model of fixed size without text, such as apple/aimv2-large-patch14-224."
_ATTENTION, _FFN = "encoder.layers.#.attention", "encoder.layers.#.ffn"
_POOL = "the attention pool of the lit models is not run: the mean of the patches represents the picture"

TRANSFORMERS = Naming(
    name="transformers-aimv2",
    title="transformers AIMv2",
    table={
        "pos_embed": "embeddings.position_embedding.weight",
        "patch_embed.proj.*": "embeddings.patch_embed.*",
        "patch_embed.norm.*": "embeddings.rms_norm.*",
        "blocks.#.norm1.*": "encoder.layers.#.rms_norm1.*",
        "blocks.#.attn.qkv.*": (f"{_ATTENTION}.q_proj.*", f"{_ATTENTION}.k_proj.*", f"{_ATTENTION}.v_proj.*"),
        "blocks.#.attn.proj.*": f"{_ATTENTION}.out_proj.*",
        "blocks.#.norm2.*": "encoder.layers.#.rms_norm2.*",
        "blocks.#.mlp.w12.*": (f"{_FFN}.gate_proj.*", f"{_FFN}.up_proj.*"),
        "blocks.#.mlp.w3.*": f"{_FFN}.down_proj.*",
        "norm.*": "rms_norm.*",
    },
    layouts={"pos_embed": positions},
    ignored={"head.**": _POOL},
    norm_eps=NORM_EPS,
)
APPLE = Naming(
    name="aimv2",
    title="Apple's AIMv2",
    table={
        "pos_embed": "preprocessor.pos_embed",
        "patch_embed.proj.*": "preprocessor.patchifier.proj.*",
        "patch_embed.norm.*": "preprocessor.patchifier.norm.*",
        "blocks.#.norm1.*": "trunk.blocks.#.norm_1.*",
        "blocks.#.attn.qkv.*": "trunk.blocks.#.attn.qkv.*",
        "blocks.#.attn.proj.*": "trunk.blocks.#.attn.proj.*",
        "blocks.#.norm2.*": "trunk.blocks.#.norm_2.*",
        "blocks.#.mlp.w12.*": ("trunk.blocks.#.mlp.fc1.*", "trunk.blocks.#.mlp.fc3.*"),
        "blocks.#.mlp.w3.*": "trunk.blocks.#.mlp.fc2.*",
        "norm.*": "trunk.post_trunk_norm.*",
    },
    layouts={"pos_embed": positions},
    norm_eps=NORM_EPS,
)


def _read(file: Path, document: Document) -> Sidecar:
    if "vision_config" in document:
        raise ConfigError(f"{file} describes AIMv2 with a text tower (lit), which vitseek does not read. {LIMIT}")
    if document.get("is_native", False):
        raise ConfigError(
            f"{file} describes AIMv2 of native resolution (is_native), which vitseek does not run. {LIMIT}"
        )
    if (act := document.get("hidden_act", "silu")) != "silu":
        raise ConfigError(f"{file} gates the feed-forward by {act!r}; vitseek computes 'silu' only.")
    usual = {**DEFAULTS, **document, "hidden_act": "gelu", "layer_norm_eps": document.get("rms_norm_eps", NORM_EPS)}
    known = encoder(file, usual, norm_eps=NORM_EPS)
    known.pop("mlp_layer")  # the shapes tell
    return Sidecar(
        file=file,
        known=known,
        preprocessing=transformers_pictures(file, usual["patch_size"]),
        notes=[transformers_note(file, document)],
    )


FAMILY = Family(
    name="AIMv2",
    namings=(TRANSFORMERS, APPLE),
    transformers=dict.fromkeys(("aimv2_vision_model", "aimv2"), _read),
)
