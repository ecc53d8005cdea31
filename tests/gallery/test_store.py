import sqlite3
import threading
from pathlib import Path

import pytest

from tests.gallery.fake_model import FakeModel
from vitseek.errors import GalleryCorruptError, GalleryVersionError, StorageError
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.stores.migrate import SCHEMA, migrate, migrations
from vitseek.gallery.stores.sqlite import Database


def database_of(gallery: Gallery) -> Path:
    return gallery.path / ".vitseek" / "index.db"


def test_the_connection_is_durable(tmp_path: Path) -> None:
    database = Database(tmp_path / "index.db")
    assert database.value("PRAGMA journal_mode") == "wal"
    assert database.value("PRAGMA synchronous") == 2  # FULL
    assert database.value("PRAGMA foreign_keys") == 1
    assert database.value("PRAGMA page_size") == 16384
    database.close()


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "index.db")

    def half_done() -> None:
        with database.writing() as connection:
            connection.execute("INSERT INTO meta VALUES ('a', 'b')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_done()
    assert database.row("SELECT * FROM meta WHERE key = 'a'") is None
    database.close()


def test_every_thread_has_a_connection_and_all_are_closed(gallery: Gallery) -> None:
    database = gallery._catalog.database
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(len(gallery.search(1, k=7)))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [7] * 5
    gallery.count()
    gallery.close()
    assert database._open == []
    with pytest.raises(StorageError, match="closed"):
        gallery.count()


def make_schema_1(file: Path) -> None:
    """An index as the first schema left it: one image with a label and a vector."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.executescript(migrations()[1])
    connection.executescript(
        """
        PRAGMA application_id = 0x76697473; PRAGMA user_version = 1; PRAGMA journal_mode = WAL;
        INSERT INTO meta VALUES ('vitseek_version', '0.0.1'), ('default_space', '1');
        INSERT INTO roots VALUES (1, X'2E', 1);
        INSERT INTO contents VALUES (1, X'00112233', 71, 53, NULL);
        INSERT INTO images VALUES
            (1, 1, X'612E6A7067', 'a.jpg', 'a.jpg', 1, 5, 6, 7, 8, '2024-01-01T00:00:00', 'ok', NULL, 0);
        INSERT INTO labels VALUES (1, 'mine', 'user');
        INSERT INTO spaces VALUES (1, 'old', 'old', 'ab', 'key', 'cls', 2, 'old', 'official', '2024-01-01', 1);
        INSERT INTO vectors VALUES (1, 1, 1, X'0000803F00000000');
        """
    )
    connection.close()


def test_an_older_index_is_migrated_and_keeps_everything(tmp_path: Path) -> None:
    (tmp_path / ".vitseek").mkdir()
    make_schema_1(tmp_path / ".vitseek" / "index.db")
    with Gallery(tmp_path) as gallery:
        assert gallery.status().schema == SCHEMA == gallery._catalog.database.value("PRAGMA user_version")
        assert gallery.image(1).labels == ("mine",)
        assert gallery.vectors()[1].tolist() == [[1, 0]]
        assert gallery.check() == []
    with Gallery(tmp_path) as again:
        assert again.count() == 1


def test_a_migration_that_fails_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "index.db"
    make_schema_1(file)
    broken = migrations() | {2: "CREATE TABLE halfway (a);\nCREATE TABLE meta (b);\n"}
    monkeypatch.setattr("vitseek.gallery.stores.migrate.migrations", lambda: broken)
    connection = sqlite3.connect(file, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection, file)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'halfway'").fetchone() is None
    connection.close()


def test_migrations_are_numbered_without_gaps() -> None:
    assert list(migrations()) == list(range(1, SCHEMA + 1))


def test_a_newer_index_is_refused_with_the_version_to_install(gallery: Gallery) -> None:
    file = database_of(gallery)
    gallery.close()
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.execute("UPDATE meta SET value = '7.1' WHERE key = 'vitseek_version'")
    connection.commit()
    connection.close()
    with pytest.raises(GalleryVersionError, match=r"vitseek 7\.1 \(schema 99\).*pip install --upgrade"):
        Gallery(file.parent.parent)


@pytest.mark.parametrize("damage", ["text", "zeros", "other program"])
def test_what_is_no_index_is_refused_with_a_way_out(tmp_path: Path, damage: str) -> None:
    file = tmp_path / ".vitseek" / "index.db"
    file.parent.mkdir()
    if damage == "other program":
        connection = sqlite3.connect(file)
        connection.execute("CREATE TABLE moz_places (url TEXT)")
        connection.close()
    else:
        file.write_bytes(b"this is not a database " * 900 if damage == "text" else bytes(20_000))
    with pytest.raises(GalleryCorruptError, match="index"):
        Gallery(tmp_path)


def test_a_damaged_page_is_an_error_in_words(gallery: Gallery, model: FakeModel) -> None:
    file = database_of(gallery)
    gallery.close()
    data = bytearray(file.read_bytes())
    for page in range(1, len(data) // 16384):
        data[page * 16384 : page * 16384 + 200] = b"\xff" * 200
    file.write_bytes(data)

    def use() -> None:
        with Gallery(file.parent.parent, model=model) as damaged:
            damaged.search(1)

    with pytest.raises(GalleryCorruptError, match="vitseek index --rebuild") as error:
        use()
    assert "Your images are untouched" in str(error.value)
