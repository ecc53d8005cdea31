"""Small checkpoints under foreign names, written out by hand: `weights/families` is tested against these."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from vitseek.models.config import ViTConfig, parameter_shapes

Arrays = dict[str, np.ndarray]

# Distinct primes wherever the architecture allows: 3 heads of 64, 5 px patches, a 7 × 7 grid, 11 wide feed-forward.
SMALL = ViTConfig(
    embed_dim=192, depth=2, num_heads=3, patch_size=5, img_size=(35, 35), hidden_dim=11, pos_resize="bicubic-antialias"
)


def random_params(config: ViTConfig, rng: np.random.Generator) -> Arrays:
    """Canonical parameters with random values."""
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in parameter_shapes(config).items()}


def save_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path))
    return path


def write_raw(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    """A safetensors file with any header, true or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def transformers_vit(params: Arrays, *, prefix: str = "", head: str = "classifier", release: int = 4) -> Arrays:
    """The names of transformers' ViT and DeiT; release 5 renamed the modules in memory."""
    depth = 1 + max(int(name.split(".")[1]) for name in params if name.startswith("blocks."))
    renamed = {
        "embeddings.cls_token": params["cls_token"],
        "embeddings.position_embeddings": params["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": params["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": params["patch_embed.proj.bias"],
        "layernorm.weight": params["norm.weight"],
        "layernorm.bias": params["norm.bias"],
    }
    if "dist_token" in params:
        renamed["embeddings.distillation_token"] = params["dist_token"]
    for block in range(depth):
        old, here = f"encoder.layer.{block}", f"blocks.{block}"
        for kind in ("weight", "bias"):
            query, key, value = np.split(params[f"{here}.attn.qkv.{kind}"], 3)
            if release == 4:
                renamed[f"{old}.attention.attention.query.{kind}"] = query
                renamed[f"{old}.attention.attention.key.{kind}"] = key
                renamed[f"{old}.attention.attention.value.{kind}"] = value
                renamed[f"{old}.attention.output.dense.{kind}"] = params[f"{here}.attn.proj.{kind}"]
                renamed[f"{old}.intermediate.dense.{kind}"] = params[f"{here}.mlp.fc1.{kind}"]
                renamed[f"{old}.output.dense.{kind}"] = params[f"{here}.mlp.fc2.{kind}"]
                norms = old
            else:
                norms = f"layers.{block}"
                renamed[f"{norms}.attention.q_proj.{kind}"] = query
                renamed[f"{norms}.attention.k_proj.{kind}"] = key
                renamed[f"{norms}.attention.v_proj.{kind}"] = value
                renamed[f"{norms}.attention.o_proj.{kind}"] = params[f"{here}.attn.proj.{kind}"]
                renamed[f"{norms}.mlp.fc1.{kind}"] = params[f"{here}.mlp.fc1.{kind}"]
                renamed[f"{norms}.mlp.fc2.{kind}"] = params[f"{here}.mlp.fc2.{kind}"]
            renamed[f"{norms}.layernorm_before.{kind}"] = params[f"{here}.norm1.{kind}"]
            renamed[f"{norms}.layernorm_after.{kind}"] = params[f"{here}.norm2.{kind}"]
    renamed = {prefix + name: array for name, array in renamed.items()}
    if "head.weight" in params:
        distilled = "head_dist.weight" in params
        for kind in ("weight", "bias"):
            renamed[f"{'cls_classifier' if distilled else head}.{kind}"] = params[f"head.{kind}"]
            if distilled:
                renamed[f"distillation_classifier.{kind}"] = params[f"head_dist.{kind}"]
    return renamed


def transformers_dinov2(params: Arrays, *, prefix: str = "", release: int = 4) -> Arrays:
    """The names of transformers' Dinov2 and Dinov2WithRegisters, and of the course archive."""
    depth = 1 + max(int(name.split(".")[1]) for name in params if name.startswith("blocks."))
    renamed = {
        "embeddings.cls_token": params["cls_token"],
        "embeddings.mask_token": np.zeros((1, params["cls_token"].shape[-1]), np.float32),
        "embeddings.position_embeddings": params["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": params["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": params["patch_embed.proj.bias"],
        "layernorm.weight": params["norm.weight"],
        "layernorm.bias": params["norm.bias"],
    }
    if "reg_token" in params:
        renamed["embeddings.register_tokens"] = params["reg_token"]
    for block in range(depth):
        there, here = f"encoder.layer.{block}", f"blocks.{block}"
        for kind in ("weight", "bias"):
            query, key, value = np.split(params[f"{here}.attn.qkv.{kind}"], 3)
            old = ("attention.query", "attention.key", "attention.value", "output.dense")
            new = ("q_proj", "k_proj", "v_proj", "o_proj")
            parts = (query, key, value, params[f"{here}.attn.proj.{kind}"])
            for name, part in zip(old if release == 4 else new, parts, strict=True):
                renamed[f"{there}.attention.{name}.{kind}"] = part
            for norm in ("norm1", "norm2"):
                renamed[f"{there}.{norm}.{kind}"] = params[f"{here}.{norm}.{kind}"]
            if f"{here}.mlp.w12.{kind}" not in params:
                for layer in ("fc1", "fc2"):
                    renamed[f"{there}.mlp.{layer}.{kind}"] = params[f"{here}.mlp.{layer}.{kind}"]
            elif release == 4:
                renamed[f"{there}.mlp.weights_in.{kind}"] = params[f"{here}.mlp.w12.{kind}"]
                renamed[f"{there}.mlp.weights_out.{kind}"] = params[f"{here}.mlp.w3.{kind}"]
            else:
                gate, value_half = np.split(params[f"{here}.mlp.w12.{kind}"], 2)
                renamed[f"{there}.mlp.gate_proj.{kind}"] = gate
                renamed[f"{there}.mlp.up_proj.{kind}"] = value_half
                renamed[f"{there}.mlp.down_proj.{kind}"] = params[f"{here}.mlp.w3.{kind}"]
        for number in (1, 2):
            renamed[f"{there}.layer_scale{number}.lambda1"] = params[f"{here}.ls{number}.gamma"]
    renamed = {prefix + name: array for name, array in renamed.items()}
    for kind in ("weight", "bias"):
        if f"head.{kind}" in params:
            renamed[f"classifier.{kind}"] = params[f"head.{kind}"]
    return renamed


def facebook_dinov2(params: Arrays, *, prefix: str = "", blocks_a_chunk: int | None = None) -> Arrays:
    """The names of facebookresearch/dinov2; its training checkpoints keep the blocks in chunks."""
    renamed: Arrays = {"mask_token": np.zeros((1, params["cls_token"].shape[-1]), np.float32)}
    for name, array in params.items():
        foreign = "register_tokens" if name == "reg_token" else name
        if blocks_a_chunk and name.startswith("blocks."):
            _, block, rest = name.split(".", 2)
            foreign = f"blocks.{int(block) // blocks_a_chunk}.{block}.{rest}"
        renamed[foreign] = array
    return {prefix + name: array for name, array in renamed.items()}


def timm_dinov2(params: Arrays) -> Arrays:
    """timm packs SwiGLU's gate and value into fc1 and calls the way back fc2."""
    return {
        name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."): array for name, array in params.items()
    }
