"""The rows of a gallery in words: roots, images, contents, labels, spaces, vectors."""

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.gallery.records import ImageRecord, Prediction
from vitseek.gallery.spaces import Space, SpaceKey, free_name
from vitseek.gallery.stores.sqlite import Database, Row

CHUNK = 500  # ids in one SQL statement; SQLite takes 32,766 parameters, older builds 999

_RECORD = """
    SELECT i.id, i.root_id, i.raw_path, i.path, i.bytes, i.mtime_ns, i.date, i.status, i.reason,
           c.width, c.height, c.hash,
           (SELECT json_group_array(label)
            FROM (SELECT label FROM labels WHERE image_id = i.id ORDER BY label)) AS labels,
           (SELECT json_group_array(json_array(label, probability, source))
            FROM (SELECT * FROM predicted WHERE image_id = i.id ORDER BY probability DESC, label, source))
            AS predictions
    FROM images AS i LEFT JOIN contents AS c ON c.id = i.content_id
"""


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that is indexed; ``path`` is absolute."""

    id: int
    path: Path


class Catalog:
    """Reads and small writes over a :class:`Database`.

    Parameters
    ----------
    folder
        The gallery folder, absolute: roots inside it are stored relative to it, so that it can be moved.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder

    # -- facts about the gallery

    def meta(self, key: str) -> str | None:
        value: str | None = self.database.value("SELECT value FROM meta WHERE key = ?", (key,))
        return value

    def set_meta(self, key: str, value: str) -> None:
        with self.database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    @property
    def generation(self) -> int:
        """Counts every change of "which image has which vector"."""
        return int(self.meta("generation") or 0)

    # -- roots

    def roots(self) -> list[Root]:
        rows = self.database.rows("SELECT id, path, relative FROM roots ORDER BY id")
        return [Root(row["id"], self._absolute(row["path"], row["relative"])) for row in rows]

    def _absolute(self, raw: bytes, relative: int) -> Path:
        path = Path(os.fsdecode(raw))
        return self.folder / path if relative else path

    def add_root(self, path: Path) -> Root:
        for root in self.roots():
            if root.path == path:
                return root
        inside = path == self.folder or path.is_relative_to(self.folder)
        raw = os.fsencode(path.relative_to(self.folder) if inside else path)
        with self.database.writing() as connection:
            cursor = connection.execute("INSERT INTO roots (path, relative) VALUES (?, ?)", (raw, int(inside)))
            assert cursor.lastrowid is not None
            return Root(cursor.lastrowid, path)

    # -- images

    def image(self, image_id: int) -> ImageRecord | None:
        found = self.images([image_id])
        return found[0] if found else None

    def images(self, ids: Sequence[int]) -> list[ImageRecord]:
        """Records in the order of ``ids``; ids that do not exist are left out."""
        roots = {root.id: root.path for root in self.roots()}
        found: dict[int, ImageRecord] = {}
        for part in _parts(ids):
            marks = ",".join("?" * len(part))
            sql = f"{_RECORD} WHERE i.id IN ({marks}) AND i.status <> 'gone'"  # marks are "?"
            for row in self.database.rows(sql, part):
                found[row["id"]] = _record(row, roots)
        return [found[number] for number in ids if number in found]

    def ids(self, clause: str | None = None, parameters: Sequence[Any] = ()) -> NDArray[np.int64]:
        """Ids of the usable images that match a filter, ascending."""
        sql = "SELECT id FROM catalog" + (f" WHERE {clause}" if clause else "") + " ORDER BY id"  # noqa: S608
        return self._collect(sql, parameters)

    def ids_with_status(self, status: str) -> NDArray[np.int64]:
        return self._collect("SELECT id FROM images WHERE status = ? ORDER BY id", (status,))

    def _collect(self, sql: str, parameters: Sequence[Any]) -> NDArray[np.int64]:
        numbers = array("q")
        for rows in self.database.stream(sql, tuple(parameters), chunk=8192):
            numbers.extend(row[0] for row in rows)
        return np.array(numbers, np.int64)

    def image_id(self, root_id: int, raw_path: bytes) -> int | None:
        value: int | None = self.database.value(
            "SELECT id FROM images WHERE root_id = ? AND raw_path = ?", (root_id, raw_path)
        )
        return value

    def ids_below(self, root_id: int, raw_folder: bytes) -> list[int]:
        """Every image in a folder of a root (``raw_folder`` ends in "/"; empty means the whole root)."""
        rows = self.database.rows(
            "SELECT id FROM images WHERE root_id = ? AND raw_path IS NOT NULL AND substr(raw_path, 1, ?) = ?",
            (root_id, len(raw_folder), raw_folder),
        )
        return [row[0] for row in rows]

    def ids_with_hash(self, digest: bytes) -> list[int]:
        rows = self.database.rows(
            "SELECT i.id FROM images AS i JOIN contents AS c ON c.id = i.content_id "
            "WHERE c.hash = ? AND i.status = 'ok'",
            (digest,),
        )
        return [row[0] for row in rows]

    def remove(self, ids: Iterable[int], roots: Sequence[Root] = ()) -> None:
        """Take images out for good, and whole roots; vectors that nobody needs any more go too."""
        with self.database.writing() as connection:
            connection.executemany(
                "UPDATE images SET status = 'removed', reason = NULL WHERE id = ?", [(number,) for number in ids]
            )
            connection.executemany("DELETE FROM roots WHERE id = ?", [(root.id,) for root in roots])
            self.drop_unused()
            self.bump()

    def drop_unused(self) -> None:
        """Inside a transaction: delete contents without an image, and vectors of which all images were removed."""
        self.database.rows(
            "DELETE FROM contents WHERE NOT EXISTS (SELECT 1 FROM images AS i WHERE i.content_id = contents.id)"
        )
        self.database.rows(
            "DELETE FROM vectors WHERE content_id IN (SELECT content_id FROM images WHERE status = 'removed') AND "
            "NOT EXISTS (SELECT 1 FROM images AS i WHERE i.content_id = vectors.content_id AND i.status <> 'removed')"
        )

    def bump(self) -> None:
        """Inside a transaction: tell every cache that images or vectors changed."""
        self.database.rows("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'")

    # -- labels

    def add_labels(self, ids: Iterable[int], labels: Sequence[str]) -> None:
        self.database.write_many(
            "INSERT INTO labels (image_id, label, source) VALUES (?, ?, 'user') "
            "ON CONFLICT (image_id, label) DO UPDATE SET source = 'user'",
            [(image_id, label) for image_id in ids for label in labels],
        )

    def remove_labels(self, ids: Iterable[int], labels: Sequence[str], *, source: str | None = None) -> None:
        self.database.write_many(
            "DELETE FROM labels WHERE image_id = ? AND label = ? AND coalesce(source = ?, 1)",
            [(image_id, label, source) for image_id in ids for label in labels],
        )

    def remove_folder_labels(self) -> None:
        with self.database.writing() as connection:
            connection.execute("DELETE FROM labels WHERE source = 'folder'")

    def label_counts(self) -> dict[str, int]:
        rows = self.database.rows(
            "SELECT label, count(*) FROM labels JOIN images AS i ON i.id = image_id WHERE i.status = 'ok' "
            "GROUP BY label ORDER BY count(*) DESC, label"
        )
        return {row[0]: row[1] for row in rows}

    # -- spaces and vectors

    def spaces(self) -> list[Space]:
        return [_space(row) for row in self.database.rows("SELECT * FROM spaces ORDER BY id")]

    def default_space(self) -> Space | None:
        row = self.database.row(
            "SELECT * FROM spaces WHERE id = (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'default_space')"
        )
        return _space(row) if row else None

    def add_space(
        self,
        key: SpaceKey,
        *,
        source: str | None,
        policy: str | None,
        size_px: int | None = None,
        name: str | None = None,
    ) -> Space:
        """Record a space; the first one becomes the default."""
        taken = [space.name for space in self.spaces()]
        created = datetime.now().astimezone().isoformat(timespec="seconds")
        with self.database.writing() as connection:
            cursor = connection.execute(
                "INSERT INTO spaces "
                "(name, model, weights_sha256, preprocessing, pooling, dim, precision, reduction, source, policy, "
                "size_px, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (name or free_name(key, taken), *key, source, policy, size_px, created),
            )
            connection.execute(
                "INSERT OR IGNORE INTO meta (key, value) VALUES ('default_space', ?)", (str(cursor.lastrowid),)
            )
        return next(space for space in self.spaces() if space.key == key)

    def calibration(self, digest: str) -> bytes | None:
        """What :meth:`keep_calibration` kept under this digest."""
        data: bytes | None = self.database.value("SELECT data FROM calibrations WHERE digest = ?", (digest,))
        return data

    def keep_calibration(self, digest: str, data: bytes) -> None:
        with self.database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO calibrations (digest, data) VALUES (?, ?)", (digest, data))

    def count_in_space(self, space_id: int) -> int:
        return int(
            self.database.value(
                "SELECT count(*) FROM images AS i JOIN vectors AS v ON v.content_id = i.content_id AND v.space_id = ? "
                "WHERE i.status = 'ok'",
                (space_id,),
            )
        )

    def has_vector(self, space_id: int, digest: bytes) -> bool:
        """Whether a content is known in a space."""
        row = self.database.row(
            "SELECT 1 FROM contents AS c JOIN vectors AS v ON v.content_id = c.id AND v.space_id = ? WHERE c.hash = ?",
            (space_id, digest),
        )
        return row is not None

    def has_vector_anywhere(self, digest: bytes) -> bool:
        """Whether some space knows a content: then its picture can be read."""
        return bool(
            self.database.value(
                "SELECT count(*) FROM contents AS c JOIN vectors AS v ON v.content_id = c.id WHERE c.hash = ?",
                (digest,),
            )
        )

    def vector_of_hash(self, space: Space, digest: bytes) -> NDArray[np.float32] | None:
        """The stored vector of a content, as the model gave it."""
        blob = self.database.value(
            "SELECT v.vector FROM contents AS c JOIN vectors AS v ON v.content_id = c.id AND v.space_id = ? "
            "WHERE c.hash = ?",
            (space.id, digest),
        )
        return None if blob is None else from_blob(blob)

    def vectors(self, space: Space, ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Stored vectors by image id, as the model gave them."""
        found: dict[int, NDArray[np.float32]] = {}
        for part in _parts(ids):
            marks = ",".join("?" * len(part))
            rows = self.database.rows(
                f"SELECT i.id, v.vector FROM images AS i JOIN vectors AS v ON v.content_id = i.content_id "  # noqa: S608
                f"AND v.space_id = ? WHERE i.status = 'ok' AND i.id IN ({marks})",
                (space.id, *part),
            )
            found.update((row[0], from_blob(row[1])) for row in rows)
        return found

    def ids_in_space(self, space_id: int) -> NDArray[np.int64]:
        """Every usable image with a vector in a space, ascending."""
        return self._collect(
            "SELECT i.id FROM images AS i JOIN vectors AS v ON v.content_id = i.content_id AND v.space_id = ? "
            "WHERE i.status = 'ok' ORDER BY i.id",
            (space_id,),
        )

    def stream_vectors(self, space: Space) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """(ids, vectors) of a space in pieces, ids ascending."""
        pieces = self.database.stream(
            "SELECT i.id, v.vector FROM images AS i JOIN vectors AS v "
            "ON v.content_id = i.content_id AND v.space_id = ? WHERE i.status = 'ok' ORDER BY i.id",
            (space.id,),
        )
        for rows in pieces:
            ids = np.array([row[0] for row in rows], np.int64)
            values = np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(len(rows), space.key.dim)
            yield ids, values.astype(np.float32, copy=False)


def to_blob(vector: NDArray[np.float32]) -> bytes:
    """float32, little endian, whatever this machine's order is."""
    return np.ascontiguousarray(vector, "<f4").tobytes()


def from_blob(blob: bytes) -> NDArray[np.float32]:
    return np.frombuffer(blob, "<f4").astype(np.float32)


def _space(row: Row) -> Space:
    key = SpaceKey(*(row[field] for field in SpaceKey._fields))
    return Space(row["id"], row["name"], key, row["source"], row["policy"], row["size_px"], row["epoch"])


def _record(row: Row, roots: dict[int, Path]) -> ImageRecord:
    root = roots[row["root_id"]]
    return ImageRecord(
        id=row["id"],
        path=root / os.fsdecode(row["raw_path"]),
        relative_path=row["path"],
        root=root,
        bytes=row["bytes"],
        width=row["width"],
        height=row["height"],
        modified=datetime.fromtimestamp(row["mtime_ns"] / 1e9).astimezone(),
        date=datetime.fromisoformat(row["date"]) if row["date"] else None,
        labels=tuple(json.loads(row["labels"])),
        content_hash=row["hash"].hex() if row["hash"] else None,
        status=row["status"],
        reason=row["reason"],
        predictions=tuple(Prediction(*values) for values in json.loads(row["predictions"])),
    )


def _parts(ids: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(ids), CHUNK):
        yield tuple(int(number) for number in ids[start : start + CHUNK])
