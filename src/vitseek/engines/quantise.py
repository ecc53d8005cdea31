"""Eight bits for the layers of a Vision Transformer, laid so that its outliers do not cost the others their precision.

A layer y = x W is computed in integers: x as unsigned bytes of one scale for all its numbers, W as signed bytes of one
scale a column. Where a few channels of x are far larger than the rest, the rest shares what few steps are left. Three
remedies, the first two exact in themselves and free at run time:

- *Smoothing* (Xiao et al., SmoothQuant, 2023): channel c of x is divided by s_c and row c of W multiplied by it: both
  share the burden. The division goes into the scale of the norm before ``qkv`` and ``up``, and into the values
  before ``proj``.
- *Wide channels*: behind the activation of the feed-forward a handful of channels carry "massive activations", 30 times
  the next (Sun et al., Massive Activations in Large Language Models, 2024); no smoothing helps. The widest
  :data:`WIDE_CHANNELS` of them stay in float32, as a thin feed-forward of their own.
- The patch embedding, heads, and a last block of which only one token is asked for stay in float32: they are 3 % of the
  work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.calibration import POINTS, Calibration
from vitseek.engines.fold import FoldedBlock, FoldedMlp
from vitseek.models.config import ViTConfig

Array = NDArray[np.floating]

# SmoothQuant's alpha: how much of the burden goes to the weights. Of 0.5, 0.65 and 0.8, these keep most of the top 10
# of the clothing photos with ViT-Ti/16 and DeiT-Ti/16: 0.94 with scales from pictures, 0.92 with those of a batch.
SMOOTHING, SMOOTHING_DYNAMIC = 0.8, 0.5
WIDE_CHANNELS = 8  # 2 keep as much of ViT-Ti's and DeiT-Ti's mAP as 32 do, within 0.002; larger models may have more
LARGEST, LARGEST_WITHOUT_VNNI = 127, 63
LEVELS = 255  # of an unsigned byte
LEAST = 1e-9  # a channel that is always zero has no scale of its own
CPUINFO = Path("/proc/cpuinfo")


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How the numbers that go into a layer become unsigned bytes: round(x / step) + zero."""

    step: float
    zero: int

    def halved(self) -> Scale:
        """The scale for numbers half as large."""
        return Scale(self.step / 2, self.zero)


How = Scale | Literal["dynamic"]  # "dynamic": a scale is worked out for each batch


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class QuantisedBlock:
    """A block prepared for eight bits: the same function as before, but for rounding.

    Parameters
    ----------
    block
        Smoothed weights in float32; its feed-forward has only the narrow channels.
    wide
        The feed-forward of the wide channels; its last bias is zero.
    qkv_gain, up_gain : shape (D,)
        What the outputs of the two norms are multiplied with.
    scales
        By layer, of the numbers that the NumPy engine puts into it.
    """

    block: FoldedBlock
    wide: FoldedMlp
    qkv_gain: Array
    up_gain: Array
    scales: Mapping[str, How]


def quantise_block(
    block: FoldedBlock, config: ViTConfig, calibration: Calibration, index: int, *, dynamic: bool
) -> QuantisedBlock:
    """Prepare block ``index``; ``dynamic``: only the channels' proportions are taken from the calibration."""
    lows, highs = ({point: side[point][index] for point in POINTS} for side in (calibration.lows, calibration.highs))
    reach = {point: np.maximum(-lows[point], highs[point]) for point in POINTS}
    width = config.embed_dim
    alpha = SMOOTHING_DYNAMIC if dynamic else SMOOTHING
    qkv = smoothing(reach["qkv"], block.qkv_weight, alpha)
    mixed = smoothing(reach["proj"], block.proj_weight, alpha)
    up = smoothing(reach["up"], block.mlp.up_weight, alpha)
    qkv_weight = block.qkv_weight * qkv[:, None]
    qkv_weight[:, 2 * width :] /= mixed
    by_reach = np.argsort(-reach["down"], kind="stable")
    wide, narrow = np.sort(by_reach[:WIDE_CHANNELS]), np.sort(by_reach[WIDE_CHANNELS:])
    mlp = dataclasses.replace(block.mlp, up_weight=block.mlp.up_weight * up[:, None])
    scales: dict[str, How] = dict.fromkeys(POINTS, "dynamic")
    if not dynamic:
        divided = {"qkv": qkv, "proj": mixed, "up": up, "down": np.ones_like(reach["down"])}
        kept = {point: narrow if point == "down" else slice(None) for point in POINTS}
        scales = {
            point: scale_of((lows[point] / divided[point])[kept[point]], (highs[point] / divided[point])[kept[point]])
            for point in POINTS
        }
    return QuantisedBlock(
        block=dataclasses.replace(
            block, qkv_weight=qkv_weight, proj_weight=block.proj_weight * mixed[:, None],
            mlp=_channels(mlp, narrow, config),
        ),
        wide=dataclasses.replace(_channels(mlp, wide, config), down_bias=np.zeros_like(mlp.down_bias)),
        qkv_gain=1 / qkv,
        up_gain=1 / up,
        scales=scales,
    )  # fmt: skip


def smoothing(reach: Array, weight: Array, alpha: float) -> Array:
    """Return what each channel, shape (K,), is divided by; of the mean 1 in the geometric sense.

    Parameters
    ----------
    reach : shape (K,)
        The largest absolute value of each channel.
    weight : shape (K, M)
    """
    ratio = np.maximum(reach, LEAST) ** alpha / np.maximum(np.abs(weight).max(axis=1), LEAST) ** (1 - alpha)
    return np.asarray(ratio / np.exp(np.log(ratio).mean()), np.float32)


def scale_of(lows: Array, highs: Array) -> Scale:
    """The scale that reaches from the lowest to the highest value; zero is always one of its steps."""
    low, high = min(float(lows.min()), 0.0), max(float(highs.max()), 0.0)
    step = max(high - low, LEAST) / LEVELS
    return Scale(step, round(-low / step))


def quantise_weight(weight: Array, largest: int) -> tuple[NDArray[np.int8], Array]:
    """Return signed bytes, (K, M), and the step of each column, (M,): weight ≈ bytes * steps."""
    steps = np.maximum(np.abs(weight).max(axis=0), LEAST).astype(np.float32) / np.float32(largest)
    return np.rint(weight / steps).astype(np.int8), steps


def largest_weight() -> int:
    """The largest signed byte to use on this processor.

    x86 without VNNI adds two products in 16 bits, which overflow unless one bit of the weights is left free.
    """
    try:
        facts = CPUINFO.read_text("ascii", "replace")
    except OSError:  # macOS, Windows
        return LARGEST
    return largest_weight_of(facts)


def largest_weight_of(cpuinfo: str) -> int:
    """The same for a ``/proc/cpuinfo``; processors without a line of x86 flags need no care."""
    line = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    if line is None or {"avx512_vnni", "avx_vnni"} & set(line.split()):
        return LARGEST
    return LARGEST_WITHOUT_VNNI


def _channels(mlp: FoldedMlp, chosen: NDArray[np.intp], config: ViTConfig) -> FoldedMlp:
    """The feed-forward with some of its hidden channels only."""
    gates = chosen if config.mlp_layer != "swiglu" else np.concatenate([chosen, chosen + config.mlp_dim])
    return dataclasses.replace(
        mlp, up_weight=np.ascontiguousarray(mlp.up_weight[:, gates]), up_bias=mlp.up_bias[gates],
        down_weight=mlp.down_weight[chosen],
    )  # fmt: skip
