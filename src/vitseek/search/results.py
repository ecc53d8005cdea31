"""A match, and the ways to print a list of them."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Match:
    """One image that was found.

    ``path`` is absolute and may hold undecodable bytes; ``score`` is the cosine to the query, −1 to 1;
    ``width`` and ``height`` are pixels with the EXIF orientation applied; ``modified`` is the file's time.
    """

    id: int
    path: Path
    score: float
    labels: tuple[str, ...] = ()
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    modified: datetime | None = None
