"""What a gallery answers: plain facts about images, runs and itself."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, NewType

ImageId = NewType("ImageId", int)
Status = Literal["ok", "unreadable", "removed"]


class Prediction(NamedTuple):
    """A label that a model gave, and what it was called by: "zero-shot", "head" or a name of the user's choice."""

    label: str
    probability: float
    source: str


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One file of the gallery.

    ``path`` is absolute and may hold undecodable bytes; ``relative_path`` is for people, "/" between folders.
    ``width`` and ``height`` are pixels with the EXIF orientation applied; ``date`` is when the picture was taken,
    else when the file was changed. An unreadable image has a ``reason`` and no content. ``labels`` are those of the
    user and of folders; what models gave is in ``predictions``, the most probable first.
    """

    id: int
    path: Path
    relative_path: str
    root: Path
    bytes: int
    width: int | None
    height: int | None
    modified: datetime
    date: datetime | None
    labels: tuple[str, ...]
    content_hash: str | None
    status: Status
    reason: str | None
    predictions: tuple[Prediction, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """Where an indexing run stands.

    ``phase`` is "scan" (``done`` files seen, ``total`` unknown), "index" or "finish".
    ``images_per_s`` and ``remaining_s`` are None until there is something to measure.
    """

    phase: Literal["scan", "index", "finish"]
    done: int
    total: int | None
    saved: int = 0
    images_per_s: float | None = None
    remaining_s: float | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or folder that could not be used, and why."""

    path: Path
    reason: str


@dataclass
class IndexReport:
    """What an indexing run did; ``problems`` holds the first few of what ``unreadable`` and ``unseen`` count."""

    gallery: Path
    space: str = ""
    new: int = 0
    unchanged: int = 0
    renamed: int = 0
    changed: int = 0
    removed: int = 0
    restored: int = 0
    unreadable: int = 0
    unreadable_new: int = 0
    filled: int = 0
    duplicates: int = 0
    embedded: int = 0
    images: int = 0
    seconds: float = 0.0
    embed_s: float = 0.0
    images_per_s: float | None = None
    problems: list[Problem] = field(default_factory=list)
    unseen: list[Problem] = field(default_factory=list)
    offline: list[Problem] = field(default_factory=list)
    kept: int = 0
    other_files: int = 0
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        document: dict[str, Any] = _plain(asdict(self))
        return document


@dataclass(frozen=True, slots=True)
class RootStatus:
    """One folder that the gallery indexes."""

    path: Path
    images: int
    online: bool


@dataclass(frozen=True, slots=True)
class SpaceStatus:
    """One set of vectors: which model made them, for how many of the images, and whether it understands words."""

    id: int
    name: str
    model: str
    weights_sha256: str
    preprocessing: str
    pooling: str
    dim: int
    source: str | None
    images: int
    default: bool
    cache: Literal["current", "stale", "missing", "damaged"]
    words: bool = False


@dataclass(frozen=True, slots=True)
class PredictionStatus:
    """One pass of a classifier: ``details`` says with which labels and settings; None in ``finished``: not complete."""

    source: str
    model: str | None
    details: dict[str, Any]
    started: str
    finished: str | None


@dataclass(frozen=True, slots=True)
class GalleryStatus:
    """The state of a gallery.

    ``labels`` counts the labels of the user and of folders; ``labels_by_source`` those of each source, also predicted
    ones, the most frequent first.
    """

    path: Path
    images: int
    unreadable: int
    removed: int
    labels: dict[str, int]
    problems: list[Problem]
    roots: list[RootStatus]
    spaces: list[SpaceStatus]
    disk_bytes: int
    schema: int
    last_run: dict[str, Any] | None
    writer: str | None
    labels_by_source: dict[str, dict[str, int]] = field(default_factory=dict)
    predictions: list[PredictionStatus] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        document: dict[str, Any] = _plain(asdict(self))
        return document


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return value
