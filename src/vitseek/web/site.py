"""What one running server holds: the gallery and what guards it."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from django.http import HttpRequest

from vitseek.engines.cores import usable_cores
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.records import GalleryStatus
from vitseek.web.admission import Admission
from vitseek.web.held import HeldQueries
from vitseek.web.options import WebOptions
from vitseek.web.thumbnails import Thumbnails

ENVIRON_KEY = "vitseek.site"
EMBEDDING_SLOTS = 2  # each may hold a decoded picture of `limit_pixels` three-byte pixels
EMBEDDING_WAITING = 4
EMBEDDING_TIMEOUT_S = 60.0
THUMBNAIL_TIMEOUT_S = 30.0
STATUS_AGE_S = 5.0
STATUS_SHARE = 0.01  # of the time goes into counting: a gallery of millions is counted less often


@dataclass
class Site:
    """Handed to every request in its WSGI environment, so that nothing of it is global."""

    gallery: Gallery
    options: WebOptions
    thumbnails: Thumbnails
    embedding: Admission
    held: HeldQueries = field(default_factory=HeldQueries)
    _status: tuple[float, GalleryStatus] | None = None
    """Until when it is good enough, and the counts."""
    _status_lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def over(cls, gallery: Gallery, options: WebOptions, *, thumbnails: Path) -> "Site":
        """The usual limits: pictures are decoded on as many threads as there are cores, and half of the server's
        threads stay free for pages whatever is asked for."""
        cores = usable_cores()
        drawing = Admission(slots=cores, waiting=max(1, options.threads // 2 - cores), timeout_s=THUMBNAIL_TIMEOUT_S)
        return cls(
            gallery=gallery,
            options=options,
            thumbnails=Thumbnails(thumbnails, admission=drawing, limit_pixels=options.limit_pixels),
            embedding=Admission(slots=EMBEDDING_SLOTS, waiting=EMBEDDING_WAITING, timeout_s=EMBEDDING_TIMEOUT_S),
        )

    def status(self) -> GalleryStatus:
        """The gallery's counts, at most a few seconds old: every page shows them."""
        with self._status_lock:
            start = time.monotonic()
            if self._status is None or start > self._status[0]:
                status = self.gallery.status()
                end = time.monotonic()
                self._status = end + max(STATUS_AGE_S, (end - start) / STATUS_SHARE), status
            return self._status[1]


def site_of(request: HttpRequest) -> Site:
    return cast("Site", request.META[ENVIRON_KEY])
