"""One indexing run against the index: what is new, changed, missing; what each picture turned out to be.

The file list lives in temporary tables, so that memory does not grow with the gallery, and the comparison is SQL.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vitseek.gallery.identity import RACY_NS, FileStamp, display
from vitseek.gallery.stores.catalog import Catalog, to_blob
from vitseek.gallery.stores.sqlite import Row

Kind = Literal["new", "changed", "renamed", "unchanged", "restored", "filled", "unreadable"]

PAGE = 256  # jobs read at once

_TABLES = """
    CREATE TEMP TABLE scan (
        root_id INTEGER NOT NULL, raw_path BLOB NOT NULL,
        bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
        PRIMARY KEY (root_id, raw_path)
    ) WITHOUT ROWID;
    CREATE TEMP TABLE scope (root_id INTEGER NOT NULL, raw_path BLOB NOT NULL);
    CREATE TEMP TABLE unseen (root_id INTEGER NOT NULL, raw_path BLOB NOT NULL);
    CREATE TEMP TABLE missing (image_id INTEGER PRIMARY KEY);
    CREATE TEMP TABLE replaced (image_id INTEGER PRIMARY KEY);
    CREATE TEMP TABLE jobs (
        n INTEGER PRIMARY KEY, root_id INTEGER NOT NULL, raw_path BLOB NOT NULL,
        bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL
    );
