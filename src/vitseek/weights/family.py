"""What there is to know about the checkpoints of one family; each file in :mod:`vitseek.weights.families` makes one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vitseek.errors import ConfigError
from vitseek.weights.description import Document, Sidecar
from vitseek.weights.infer import Infer, infer_config
from vitseek.weights.naming import Naming
from vitseek.weights.pictures import timm_pictures, timm_pretrained, timm_size

Read = Callable[[Path, Document], Sidecar]


@dataclass(frozen=True, kw_only=True)
class Family:
    """The checkpoints of one family of models.

    Parameters
    ----------
    name
        What its authors call it.
    namings
        One key table for each way in which its parameters are called.
    transformers
        ``model_type`` of transformers' config.json to what reads it.
    timm
        Beginning of timm's ``architecture`` to what reads its config.json; the longest that fits is taken.
    infer
        What makes a config of the shapes and of what is known.
    """

    name: str
    namings: tuple[Naming, ...]
    transformers: Mapping[str, Read] = field(default_factory=dict)
    timm: Mapping[str, Read] = field(default_factory=dict)
    infer: Infer = infer_config


def check_encoder(file: Path, document: Document, *, activation: str = "gelu") -> None:
    """Refuse what no forward pass of vitseek does, by the words that most of transformers' configs share."""
    if (came := document.get("hidden_act", activation)) != activation:
        raise ConfigError(f"{file} asks for the activation {came!r}; vitseek computes exact {activation!r} only.")
    if (channels := document.get("num_channels", 3)) != 3:
        raise ConfigError(f"{file} asks for {channels} colour channels; vitseek feeds 3.")


def read_timm(file: Path, document: Document) -> Sidecar:
    """timm's config.json: picture size and preprocessing; the rest is in the shapes."""
    names = timm_pretrained(document).get("label_names")
    return Sidecar(
        file=file,
        known={"norm_eps": 1e-6, "pos_resize": "bicubic-antialias", "img_size": timm_size(file, document)},
        preprocessing=timm_pictures(file, document),
        labels=names if isinstance(names, list) else None,
        notes=[f"config from {file.name} (timm, {document['architecture']})"],
    )


def transformers_note(file: Path, document: Document) -> str:
    return f"config from {file.name} (transformers, {document['model_type']})"
