"""From a run's checkpoint to files that the runtime reads, proven equal before they are written.

A Vision Transformer becomes ``NAME.safetensors`` with ``NAME.json`` beside it (architecture, preprocessing, classes); a
pair of towers goes into the same two files, and its tokenizer into ``NAME-tokenizer.json``. All are first written to a
temporary folder and loaded by the NumPy runtime; only if its tokens, features, class scores and text embeddings equal
torch's on probes do they move into place.
"""

import copy
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vitseek.engines.model import Model, load
from vitseek.errors import TrainingError, UsageError
from vitseek.models.config import ViTConfig
from vitseek.models.text import TextConfig
from vitseek.train import checkpoint as checkpoints
from vitseek.train import tokenizer as tokenizers
from vitseek.train.bridge import from_runtime
from vitseek.train.clip import Clip
from vitseek.train.files import why
from vitseek.train.task import Card
from vitseek.train.text import TextTower
from vitseek.train.vit import VisionTransformer

FORMAT, VERSION = "vitseek", 1  # of NAME.json; read by vitseek.weights.sidecar
TOLERANCE = 1e-4  # largest difference between the two implementations that counts as rounding
PROBES = 3  # images
PROBE_TEXTS = (
    "a photo of a dog",
    "two girls, 42 balloons & a caf\u00e9",
    "\u4e2d\u6587 \U0001f600",
    "long words " * 90,
)
Dtype = Literal["float32", "float16"]


@dataclasses.dataclass(frozen=True)
class Differences:
    """How far the NumPy runtime is from torch in float64, at most.

    ``features`` (what the gallery stores), ``scores`` (of classes; None without a head) and ``texts`` (what a query by
    words becomes; None without a text tower) are absolute; ``tokens`` is a part of the largest token entry: a trained
    model has entries of 25, and float32 alone is 5e-4 off there.
    """

    features: float
    tokens: float
    scores: float | None
    texts: float | None = None

    @property
    def worst(self) -> float:
        """The largest of them; not a number if one is."""
        return float(np.max([self.features, self.tokens, self.scores or 0.0, self.texts or 0.0]))


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
    """Write a checkpoint's Vision Transformer, or pair of image and text tower, for the runtime.

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
        If NumPy and torch differ by more than ``tolerance``, if the checkpoint holds no Vision Transformer, if its
        tokenizer is gone, or if the files cannot be written; then nothing is.
    """
    target = _target(out, overwrite)
    if source.is_dir():
        source = source / (checkpoints.BEST if (source / checkpoints.BEST).is_file() else checkpoints.LAST)
    found = checkpoints.load(source)
    card = Card.from_dict(found.card)
    if not card.config:
        raise TrainingError(f"{source} is a checkpoint of {found.recipe} without a Vision Transformer in it")
    config = ViTConfig.from_dict(card.config)
    kind = getattr(torch, dtype)
    pair = card.text is not None
    kept = {n: v.to(kind) for n, v in found.model.items() if pair or n.startswith(card.prefix)}
    state = {name.removeprefix(card.prefix): value for name, value in kept.items()}
    module = _module(config, card)
    checkpoints.restore(module, {n: v.float() for n, v in (kept if pair else state).items()}, source)
    tokenizer = _tokenizer(source, card)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "name": name or target.stem,
        "config": config.to_dict(),
        "preprocessing": card.preprocessing,
        "pooling": card.pooling,
        "licence": licence,
        "labels": list(card.labels) or None,
        **({"text": card.text, "tokenizer": f"{target.stem}-tokenizer.json"} if tokenizer else {}),
        "training": {"recipe": found.recipe, "steps": found.step, **card.notes},
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as folder:
            files = _write(Path(folder), target, state, document, tokenizer)
            found_apart = compare(module.eval(), Path(folder) / target.name)
            if not found_apart.worst <= tolerance:  # not a number must not pass
                raise TrainingError(
                    f"nothing was written: NumPy and torch differ by {found_apart.worst:.3g} on probes of "
                    f"{source}, more than {tolerance:g} ({found_apart}). This is a bug in one of the two; please "
                    "report it with the checkpoint"
                )
            mode = (Path(folder) / target.with_suffix(".json").name).stat().st_mode
            for file in files:
                (Path(folder) / file.name).chmod(mode)  # safetensors makes files that their owner alone may read
                (Path(folder) / file.name).replace(file)
    except OSError as error:
        raise TrainingError(f"cannot write {target}: {why(error, target.parent) or error}") from error
    count = sum(value.numel() for value in state.values())
    return Exported(files, found.recipe, found.step, count, found_apart)


