"""One SQLite file: a connection per thread, transactions, and errors in words.

Durability: WAL with ``synchronous=FULL``, so that a committed row survives ``kill -9`` and a power cut.
NORMAL would lose the last transactions in a power cut, and a commit every two seconds costs the same.
"""

import os
import sqlite3
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vitseek.errors import GalleryCorruptError, GalleryLockedError, StorageError
from vitseek.gallery.stores.migrate import SCHEMA, check_version, migrate

PAGE_BYTES = 16_384  # five 768-d vectors a page; with 4096 a quarter of each page would stay empty
BUSY_TIMEOUT_S = 30.0

Row = sqlite3.Row


class Database:
    """The index file of a gallery.

    Parameters
    ----------
    file
        ``.vitseek/index.db``; created when missing unless ``read_only``.
    read_only
        True on a medium that cannot be written: no migration, no WAL.
    """

    def __init__(self, file: Path, *, read_only: bool = False) -> None:
        self.file = file
        self.read_only = read_only
        self._local = threading.local()
        self._open: list[tuple[weakref.ref[threading.Thread], sqlite3.Connection]] = []
        self._mutex = threading.Lock()
        self._closed = False
        with self.translated():
            try:
                self._prepare()
            except BaseException:
                self.close()
                raise
        # A gallery that is dropped without close() must not leave files open.
        self._finalizer = weakref.finalize(self, _close_all, self._open, self._mutex)

    def _prepare(self) -> None:
        connection = self.connection()
        found = check_version(connection, self.file)
        if self.read_only:
            if found != SCHEMA:
                raise StorageError(
                    f"{self.file} has the older schema {found} and cannot be migrated to {SCHEMA}, because "
                    "it is read-only. Copy the gallery to a writable place, or index it elsewhere with --gallery DIR."
                )
            return
        if found == 0:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        if found != SCHEMA:
            migrate(connection, self.file)

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, opened on first use."""
        if self._closed:
            raise StorageError(f"the gallery index {self.file} is closed")
        # A forked child must not use its parent's connections: SQLite's locks belong to the process.
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.connection = self._connect()
            self._local.pid = os.getpid()
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _connect(self) -> sqlite3.Connection:
        mode = "rwc"
        if self.read_only:
            # Nobody can write it, so nobody needs the shared-memory file that WAL would create.
            mode = "ro&immutable=1"
        uri = f"file:{quote(os.fsencode(self.file.absolute()))}?mode={mode}"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False, cached_statements=256
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            if sys.platform == "darwin":
                connection.execute("PRAGMA fullfsync = ON")  # there fsync alone leaves data in the drive's cache
            connection.execute("PRAGMA cache_size = -1024")  # KiB a thread; the system caches the file too
        except BaseException:
            connection.close()
            raise
        with self._mutex:
            for thread, other in list(self._open):
                alive = thread()
                if alive is None or not alive.is_alive():
                    other.close()
                    self._open.remove((thread, other))
            self._open.append((weakref.ref(threading.current_thread()), connection))
        return connection

    def rows(self, sql: str, parameters: Any = ()) -> list[Row]:
        """Every row of a query."""
        with self.translated():
            return self.connection().execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Any = ()) -> Row | None:
        """The first row of a query."""
        with self.translated():
            first: Row | None = self.connection().execute(sql, parameters).fetchone()
            return first

    def value(self, sql: str, parameters: Any = ()) -> Any:
        """The first column of the first row; None without a row."""
        row = self.row(sql, parameters)
        return None if row is None else row[0]

    def stream(self, sql: str, parameters: Any = (), *, chunk: int = 1024) -> Iterator[list[Row]]:
        """A long result in pieces, so that memory stays bounded. Do not write while it is open."""
        with self.translated():
            cursor = self.connection().execute(sql, parameters)
            try:
                while rows := cursor.fetchmany(chunk):
                    yield rows
            finally:
                cursor.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent state over several queries, whatever others commit meanwhile."""
        with self.translated():
            connection = self.connection()
            nested = connection.in_transaction
            if not nested:
                connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if not nested and connection.in_transaction:
                    connection.rollback()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on the disk when the block ends, or none of it."""
        with self.translated():
            if self.read_only:
                raise StorageError(f"{self.file} is read-only: nothing can be changed in this gallery")
            connection = self.connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.rollback()
                raise

    def write_many(self, sql: str, rows: Iterable[Any]) -> None:
        """One statement for many rows, in one transaction."""
        with self.writing() as connection:
            connection.executemany(sql, rows)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """SQLite's errors in the words of :mod:`vitseek.errors`."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._in_words(error) from error

    def _in_words(self, error: sqlite3.Error) -> Exception:
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        folder = self.file.parent
        match primary:
            case sqlite3.SQLITE_FULL:
                return StorageError(
                    f"the disk is full: {folder} could not be written. What was saved before stays and is searchable. "
                    "Free some space and run the same command again; it goes on where it stopped."
                )
            case sqlite3.SQLITE_IOERR:
                return StorageError(
                    f"reading or writing {self.file} failed ({error}). Is the disk full, or was it unplugged? "
                    "What was saved before stays; run the same command again when the disk is back."
                )
            case sqlite3.SQLITE_READONLY:
                return StorageError(f"{self.file} cannot be written ({error}). Check the rights of {folder}.")
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
                return StorageError(
                    f"{self.file} cannot be opened ({error}). Check that {folder} exists and its rights."
                )
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return corrupt(self.file, str(error))
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return GalleryLockedError(
                    f"{self.file} stayed locked by another process for {BUSY_TIMEOUT_S:g} s. Try again when it is done."
                )
        return error

    def close(self) -> None:
        """Close the connections of every thread; the last one folds the WAL into the file."""
        self._closed = True
        _close_all(self._open, self._mutex)


def corrupt(file: Path, detail: str) -> GalleryCorruptError:
    """What to say of an index that does not hold together."""
    return GalleryCorruptError(
        f"the index {file} is damaged ({detail}). Your images are untouched. Recover with: "
        f"vitseek index --rebuild --gallery {file.parent.parent}  "
        "It sets the damaged file aside, saves every label and vector that can be read, and indexes the rest again."
    )


def _close_all(
    connections: list[tuple[weakref.ref[threading.Thread], sqlite3.Connection]], mutex: threading.Lock
) -> None:
    with mutex:
        for _, connection in connections:
            connection.close()
        connections.clear()
