"""What the files beside the weights say, and how their values are read: the words that all families share."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitseek.errors import ConfigError
from vitseek.models.architectures import ModelConfig
from vitseek.models.text import TextConfig

LIMIT_BYTES = 50_000_000

Document = Mapping[str, Any]


@dataclass
class Sidecar:
    """What the files beside the weights say.

    ``config`` and ``text`` are set where they are said completely (vitseek's own format); ``known`` and ``text_known``
    hold the fields of a foreign description, to be completed from the shapes.
    """

    file: Path | None = None
    name: str | None = None
    config: ModelConfig | None = None
    known: dict[str, Any] = field(default_factory=dict)
    text: TextConfig | None = None
    text_known: dict[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None
    preprocessing: dict[str, Any] | None = None
    pooling: str | None = None
    naming: str | None = None  # whose names the file uses, where the names alone do not tell
    labels: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a small file; ConfigError if it is something else."""
    if file.stat().st_size > LIMIT_BYTES:
        raise ConfigError(f"{file} is larger than {LIMIT_BYTES} bytes; that is no model description.")
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON ({error}); repair it or move it away.") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{file} is not a JSON object; repair it or move it away.")
    return document


def square(file: Path, name: str, size: Any) -> int:
    """One number of pixels, from a number or a square's ``{"height": …, "width": …}``."""
    if isinstance(size, dict):
        sides = {size.get("height"), size.get("width")}
        size = sides.pop() if len(sides) == 1 else None
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigError(f"{file}: '{name}' must be one number of pixels or a square; it is {size!r}.")
    return size


def pair(file: Path, name: str, size: Any) -> tuple[int, int]:
    """(height, width) in pixels, from a number or a list of two."""
    sides = (size, size) if isinstance(size, int) else size
    if not (isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(side, int) for side in sides)):
        raise ConfigError(f"{file}: '{name}' must be a number of pixels or [height, width]; it is {size!r}.")
    return int(sides[0]), int(sides[1])


def labels_of(id2label: Any) -> list[str] | None:
    """transformers' class names in their order; ``None`` if there are none but the placeholders ``LABEL_0`` …"""
    if not isinstance(id2label, dict):
        return None
    try:
        numbered = {int(number): str(label) for number, label in id2label.items()}
    except ValueError:
        return None
    named = [numbered[number] for number in sorted(numbered)]
    plain = all(label.startswith("LABEL_") for label in named)
    return None if plain or sorted(numbered) != list(range(len(numbered))) else named