@torch.no_grad()
def compare(module: VisionTransformer | Clip, file: Path) -> Differences:
    """Compute probes with the NumPy runtime, from the written file, and with torch in float64.

    One batch is white noise at the model's own size; the other has the spectrum of photos, on a grid that is neither
    the model's own nor square. Texts go through the runtime's tokenizer on one side and the recipe's on the other.
    """
    model = load(file)
    pair = copy.deepcopy(module).double() if isinstance(module, Clip) else None
    truth = pair.image if pair else copy.deepcopy(module).double()
    assert isinstance(truth, VisionTransformer)
    size, patch = truth.config.image_size, truth.config.patch_size
    rng = np.random.default_rng(0)
    features, tokens, scores = [], [], []
    for pixels in (
        rng.standard_normal((PROBES, 3, size, size), dtype=np.float32),
        photo_noise(rng, PROBES, size + 2 * patch, size + patch),
    ):
        probe = torch.from_numpy(pixels).double()
        wanted = truth.tokens(probe)
        tokens.append(_difference(wanted, model.forward(pixels)) / float(wanted.abs().max()))
        embedded = pair.projection(wanted[:, 0]) if pair else wanted[:, 0]
        features.append(_difference(embedded, model.embed_pixels(pixels)))
        if truth.config.num_classes:
            scores.append(_difference(truth(probe), model.classify(pixels)))
    texts = _apart_on_texts(pair, model, file) if pair else None
    return Differences(float(np.max(features)), float(np.max(tokens)), float(np.max(scores)) if scores else None, texts)


def _apart_on_texts(pair: Clip, model: Model, file: Path) -> float:
    tokenizer = tokenizers.read(file.with_name(f"{file.stem}-tokenizer.json"))
    rows = tokenizers.rows(tokenizer, PROBE_TEXTS, pair.text.config.context_length)
    return _difference(pair.text(torch.tensor(rows)), model.embed_texts(PROBE_TEXTS))


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


def _module(config: ViTConfig, card: Card) -> VisionTransformer | Clip:
    trunk = VisionTransformer(from_runtime(config))
    return trunk if card.text is None else Clip(trunk, TextTower(TextConfig.from_dict(card.text)), 1.0)


def _tokenizer(source: Path, card: Card) -> str | None:
    """The run's tokenizer, as text."""
    if card.tokenizer is None:
        return None
    file = source.parent / card.tokenizer
    if not file.is_file():
        raise TrainingError(f"{file} belongs to {source.name} and is missing: export from the run's own folder")
    return file.read_text(encoding="utf-8")


def _write(
    folder: Path, target: Path, state: dict[str, Tensor], document: dict[str, Any], tokenizer: str | None
) -> list[Path]:
    """Write weights, description and tokenizer into a temporary folder; returns where they will be."""
    contiguous = {name: value.contiguous() for name, value in state.items()}
    save_file(contiguous, str(folder / target.name), metadata={"format": "pt"})
    described = target.with_suffix(".json")
    (folder / described.name).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if tokenizer is None:
        return [target, described]
    (folder / document["tokenizer"]).write_text(tokenizer, encoding="utf-8")
    return [target, described, target.with_name(document["tokenizer"])]
