"""Whether another runtime computes what NumPy computes: asked once for every graph, before its numbers are used."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.paths import cache_dir

Array = NDArray[np.floating]
Run = Callable[[Array], Array]

# Largest distance of a feature vector from NumPy's, as a share of its length, by precision. Float32 engines stay near
# 1e-6; a wrong activation or a forgotten bias is beyond 1e-3. Eight bits that meet the outliers of a Vision Transformer
# unprepared are 0.5 away, and prepared 0.04 to 0.15 (docs/engines.md).
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05, "int8": 0.25, "int8-static": 0.25}
# With fewer tokens: two pairs of patches may be so nearly alike that rounding decides which of them merges.
REDUCED_TOLERANCE = 0.1
PROBES = 3  # one more than most processors would pair up
PROBE_CELLS = 7  # a probe's coarse structure: an image has more of it than noise has
SEED = 20260


def tolerance(precision: str, *, reduced: bool = False) -> float:
    """How far features may be from NumPy's in a precision, and with fewer tokens."""
    return max(TOLERANCES[precision], REDUCED_TOLERANCE) if reduced else TOLERANCES[precision]


def probes(height_px: int, width_px: int) -> Array:
    """Fixed pseudo-random pictures with coarse and fine structure, normalised, shape (PROBES, 3, height, width)."""
    rng = np.random.default_rng(SEED)
    coarse = rng.standard_normal((PROBES, 3, PROBE_CELLS, PROBE_CELLS), dtype=np.float32)
    rows, columns = (np.arange(side) * PROBE_CELLS // side for side in (height_px, width_px))
    fine = rng.standard_normal((PROBES, 3, height_px, width_px), dtype=np.float32)
    pixels: Array = coarse[:, :, rows[:, None], columns] + fine * np.float32(0.5)
    return pixels


def distance(found: Array, wanted: Array) -> float:
    """The largest distance of a picture's features, or tokens, from the wanted ones, as a share of their length.

    Infinite for another shape, or for numbers that are none. The tokens of a picture count together: a single one may
    be almost zero, and then float32 itself is far from float64 there.
    """
    if found.shape != wanted.shape:
        return math.inf
    found, wanted = (np.asarray(array, np.float64).reshape(len(array), -1) for array in (found, wanted))
    lengths = np.maximum(np.linalg.norm(wanted, axis=1), np.finfo(np.float32).tiny)
    worst = float(np.max(np.linalg.norm(found - wanted, axis=1) / lengths))
    return worst if math.isfinite(worst) else math.inf


def measured(run: Run, reference: Run, size_px: tuple[int, int], facts: Mapping[str, Any] | None) -> float:
    """Return how far ``run`` is from ``reference``, measured now, or before if the same is asked again.

    Parameters
    ----------
    facts
        What the distance depends on, besides this machine; it is kept under :func:`vitseek.paths.cache_dir`. ``None``:
        nothing is read or kept.
    """
    file = None if facts is None else _file(facts)
    if file is not None and (known := _read(file)) is not None:
        return known
    pixels = probes(*size_px)
    worst = distance(run(pixels), reference(pixels))
    if file is not None:
        _write(file, worst)
    return worst


def _file(facts: Mapping[str, Any]) -> Path:
    here = {**facts, "machine": [platform.node(), platform.machine()], "seed": SEED}
    return cache_dir() / "engines" / f"{hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()}.json"


def _read(file: Path) -> float | None:
    try:
        value = json.loads(file.read_text("utf-8"))["distance"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or damaged: measured again
    return math.inf if value is None else float(value) if isinstance(value, float) else None


def _write(file: Path, worst: float) -> None:
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"distance": worst if math.isfinite(worst) else None}), "utf-8")
        part.replace(file)
    except OSError:
        pass  # a cache that cannot be written only costs time
