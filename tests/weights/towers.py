"""Small checkpoints of CLIP, SigLIP, DINOv3 and MAE under foreign names, written out by hand.

Independent of `weights/families`, which is tested against them: one word at a time is put in another's place.
"""

import dataclasses

import numpy as np

from tests.weights.checkpoints import Arrays
from vitseek.models.config import ViTConfig, parameter_shapes
from vitseek.models.text import TextConfig, text_parameter_shapes

# Distinct primes wherever the architecture allows; heads of 64 dimensions, so that shapes alone tell their number.
SHAPE = {"embed_dim": 192, "depth": 2, "num_heads": 3, "patch_size": 5, "img_size": (35, 35), "hidden_dim": 11}
CLIP = ViTConfig(
    **SHAPE, patch_bias=False, pre_norm=True, mlp_layer="quick-gelu", norm_eps=1e-5, embedding_dim=29
)  # fmt: skip
SIGLIP = ViTConfig(**SHAPE, class_token=False, mlp_layer="gelu-tanh", attention_pool=True)
DINOV3 = ViTConfig(**SHAPE, pos_embed="rope", num_registers=4, layer_scale=True, norm_eps=1e-5)
DINOV3_GATED = dataclasses.replace(DINOV3, mlp_layer="swiglu")
MAE = ViTConfig(**SHAPE)
IJEPA = ViTConfig(**SHAPE, class_token=False)
AIMV2 = ViTConfig(
    **SHAPE, class_token=False, norm_layer="rmsnorm", norm_eps=1e-5, patch_norm=True, mlp_layer="swiglu",
    qkv_bias=False, proj_bias=False, mlp_bias=False,
)  # fmt: skip
CLIP_TEXT = TextConfig(
    vocab_size=103, context_length=17, width=128, depth=3, num_heads=2, hidden_dim=13, mlp_layer="quick-gelu",
    pooling="largest", embedding_dim=29, bos_token_id=101, eos_token_id=102, pad_token_id=102,
)  # fmt: skip
SIGLIP_TEXT = TextConfig(
    vocab_size=103, context_length=17, width=128, depth=3, num_heads=2, hidden_dim=13, mlp_layer="gelu-tanh",
    causal=False, pooling="last", embedding_dim=192, projection_bias=True, norm_eps=1e-6, eos_token_id=1,
    pad_token_id=1, attend_padding=True, cleaning="canonical",
)  # fmt: skip


def random_towers(
    config: ViTConfig, text: TextConfig | None, rng: np.random.Generator, *, bias: bool = False
) -> Arrays:
    """Canonical parameters of one or both towers with random values."""
    shapes = parameter_shapes(config)
    if text is not None:
        shapes |= {**text_parameter_shapes(text), "logit_scale": (), **({"logit_bias": ()} if bias else {})}
    return {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in shapes.items()}


