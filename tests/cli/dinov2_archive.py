"""A random archive with the names and shapes of `vit-dinov2-base.npz`, and DINOv2 written out a second time.

The second implementation shares nothing with vitseek's: it reads the archive's own names, computes in float64, one
image at a time, without any shortcut.
"""

import math
from pathlib import Path

import numpy as np
from PIL import Image

PATCH, SIDE_PX, GRID = 14, 224, 37  # 518 px = 37 patches
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
EPS = 1e-6


def shapes(width: int, depth: int) -> dict[str, tuple[int, ...]]:
    """The archive's names and shapes; the real one has width 768 and depth 12."""
    found: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, width),
        "embeddings.position_embeddings": (1, 1 + GRID * GRID, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    for block in range(depth):
        layer = f"encoder.layer.{block}"
        for name in ("norm1", "norm2"):
            found |= {f"{layer}.{name}.weight": (width,), f"{layer}.{name}.bias": (width,)}
        for name in ("attention.query", "attention.key", "attention.value", "output.dense"):
            found |= {f"{layer}.attention.{name}.weight": (width, width), f"{layer}.attention.{name}.bias": (width,)}
        found |= {f"{layer}.layer_scale1.lambda1": (width,), f"{layer}.layer_scale2.lambda1": (width,)}
        found |= {f"{layer}.mlp.fc1.weight": (4 * width, width), f"{layer}.mlp.fc1.bias": (4 * width,)}
        found |= {f"{layer}.mlp.fc2.weight": (width, 4 * width), f"{layer}.mlp.fc2.bias": (width,)}
    return found


def write_archive(path: Path, rng: np.random.Generator, *, width: int, depth: int) -> dict[str, np.ndarray]:
    """Save random values; matrices are scaled so that numbers stay of order one through all blocks."""
    arrays = {}
    for name, shape in shapes(width, depth).items():
        values = rng.standard_normal(shape, dtype=np.float32)
        if len(shape) > 1:
            values /= np.float32(math.sqrt(np.prod(shape[1:]) if "weight" in name else 1))
        elif name.endswith(("norm1.weight", "norm2.weight", "layernorm.weight")):
            values = 1 + values / 8
        arrays[name] = values
    np.savez(path, **arrays)
    return arrays


def reference_features(arrays: dict[str, np.ndarray], picture: Path, *, width: int, depth: int) -> np.ndarray:
    """The class token of DINOv2 for the 224 px centre crop, shape (width,), float64."""
    params = {name: array.astype(np.float64) for name, array in arrays.items()}
    pixels = np.asarray(Image.open(picture).convert("RGB"), np.float64) / 255
    top, left = (pixels.shape[0] - SIDE_PX) // 2, (pixels.shape[1] - SIDE_PX) // 2
    crop = (pixels[top : top + SIDE_PX, left : left + SIDE_PX] - MEAN) / STD
    count = SIDE_PX // PATCH
    patches = crop.reshape(count, PATCH, count, PATCH, 3).transpose(0, 2, 4, 1, 3).reshape(count * count, -1)
    kernel = params["embeddings.patch_embeddings.projection.weight"].reshape(width, -1)
    tokens = patches @ kernel.T + params["embeddings.patch_embeddings.projection.bias"]
    tokens = np.concatenate([params["embeddings.cls_token"][0], tokens])
    positions = params["embeddings.position_embeddings"][0]
    grid = positions[1:].reshape(GRID, GRID, width)
    resize = bicubic_matrix(GRID, count)
    grid = np.einsum("ai,bj,ijd->abd", resize, resize, grid, optimize=True).reshape(-1, width)
    x = tokens + np.concatenate([positions[:1], grid])
    for block in range(depth):
        p = {name.split(f"encoder.layer.{block}.")[1]: v for name, v in params.items() if f"layer.{block}." in name}
        attended = attention(norm(x, p["norm1.weight"], p["norm1.bias"]), p, heads=width // 64)
        x = x + p["layer_scale1.lambda1"] * attended
        hidden = norm(x, p["norm2.weight"], p["norm2.bias"]) @ p["mlp.fc1.weight"].T + p["mlp.fc1.bias"]
        x = x + p["layer_scale2.lambda1"] * (gelu(hidden) @ p["mlp.fc2.weight"].T + p["mlp.fc2.bias"])
    return norm(x, params["layernorm.weight"], params["layernorm.bias"])[0]


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPS) * weight + bias


def attention(x: np.ndarray, p: dict[str, np.ndarray], *, heads: int) -> np.ndarray:
    parts = [
        x @ p[f"attention.attention.{n}.weight"].T + p[f"attention.attention.{n}.bias"]
        for n in ("query", "key", "value")
    ]
    outputs = []
    for query, key, value in zip(*(np.split(part, heads, axis=1) for part in parts), strict=True):
        scores = query @ key.T / math.sqrt(query.shape[1])
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        outputs.append(weights / weights.sum(axis=1, keepdims=True) @ value)
    return np.concatenate(outputs, axis=1) @ p["attention.output.dense.weight"].T + p["attention.output.dense.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2)).astype(np.float64)) / 2


def bicubic_matrix(old: int, new: int) -> np.ndarray:
    """(new, old) weights of PyTorch's bicubic interpolation: a = -0.75, pixel centres, edges repeated."""
    matrix = np.zeros((new, old))
    for row in range(new):
        position = (row + 0.5) * old / new - 0.5
        for column in range(math.floor(position) - 1, math.floor(position) + 3):
            matrix[row, min(max(column, 0), old - 1)] += keys_cubic(abs(position - column))
    return matrix


def keys_cubic(t: float, a: float = -0.75) -> float:
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0
