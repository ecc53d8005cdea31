"""Uploaded queries, held in memory for a while so that a page of results has an address.

The address makes the back button, a reload and another number of results work without sending the picture again.
Nothing of an upload is written to disk.
"""

import secrets
import string
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitseek.web.pictures import TALL

NAME_LETTERS = string.ascii_letters + string.digits  # what `upload:NAME` of the query language takes
NAME_LENGTH = 12  # 71 bits: nobody guesses one


@dataclass(frozen=True, kw_only=True)
class HeldQuery:
    """What is kept of an uploaded picture: its features and a small preview, not the file."""

    name: str
    vectors: Mapping[int, NDArray[np.float32]]
    """Features by the id of the space that they belong to."""
    preview: bytes
    preview_size: tuple[int, int]
    width: int
    height: int
    size_bytes: int
    embed_s: float

    @property
    def portrait(self) -> bool:
        return self.height > TALL * self.width


class HeldQueries:
    """The most recent queries by an unguessable token; the oldest makes room."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._held: OrderedDict[str, HeldQuery] = OrderedDict()
        self._lock = threading.Lock()

    def hold(self, query: HeldQuery) -> str:
        token = "".join(secrets.choice(NAME_LETTERS) for _ in range(NAME_LENGTH))
        with self._lock:
            self._held[token] = query
            while len(self._held) > self._limit:
                self._held.popitem(last=False)
        return token

    def get(self, token: str) -> HeldQuery | None:
        with self._lock:
            if token in self._held:
                self._held.move_to_end(token)
            return self._held.get(token)
