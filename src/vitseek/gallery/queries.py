"""From what a person searches with to a unit vector, without the model where the gallery knows the answer."""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitseek.errors import GalleryMismatchError, ImageNotFoundError, UsageError
from vitseek.gallery.identity import content_hash
from vitseek.gallery.matrix import unit_rows
from vitseek.gallery.records import ImageId
from vitseek.gallery.spaces import EmbeddingModel, Space
from vitseek.gallery.stores.catalog import Catalog
from vitseek.preprocess.image import ImageSource

Query = ImageSource | NDArray[np.floating] | ImageId


@dataclass(frozen=True, slots=True)
class Resolved:
    """A query as a unit vector, and the images that are the query itself."""

    vector: NDArray[np.float32]
    own_ids: tuple[int, ...] = ()


def is_several(query: object) -> bool:
    """Whether a query is a list of queries: a list, a tuple, or a matrix of feature vectors."""
    return isinstance(query, (list, tuple)) or (isinstance(query, np.ndarray) and query.ndim == 2)


def resolve(
    queries: Sequence[Any], catalog: Catalog, space: Space, model: Callable[[], EmbeddingModel]
) -> list[Resolved]:
    """The unit vector of each query.

    An image whose content is in the gallery (by hash, wherever the file lies) takes its stored vector; the others
    are embedded together. ``model`` is called only if there are such.

    Raises
    ------
    UsageError, ImageNotFoundError, GalleryMismatchError, UnreadableImageError
    """
    vectors: list[NDArray[np.float32] | None] = []
    own: list[tuple[int, ...]] = []
    to_embed: list[int] = []
    for number, query in enumerate(queries):
        vector, ids = _without_model(query, catalog, space)
        if vector is None:
            to_embed.append(number)
        vectors.append(vector)
        own.append(ids)
    if to_embed:
        embedded = np.asarray(model().embed([queries[number] for number in to_embed]), np.float32)
        for number, vector in zip(to_embed, embedded, strict=True):
            vectors[number] = vector
    matrix = unit_rows(np.stack([vector for vector in vectors if vector is not None]))
    return [Resolved(row, ids) for row, ids in zip(matrix, own, strict=True)]


def _without_model(query: Any, catalog: Catalog, space: Space) -> tuple[NDArray[np.float32] | None, tuple[int, ...]]:
    if isinstance(query, bool):
        raise UsageError(f"{query} is not a query: give an image, an image id or a feature vector")
    if isinstance(query, (int, np.integer)):
        return _of_id(int(query), catalog, space)
    if isinstance(query, np.ndarray):
        return _of_array(query, space), ()
    digest = _digest(query)
    if digest is None:
        return None, ()
    ids = tuple(catalog.ids_with_hash(digest))
    return catalog.vector_of_hash(space, digest) if ids else None, ids


def _of_id(image_id: int, catalog: Catalog, space: Space) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    record = catalog.image(image_id)
    if record is None or record.status == "removed":
        raise ImageNotFoundError(f"no image {image_id} in gallery {catalog.folder.name!r}")
    vector = catalog.vectors(space, [image_id]).get(image_id)
    if vector is None or record.content_hash is None:
        if record.status == "unreadable":
            raise ImageNotFoundError(f"image {image_id} ({record.relative_path}) cannot be read: {record.reason}")
        raise ImageNotFoundError(
            f"image {image_id} ({record.relative_path}) has no vector in space {space.name!r} yet. "
            f"Index it: vitseek index {catalog.folder} --model {space.source or space.key.model}"
        )
    return vector, tuple(catalog.ids_with_hash(bytes.fromhex(record.content_hash)))


def _of_array(query: NDArray[Any], space: Space) -> NDArray[np.float32]:
    if query.ndim != 1:
        raise UsageError(
            f"an array query must be a feature vector (D,) or several (n, D); this one is {query.shape}. "
            "For pixels, make an image first: PIL.Image.fromarray(…)"
        )
    if query.dtype.kind not in "fiu":
        raise UsageError(f"a feature vector holds numbers; this array holds {query.dtype}")
    if len(query) != space.key.dim:
        raise GalleryMismatchError(
            f"space {space.name!r} holds {space.key.dim}-d vectors of {space.key.model}, but the query vector has "
            f"{len(query)} values. Make it with the same model: vitseek.load({space.source or space.key.model!r})"
        )
    if not np.isfinite(query).all():
        raise UsageError("the query vector holds infinite or undefined values")
    return query.astype(np.float32)


def _digest(query: ImageSource) -> bytes | None:
    """sha256 of an encoded image; None for decoded ones and for what cannot be read (decoding says why)."""
    if isinstance(query, bytes):
        return content_hash(io.BytesIO(query))
    if isinstance(query, (str, os.PathLike)):
        try:
            path = Path(query)
            if not path.is_file():
                return None
            with path.open("rb") as file:
                return content_hash(file)
        except (OSError, ValueError):
            return None
    if isinstance(query, Image.Image):
        return None
    try:
        return content_hash(query)
    except (AttributeError, OSError):
        return None
