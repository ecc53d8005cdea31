"""From a weights file to canonical parameters: read, rename, check everything, adapt."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vitseek.errors import ConfigError, WeightsError, WeightsKeyError
from vitseek.models.architectures import ModelConfig, parameter_shapes
from vitseek.models.config import ViTConfig
from vitseek.models.text import TextConfig, text_parameter_shapes
from vitseek.models.tokens import usual_pooling
from vitseek.weights.adapt import ADAPTED, adapt_positions, canonical_shapes
from vitseek.weights.arrays import AnyArray, ArrayFile
from vitseek.weights.description import Sidecar
from vitseek.weights.difference import listing
from vitseek.weights.families import FAMILY_OF
from vitseek.weights.fingerprint import sha256_of
from vitseek.weights.formats import read_arrays
from vitseek.weights.infer import infer_text
from vitseek.weights.loaded import LazyArrays, LoadedText, LoadedWeights
from vitseek.weights.naming import Naming
from vitseek.weights.rename import Renamed, rename
from vitseek.weights.sidecar import read_sidecar

__all__ = ["LoadedText", "LoadedWeights", "load_weights"]

TEXT = "text."
SCALARS = ("logit_scale", "logit_bias")
TOKENIZERS = ("tokenizer.json", "vocab.txt")  # the second is BERT's


def load_weights(
    path: str | os.PathLike[str],
    *,
    config: ModelConfig | None = None,
    text: TextConfig | None = None,
    naming: str | None = None,
    tokenizer: Path | None = None,
) -> LoadedWeights:
    """Load the parameters of a model, whatever its checkpoint calls them.

    Parameters
    ----------
    path
        A ``.safetensors`` or ``.npz`` file, or a folder that holds one.
    config
        What the file must hold; by default a ``config.json`` beside it decides, and without one the shapes.
    text
        What the file's text tower must be, if it has one and ``config`` is given.
    naming
        Whose names the file uses (``families.NAMINGS``); by default found out.
    tokenizer
        The tokenizer of the text tower; by default ``tokenizer.json`` or ``vocab.txt`` beside the weights.

    Raises
    ------
    WeightsKeyError
        If parameters are missing, left over or of another shape; the message lists all of them.
    PickledWeightsError, CorruptWeightsError, WeightsError
        If the file cannot be read.
    ConfigError
        If the description beside the file contradicts itself.
    """
    arrays = read_arrays(path)
    file = arrays.files[0]
    sidecar = read_sidecar(file) if config is None else _labels_at_most(file)
    renamed = rename(arrays.shapes, naming=naming or sidecar.naming, where=str(file))
    shapes = _stacked_shapes(renamed, arrays.shapes)
    if config is None:
        config, source, notes = _settle_config(shapes, renamed, sidecar, file)
        text, said = _settle_text(shapes, renamed, sidecar, file)
        notes += said
    else:
        source = (
            f"the model asked for (width {config.embed_dim}, {_blocks(config)} blocks, {config.patch_size} px patches)"
        )
        notes = list(sidecar.notes) if sidecar.file is None else []
        text, said = _text_asked_for(text, shapes, source)
        notes += said
    notes += _leave_out(renamed, shapes, config, text)
    _check(file, arrays, renamed, shapes, _Wanted.of(config, text), source)
    towers = {canonical: partial(_stack, arrays, renamed, canonical) for canonical in renamed.sources}
    pictures = {name: read for name, read in towers.items() if not _is_text(name) and name not in SCALARS}
    if isinstance(config, ViTConfig):
        adapted = {name: pictures[name]() for name in ADAPTED if name in pictures}
        notes += adapt_positions(adapted, config)
        pictures |= {name: partial(np.asarray, array) for name, array in adapted.items()}
    notes += _left_out(renamed)
    tower = None
    if text is not None:
        tower = LoadedText(
            config=text,
            params=LazyArrays({name: read for name, read in towers.items() if _is_text(name)}),
            tokenizer=tokenizer or sidecar.tokenizer or _beside(file),
            **{name: float(towers[name]()) if name in towers else None for name in SCALARS},
        )
    return LoadedWeights(
        params=LazyArrays(pictures),
        config=config,
        preprocessing=sidecar.preprocessing,
        pooling=sidecar.pooling or usual_pooling(config),
        naming=renamed.naming.name,
        sha256=sha256_of(arrays.files),
        name=sidecar.name,
        labels=sidecar.labels if sidecar.labels and len(sidecar.labels) == config.num_classes else None,
        text=tower,
        usual_pictures=_usual_pictures(renamed.naming, config),
        notes=notes,
    )


def _blocks(config: ModelConfig) -> int:
    depth = config.depth
    return depth if isinstance(depth, int) else sum(depth)


def _usual_pictures(naming: Naming, config: ModelConfig) -> dict[str, Any] | None:
    """The family's own way with pictures, at the size of this model."""
    if not naming.pictures or not isinstance(config, ViTConfig):
        return None
    size_px, (rows, columns) = min(config.img_size), config.grid
    native = {"max_patches": rows * columns} if naming.pictures.get("resize") == "max-patches" else {}
    sizes = {"size_px": size_px, "resize_px": size_px, "patch_size_px": config.patch_size}
    return {**sizes, **naming.pictures, **native}


