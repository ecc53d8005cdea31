"""Which root a path belongs to: everything a gallery knows lies in one of its roots."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from vitseek.errors import GalleryNotFoundError, ImageNotFoundError, OutsideGalleryError
from vitseek.gallery.identity import display
from vitseek.gallery.stores.catalog import Catalog, Root

PathLike = str | os.PathLike[str]


class Scope(NamedTuple):
    """A part of a root to look at: everything (b""), a folder (ends in "/"), or one file."""

    root: Root
    raw_path: bytes


def absolute(path: PathLike) -> Path:
    """A path from the top, without following links: a linked folder is indexed under the name the user gave."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  # Path.resolve would follow them


class Folders:
    """The roots of a gallery."""

    def __init__(self, catalog: Catalog, gallery: Path) -> None:
        self._catalog = catalog
        self._gallery = gallery

    def all(self) -> list[Root]:
        return self._catalog.roots()

    def add(self, path: Path) -> Root:
        """Make a folder a root; one inside another root is a root of its own from then on."""
        if not path.is_dir():
            raise GalleryNotFoundError(f"{path} is not a folder. Is the disk mounted, and the name right?")
        return self._catalog.add_root(path)

    def within(self, path: Path) -> tuple[Root, bytes] | None:
        """The deepest root that holds a path, and the path relative to it (empty for the root itself)."""
        holding = [root for root in self.all() if path == root.path or path.is_relative_to(root.path)]
        if not holding:
            return None
        root = max(holding, key=lambda each: len(each.path.parts))
        relative = path.relative_to(root.path)
        return root, b"" if relative == Path() else os.fsencode(relative)

    def outside(self, path: Path, hint: str = "") -> OutsideGalleryError:
        roots = ", ".join(display(os.fsencode(root.path)) for root in self.all())
        name = display(os.fsencode(path))
        return OutsideGalleryError(
            f"{name} is outside gallery {self._gallery.name!r}, which holds {roots}. {hint}".strip()
        )

    def scopes(self, paths: Iterable[PathLike] | None) -> list[Scope]:
        """What to index: whole roots, folders and files inside roots; a folder outside becomes a root."""
        if paths is None:
            return [Scope(root, b"") for root in self.all()]
        scopes: list[Scope] = []
        for path in map(absolute, paths):
            found = self.within(path)
            if found is not None:
                root, raw = found
                scopes.append(Scope(root, raw if not raw or path.is_file() else raw + b"/"))
            elif path.is_dir():
                scopes.append(Scope(self.add(path), b""))
            elif path.is_file():
                raise self.outside(path, f"To add its folder: vitseek index {path.parent} --gallery {self._gallery}")
            else:
                raise GalleryNotFoundError(f"{display(os.fsencode(path))} does not exist. Is the disk mounted?")
        return list(dict.fromkeys(scopes))

    def is_everything(self, scopes: Iterable[Scope]) -> bool:
        """Whether the scopes are all roots, whole."""
        whole = {scope.root.id for scope in scopes if not scope.raw_path}
        return whole == {root.id for root in self.all()}

    def images_at(self, path: Path) -> tuple[list[int], Root | None]:
        """The image at a path, or all below a folder; and the root, if the folder is one (but not the gallery's own).

        Raises
        ------
        OutsideGalleryError
            If no root holds the path.
        ImageNotFoundError
            If the gallery has nothing there.
        """
        found = self.within(path)
        if found is None:
            raise self.outside(path)
        root, raw = found
        exact = self._catalog.image_id(root.id, raw)
        if exact is not None:
            return [exact], None
        ids = self._catalog.ids_below(root.id, raw + b"/" if raw else b"")
        if not ids and raw:
            name = display(os.fsencode(path))
            raise ImageNotFoundError(f"{name} is not in gallery {self._gallery.name!r}; it may not be indexed yet")
        return ids, root if not raw and root.path != self._gallery else None
