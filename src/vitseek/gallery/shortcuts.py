"""What a gallery may do for speed when it makes a space: an engine, a precision, fewer tokens, smaller pictures."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from vitseek.engines.available import engine_for, is_installed
from vitseek.errors import ConfigError, UsageError

SPEEDS = ("exact", "fast", "faster")
# What a level may take of a precision's engines: PyTorch's bfloat16 is slower than NumPy on most processors.
FAST_ENGINES = {"bfloat16": ("openvino",), "int8-static": ("openvino", "onnx")}
# Where nothing but NumPy computes; docs/engines.md tells what they cost.
MERGED_FAST, MERGED_FASTER = "merge-24", "merge-32"


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """How features are computed; what is ``None`` is as the model, or an existing space, has it.

    Parameters
    ----------
    engine
        As in ``vitseek.load``. The only one that does not make a space of its own.
    precision, reduction, size_px
        As in ``vitseek.load``.
    """

    engine: str | None = None
    precision: str | None = None
    reduction: str | None = None
    size_px: int | None = None

    @classmethod
    def of(cls, speed: str | None, **given: str | int | None) -> Shortcuts:
        """A level of :data:`SPEEDS`, with what is given besides in its place.

        "fast" is bfloat16 and "faster" eight bits calibrated on the gallery's pictures, where an engine for them is
        installed; merged tokens elsewhere.

        Raises
        ------
        UsageError
            If there is no such level.
        """
        chosen = cls() if speed is None else _level(speed)
        found = {name: value for name, value in given.items() if value is not None}
        return replace(chosen, **found)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        """Whether a space is made in another way than the model's own."""
        return any(getattr(self, field.name) is not None for field in fields(self) if field.name != "engine")

    def words(self) -> str:
        """The same as options of ``vitseek index``."""
        options = {"--engine": self.engine, "--precision": self.precision, "--reduction": self.reduction}
        written = [f"{name} {value}" for name, value in options.items() if value is not None]
        return " ".join([*written, *([f"--size {self.size_px}"] if self.size_px else [])])


def _level(speed: str) -> Shortcuts:
    if speed not in SPEEDS:
        raise UsageError(f"--speed must be one of {', '.join(SPEEDS)}, not {speed!r}")
    if speed == "exact":
        return Shortcuts(precision="float32", reduction="none")
    precision, merged = ("bfloat16", MERGED_FAST) if speed == "fast" else ("int8-static", MERGED_FASTER)
    if any(is_installed(engine) for engine in FAST_ENGINES[precision]):
        return Shortcuts(precision=precision)
    return Shortcuts(reduction=merged)


def check(shortcuts: Shortcuts) -> None:
    """Raise ConfigError or MissingExtraError for what cannot be, before anything is read or downloaded."""
    from vitseek.engines.build import check_engine
    from vitseek.engines.reduction import Reduction

    if shortcuts.reduction is not None:
        Reduction.parse(shortcuts.reduction)
    if shortcuts.size_px is not None and shortcuts.size_px < 1:
        raise ConfigError(f"--size must be a number of pixels above 0, not {shortcuts.size_px}")
    check_engine(engine_for(shortcuts.precision or "float32", shortcuts.engine))
