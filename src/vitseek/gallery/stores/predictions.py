"""Predicted labels: rows of a pass that become visible all at once.

A pass writes under a run that is not finished, so a killed one leaves nothing that anybody sees; finishing it and
dropping what the same source said before is one transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from vitseek.gallery.stores.sqlite import Database

PART = 500  # ids in one SQL statement

_INSERT = (  # an image that another process removed meanwhile is left out, where a bare INSERT would fail
    "INSERT OR REPLACE INTO predictions (run_id, image_id, label, probability) "
    "SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM images WHERE id = ?2)"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One pass of a classifier; ``last_id`` is the last image that is done."""

    id: int
    source: str
    model: str | None
    details: str
    started: str
    finished: str | None
    last_id: int


class Predictions:
    """Reads and writes predicted labels; never touches those of the user and of folders."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- a pass

    def begin(self, source: str, *, model: str | None, details: str, resume: bool = False) -> Run:
        """Start a pass, or with ``resume`` go on with an unfinished one that has the same model and details."""
        with self._database.writing() as connection:
            if resume:
                row = connection.execute(
                    "SELECT * FROM prediction_runs WHERE source = ? AND model IS ? AND details = ? "
                    "AND finished IS NULL ORDER BY id DESC LIMIT 1",
                    (source, model, details),
                ).fetchone()
                if row is not None:
                    return Run(*row)
            connection.execute("DELETE FROM prediction_runs WHERE source = ? AND finished IS NULL", (source,))
            cursor = connection.execute(
                "INSERT INTO prediction_runs (source, model, details, started) VALUES (?, ?, ?, ?)",
                (source, model, details, _now()),
            )
            row = connection.execute("SELECT * FROM prediction_runs WHERE id = ?", (cursor.lastrowid,)).fetchone()
        return Run(*row)

    def save(self, run: Run, rows: Iterable[tuple[int, str, float]], *, last_id: int) -> None:
        """Keep (image id, label, probability) of a pass, and that the images up to ``last_id`` are done."""
        with self._database.writing() as connection:
            connection.executemany(_INSERT, [(run.id, *row) for row in rows])
            connection.execute("UPDATE prediction_runs SET last_id = ? WHERE id = ?", (last_id, run.id))

    def finish(self, run: Run, covered: Sequence[int] | None = None) -> None:
        """Show the pass, and drop what earlier passes of its source said of the images ``covered`` (None: of all)."""
        earlier = "SELECT id FROM prediction_runs WHERE source = ?1 AND id <> ?2"
        with self._database.writing() as connection:
            if covered is None:
                connection.execute(f"DELETE FROM prediction_runs WHERE id IN ({earlier})", (run.source, run.id))  # noqa: S608
            else:
                connection.executemany(
                    f"DELETE FROM predictions WHERE run_id IN ({earlier}) AND image_id = ?3",  # noqa: S608
                    [(run.source, run.id, image_id) for image_id in covered],
                )
                self._drop_empty(run.source, but=run.id)
            connection.execute("UPDATE prediction_runs SET finished = ? WHERE id = ?", (_now(), run.id))

    def discard(self, run: Run) -> None:
        """Forget a pass that was not finished."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM prediction_runs WHERE id = ? AND finished IS NULL", (run.id,))

    def of(self, run: Run) -> list[tuple[int, list[tuple[str, float]]]]:
        """What a pass said, by image, the most probable first."""
        found: dict[int, list[tuple[str, float]]] = {}
        for image_id, label, probability in self._database.rows(
            "SELECT image_id, label, probability FROM predictions WHERE run_id = ? ORDER BY image_id, probability DESC",
            (run.id,),
        ):
            found.setdefault(image_id, []).append((label, probability))
        return list(found.items())

    def _drop_empty(self, source: str, *, but: int) -> None:
        self._database.rows(
            "DELETE FROM prediction_runs WHERE source = ? AND id <> ? "
            "AND NOT EXISTS (SELECT 1 FROM predictions WHERE run_id = prediction_runs.id)",
            (source, but),
        )

    # -- single ones

    def add(self, source: str, rows: Sequence[tuple[int, str, float]]) -> None:
        """Add to what a source said; the same label of the same image is replaced."""
        with self._database.writing() as connection:
            newest = "SELECT max(id) FROM prediction_runs WHERE source = ? AND finished IS NOT NULL"
            run_id = connection.execute(newest, (source,)).fetchone()[0]
            if run_id is None:
                now = _now()
                run_id = connection.execute(
                    "INSERT INTO prediction_runs (source, details, started, finished) VALUES (?, '{}', ?, ?)",
                    (source, now, now),
                ).lastrowid
            self._delete(source, [(image_id, label) for image_id, label, _ in rows])
            connection.executemany(_INSERT, [(run_id, *row) for row in rows])

    def remove(self, source: str, pairs: Sequence[tuple[int, str]]) -> None:
        """Take single (image id, label) pairs back."""
        with self._database.writing():
            self._delete(source, pairs)

    def _delete(self, source: str, pairs: Sequence[tuple[int, str]]) -> None:
        self._database.connection().executemany(
            "DELETE FROM predictions WHERE image_id = ? AND label = ? "
            "AND run_id IN (SELECT id FROM prediction_runs WHERE source = ? AND finished IS NOT NULL)",
            [(image_id, label, source) for image_id, label in pairs],
        )

    def remove_source(self, source: str, among: Sequence[int] | None = None) -> int:
        """Take back what a source said (of some images); how many predictions that were. Unfinished passes go too."""
        runs = "SELECT id FROM prediction_runs WHERE source = ?1"
        count = 0
        with self._database.writing() as connection:
            if among is None:
                shown = f"SELECT count(*) FROM predictions WHERE run_id IN ({runs} AND finished IS NOT NULL)"  # noqa: S608
                count = connection.execute(shown, (source,)).fetchone()[0]
                connection.execute("DELETE FROM prediction_runs WHERE source = ?", (source,))
            else:
                for start in range(0, len(among), PART):
                    part = [int(number) for number in among[start : start + PART]]
                    marks = ",".join("?" * len(part))
                    sql = f"DELETE FROM predictions WHERE run_id IN ({runs}) AND image_id IN ({marks})"  # noqa: S608
                    count += connection.execute(sql, (source, *part)).rowcount
        return count

    # -- facts

    def runs(self) -> list[Run]:
        """Every pass, also unfinished ones."""
        return [Run(*row) for row in self._database.rows("SELECT * FROM prediction_runs ORDER BY source, id")]

    def label_counts(self) -> dict[str, dict[str, int]]:
        """For each source, how many usable images have each label, the most frequent first."""
        rows = self._database.rows(
            "SELECT t.source, t.label, count(*) FROM tags AS t JOIN images AS i ON i.id = t.image_id "
            "WHERE i.status = 'ok' GROUP BY t.source, t.label "
            "ORDER BY t.source = 'user' DESC, t.source = 'folder' DESC, t.source, count(*) DESC, t.label"
        )
        found: dict[str, dict[str, int]] = {}
        for source, label, count in rows:
            found.setdefault(source, {})[label] = count
        return found


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
