"""From a weights file to canonical parameters: read, rename, check everything, adapt."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitseek.errors import ConfigError, WeightsError, WeightsKeyError
from vitseek.models.config import ViTConfig, parameter_shapes
from vitseek.weights.adapt import adapt_positions, canonical_shapes
from vitseek.weights.arrays import AnyArray, ArrayFile
from vitseek.weights.description import Sidecar
from vitseek.weights.difference import listing
from vitseek.weights.fingerprint import sha256_of
from vitseek.weights.formats import read_arrays
from vitseek.weights.infer import infer_config
from vitseek.weights.rename import Renamed, rename
from vitseek.weights.sidecar import read_sidecar


@dataclass
class LoadedWeights:
    """A checkpoint under canonical names, with everything that is known about it.

    Parameters
    ----------
    params
        Canonical name to array: exactly the names and shapes of ``parameter_shapes(config)``, float32. Read-only
        views of the mapped file where its layout allows.
    preprocessing
        As found beside the file, in the fields of ``ImagePreprocessing``; ``None`` if nothing was found.
    naming
        Whose names the file uses; one of ``families.NAMINGS``.
    sha256
        Of the file, or of the list of shards.
    notes
        What was inferred or left out, one sentence each, for the user.
    """

    params: Mapping[str, AnyArray]
    config: ViTConfig
    preprocessing: dict[str, Any] | None
    pooling: str | None
    naming: str
    sha256: str
    name: str | None = None
    labels: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def load_weights(
    path: str | os.PathLike[str], *, config: ViTConfig | None = None, naming: str | None = None
) -> LoadedWeights:
    """Load the parameters of a Vision Transformer, whatever its checkpoint calls them.

    Parameters
    ----------
    path
        A ``.safetensors`` or ``.npz`` file, or a folder that holds one.
    config
        What the file must hold; by default a ``config.json`` beside it decides, and without one the shapes.
    naming
        Whose names the file uses (``families.NAMINGS``); by default found out.

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
    renamed = rename(arrays.shapes, naming=naming, where=str(file))
    shapes = _stacked_shapes(renamed, arrays.shapes)
    if config is None:
        config, source, notes = _settle_config(shapes, renamed, sidecar, file)
    else:
        source = (
            f"the model asked for (width {config.embed_dim}, {config.depth} blocks, {config.patch_size} px patches)"
        )
        notes = list(sidecar.notes) if sidecar.file is None else []
    notes += _leave_out_heads(renamed, shapes, config)
    _check(file, arrays, renamed, shapes, config, source)
    params = {canonical: _stack(arrays, names) for canonical, names in renamed.sources.items()}
    notes += adapt_positions(params, config)
    notes += [f"{reason}: {name} left out" for name, reason in renamed.ignored.items() if name.endswith(_SAID_ONCE)]
    return LoadedWeights(
        params=params,
        config=config,
        preprocessing=sidecar.preprocessing,
        pooling=sidecar.pooling,
        naming=renamed.naming.name,
        sha256=sha256_of(arrays.files),
        name=sidecar.name,
        labels=sidecar.labels if sidecar.labels and len(sidecar.labels) == config.num_classes else None,
        notes=notes,
    )


def _labels_at_most(file: Path) -> Sidecar:
    """What is beside the file, where the config is known already: a description that does not parse is no obstacle."""
    try:
        return read_sidecar(file)
    except ConfigError as error:
        return Sidecar(notes=[f"the description beside the weights is not used: {error}"])


_SAID_ONCE = ("weight", "token")  # not a second time for the pooler's bias


def _settle_config(
    shapes: dict[str, tuple[int, ...]], renamed: Renamed, sidecar: Sidecar, file: Path
) -> tuple[ViTConfig, str, list[str]]:
    if sidecar.config is not None:
        return sidecar.config, str(sidecar.file), []
    known = dict(sidecar.known)
    source = str(sidecar.file) if sidecar.file else "the shapes themselves"
    try:
        config, notes = infer_config(shapes, renamed.naming, where=str(file), known=known)
    except ConfigError as error:
        raise WeightsError(f"{file}: no config fits it, going by {source}: {error}") from error
    if sidecar.file:
        return config, source, sidecar.notes
    return config, source, ["config inferred from the shapes: " + notes[0], *notes[1:]]


def _stacked_shapes(renamed: Renamed, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shape of every canonical parameter, before anything is read."""
    stacked = {}
    for canonical, names in renamed.sources.items():
        parts = [shapes[name] for name in names]
        rows = sum(part[0] for part in parts if part)
        # Parts of unlike shape cannot be stacked: (-1,) matches nothing and is reported with the parts' own shapes.
        alike = len({part[1:] for part in parts}) == 1 and all(parts)
        stacked[canonical] = parts[0] if len(parts) == 1 else (rows, *parts[0][1:]) if alike else (-1,)
    return stacked


def _stack(arrays: ArrayFile, names: tuple[str, ...]) -> AnyArray:
    parts = [arrays[name] for name in names]
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return array.astype(np.float32, copy=False)


def _leave_out_heads(renamed: Renamed, shapes: dict[str, tuple[int, ...]], config: ViTConfig) -> list[str]:
    """A model without classes does not need the checkpoint's head."""
    if config.num_classes:
        return []
    heads = sorted(name for name in renamed.sources if name.startswith("head"))
    for name in heads:
        renamed.sources.pop(name)
        shapes.pop(name)
    return [f"classification head left out ({', '.join(heads)}): the config has no classes"] if heads else []


def _check(
    file: Path,
    arrays: ArrayFile,
    renamed: Renamed,
    shapes: dict[str, tuple[int, ...]],
    config: ViTConfig,
    source: str,
) -> None:
    """Compare names, shapes and dtypes with what the config wants; one error for everything that differs."""
    wanted = parameter_shapes(config)
    came = canonical_shapes(shapes, config)
    missing = [renamed.foreign(name) for name in wanted if name not in came]
    extra = renamed.extra + [renamed.foreign(name) for name in came if name not in wanted]
    extra += [part for name, parts in renamed.partial.items() if name not in wanted for part in parts]
    misshapen = []
    for name in wanted:
        if name not in came:
            continue
        if came[name] != wanted[name]:
            parts = " + ".join(str(arrays.shapes[one]) for one in renamed.sources[name])
            misshapen.append(f"{renamed.foreign(name)} has {parts}, wanted {wanted[name]}")
        elif any(not _is_float(arrays.dtypes[one]) for one in renamed.sources[name]):
            misshapen.append(f"{renamed.foreign(name)} is {arrays.dtypes[renamed.sources[name][0]]}, wanted float32")
    if not (missing or extra or misshapen):
        return
    lines = [f"{file} ({renamed.naming.name} names) does not fit {source}:"]
    lines += listing("missing", missing) + listing("unexpected", extra) + listing("of another shape", misshapen)
    lines.append(_advice(extra))
    raise WeightsKeyError("\n".join(lines))


def _is_float(dtype: str) -> bool:
    return dtype in ("float16", "bfloat16", "float32", "float64")


def _advice(extra: list[str]) -> str:
    if any(name.startswith("fc_norm.") for name in extra):
        return (
            "fc_norm normalises the average of the patches rather than each token: vitseek does not run such models; "
            "take a checkpoint with 'norm'."
        )
    return "Check that file and model belong together; `vitseek models` lists the models, `--weights` takes a file."
