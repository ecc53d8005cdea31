"""One writer at a time, and the others are told who."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from vitseek.errors import GalleryLockedError, StorageError

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that is writing."""

    pid: int
    host: str
    since: str
    job: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.job} since {self.since})"


class WriteLock:
    """``.vitseek/write.lock``, held with flock: the kernel lets go of it however the process ends.

    Parameters
    ----------
    timeout_s
        How long to wait for another writer; 0 fails at once.
    waiting
        Called once, with the holder, when there is something to wait for.
    """

    def __init__(
        self, file: Path, job: str, *, timeout_s: float = 10.0, waiting: Callable[[Holder | None], None] | None = None
    ) -> None:
        self.file = file
        self._job = job
        self._timeout_s = timeout_s
        self._waiting = waiting
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(
                f"{self.file} cannot be written ({error.strerror}): the gallery cannot change"
            ) from error
        try:
            self._acquire(descriptor)
            self._sign(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def _acquire(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._timeout_s
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told and self._waiting and self._timeout_s > 0:
                    self._waiting(holder(self.file))
                    told = True
            else:
                return
            if time.monotonic() >= deadline:
                raise GalleryLockedError(
                    f"the gallery {self.file.parent.parent} is being written by "
                    f"{holder(self.file) or 'another process'}; waited {self._timeout_s:g} s. "
                    "Searching works meanwhile. Try again when it is done."
                )
            time.sleep(POLL_S)

    def _sign(self, descriptor: int) -> None:
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        name = {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "job": self._job}
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(name).encode(), 0)
        except OSError:
            pass  # a full disk: the lock itself holds without its name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: unlinking it would let a third process lock a new one while the second waits on the old.
        try:
            os.ftruncate(self._descriptor, 0)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1


def holder(file: Path) -> Holder | None:
    """Who signed the lock file; None when nobody holds it or the name cannot be read."""
    try:
        name = json.loads(file.read_text("utf-8"))
        return Holder(int(name["pid"]), str(name["host"]), str(name["since"]), str(name["job"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def writer(file: Path) -> Holder | None:
    """Who holds the lock right now, without waiting for it."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder(file)
    else:
        return None
    finally:
        os.close(descriptor)
