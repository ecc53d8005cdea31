"""From a run's checkpoint to files that the runtime reads, proven equal before they are written.

A Vision Transformer becomes ``NAME.safetensors`` with ``NAME.json`` beside it (architecture, preprocessing, classes).
Both are first written to a temporary folder and loaded by the NumPy runtime; only if its tokens and class scores equal
torch's on a probe batch do they move into place. Parts that the runtime has no use for yet, such as CLIP's text tower,
go whole to ``NAME-PART.safetensors``.
"""

import copy
import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vitseek.engines.model import load
from vitseek.errors import TrainingError, UsageError
from vitseek.models.config import ViTConfig
from vitseek.train import checkpoint as checkpoints
from vitseek.train.bridge import from_runtime
from vitseek.train.files import why
from vitseek.train.task import Card
from vitseek.train.vit import VisionTransformer

FORMAT, VERSION = "vitseek", 1  # of NAME.json; read by vitseek.weights.sidecar
TOLERANCE = 1e-4  # largest difference between the two implementations that counts as rounding
PROBES = 3  # images
Dtype = Literal["float32", "float16"]


@dataclasses.dataclass(frozen=True)
class Differences:
    """How far the NumPy runtime is from torch in float64, at most.

    ``features`` (what the gallery stores) and ``scores`` (of classes; None without a head) are absolute; ``tokens`` is
    a part of the largest token entry: a trained model has entries of 25, and float32 alone is 5e-4 off there.
    """

    features: float
    tokens: float
    scores: float | None

    @property
    def worst(self) -> float:
        """The largest of them; not a number if one is."""
        return float(np.max([self.features, self.tokens, self.scores or 0.0]))


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written, and the proof."""

    files: list[Path]
    recipe: str
    steps: int
    parameters: int
    differences: Differences


def export(
    source: Path,
    out: Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    dtype: Dtype = "float32",
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
) -> Exported:
    """Write a checkpoint's Vision Transformer for the runtime.

    Parameters
    ----------
    source
        A ``.pt`` file, or a run's folder (then its best checkpoint).
    out
        A file ``NAME.safetensors``, or a folder, which gets ``model.safetensors``.
    dtype
        How weights are stored; float16 halves the file, and the comparison is with torch in the same rounded weights.

    Raises
    ------
    UsageError
        If the target exists and may not be overwritten, or has another suffix.
    TrainingError
        If NumPy and torch differ by more than ``tolerance``, if the checkpoint holds no Vision Transformer, or if the
        files cannot be written; then nothing is.
    """
    target = _target(out, overwrite)
    if source.is_dir() and (source / checkpoints.BEST).is_file():
        source = source / checkpoints.BEST
    found = checkpoints.load(source)
    card = Card.from_dict(found.card)
    if not card.config:
        raise TrainingError(f"{source} is a checkpoint of {found.recipe} without a Vision Transformer in it")
    config = ViTConfig.from_dict(card.config)
    kind = getattr(torch, dtype)
    state = {n.removeprefix(card.prefix): v.to(kind) for n, v in found.model.items() if n.startswith(card.prefix)}
    module = VisionTransformer(from_runtime(config))
    checkpoints.restore(module, {n: v.float() for n, v in state.items()}, source)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "name": name or target.stem,
        "config": config.to_dict(),
        "preprocessing": card.preprocessing,
        "pooling": card.pooling,
        "licence": licence,
        "labels": list(card.labels) or None,
        "training": {"recipe": found.recipe, "steps": found.step, **card.notes},
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as folder:
            files = _write(Path(folder), target, state, document)
            found_apart = compare(module.eval(), Path(folder) / target.name)
            if not found_apart.worst <= tolerance:  # not a number must not pass
                raise TrainingError(
                    f"nothing was written: NumPy and torch differ by {found_apart.worst:.3g} on a probe batch of "
                    f"{source}, more than {tolerance:g} ({found_apart}). This is a bug in one of the two; please "
                    "report it with the checkpoint"
                )
            files += _write_parts(Path(folder), target, card, found.model, source)
            mode = (Path(folder) / target.with_suffix(".json").name).stat().st_mode
            for file in files:
                (Path(folder) / file.name).chmod(mode)  # safetensors makes files that their owner alone may read
                (Path(folder) / file.name).replace(file)
    except OSError as error:
        raise TrainingError(f"cannot write {target}: {why(error, target.parent) or error}") from error
    count = sum(value.numel() for value in state.values())
    return Exported(files, found.recipe, found.step, count, found_apart)


@torch.no_grad()
def compare(module: VisionTransformer, file: Path) -> Differences:
    """Compute probes with the NumPy runtime, from the written file, and with torch in float64.

    One batch is white noise at the model's own size; the other has the spectrum of photos, on a grid that is neither
    the model's own nor square.
    """
    model = load(file)
    truth = copy.deepcopy(module).double()
    size, patch = module.config.image_size, module.config.patch_size
    rng = np.random.default_rng(0)
    features, tokens, scores = [], [], []
    for pixels in (
        rng.standard_normal((PROBES, 3, size, size), dtype=np.float32),
        photo_noise(rng, PROBES, size + 2 * patch, size + patch),
    ):
        probe = torch.from_numpy(pixels).double()
        wanted = truth.tokens(probe)
        tokens.append(_difference(wanted, model.forward(pixels)) / float(wanted.abs().max()))
        features.append(_difference(wanted[:, 0], model.embed_pixels(pixels)))
        if module.config.num_classes:
            scores.append(_difference(truth(probe), model.classify(pixels)))
    return Differences(float(np.max(features)), float(np.max(tokens)), float(np.max(scores)) if scores else None)


def photo_noise(
    rng: np.random.Generator, count: int, height: int, width: int
) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Noise whose amplitude falls with the frequency, as that of photos does; mean 0, variance 1."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = np.fft.rfft2(rng.standard_normal((count, 3, height, width))) / np.maximum(
        frequency, 1 / max(height, width)
    )
    noise = np.fft.irfft2(spectrum, s=(height, width))
    scaled = (noise - noise.mean()) / noise.std()
    return scaled.astype(np.float32)


def _difference(wanted: Tensor, came: "np.ndarray[Any, Any]") -> float:
    """Largest absolute difference; infinite for another shape, not a number if one value is none."""
    if wanted.shape != came.shape:
        return float("inf")
    return float(np.abs(wanted.numpy() - came).max())


def _target(out: Path, overwrite: bool) -> Path:
    target = out if out.suffix else out / "model.safetensors"
    if target.suffix != ".safetensors":
        raise UsageError(f"-o {out} must end in .safetensors, or be a folder")
    there = [file for file in (target, target.with_suffix(".json")) if file.exists()]
    if there and not overwrite:
        raise UsageError(f"{there[0]} exists already: choose another name, or allow it with --overwrite")
    return target


def _write(folder: Path, target: Path, state: dict[str, Tensor], document: dict[str, Any]) -> list[Path]:
    """Write weights and description into a temporary folder; returns where they will be."""
    contiguous = {name: value.contiguous() for name, value in state.items()}
    save_file(contiguous, str(folder / target.name), metadata={"format": "pt"})
    described = target.with_suffix(".json")
    (folder / described.name).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [target, described]


def _write_parts(folder: Path, target: Path, card: Card, model: dict[str, Tensor], source: Path) -> list[Path]:
    files = []
    for part, prefix in card.parts.items():
        file = target.with_name(f"{target.stem}-{part}.safetensors")
        chosen = {n.removeprefix(prefix): v.contiguous() for n, v in model.items() if n.startswith(prefix)}
        save_file(chosen, str(folder / file.name), metadata={"format": "pt"})
        files.append(file)
    for name in card.notes.get("files", ()):
        kept = source.parent / name
        if not kept.is_file():
            raise TrainingError(f"{kept} belongs to {source.name} and is missing: export from the run's own folder")
        file = target.with_name(f"{target.stem}-{name}")
        shutil.copyfile(kept, folder / file.name)
        files.append(file)
    return files
