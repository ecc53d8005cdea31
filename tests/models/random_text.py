"""Small text towers of every kind with random parameters, and random token numbers that fit them."""

import numpy as np

from vitseek.models.text import TextConfig, text_parameter_shapes

CLIP = TextConfig(
    vocab_size=101, context_length=13, width=21, depth=2, num_heads=3, hidden_dim=31, mlp_layer="quick-gelu",
    embedding_dim=17, bos_token_id=98, eos_token_id=100, pad_token_id=0,
)  # fmt: skip
SIGLIP = TextConfig(
    vocab_size=103, context_length=11, width=21, depth=2, num_heads=3, hidden_dim=37, mlp_layer="gelu-tanh",
    causal=False, pooling="last", embedding_dim=23, projection_bias=True, norm_eps=1e-6, eos_token_id=1,
    pad_token_id=1, attend_padding=True, cleaning="canonical",
)  # fmt: skip
BERT = TextConfig(
    vocab_size=107, context_length=19, width=21, depth=2, num_heads=3, hidden_dim=29, causal=False, norm_first=False,
    embed_norm=True, token_types=2, pooling="first", embedding_dim=17, norm_eps=1e-12, bos_token_id=101,
    eos_token_id=102, pad_token_id=0,
)  # fmt: skip
TOWERS = {"clip": CLIP, "siglip": SIGLIP, "bert": BERT}


def random_text_params(config: TextConfig, rng: np.random.Generator, dtype: type = np.float64) -> dict[str, np.ndarray]:
    params = {}
    for name, shape in text_parameter_shapes(config).items():
        values = rng.standard_normal(shape) * 0.3
        params[name] = (values + 1 if "norm" in name and name.endswith("weight") else values).astype(dtype)
    return params


def random_ids(config: TextConfig, rng: np.random.Generator, texts: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Texts of different lengths, the longest full; (B, L) numbers and mask, ended and padded as the config says."""
    ids = np.full((texts, config.context_length), config.pad_token_id)
    mask = np.zeros_like(ids)
    front = [] if config.bos_token_id is None else [config.bos_token_id]
    for row, length in enumerate([config.context_length, *rng.integers(4, config.context_length, size=texts - 1)]):
        words = rng.integers(2, 90, size=length - len(front) - 1)
        ids[row, :length] = [*front, *words, config.eos_token_id]
        mask[row, :length] = 1
    return ids, mask
