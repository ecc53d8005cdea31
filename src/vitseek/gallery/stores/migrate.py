"""Bring an index to this version's schema, one numbered migration at a time."""

import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from vitseek.errors import GalleryCorruptError, GalleryVersionError
from vitseek.version import __version__

APPLICATION_ID = 0x76697473  # "vits", in the header of every index: another program's database is not taken for one


SCHEMA = 4  # what this vitseek reads and writes: the number of the last migration
MIGRATIONS = Path(__file__).with_name("migrations")


def migrations() -> dict[int, str]:
    """Every migration's SQL by its number, in order."""
    return {int(file.name.split("_")[0]): file.read_text("utf-8") for file in sorted(MIGRATIONS.glob("*.sql"))}


def migrate(connection: sqlite3.Connection, file: Path) -> list[int]:
    """Apply what is missing, each migration in a transaction of its own; return the numbers applied.

    Foreign keys are off meanwhile and checked at each end, as SQLite wants it (sqlite.org/lang_altertable.html, "making
    other kinds of table schema changes"): otherwise a table that is made anew takes its children along.

    Raises
    ------
    GalleryVersionError
        If the index was written by a newer vitseek.
    GalleryCorruptError
        If the file is a database of another program.
    """
    check_version(connection, file)
    enforced = connection.execute("PRAGMA foreign_keys").fetchone()[0]
    connection.execute("PRAGMA foreign_keys = OFF")  # has no effect inside a transaction
    try:
        return _apply(connection, file)
    finally:
        connection.execute(f"PRAGMA foreign_keys = {enforced}")


def _apply(connection: sqlite3.Connection, file: Path) -> list[int]:
    applied = []
    for number, script in migrations().items():
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Read again inside the transaction: another process may have migrated meanwhile.
            if number > connection.execute("PRAGMA user_version").fetchone()[0]:
                for statement in _statements(script):
                    connection.execute(statement)
                if orphan := connection.execute("PRAGMA foreign_key_check").fetchone():
                    raise GalleryCorruptError(
                        f"{file}: a row of {orphan[0]!r} belongs to a row of {orphan[2]!r} that is lost, so the index "
                        f"stays as it was. Recover it: vitseek index {shlex.quote(str(file.parent.parent))} --rebuild"
                    )
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {number}")
                connection.execute(
                    "INSERT OR REPLACE INTO meta (key, value) VALUES ('vitseek_version', ?)", (__version__,)
                )
                applied.append(number)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise
    return applied


def check_version(connection: sqlite3.Connection, file: Path) -> int:
    """The schema of an index; 0 for an empty database."""
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID and (found or connection.execute("SELECT 1 FROM sqlite_master").fetchone()):
        raise GalleryCorruptError(
            f"{file} is a database of another program, not a vitseek index. "
            "Move it away and index again, or choose another place with --gallery DIR."
        )
    if found > SCHEMA:
        row = connection.execute("SELECT value FROM meta WHERE key = 'vitseek_version'").fetchone()
        raise GalleryVersionError(
            f"{file} was written by vitseek {row[0] if row else '(unknown)'} (schema {found}); this is vitseek "
            f"{__version__} (schema {SCHEMA}), which is older. Upgrade: pip install --upgrade vitseek"
        )
    return found


def _statements(script: str) -> Iterator[str]:
    # sqlite3.executescript would commit first: a migration must be all or nothing.
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip() and not all(line.startswith("--") for line in pending.strip().splitlines()):
        raise ValueError(f"migration ends in the middle of a statement: {pending[:80]!r}")
