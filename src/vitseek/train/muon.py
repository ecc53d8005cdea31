"""Muon: momentum whose every matrix update is made orthogonal, with AdamW for everything that is no matrix.

Source: Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the factor that gives an
update AdamW's usual size, so that one learning rate serves both, is of Liu et al., "Muon is scalable for LLM training"
(2025). PyTorch has had ``torch.optim.Muon`` since 2.9; this one runs on the older versions that vitseek supports, keeps
both kinds of parameters in one optimizer, which the training loop wants, and is tested to make the same updates.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from vitseek.train.groups import Group

# Quintic iteration of the original: it does not converge to singular values of exactly 1 but to about 0.7 … 1.2, fast.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
MATCHED_RMS = 0.2  # root mean square of an AdamW update in practice (Liu et al.)


def orthogonalised(matrix: Tensor, *, iterations: int = ITERATIONS) -> Tensor:
    """Push the singular values of a matrix towards 1 and keep its singular vectors (Newton-Schulz, in bfloat16).

    Parameters
    ----------
    matrix : shape (rows, columns)

    Returns
    -------
    shape (rows, columns), bfloat16
    """
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(Optimizer):
    """One optimizer for a whole network: groups with ``muon=True`` hold matrices, the others are AdamW's.

    Parameters
    ----------
    groups
        As of :func:`vitseek.train.groups.parameter_groups`; each may say ``muon``.
    lr
        For groups that have none; the training loop sets them at every step.
    momentum
        Of the matrices (Nesterov).
    betas, eps
        AdamW's.
    """

    def __init__(
        self,
        groups: list[Group],
        *,
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": 0.0, "muon": False}
        super().__init__(groups, defaults)
        for group in self.param_groups:
            if group["muon"] and (bad := [tuple(p.shape) for p in group["params"] if p.ndim != 2]):
                raise ValueError(f"Muon takes matrices only, not {bad[0]}; put it into a group with muon=False")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._orthogonal_step if group["muon"] else self._adamw_step
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
                    update(parameter, parameter.grad, group)
        return loss

    def _orthogonal_step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = cast("dict[str, Tensor]", self.state[parameter])
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = group["momentum"]
        state["momentum"].lerp_(gradient, 1.0 - momentum)
        direction = orthogonalised(gradient.lerp(state["momentum"], momentum))
        scale = MATCHED_RMS * math.sqrt(max(parameter.shape))
        parameter.add_(direction.to(parameter.dtype), alpha=-group["lr"] * scale)

    def _adamw_step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = cast("dict[str, Tensor]", self.state[parameter])
        if not state:
            state.update(step=torch.zeros(()), mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        first, second = group["betas"]
        state["step"] += 1
        steps = float(state["step"])
        state["mean"].lerp_(gradient, 1.0 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1.0 - second)
        root = (state["square"] / (1.0 - second**steps)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(state["mean"], root, value=-group["lr"] / (1.0 - first**steps))
