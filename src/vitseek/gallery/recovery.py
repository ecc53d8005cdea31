"""Save what can be read of a damaged index into a new one. The damaged file is set aside, never deleted."""

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from vitseek.errors import GalleryNotFoundError
from vitseek.gallery.folders import absolute
from vitseek.gallery.lock import WriteLock
from vitseek.gallery.place import Layout
from vitseek.gallery.stores.sqlite import Database

# Parents before children, so that foreign keys hold while copying.
TABLES = (
    "meta", "roots", "contents", "images", "labels", "calibrations", "spaces", "vectors", "mounts", "prediction_runs",
    "predictions",
)  # fmt: skip
WITHOUT_ROWID = ("meta", "labels", "mounts", "predictions")
CHUNK = 500


@dataclass
class Recovered:
    """What was saved, and where the damaged file lies now."""

    aside: Path
    images: int = 0
    vectors: int = 0
    labels: int = 0
    problems: list[str] = field(default_factory=list)


def recover(folder: str | os.PathLike[str]) -> Recovered:
    """Set the index of a gallery aside and copy every row of it that can be read into a new one.

    Raises
    ------
    GalleryNotFoundError
        If there is no index.
    GalleryLockedError
        If another process is writing.
    """
    layout = Layout(absolute(folder))
    if not layout.exists():
        raise GalleryNotFoundError(f"{layout.folder} has no index to rebuild. Make one with: vitseek index {folder}")
    with WriteLock(layout.lock, "rebuilding"):
        aside = _set_aside(layout.database)
        recovered = Recovered(aside)
        new = Database(layout.database)
        try:
            _copy(aside, new, recovered)
        finally:
            new.close()
    return recovered


def _set_aside(file: Path) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    aside = file.with_name(f"{file.name}.damaged-{stamp}")
    for suffix in ("-wal", "", "-shm"):  # the log holds the newest rows and belongs to the file by its name
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _copy(aside: Path, new: Database, recovered: Recovered) -> None:
    try:
        old = sqlite3.connect(aside, isolation_level=None)
    except sqlite3.Error as error:
        recovered.problems.append(f"nothing could be read: {error}")
        return
    old.row_factory = sqlite3.Row
    try:
        for table in TABLES:
            count = _copy_table(old, new, table, recovered)
            if table in ("images", "vectors", "labels"):
                setattr(recovered, table, count)
    finally:
        old.close()
    with new.writing() as connection:
        # A row whose other half was lost is of no use: the next index run makes it again.
        for table, parent, column in (
            ("images", "roots", "root_id"),
            ("labels", "images", "image_id"),
            ("vectors", "contents", "content_id"),
            ("vectors", "spaces", "space_id"),
            ("mounts", "roots", "root_id"),
            ("predictions", "images", "image_id"),
            ("predictions", "prediction_runs", "run_id"),
        ):
            connection.execute(f"DELETE FROM {table} WHERE {column} NOT IN (SELECT id FROM {parent})")  # noqa: S608
        connection.execute(  # of what they were said is not known any more
            "DELETE FROM predictions WHERE image_id IN "
            "(SELECT id FROM images WHERE content_id NOT IN (SELECT id FROM contents))"
        )
        connection.execute(
            "UPDATE images SET content_id = NULL, checked_ns = 0, mtime_ns = 0 "
            "WHERE content_id NOT IN (SELECT id FROM contents)"
        )
        connection.execute("UPDATE spaces SET epoch = epoch + 1")
        connection.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'")


def _copy_table(old: sqlite3.Connection, new: Database, table: str, recovered: Recovered) -> int:
    columns = [row["name"] for row in new.rows(f"PRAGMA table_info({table})")]
    try:
        present = {row["name"] for row in old.execute(f"PRAGMA table_info({table})")}
    except sqlite3.Error as error:
        recovered.problems.append(f"{table}: {error}")
        return 0
    columns = [column for column in columns if column in present]
    if not columns:
        return 0
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    sql = f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})"  # noqa: S608  # names from the schema
    saved = 0
    connection = new.connection()
    connection.execute("PRAGMA foreign_keys = OFF")
    try:
        for rows in _readable(old, f"SELECT {names} FROM {table}", table, recovered):  # noqa: S608
            with new.writing():
                for row in rows:
                    try:
                        connection.execute(sql, tuple(row))
                        saved += 1
                    except sqlite3.IntegrityError as error:
                        recovered.problems.append(f"{table}: a row was left out ({error})")
    finally:
        connection.execute("PRAGMA foreign_keys = ON")
    return saved


def _readable(old: sqlite3.Connection, sql: str, table: str, recovered: Recovered) -> Iterator[list[sqlite3.Row]]:
    """The rows up to a damaged page, then those that can be reached from the other end."""
    orders = ("",) if table in WITHOUT_ROWID else (" ORDER BY rowid", " ORDER BY rowid DESC")
    for order in orders:
        cursor = old.cursor()
        try:
            cursor.execute(sql + order)
            while rows := cursor.fetchmany(CHUNK):
                yield rows
        except sqlite3.Error as error:
            recovered.problems.append(f"{table}: not all could be read ({error})")
        else:
            return
        finally:
            cursor.close()