def _split(array: np.ndarray, parts: int = 3) -> list[np.ndarray]:
    return np.split(array, parts)


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def transformers_blocks(params: Arrays, ours: str, theirs: str) -> Arrays:
    """transformers' CLIP and SigLIP, one tower's blocks."""
    layers = {
        "norm1": "layer_norm1", "attn.proj": "self_attn.out_proj", "norm2": "layer_norm2", "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }  # fmt: skip
    renamed: Arrays = {}
    for name, array in params.items():
        if not name.startswith(f"{ours}blocks."):
            continue
        number, rest = name.removeprefix(f"{ours}blocks.").split(".", 1)
        layer, block = rest.rpartition(".")[0], f"{theirs}encoder.layers.{number}"
        if layer == "attn.qkv":
            for letter, part in zip("qkv", _split(array), strict=True):
                renamed[f"{block}.self_attn.{letter}_proj.{_kind(name)}"] = part
        else:
            renamed[f"{block}.{layers[layer]}.{_kind(name)}"] = array
    return renamed


def transformers_text(params: Arrays) -> Arrays:
    """The text tower that CLIP and SigLIP share in transformers, but for the projection."""
    return {
        "text_model.embeddings.token_embedding.weight": params["text.token_embed.weight"],
        "text_model.embeddings.position_embedding.weight": params["text.pos_embed"],
        "text_model.embeddings.position_ids": np.arange(params["text.pos_embed"].shape[0])[None],
        **transformers_blocks(params, "text.", "text_model."),
        "text_model.final_layer_norm.weight": params["text.norm.weight"],
        "text_model.final_layer_norm.bias": params["text.norm.bias"],
    }


def transformers_clip(params: Arrays, *, prefix: str = "vision_model.") -> Arrays:
    """transformers' CLIPModel, CLIPVisionModel (release 5: without prefix) and CLIPVisionModelWithProjection."""
    vision = {
        "embeddings.class_embedding": params["cls_token"][0, 0],
        "embeddings.position_embedding.weight": params["pos_embed"][0],
        "embeddings.position_ids": np.arange(params["pos_embed"].shape[1])[None],
        "embeddings.patch_embedding.weight": params["patch_embed.proj.weight"],
        **{f"pre_layrnorm.{kind}": params[f"norm_pre.{kind}"] for kind in ("weight", "bias")},
        **{f"post_layernorm.{kind}": params[f"norm.{kind}"] for kind in ("weight", "bias")},
        **transformers_blocks(params, "", ""),
    }
    renamed = {prefix + name: array for name, array in vision.items()}
    if "projection.weight" in params:
        renamed["visual_projection.weight"] = params["projection.weight"]
    if "text.pos_embed" in params:
        renamed |= transformers_text(params)
        renamed["text_projection.weight"] = params["text.projection.weight"]
        renamed["logit_scale"] = params["logit_scale"]
    return renamed


def transformers_siglip(params: Arrays, *, prefix: str = "vision_model.", native: bool = False) -> Arrays:
    """transformers' SiglipModel and SiglipVisionModel; native: Siglip2Model with its linear patches."""
    kernel = params["patch_embed.proj.weight"]
    if native:  # (D, 3, p, p) -> (D, p p 3)
        kernel = np.stack([one.transpose(1, 2, 0).reshape(-1) for one in kernel])
    vision = {
        "embeddings.position_embedding.weight": params["pos_embed"][0],
        "embeddings.patch_embedding.weight": kernel,
        "embeddings.patch_embedding.bias": params["patch_embed.proj.bias"],
        "head.probe": params["attn_pool.latent"],
        **transformers_blocks(params, "", ""),
    }
    for kind in ("weight", "bias"):
        vision[f"post_layernorm.{kind}"] = params[f"norm.{kind}"]
        both = [params[f"attn_pool.q.{kind}"], params[f"attn_pool.kv.{kind}"]]
        vision[f"head.attention.in_proj_{kind}"] = np.concatenate(both)
        vision[f"head.attention.out_proj.{kind}"] = params[f"attn_pool.proj.{kind}"]
        vision[f"head.layernorm.{kind}"] = params[f"attn_pool.norm.{kind}"]
        for layer in ("fc1", "fc2"):
            vision[f"head.mlp.{layer}.{kind}"] = params[f"attn_pool.mlp.{layer}.{kind}"]
    renamed = {prefix + name: array for name, array in vision.items()}
    if "text.pos_embed" in params:
        renamed |= transformers_text(params)
        for kind in ("weight", "bias"):
            renamed[f"text_model.head.{kind}"] = params[f"text.projection.{kind}"]
        renamed |= {name: params[name][None] for name in ("logit_scale", "logit_bias")}
    return renamed


def _open_clip_blocks(params: Arrays, ours: str, theirs: str) -> Arrays:
    words = [("attn.qkv.", "attn.in_proj_"), ("attn.proj", "attn.out_proj"), ("norm1", "ln_1"), ("norm2", "ln_2")]
    words += [("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")]
    renamed = {}
    for name, array in params.items():
        if name.startswith(f"{ours}blocks."):
            rest = name.removeprefix(f"{ours}blocks.")
            for old, new in words:
                rest = rest.replace(old, new)
            renamed[f"{theirs}transformer.resblocks.{rest}"] = array
    return renamed


def _open_clip_text(params: Arrays, theirs: str) -> Arrays:
    renamed = {
        f"{theirs}token_embedding.weight": params["text.token_embed.weight"],
        f"{theirs}positional_embedding": params["text.pos_embed"],
        f"{theirs}ln_final.weight": params["text.norm.weight"],
        f"{theirs}ln_final.bias": params["text.norm.bias"],
        **_open_clip_blocks(params, "text.", theirs),
        **{name: params[name] for name in ("logit_scale", "logit_bias") if name in params},
    }
    if "text.projection.bias" in params:
        return renamed | {
            f"{theirs}text_projection.{kind}": params[f"text.projection.{kind}"] for kind in ("weight", "bias")
        }
    return renamed | {f"{theirs}text_projection": params["text.projection.weight"].T}


def open_clip(params: Arrays, *, text: str = "") -> Arrays:
    """OpenAI's own names, which OpenCLIP kept; custom_text puts ``text.`` before the text tower."""
    renamed = {
        "visual.class_embedding": params["cls_token"][0, 0],
        "visual.positional_embedding": params["pos_embed"][0],
        "visual.conv1.weight": params["patch_embed.proj.weight"],
        "visual.proj": params["projection.weight"].T,
        **_open_clip_blocks(params, "", "visual."),
    }
    for kind in ("weight", "bias"):
        renamed[f"visual.ln_pre.{kind}"] = params[f"norm_pre.{kind}"]
        renamed[f"visual.ln_post.{kind}"] = params[f"norm.{kind}"]
    return renamed | _open_clip_text(params, text)


def open_clip_siglip(params: Arrays) -> Arrays:
    """OpenCLIP's SigLIP: timm's image tower as it is, and a text tower apart."""
    towers = ("text.", "logit_")
    vision = {f"visual.trunk.{name}": array for name, array in params.items() if not name.startswith(towers)}
    return vision | _open_clip_text(params, "text.")


def timm_clip(params: Arrays) -> Arrays:
    """timm's image tower of CLIP: the projection is its head, with a bias of zeros."""
    renamed = {name: array for name, array in params.items() if name != "projection.weight"}
    weight = params["projection.weight"]
    return renamed | {"head.weight": weight, "head.bias": np.zeros(weight.shape[0], np.float32)}


def without_key_bias(params: Arrays) -> Arrays:
    """DINOv3's key has no bias: zeros under the canonical names."""
    freed = {}
    for name, array in params.items():
        if name.endswith("attn.qkv.bias"):
            query, key, value = _split(array)
            array = np.concatenate([query, np.zeros_like(key), value])
        freed[name] = array
    return freed


def transformers_dinov3(params: Arrays, *, release: int = 4) -> Arrays:
    """transformers' DINOv3; the key's bias is not there at all."""
    renamed = {
        "embeddings.cls_token": params["cls_token"],
        "embeddings.mask_token": np.zeros_like(params["cls_token"]),
        "embeddings.register_tokens": params["reg_token"],
        "embeddings.patch_embeddings.weight": params["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.bias": params["patch_embed.proj.bias"],
        "norm.weight": params["norm.weight"],
        "norm.bias": params["norm.bias"],
    }
    layers = {"norm1": "norm1", "norm2": "norm2", "attn.proj": "attention.o_proj", "mlp.fc1": "mlp.up_proj"}
    layers |= {"mlp.fc2": "mlp.down_proj", "mlp.w3": "mlp.down_proj"}
    for name, array in params.items():
        if not name.startswith("blocks."):
            continue
        _, number, rest = name.split(".", 2)
        layer, block = rest.rpartition(".")[0], f"{'model.' if release == 5 else ''}layer.{number}"
        if layer == "attn.qkv":
            for letter, part in zip("qkv", _split(array), strict=True):
                if (letter, _kind(name)) != ("k", "bias"):
                    renamed[f"{block}.attention.{letter}_proj.{_kind(name)}"] = part
        elif layer == "mlp.w12":
            for gate, part in zip(("gate_proj", "up_proj"), _split(array, 2), strict=True):
                renamed[f"{block}.mlp.{gate}.{_kind(name)}"] = part
        elif layer in ("ls1", "ls2"):
            renamed[f"{block}.layer_scale{layer[-1]}.lambda1"] = array
        else:
            renamed[f"{block}.{layers[layer]}.{_kind(name)}"] = array
    return renamed


def facebook_dinov3(params: Arrays) -> Arrays:
    """facebookresearch/dinov3: the key's bias holds anything, since a mask takes it away."""
    renamed = {"mask_token": np.zeros((1, 1), np.float32), "rope_embed.periods": np.ones(16, np.float32)}
    for name, array in params.items():
        if name == "reg_token":
            name = "storage_tokens"
        if name.endswith("attn.qkv.bias"):
            query, _, value = _split(array)
            renamed[f"{name}_mask"] = np.concatenate([np.ones_like(query), np.zeros_like(query), np.ones_like(query)])
            array = np.concatenate([query, np.full_like(query, 7.0), value])
        if ".mlp.w12." in name:
            for word, part in zip(("w1", "w2"), _split(array, 2), strict=True):
                renamed[name.replace("w12", word)] = part
        else:
            renamed[name] = array
    return renamed


def timm_dinov3(params: Arrays, *, biases: bool = True) -> Arrays:
    """timm's DINOv3, with the biases of query and value, or without any."""
    renamed = {}
    for name, array in params.items():
        if name.endswith("attn.qkv.bias"):
            query, _, value = _split(array)
            if biases:
                renamed[name.replace("qkv.bias", "q_bias")] = query
                renamed[name.replace("qkv.bias", "v_bias")] = value
        elif ".mlp.w12." in name:
            for word, part in zip(("fc1_g", "fc1_x"), _split(array, 2), strict=True):
                renamed[name.replace("w12", word)] = part
        else:
            word = name.replace(".mlp.w3.", ".mlp.fc2.")
            renamed[word.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")] = array
    return renamed


def apple_aimv2(params: Arrays) -> Arrays:
    """Apple's AIMv2: positions of the preprocessor, blocks of the trunk, the gate first and the value third."""
    renamed = {}
    for name, array in params.items():
        if name == "pos_embed":
            renamed["preprocessor.pos_embed"] = array
        elif name.startswith("patch_embed."):
            renamed[name.replace("patch_embed.", "preprocessor.patchifier.")] = array
        elif name == "norm.weight":
            renamed["trunk.post_trunk_norm.weight"] = array
        elif ".mlp.w12." in name:
            for word, part in zip(("fc1", "fc3"), _split(array, 2), strict=True):
                renamed["trunk." + name.replace("w12", word)] = part
        else:
            word = name.replace(".mlp.w3.", ".mlp.fc2.")
            renamed["trunk." + word.replace(".norm1.", ".norm_1.").replace(".norm2.", ".norm_2.")] = array
    return renamed


def transformers_ijepa(params: Arrays, *, prefix: str = "ijepa.") -> Arrays:
    """transformers' I-JEPA: its ViT's names without a class token; the classifier has no prefix."""
    words = (
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"), ("pos_embed", "embeddings.position_embeddings"),
        ("blocks.", "encoder.layer."), (".norm1.", ".layernorm_before."), (".norm2.", ".layernorm_after."),
        (".attn.proj.", ".attention.output.dense."), (".mlp.fc1.", ".intermediate.dense."),
        (".mlp.fc2.", ".output.dense."),
    )  # fmt: skip
    renamed = {}
    for name, array in params.items():
        if name.startswith("head."):
            renamed[name.replace("head.", "classifier.")] = array
        elif ".attn.qkv." in name:
            for word, part in zip(("query", "key", "value"), _split(array), strict=True):
                place = name.replace("blocks.", "encoder.layer.").replace(".attn.qkv.", f".attention.attention.{word}.")
                renamed[prefix + place] = part
        else:
            place = name.replace("norm.", "layernorm.") if name.startswith("norm.") else name
            for ours, theirs in words:
                place = place.replace(ours, theirs)
            renamed[prefix + place] = array
    return renamed


def facebook_mae(params: Arrays, rng: np.random.Generator) -> Arrays:
    """facebookresearch/mae: timm's names, and a decoder with the same words for its blocks."""
    decoder = {
        "mask_token": (1, 1, 7), "decoder_embed.weight": (7, 192), "decoder_embed.bias": (7,),
        "decoder_pos_embed": (1, 50, 7), "decoder_blocks.0.norm1.weight": (7,), "decoder_blocks.0.norm1.bias": (7,),
        "decoder_blocks.0.attn.qkv.weight": (21, 7), "decoder_blocks.0.mlp.fc1.weight": (28, 7),
        "decoder_norm.weight": (7,), "decoder_norm.bias": (7,), "decoder_pred.weight": (75, 7),
        "decoder_pred.bias": (75,),
    }  # fmt: skip
    return params | {name: rng.normal(size=shape).astype(np.float32) for name, shape in decoder.items()}
