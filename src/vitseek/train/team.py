"""The processes that train together: one on a laptop, many under ``accelerate launch`` or ``torchrun``.

A thin layer over Hugging Face accelerate, so that a recipe needs to know four words: rank, size, sum, gather.
"""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, distributed, nn

from vitseek.errors import UsageError
from vitseek.train.options import RunOptions


class Team:
    """This process and its peers. Make one with :meth:`join`, before the model."""

    def __init__(self, accelerator: Accelerator, precision: str) -> None:
        self.accelerator = accelerator
        self.precision = precision

    @classmethod
    def join(cls, options: RunOptions) -> "Team":
        """Meet the other processes, if there are any, and settle device and precision.

        Raises
        ------
        UsageError
            If this device cannot compute in the wanted precision.
        """
        on_gpu = options.device == "auto" and (torch.cuda.is_available() or _has_mps())
        precision = options.precision
        if precision == "auto":
            precision = "bf16" if on_gpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
        if precision == "fp16" and not on_gpu:
            raise UsageError("--precision fp16 needs a GPU; a CPU computes in no (float32) or bf16")
        # accelerate keeps its precision for the whole process; a second run may want another.
        AcceleratorState._reset_state()
        GradientState._reset_state()
        return cls(Accelerator(mixed_precision=precision, cpu=not on_gpu), precision)

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return int(self.accelerator.process_index)

    @property
    def size(self) -> int:
        """Number of processes."""
        return int(self.accelerator.num_processes)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.accelerator.device

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Wrap a module and its optimizer for mixed precision and for several processes."""
        model, prepared = self.accelerator.prepare(module, optimizer)
        return model, prepared

    def sum(self, value: Tensor) -> Tensor:
        """Sum over all processes, on each of them."""
        return self.accelerator.reduce(value, "sum") if self.size > 1 else value

    def mean(self, value: Tensor) -> Tensor:
        """Mean over all processes, on each of them."""
        return self.sum(value) / self.size

    def gather(self, value: Tensor) -> Tensor:
        """(B, ...) of every process one after another, (size * B, ...), with gradients; B must be the same."""
        if self.size == 1:
            return value
        gathered: Tensor = _Gather.apply(value)
        return gathered

    def autocast(self) -> Any:
        """A context in which mixed precision is on, for what runs outside the prepared module."""
        return self.accelerator.autocast()

    def in_turn(self, work: Callable[[], Any]) -> Any:
        """Do ``work`` on the leading process first, then on the others: for what one writes and the others read."""
        with self.accelerator.main_process_first():
            return work()

    def wait(self) -> None:
        """Wait until every process is here."""
        self.accelerator.wait_for_everyone()

    def leave(self) -> None:
        """Part with the other processes, when all have come this far."""
        self.wait()
        self.accelerator.end_training()

    def __repr__(self) -> str:
        return f"{self.size} process{'es' if self.size > 1 else ''} on {self.device}, precision {self.precision}"


class _Gather(torch.autograd.Function):
    """All processes' rows one after another. Each process computes with all of them, so gradients are summed back.

    torch.distributed.nn has this, deprecated since torch 2.13 without a successor that torch 2.6 knows.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        parts = [torch.empty_like(value) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, value.contiguous())
        ctx.rows = len(value)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        own = distributed.get_rank() * ctx.rows
        return total[own : own + ctx.rows]


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())
