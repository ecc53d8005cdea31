"""Uploads: how large they may be, and how one becomes a query."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from numpy.typing import NDArray
from PIL import Image

from vitseek.errors import ImageTooLargeError, UnreadableImageError, VitseekError
from vitseek.preprocess.decode import decode
from vitseek.web.answers import problem_response
from vitseek.web.held import HeldQuery
from vitseek.web.pictures import shrink
from vitseek.web.problems import Problem
from vitseek.web.site import Site, site_of

log = logging.getLogger("vitseek.web")

FORM_BYTES = 64 * 1024  # the other fields of a form, and the boundaries between them
PREVIEW_PX = 640
NAME_LENGTH = 120


def upload_limit(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: a body that is announced as too large is refused before any of it is parsed."""

    def answer(request: HttpRequest) -> HttpResponse:
        limit = site_of(request).options.upload_limit_bytes
        announced = request.META.get("CONTENT_LENGTH") or "0"
        if announced.isdigit() and int(announced) > limit + FORM_BYTES:
            return problem_response(request, too_many_bytes(limit))
        return get_response(request)

    return answer


def too_many_bytes(limit_bytes: int) -> Problem:
    return Problem(
        413,
        _("This file is too large: at most %(limit)s are taken. Choose a smaller copy of the picture.")
        % {"limit": filesizeformat(limit_bytes)},
    )


def query_of(upload: "UploadedFile[Any]", site: Site, spaces: Iterable[str | int] = ()) -> HeldQuery:
    """Decode and embed an uploaded picture.

    Parameters
    ----------
    spaces
        By name or id: the spaces that it may be searched in besides the default one.

    Raises
    ------
    Problem
        400 if it is not a readable image, 413 if it has too many bytes or pixels.
    BusyError
        If too many pictures are being embedded.
    """
    name = shown_name(upload.name)
    if upload.size is not None and upload.size > site.options.upload_limit_bytes:
        raise too_many_bytes(site.options.upload_limit_bytes)
    if not upload.size:
        raise Problem(400, _("“%(name)s” is empty (0 bytes). Choose another picture.") % {"name": name})
    with site.embedding.enter():  # decoding too: it is the pixels that take the memory
        try:
            picture = decode(upload.read(), limit_pixels=site.options.limit_pixels)
        except ImageTooLargeError as error:
            raise Problem(
                413,
                _("“%(name)s” has too many pixels: at most %(limit)s megapixels are taken. Shrink the picture.")
                % {"name": name, "limit": f"{site.options.limit_pixels / 1e6:g}"},
            ) from error
        except UnreadableImageError as error:
            raise Problem(
                400,
                _("“%(name)s” cannot be read as an image. Choose another picture.") % {"name": name},
                detail=_cause(error.reason),
            ) from error
        start = time.perf_counter()
        vectors = _vectors(picture, site, spaces)
        embed_s = time.perf_counter() - start
        preview, preview_size = shrink(picture, PREVIEW_PX)
    width, height = picture.size
    return HeldQuery(
        name=name,
        vectors=vectors,
        preview=preview,
        preview_size=preview_size,
        width=width,
        height=height,
        size_bytes=upload.size,
        embed_s=embed_s,
    )


def _vectors(picture: Image.Image, site: Site, spaces: Iterable[str | int]) -> dict[int, NDArray[np.float32]]:
    """Features in the default space, and in the others whose model can be had: what misses one says so when asked."""
    default = site.gallery.space()
    vectors = {default.id: site.gallery.model_of(default.id).embed([picture])[0]}
    for name in spaces:
        space = site.gallery.space(name)
        if space.id not in vectors:
            try:
                vectors[space.id] = site.gallery.model_of(space.id).embed([picture])[0]
            except VitseekError as error:
                log.warning("no features of uploads in space %s: %s", space.name, error)
    return vectors


def shown_name(name: str | None) -> str:
    """A file name for people: one line, no control characters, not endless."""
    visible = "".join(c for c in (name or "").encode("utf-8", "replace").decode("utf-8") if c.isprintable())
    if len(visible) > NAME_LENGTH:
        half = NAME_LENGTH // 2
        visible = f"{visible[:half]}…{visible[-half:]}"
    return visible or _("picture")


def _cause(reason: str) -> str:
    """Why, without the advice for files of a folder that the library's reasons end with."""
    why = reason.rpartition("; ")[0] or reason
    return why[:1].upper() + why[1:] + ("" if why.endswith(".") else ".")
