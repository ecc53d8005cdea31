"""Where a gallery's index lies, and which gallery a command without ``--gallery`` means."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitseek.errors import GalleryNotFoundError, StorageError
from vitseek.gallery.walk import INDEX_FOLDER
from vitseek.paths import state_dir

VARIABLE = "VITSEEK_GALLERY"
LAST_USED = "last-gallery"


@dataclass(frozen=True)
class Layout:
    """The files of a gallery: everything lies in one folder, which can be moved, copied or deleted as a whole."""

    folder: Path

    @property
    def index(self) -> Path:
        return self.folder / INDEX_FOLDER

    @property
    def database(self) -> Path:
        return self.index / "index.db"

    @property
    def lock(self) -> Path:
        return self.index / "write.lock"

    @property
    def classify_lock(self) -> Path:
        """Held by a pass that predicts labels: two at a time would mix, indexing meanwhile does no harm."""
        return self.index / "classify.lock"

    @property
    def cache(self) -> Path:
        return self.index / "cache"

    def exists(self) -> bool:
        """Whether there is an index; StorageError if that may not be seen."""
        try:
            return self.database.is_file()
        except PermissionError as error:
            raise StorageError(f"no permission to look into {self.folder}; check its owner and mode") from error

    def delete(self) -> None:
        """Remove the index folder with all in it; images are never inside it."""
        shutil.rmtree(self.index)

    def create(self) -> None:
        """Make the folders; the index tells version control to leave it alone."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            ignore = self.index / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", "utf-8")
        except OSError as error:
            raise StorageError(
                f"cannot make the index folder {self.index} ({error.strerror}). "
                "To keep the index somewhere else: vitseek index PHOTOS --gallery DIR"
            ) from error


def locate(
    explicit: str | os.PathLike[str] | None = None,
    *,
    start: str | os.PathLike[str] | None = None,
    report: Callable[[str], None] | None = None,
) -> Path:
    """The gallery that is meant.

    Parameters
    ----------
    explicit
        What ``--gallery`` said; nothing else is looked at then.
    start
        Folder from which parents are searched; the working directory.
    report
        Called with a sentence when the choice is not obvious: from the environment, or the last used one.

    Returns
    -------
    absolute path of the folder that holds ``.vitseek``

    Raises
    ------
    GalleryNotFoundError
        If there is none, with every place that was looked at.
    """
    if explicit is not None:
        return _existing(Path(explicit), "--gallery")
    if variable := os.environ.get(VARIABLE):
        folder = _existing(Path(variable).expanduser(), VARIABLE)
        if report:
            report(f"gallery: {folder} (from {VARIABLE})")
        return folder
    here = Path(start or ".").absolute()
    for folder in (here, *here.parents):
        if Layout(folder).exists():
            if report and folder != here:
                report(f"gallery: {folder}")
            return folder
    last = last_used()
    if last and Layout(last).exists():
        if report:
            report(f"gallery: {last} (the last used; choose another with --gallery DIR)")
        return last
    gone = f", and the last used one, {last}, is not there" if last else ""
    raise GalleryNotFoundError(
        f"no gallery at {here} or above it{gone}. Make one with: vitseek index FOLDER   or name one: --gallery FOLDER"
    )


def _existing(folder: Path, origin: str) -> Path:
    folder = folder.absolute()
    if folder.name == INDEX_FOLDER:
        folder = folder.parent
    if Layout(folder).exists():
        return folder
    if not folder.is_dir():
        raise GalleryNotFoundError(f"{origin} names {folder}, which is not a folder. Is the disk mounted?")
    hint = next((f" (the gallery {parent} lies above it)" for parent in folder.parents if Layout(parent).exists()), "")
    raise GalleryNotFoundError(
        f"{origin} names {folder}, which has no index{hint}. Make one with: vitseek index {folder}"
    )


def remember(folder: Path) -> None:
    """Note a gallery as the last used one; quietly does nothing where the state folder cannot be written."""
    try:
        state_dir().mkdir(parents=True, exist_ok=True)
        temporary = state_dir() / f"{LAST_USED}.{os.getpid()}"
        temporary.write_bytes(os.fsencode(folder))
        temporary.replace(state_dir() / LAST_USED)
    except OSError:
        pass


def last_used() -> Path | None:
    """The gallery noted by :func:`remember`."""
    try:
        return Path(os.fsdecode((state_dir() / LAST_USED).read_bytes()))
    except OSError:
        return None
