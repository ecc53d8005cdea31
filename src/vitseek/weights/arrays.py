"""Named arrays of a file: described at once, read one by one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True)
class Stored:
    """One array of a file: what the file says about it, and how to get it."""

    shape: tuple[int, ...]
    dtype: str  # NumPy's name, or "bfloat16"
    read: Callable[[], AnyArray]


class ArrayFile(Mapping[str, AnyArray]):
    """The named arrays of one weights file; shapes are known without reading, arrays come on access."""

    def __init__(self, files: tuple[Path, ...], stored: Mapping[str, Stored]) -> None:
        self.files = files
        self._stored = stored

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self._stored.items()}

    @property
    def dtypes(self) -> dict[str, str]:
        return {name: entry.dtype for name, entry in self._stored.items()}

    def __getitem__(self, name: str) -> AnyArray:
        return self._stored[name].read()

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def as_float32(array: AnyArray, dtype: str) -> AnyArray:
    """Widen the two half precisions; leave everything else as it is."""
    if dtype == "bfloat16":  # a float32 whose lower half is left out
        return (array.astype(np.uint32) << 16).view(np.float32)
    if dtype == "float16":
        return array.astype(np.float32)
    return array
