"""The attention pool on folded weights (SigLIP's head): one learned query over all tokens, then a feed-forward.

The plain pass projects every token to keys and values. Here a head's scores are a product with one vector, and what is
projected to values is the average that the head has found: B rows instead of B N.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitseek.engines import kernels
from vitseek.engines.fold import FoldedPool
from vitseek.models.config import ViTConfig
from vitseek.nn.activations import softmax

Array = NDArray[np.floating]


def pool_by_attention(weights: FoldedPool, config: ViTConfig, tokens: Array, sizes: Array | None = None) -> Array:
    """Return what :func:`vitseek.models.vit.attention_pool` returns, from tokens after the final norm.

    Parameters
    ----------
    tokens : shape (B, N, D)
    sizes : shape (B, N)
        How often each token counts; once by default.

    Returns
    -------
    shape (B, D)
    """
    scores = (tokens @ weights.score_weight).transpose(0, 2, 1)  # (B, H, N)
    if sizes is not None:
        scores = scores + np.log(sizes)[:, None]
    averages = softmax(scores) @ tokens  # (B, H, D)
    found = np.matmul(averages.transpose(1, 0, 2), weights.value_weight)  # (H, B, d)
    values = found.transpose(1, 0, 2).reshape(len(tokens), config.embed_dim) + weights.value_bias  # (B, D)
    x: Array = values @ weights.proj_weight
    x += weights.proj_bias

    mlp, normed = weights.mlp, np.empty_like(x)
    kernels.normalise(x, eps=config.norm_eps, out=normed, centre=config.norm_layer == "layernorm")
    hidden = normed @ mlp.up_weight  # (B, F)
    scratch = np.empty(2 * hidden.size, dtype=x.dtype)
    kernels.ACTIVATIONS[config.mlp_layer](hidden, mlp.up_bias, scratch=scratch)
    kernels.add_branch(x, hidden @ mlp.down_weight, mlp.down_bias)
    return x