"""
_BELOW = "{0}.root_id = i.root_id AND ({0}.raw_path = substr(i.raw_path, 1, length({0}.raw_path)))"


@dataclass(frozen=True, slots=True)
class Job:
    """A file that must be looked at."""

    root_id: int
    raw_path: bytes
    stamp: FileStamp


@dataclass(frozen=True, slots=True)
class Outcome:
    """What looking at it gave: a content (with its vector, unless the space has it already), or a reason."""

    job: Job
    checked_ns: int
    digest: bytes | None = None
    width: int = 0
    height: int = 0
    taken: str | None = None
    vector: NDArray[np.float32] | None = None
    reason: str | None = None
    retry: bool = False


class Scan:
    """The temporary tables of one run; a context manager, for the thread that writes."""

    def __init__(self, catalog: Catalog, space_id: int = 0) -> None:
        self._catalog = catalog
        self._database = catalog.database
        self.space_id = space_id
        self._newest_before = int(self._database.value("SELECT coalesce(max(id), 0) FROM images"))

    def __enter__(self) -> "Scan":
        self._drop()
        for statement in _TABLES.split(";")[:-1]:
            self._database.rows(statement)
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def _drop(self) -> None:
        for table in ("scan", "scope", "unseen", "missing", "replaced", "jobs"):
            self._database.rows(f"DROP TABLE IF EXISTS temp.{table}")

    # -- what lies on the disk

    def add_files(self, root_id: int, found: Iterable[tuple[bytes, FileStamp]]) -> None:
        rows = [(root_id, path, stamp.bytes, stamp.mtime_ns, stamp.ctime_ns) for path, stamp in found]
        with self._database.reading() as connection:  # temporary tables only: takes no lock on the index
            connection.executemany("INSERT OR REPLACE INTO temp.scan VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")

    def spread(self, count: int) -> list[tuple[int, bytes]]:
        """Up to ``count`` of the listed files, (root id, path), evenly spread over all."""
        rows = self._database.rows(
            "SELECT root_id, raw_path FROM (SELECT root_id, raw_path, count(*) OVER () AS total, "
            "row_number() OVER (ORDER BY root_id, raw_path) AS n FROM temp.scan) "
            "WHERE n * :count / total > (n - 1) * :count / total",
            {"count": count},
        )
        return [(row[0], row[1]) for row in rows]

    def add_scope(self, root_id: int, raw_path: bytes) -> None:
        """Say that everything below was listed: what the index has there and the list has not, is gone."""
        self._database.rows("INSERT INTO temp.scope VALUES (?, ?)", (root_id, raw_path))

    def add_unseen(self, root_id: int, raw_path: bytes) -> None:
        """Say that nothing is known of what lies below."""
        self._database.rows("INSERT INTO temp.unseen VALUES (?, ?)", (root_id, raw_path))

    def known_below(self, root_id: int, raw_path: bytes) -> int:
        """How many images the index has in a folder."""
        return int(
            self._database.value(
                "SELECT count(*) FROM images WHERE root_id = ? AND status <> 'gone' AND substr(raw_path, 1, ?) = ?",
                (root_id, len(raw_path), raw_path),
            )
        )

    # -- the comparison

    def compare(self, *, restore: bool, retry_unreadable: bool, rehash: bool) -> None:
        """Fill the lists of jobs and of missing images."""
        with self._database.reading() as connection:
            connection.execute(
                f"""
                INSERT INTO temp.jobs (root_id, raw_path, bytes, mtime_ns, ctime_ns)
                SELECT s.root_id, s.raw_path, s.bytes, s.mtime_ns, s.ctime_ns
                FROM temp.scan AS s LEFT JOIN images AS i ON i.root_id = s.root_id AND i.raw_path = s.raw_path
                WHERE i.id IS NULL
                   OR (i.status = 'removed' AND :restore)
                   OR (i.status <> 'removed' AND (
                           i.bytes <> s.bytes OR i.mtime_ns <> s.mtime_ns OR i.ctime_ns <> s.ctime_ns OR :rehash
                        OR i.checked_ns - max(s.mtime_ns, s.ctime_ns) < {RACY_NS}
                        OR (i.status = 'unreadable' AND (i.retry OR :retry))
                        OR (i.status = 'ok' AND NOT EXISTS (
                               SELECT 1 FROM vectors AS v WHERE v.content_id = i.content_id AND v.space_id = :space))))
                ORDER BY s.root_id, s.raw_path
                """,  # noqa: S608  # RACY_NS is a constant
                {"restore": restore, "retry": retry_unreadable, "rehash": rehash, "space": self.space_id},
            )
            connection.execute(
                f"""
                INSERT INTO temp.missing
                SELECT i.id FROM images AS i
                WHERE i.raw_path IS NOT NULL
                  AND EXISTS (SELECT 1 FROM temp.scope WHERE {_BELOW.format("scope")})
                  AND NOT EXISTS (SELECT 1 FROM temp.unseen WHERE {_BELOW.format("unseen")})
                  AND NOT EXISTS (
                      SELECT 1 FROM temp.scan AS s WHERE s.root_id = i.root_id AND s.raw_path = i.raw_path)
                """  # noqa: S608  # constants
            )
            connection.execute("COMMIT")

    def count(self, table: Literal["scan", "jobs", "missing"]) -> int:
        return int(self._database.value(f"SELECT count(*) FROM temp.{table}"))  # noqa: S608  # one of three words

    def unseen_kept(self) -> int:
        """How many images stay only because their folder could not be looked into."""
        return int(
            self._database.value(
                f"SELECT count(*) FROM images AS i WHERE i.status = 'ok' "  # noqa: S608  # constants
                f"AND EXISTS (SELECT 1 FROM temp.unseen WHERE {_BELOW.format('unseen')})"
            )
        )

    def jobs(self) -> Iterator[Job]:
        """Files to look at, in the order of roots and paths; the index may be written meanwhile."""
        last = 0
        while page := self._database.rows("SELECT * FROM temp.jobs WHERE n > ? ORDER BY n LIMIT ?", (last, PAGE)):
            for row in page:
                yield Job(row["root_id"], row["raw_path"], FileStamp(row["bytes"], row["mtime_ns"], row["ctime_ns"]))
            last = page[-1]["n"]

    # -- what the pictures turned out to be

    def save(self, outcomes: Iterable[Outcome], *, folder_labels: bool, overwrite: bool = False) -> Counter[str]:
        """Write a batch in one transaction; return how many were new, renamed, changed and so on.

        ``overwrite`` replaces the vectors that the space has already (an import), which voids every cache of it.
        """
        counts: Counter[str] = Counter()
        with self._database.writing():
            for outcome in outcomes:
                if outcome.digest is None:
                    kind: Kind = self._save_unreadable(outcome)
                else:
                    if overwrite:
                        self._forget_vector(outcome.digest)
                    kind = self._save_content(outcome, counts, folder_labels)
                counts[kind] += 1
            if overwrite:
                self._database.rows("UPDATE spaces SET epoch = epoch + 1 WHERE id = ?", (self.space_id,))
            self._catalog.bump()
        return counts

    def _forget_vector(self, digest: bytes) -> None:
        self._database.rows(
            "DELETE FROM vectors WHERE space_id = ? AND content_id = (SELECT id FROM contents WHERE hash = ?)",
            (self.space_id, digest),
        )

    def _row_at(self, job: Job) -> Row | None:
        return self._database.row(
            "SELECT id, content_id, status, name FROM images WHERE root_id = ? AND raw_path = ?",
            (job.root_id, job.raw_path),
        )

    def _save_unreadable(self, outcome: Outcome) -> Kind:
        row, job = self._row_at(outcome.job), outcome.job
        known = row is not None and row["status"] == "unreadable"
        if row is not None and row["content_id"] is not None and not outcome.retry:
            # Other bytes than before, and no picture: the old content may have moved elsewhere.
            self._vacate(row["id"])
            new = self._insert(job, None, outcome, "unreadable")
            self._copy_labels(row["id"], new)
        elif row is not None:
            # No permission, say: the content is not known to be another, so its vector waits for it.
            self._place(row["id"], job, outcome, "unreadable")
        else:
            self._insert(job, None, outcome, "unreadable")
        return "unchanged" if known else "unreadable"

    def _save_content(self, outcome: Outcome, counts: Counter[str], folder_labels: bool) -> Kind:
        job = outcome.job
        content_id, is_new_content = self._content(outcome)
        if outcome.vector is not None:
            self._database.rows(
                "INSERT OR IGNORE INTO vectors (content_id, space_id, vector) VALUES (?, ?, ?)",
                (content_id, self.space_id, to_blob(outcome.vector)),
            )
        row = self._row_at(job)
        kind: Kind
        if row is not None and row["content_id"] == content_id:
            filled = outcome.vector is not None
            kind = "unchanged" if row["status"] == "ok" and not filled else "filled" if filled else "unchanged"
            if row["status"] != "ok":
                kind = "restored"
            self._place(row["id"], job, outcome, "ok")
            image_id = row["id"]
        elif claimed := self._claimable(content_id, job):
            if row is not None:
                self._vacate(row["id"])
            self._place(claimed, job, outcome, None)
            self._database.rows("DELETE FROM temp.missing WHERE image_id = ?", (claimed,))
            image_id, kind = claimed, "renamed"
        elif row is not None and row["content_id"] is None:
            self._place(row["id"], job, outcome, "ok")
            self._database.rows("UPDATE images SET content_id = ? WHERE id = ?", (content_id, row["id"]))
            image_id, kind = row["id"], "changed"
        else:
            if row is not None:
                self._vacate(row["id"])
            image_id = self._insert(job, content_id, outcome, "ok")
            kind = "new"
            if row is not None:
                self._copy_labels(row["id"], image_id)
                self._database.rows("INSERT INTO temp.replaced VALUES (?)", (image_id,))
                kind = "changed"
            elif not is_new_content:
                counts["duplicates"] += 1
        if folder_labels:
            self._label_by_folder("i.id = ?", (image_id,))
        return kind

    def _content(self, outcome: Outcome) -> tuple[int, bool]:
        found = self._database.value("SELECT id FROM contents WHERE hash = ?", (outcome.digest,))
        if found is not None:
            return int(found), False
        self._database.rows(
            "INSERT INTO contents (hash, width, height, taken) VALUES (?, ?, ?, ?)",
            (outcome.digest, outcome.width, outcome.height, outcome.taken),
        )
        return int(self._database.value("SELECT last_insert_rowid()")), True

    def _claimable(self, content_id: int, job: Job) -> int | None:
        """An image of this content whose file is no longer where it was: it moved here."""
        found: int | None = self._database.value(
            "SELECT i.id FROM images AS i WHERE i.content_id = ? "
            "AND (i.status = 'gone' OR i.id IN (SELECT image_id FROM temp.missing)) "
            "ORDER BY i.name = ? DESC, i.id LIMIT 1",
            (content_id, display(job.raw_path).rpartition("/")[2]),
        )
        return found

    def _vacate(self, image_id: int) -> None:
        """Another content took this image's place; it leaves at the end of the run unless it turns up elsewhere."""
        self._database.rows("UPDATE images SET raw_path = NULL, status = 'gone' WHERE id = ?", (image_id,))

    def _insert(self, job: Job, content_id: int | None, outcome: Outcome, status: str) -> int:
        self._database.rows(
            "INSERT INTO images (root_id, raw_path, path, name, content_id, bytes, mtime_ns, ctime_ns, checked_ns, "
            "date, status, reason, retry) VALUES (?, ?, '', '', ?, 0, 0, 0, 0, NULL, ?, NULL, 0)",
            (job.root_id, job.raw_path, content_id, status),
        )
        image_id = int(self._database.value("SELECT last_insert_rowid()"))
        self._place(image_id, job, outcome, status)
        return image_id

    def _place(self, image_id: int, job: Job, outcome: Outcome, status: str | None) -> None:
        """Say where an image is now. ``status`` None keeps "removed" and turns everything else to "ok"."""
        path = display(job.raw_path)
        self._database.rows(
            """
            UPDATE images SET root_id = :root, raw_path = :raw, path = :path, name = :name, bytes = :bytes,
                mtime_ns = :mtime, ctime_ns = :ctime, checked_ns = :checked, reason = :reason, retry = :retry,
                status = coalesce(:status, CASE status WHEN 'removed' THEN 'removed' ELSE 'ok' END),
                date = coalesce(:taken, (SELECT taken FROM contents WHERE id = content_id), :modified)
            WHERE id = :id
            """,
            {
                "id": image_id,
                "root": job.root_id,
                "raw": job.raw_path,
                "path": path,
                "name": path.rpartition("/")[2],
                "bytes": job.stamp.bytes,
                "mtime": job.stamp.mtime_ns,
                "ctime": job.stamp.ctime_ns,
                "checked": outcome.checked_ns,
                "reason": outcome.reason,
                "retry": outcome.retry,
                "status": status,
                "taken": outcome.taken,
                "modified": _local_date(job.stamp.mtime_ns),
            },
        )

    def _copy_labels(self, source: int, target: int) -> None:
        self._database.rows(
            "INSERT OR IGNORE INTO labels (image_id, label, source) "
            "SELECT ?, label, source FROM labels WHERE image_id = ?",
            (target, source),
        )

    def _copy_predictions(self, source: int, target: int) -> None:
        """For the same content only: what a model saw in other bytes says nothing of these."""
        said = (
            "SELECT s.source FROM predictions AS q JOIN prediction_runs AS s ON s.id = q.run_id "
            "WHERE q.image_id = :target"
        )
        self._database.rows(
            "INSERT OR IGNORE INTO predictions (run_id, image_id, label, probability) "  # noqa: S608  # constants
            "SELECT p.run_id, :target, p.label, p.probability FROM predictions AS p JOIN prediction_runs AS r "
            f"ON r.id = p.run_id WHERE p.image_id = :source AND r.source NOT IN ({said})",
            {"source": source, "target": target},
        )

    # -- folder names as labels

    def label_all_by_folder(self) -> None:
        """Give every image the name of the first folder below its root as a label."""
        with self._database.writing():
            self._label_by_folder("1", ())

    def _label_by_folder(self, which: str, parameters: tuple[int, ...]) -> None:
        folder = "substr(i.path, 1, instr(i.path, '/') - 1)"
        self._database.rows(
            f"DELETE FROM labels WHERE source = 'folder' AND image_id IN (SELECT i.id FROM images AS i WHERE {which} "  # noqa: S608
            f"AND i.raw_path IS NOT NULL AND labels.label <> {folder})",
            parameters,
        )
        self._database.rows(
            f"INSERT OR IGNORE INTO labels (image_id, label, source) SELECT i.id, {folder}, 'folder' "  # noqa: S608
            f"FROM images AS i WHERE {which} AND i.raw_path IS NOT NULL AND instr(i.path, '/') > 1",
            parameters,
        )

    # -- the end

    def finish(self, *, complete: bool, folder_labels: bool) -> Counter[str]:
        """Settle what moved, let go of what is no longer there; ``complete`` if every root was listed whole."""
        counts: Counter[str] = Counter()
        with self._database.writing():
            counts.update(self._settle_moves(folder_labels))
            left = self._database.rows(
                "DELETE FROM images WHERE status = 'gone' OR id IN (SELECT image_id FROM temp.missing) RETURNING status"
            )
            counts["removed"] = sum(row[0] in ("ok", "unreadable") for row in left)
            if left:
                self._catalog.drop_unused()
                self._catalog.bump()
            if complete:
                self._database.rows(
                    "UPDATE meta SET value = (SELECT coalesce(max(id), 0) FROM images) WHERE key = 'settled_id'"
                )
        return counts

    def _settle_moves(self, folder_labels: bool) -> Counter[str]:
        """Pictures that changed places with others were first seen as new: give them their ids and labels back."""
        pairs = self._database.rows(
            """
            SELECT old.id AS old, new.id AS new
            FROM images AS old JOIN images AS new ON new.content_id = old.content_id AND new.id > old.id
            WHERE (old.status = 'gone' OR old.id IN (SELECT image_id FROM temp.missing))
              AND new.status = 'ok' AND new.id NOT IN (SELECT image_id FROM temp.missing)
              AND new.id > (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'settled_id')
            ORDER BY old.id, new.name = old.name DESC, new.id
            """
        )
        counts: Counter[str] = Counter()
        done: set[int] = set()
        for old, new in pairs:
            if old not in done and new not in done:
                done |= {old, new}
                counts["renamed"] += 1
                if new > self._newest_before:  # counted in this run already, as what it looked like then
                    was = self._database.row("SELECT 1 FROM temp.replaced WHERE image_id = ?", (new,))
                    counts["changed" if was else "new"] -= 1
                self._take_over(old, new)
                if folder_labels:
                    self._label_by_folder("i.id = ?", (old,))
        return counts

    def _take_over(self, old: int, new: int) -> None:
        """The image ``old`` is where ``new`` was found; ``new`` never was another."""
        if new <= self._newest_before:  # of an earlier, interrupted run: its labels may be the user's
            self._copy_labels(new, old)
            self._copy_predictions(new, old)
        place = self._database.row("SELECT * FROM images WHERE id = ?", (new,))
        assert place is not None
        self._database.rows("DELETE FROM images WHERE id = ?", (new,))
        columns = ("root_id", "raw_path", "path", "name", "bytes", "mtime_ns", "ctime_ns", "checked_ns", "date")
        self._database.rows(
            f"UPDATE images SET {', '.join(f'{column} = ?' for column in columns)}, reason = NULL, retry = 0, "  # noqa: S608
            "status = CASE status WHEN 'removed' THEN 'removed' ELSE 'ok' END WHERE id = ?",
            (*(place[column] for column in columns), old),
        )
        self._database.rows("DELETE FROM temp.missing WHERE image_id = ?", (old,))


def _local_date(mtime_ns: int) -> str:
    return datetime.fromtimestamp(mtime_ns // 1_000_000_000).isoformat(timespec="seconds")
