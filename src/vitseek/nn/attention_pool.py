"""Attention with one learned query: how a set of tokens becomes one vector (SigLIP's head; "Set Transformer", 2019)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vitseek.nn.attention import attention_weights, split_heads
from vitseek.nn.layers import linear

Array = NDArray[np.floating]


def pool_by_attention(params: Mapping[str, Array], name: str, tokens: Array, *, num_heads: int) -> Array:
    """Return what a learned query finds in the tokens of each image.

    Parameters
    ----------
    params
        With ``name.latent`` (1, 1, D), and ``name.q``, ``name.kv`` and ``name.proj``, each with weight and bias.
    tokens : shape (B, N, D)

    Returns
    -------
    shape (B, 1, D), before the feed-forward
    """
    query = linear(params[f"{name}.latent"], params[f"{name}.q.weight"], params[f"{name}.q.bias"])  # (1, 1, D)
    both = linear(tokens, params[f"{name}.kv.weight"], params[f"{name}.kv.bias"])  # (B, N, 2 D)
    key, value = (split_heads(part, num_heads) for part in np.split(both, 2, axis=-1))  # (B, H, N, d)
    weights = attention_weights(split_heads(query, num_heads), key)  # (B, H, 1, N)
    found = (weights @ value).transpose(0, 2, 1, 3).reshape(tokens.shape[0], 1, -1)  # (B, 1, D)
    return linear(found, params[f"{name}.proj.weight"], params[f"{name}.proj.bias"])
