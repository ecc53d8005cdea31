"""Which parameters decay and which learn slower.

Layer-wise learning-rate decay: BEiT (Bao et al., 2022) and MAE (He et al., 2022), after ELECTRA (Clark et al., 2020).
"""

from collections.abc import Callable
from typing import Any

from torch import nn

Group = dict[str, Any]
NO_DECAY = {"cls_token", "dist_token", "reg_token", "mask_token", "pos_embed", "token_embed", "logit_scale"}


def parameter_groups(
    module: nn.Module, weight_decay: float, *, lr_scale: Callable[[str], float] | None = None
) -> list[Group]:
    """Split the trainable parameters by decay and learning rate.

    Norms, biases, tokens, position embeddings and the temperature do not decay, as in the papers' code.

    Parameters
    ----------
    lr_scale
        From a parameter's name to its part of the learning rate; 1 for all by default.
    """
    groups: dict[tuple[float, float], Group] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and NO_DECAY.isdisjoint(name.split("."))
        key = (lr_scale(name) if lr_scale else 1.0, weight_decay if decays else 0.0)
        group = groups.setdefault(key, {"params": [], "lr_scale": key[0], "weight_decay": key[1], "decays": decays})
        group["params"].append(parameter)
    return list(groups.values())


def layer_of(name: str, depth: int) -> int:
    """Depth of a Vision Transformer's parameter: 0 for embeddings, block i is i + 1, norm and heads are depth + 1."""
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return depth + 1 if name.startswith(("norm.", "head", "fc_norm.")) else 0


def layer_decay(decay: float, depth: int) -> Callable[[str], float]:
    """Learning-rate part of a parameter: ``decay`` to the power of its distance from the head.

    The final norm and the head learn at the full rate; block ``depth - 1`` at ``decay``; the embeddings at
    ``decay ** (depth + 1)``.
    """
    return lambda name: decay ** (depth + 1 - layer_of(name, depth))
