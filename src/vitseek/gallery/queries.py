"""From what a person searches with to unit vectors, without the model where the gallery knows the answer."""

import io
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitseek.errors import (
    AddressError,
    GalleryMismatchError,
    ImageNotFoundError,
    UnreadableImageError,
    UsageError,
)
from vitseek.gallery.identity import content_hash
from vitseek.gallery.matrix import unit_rows
from vitseek.gallery.records import ImageId
from vitseek.gallery.spaces import EmbeddingModel, ReadingModel, Space
from vitseek.gallery.stores.catalog import Catalog
from vitseek.preprocess.decode import source_name
from vitseek.preprocess.image import ImageSource
from vitseek.search.query import Expression, Term, parse

if TYPE_CHECKING:
    from vitseek.download.fetch import FetchKeywords

Query = ImageSource | NDArray[np.floating] | ImageId | Expression
Addresses = Literal["public", "any", "none"]
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A query as the unit vectors of its terms and their weights, and the images that are the query itself."""

    vectors: tuple[NDArray[np.float32], ...]
    weights: tuple[float, ...]
    own_ids: tuple[int, ...] = ()


def is_several(query: object) -> bool:
    """Whether a query is a list of queries: a list, a tuple, or a matrix of feature vectors."""
    return isinstance(query, (list, tuple)) or (isinstance(query, np.ndarray) and query.ndim == 2)


def expression(query: Any) -> Expression:
    """Any query as an expression: text is parsed, everything else is one term.

    Raises
    ------
    UsageError
        QuerySyntaxError for text that does not parse.
    """
    if isinstance(query, Expression):
        if not query.active:
            raise UsageError("every weight of the query is 0, so nothing is searched for")
        return query
    if isinstance(query, str):
        return parse(query)
    if isinstance(query, bool):
        raise UsageError(f"{query} is not a query: give words, an image, an image id or a feature vector")
    if isinstance(query, (int, np.integer)):
        return Expression((Term(1.0, "image", int(query)),))
    if isinstance(query, np.ndarray):
        return Expression((Term(1.0, "vector", query),))
    if isinstance(query, os.PathLike):  # never parsed: the way to name any file
        return Expression((Term(1.0, "file", os.fspath(query)),))
    if isinstance(query, (bytes, Image.Image)) or hasattr(query, "read"):
        return Expression((Term(1.0, "picture", query),))
    raise UsageError(
        f"{type(query).__name__} is no query: give words, a path, the bytes of a picture, a stream, a Pillow image, an "
        "image id, a feature vector, or a list of these"
    )


def fetch_addresses(
    query: Expression, allowed: Addresses, *, offline: bool = False, **limits: Unpack["FetchKeywords"]
) -> Expression:
    """The query with every address replaced by the picture that it gives.

    Parameters
    ----------
    limits
        Of each picture; see :func:`vitseek.download.fetch.fetch_picture`.

    Raises
    ------
    AddressError
        If there is none, or addresses are not allowed.
    """
    if not any(term.kind == "address" for term in query.active):
        return query
    return Expression(tuple(_fetched(term, allowed, offline, limits) if term.weight else term for term in query.terms))


def _fetched(term: Term, allowed: Addresses, offline: bool, limits: "FetchKeywords") -> Term:
    if term.kind != "address":
        return term
    if offline:
        raise AddressError(term.value, "the network may not be used (offline); download it and search with the file")
    if allowed not in ("public", "any"):
        reason = "pictures are not fetched from addresses here; download it and search with the file"
        raise AddressError(term.value, reason)
    from vitseek.download.fetch import fetch_picture

    fetched = fetch_picture(term.value, allow_private=allowed == "any", **limits)
    return replace(term, kind="picture", value=fetched.data, name=term.value)


def resolve(
    queries: Sequence[Expression],
    catalog: Catalog,
    space: Space,
    model: Callable[[], EmbeddingModel],
    report: Report | None = None,
) -> list[Resolved]:
    """The unit vectors of each query's terms in a space.

    An image whose content is in the gallery (by hash, wherever the file lies) takes its stored vector; the others
    are embedded together, and so are all words. ``model`` is called only if there are such.

    Raises
    ------
    UsageError, ImageNotFoundError, GalleryMismatchError, UnreadableImageError, AddressError
    """
    found: list[NDArray[np.float32] | None] = []
    own: list[tuple[int, ...]] = []
    terms = [term for query in queries for term in query.active]
    for term in terms:
        vector, ids = _without_model(term, catalog, space)
        found.append(vector)
        own.append(ids)
    pictures = [place for place, term in enumerate(terms) if found[place] is None and term.kind != "text"]
    words = [place for place, term in enumerate(terms) if term.kind == "text"]
    if pictures:
        sources = [terms[place].value for place in pictures]
        for place, vector in zip(pictures, np.asarray(model().embed(sources), np.float32), strict=True):
            found[place] = vector
    if words:
        reader = cast("ReadingModel", model())  # spaces are chosen by it: see Searcher.space_of
        read = reader.embed_texts([terms[place].value for place in words], report=report)
        for place, vector in zip(words, np.asarray(read, np.float32), strict=True):
            found[place] = vector
    matrix = unit_rows(np.stack([vector for vector in found if vector is not None]))
    resolved, first = [], 0
    for query in queries:
        weights = tuple(term.weight for term in query.active)
        last = first + len(weights)
        wanted = [ids for ids, weight in zip(own[first:last], weights, strict=True) if weight > 0]
        resolved.append(
            Resolved(tuple(matrix[first:last]), weights, tuple({number for ids in wanted for number in ids}))
        )
        first = last
    return resolved


def _without_model(term: Term, catalog: Catalog, space: Space) -> tuple[NDArray[np.float32] | None, tuple[int, ...]]:
    match term.kind:
        case "image":
            return _of_id(term.value, catalog, space)
        case "vector":
            return _of_array(np.asarray(_of_space(term.value, space)), space), ()
        case "file":
            _check_file(term)
        case "text":
            return None, ()
        case "address" | "upload":
            raise UsageError(f"{term.operand} must be replaced by its picture before it is searched")
    digest = _digest(term.value)
    if digest is None:
        return None, ()
    ids = tuple(catalog.ids_with_hash(digest))
    return catalog.vector_of_hash(space, digest) if ids else None, ids


def _check_file(term: Term) -> None:
    """Say of a file that is missing what else could have been meant; whatever else is wrong, decoding says."""
    path = os.fspath(term.value)
    if os.path.lexists(path):
        return
    reason = "there is no such file; check the path"
    if term.bare:
        signs = " Write + and - with a space on both sides." if "+" in path or " -" in path else ""
        reason += f".{signs} To search for these words, put them in quotes"
    raise UnreadableImageError(source_name(path), reason)


def _of_id(image_id: int, catalog: Catalog, space: Space) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    record = catalog.image(image_id)
    if record is None or record.status == "removed":
        raise ImageNotFoundError(
            f"no image {image_id} in gallery {catalog.folder.name!r}; `vitseek search --json` prints ids"
        )
    vector = catalog.vectors(space, [image_id]).get(image_id)
    if vector is None or record.content_hash is None:
        if record.status == "unreadable":
            raise ImageNotFoundError(f"image {image_id} ({record.relative_path}) cannot be read: {record.reason}")
        raise ImageNotFoundError(
            f"image {image_id} ({record.relative_path}) has no vector in space {space.name!r} yet. "
            f"Index it: vitseek index {shlex.quote(str(catalog.folder))} "
            f"--model {shlex.quote(space.source or space.key.model)}"
        )
    return vector, tuple(catalog.ids_with_hash(bytes.fromhex(record.content_hash)))


def _of_space(value: Any, space: Space) -> Any:
    """One vector, or that of this space where a program made one for each space, by the spaces' ids."""
    if not isinstance(value, Mapping):
        return value
    if space.id not in value:
        raise GalleryMismatchError(f"the query vector was not made for space {space.name!r}; make it again")
    return value[space.id]


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