def _beside(file: Path) -> Path | None:
    return next((found for name in TOKENIZERS if (found := file.with_name(name)).is_file()), None)


def _is_text(name: str) -> bool:
    return name.startswith(TEXT)


def _labels_at_most(file: Path) -> Sidecar:
    """What is beside the file, where the config is known already: a description that does not parse is no obstacle."""
    try:
        return read_sidecar(file)
    except ConfigError as error:
        return Sidecar(notes=[f"the description beside the weights is not used: {error}"])


_SAID_ONCE = ("weight", "token")  # not a second time for the pooler's bias


def _left_out(renamed: Renamed) -> list[str]:
    """One sentence for each reason to leave names out."""
    names: dict[str, list[str]] = {}
    for name, reason in renamed.ignored.items():
        if name.endswith(_SAID_ONCE):
            names.setdefault(reason, []).append(name)
    return [
        f"{reason}: {all_of_it[0]} {f'and {len(all_of_it) - 1} more ' if len(all_of_it) > 1 else ''}left out"
        for reason, all_of_it in names.items()
    ]


_UNFIT = (ConfigError, TypeError, ValueError, ArithmeticError)  # a description may hold anything


def _settle_config(
    shapes: dict[str, tuple[int, ...]], renamed: Renamed, sidecar: Sidecar, file: Path
) -> tuple[ModelConfig, str, list[str]]:
    if sidecar.config is not None:
        return sidecar.config, str(sidecar.file), []
    known = dict(sidecar.known)
    source = str(sidecar.file) if sidecar.file else "the shapes themselves"
    infer = FAMILY_OF[renamed.naming.name].infer
    try:
        config, notes = infer(shapes, renamed.naming, where=str(file), known=known)
    except _UNFIT as error:
        raise WeightsError(f"{file}: no config fits it, going by {source}: {error}") from error
    if sidecar.file:
        return config, source, list(sidecar.notes)
    return config, source, ["config inferred from the shapes: " + notes[0], *notes[1:]]


def _settle_text(
    shapes: dict[str, tuple[int, ...]], renamed: Renamed, sidecar: Sidecar, file: Path
) -> tuple[TextConfig | None, list[str]]:
    if sidecar.text is not None or sidecar.config is not None:
        return sidecar.text, []
    if not any(_is_text(name) for name in (*shapes, *renamed.incomplete)):
        return None, []
    source = str(sidecar.file) if sidecar.file else "the shapes themselves"
    try:
        config, notes = infer_text(shapes, renamed.naming, where=str(file), known=sidecar.text_known)
    except _UNFIT as error:
        raise WeightsError(f"{file}: no config fits its text tower, going by {source}: {error}") from error
    return config, [] if sidecar.file else notes


def _text_asked_for(
    text: TextConfig | None, shapes: Mapping[str, tuple[int, ...]], source: str
) -> tuple[TextConfig | None, list[str]]:
    if text is None or any(_is_text(name) for name in shapes):
        return text, []
    return None, [f"the file has no text tower, {source} has one: it embeds images only"]


