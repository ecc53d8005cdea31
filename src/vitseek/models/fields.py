"""What the configs of all architectures check alike: whole numbers, and the names of their fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vitseek.errors import ConfigError


def check_count(name: str, value: object, *, least: int) -> None:
    """Raise ConfigError unless a field is a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")


def check_fields(config: type, values: Mapping[str, Any], *, what: str) -> None:
    """Raise ConfigError if ``values`` has fields that a config class does not know, or lacks one that it needs.

    A file from a newer version must not be half understood.

    Parameters
    ----------
    what
        What messages call it: "model config".
    """
    fields = {field.name: field for field in dataclasses.fields(config)}
    if unknown := sorted(set(values) - set(fields)):
        raise ConfigError(
            f"unknown {what} fields: {', '.join(unknown)} (known: {', '.join(fields)}). "
            "The file may come from a newer vitseek: upgrade, or remove the fields"
        )
    required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if missing := sorted(set(required) - set(values)):
        raise ConfigError(f"{what} lacks: {', '.join(missing)}")