def _stacked_shapes(renamed: Renamed, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shape of every canonical parameter, before anything is read."""
    stacked = {}
    for canonical, names in renamed.sources.items():
        there = [shapes[name] for name in names if name is not None]
        rows = sum(part[0] for part in there if part) + (len(names) - len(there)) * (there[0][0] if there[0] else 0)
        # Parts of unlike shape cannot be stacked: (-1,) matches nothing and is reported with the parts' own shapes.
        alike = len({part[1:] for part in there}) == 1 and all(there)
        shape = there[0] if len(names) == 1 else (rows, *there[0][1:]) if alike else (-1,)
        stacked[canonical] = _laid_out(renamed, canonical, shape)
    return stacked


def _laid_out(renamed: Renamed, canonical: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    layout = renamed.naming.layout(canonical)
    if layout is None or -1 in shape:
        return shape
    # One number that stands for all: the layout is tried out without any memory.
    imagined = np.broadcast_to(np.zeros((), np.float32), shape)
    try:
        return layout(imagined).shape
    except (ValueError, IndexError):
        return (-1,)


def _stack(arrays: ArrayFile, renamed: Renamed, canonical: str) -> AnyArray:
    names = renamed.sources[canonical]
    sibling = next(name for name in names if name is not None)
    parts = [np.zeros(arrays.shapes[sibling], np.float32) if name is None else arrays[name] for name in names]
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if layout := renamed.naming.layout(canonical):
        array = layout(array)
    return array.astype(np.float32, copy=False)


def _leave_out(
    renamed: Renamed, shapes: dict[str, tuple[int, ...]], config: ModelConfig, text: TextConfig | None
) -> list[str]:
    """A model without classes does not need the checkpoint's head, and one without a text tower none of its names."""
    notes = []
    if not config.num_classes and (heads := sorted(name for name in renamed.sources if name.startswith("head"))):
        _drop(heads, renamed, shapes)
        notes.append(f"classification head left out ({', '.join(heads)}): the config has no classes")
    if text is None:
        tower = [name for name in renamed.sources if _is_text(name) or name in SCALARS]
        _drop(tower, renamed, shapes)
        for name in [name for name in renamed.incomplete if _is_text(name)]:
            renamed.incomplete.pop(name)
            renamed.partial.pop(name)
        if any(map(_is_text, tower)):
            notes.append("the text tower is left out: the config has none")
    return notes


def _drop(names: Iterable[str], renamed: Renamed, shapes: dict[str, tuple[int, ...]]) -> None:
    for name in names:
        renamed.sources.pop(name)
        shapes.pop(name)


@dataclass(frozen=True)
class _Wanted:
    """What a file must hold, and what it may."""

    config: ModelConfig
    shapes: Mapping[str, tuple[int, ...]]
    optional: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, config: ModelConfig, text: TextConfig | None) -> "_Wanted":
        if text is None:
            return cls(config, parameter_shapes(config), {})
        shapes = {**parameter_shapes(config), **text_parameter_shapes(text)}
        return cls(config, shapes, dict.fromkeys(SCALARS, ()))


def _check(
    file: Path,
    arrays: ArrayFile,
    renamed: Renamed,
    shapes: dict[str, tuple[int, ...]],
    wanted: _Wanted,
    source: str,
) -> None:
    """Compare names, shapes and dtypes with what the config wants; one error for everything that differs."""
    came = canonical_shapes(shapes, wanted.config) if isinstance(wanted.config, ViTConfig) else shapes
    allowed = {**wanted.optional, **wanted.shapes}
    missing = [renamed.foreign(name) for name in wanted.shapes if name not in came]
    extra = renamed.extra + [renamed.foreign(name) for name in came if name not in allowed]
    extra += [part for name, parts in renamed.partial.items() if name not in allowed for part in parts]
    misshapen = []
    for name, shape in allowed.items():
        if name not in came:
            continue
        sources = [one for one in renamed.sources[name] if one is not None]
        if came[name] != shape:
            parts = " + ".join(str(arrays.shapes[one]) for one in sources)
            misshapen.append(f"{renamed.foreign(name)} has {parts}, wanted {_as_stored(renamed, name, shape)}")
        elif any(not _is_float(arrays.dtypes[one]) for one in sources):
            misshapen.append(f"{renamed.foreign(name)} is {arrays.dtypes[sources[0]]}, wanted float32")
    if not (missing or extra or misshapen):
        return
    lines = [f"{file} ({renamed.naming.name} names) does not fit {source}:"]
    lines += listing("missing", dict.fromkeys(missing)) + listing("unexpected", extra)
    lines += listing("of another shape", misshapen)
    lines.append(_advice(extra))
    raise WeightsKeyError("\n".join(lines))


def _as_stored(renamed: Renamed, canonical: str, shape: tuple[int, ...]) -> str:
    return f"{shape} after {layout.__name__}" if (layout := renamed.naming.layout(canonical)) else str(shape)


def _is_float(dtype: str) -> bool:
    return dtype in ("float16", "bfloat16", "float32", "float64")


def _advice(extra: list[str]) -> str:
    if any(name.startswith("fc_norm.") for name in extra):
        return (
            "fc_norm normalises the average of the patches rather than each token: vitseek does not run such models; "
            "take a checkpoint with 'norm'."
        )
    return "Check that file and model belong together; `vitseek models` lists the models, `--weights` takes a file."
