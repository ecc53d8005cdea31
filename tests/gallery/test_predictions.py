"""Predicted labels beside the user's: atomic, kill-safe, never mixed."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.gallery.conftest import Draw
from tests.gallery.fake_model import FakeModel
from vitseek.errors import FilterSyntaxError, ImageNotFoundError, UsageError
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.recovery import recover
from vitseek.gallery.stores.migrate import SCHEMA, migrations
from vitseek.gallery.stores.predictions import Predictions


def said(gallery: Gallery, image_id: int) -> list[tuple[str, float, str]]:
    return [tuple(one) for one in gallery.image(image_id).predictions]


def ids(gallery: Gallery, where: str) -> list[int]:
    return [record.id for record in gallery.images(where)]


@pytest.fixture
def store(gallery: Gallery) -> Predictions:
    return Predictions(gallery._catalog.database)


def test_predictions_stand_beside_labels_the_most_probable_first(gallery: Gallery) -> None:
    gallery.add_labels([1, 2], ["dress", "hat"], probabilities=[[0.25, 0.75], [1, 0]], source="zero-shot")
    record = gallery.image(1)
    assert record.labels == ("blue",)
    assert said(gallery, 1) == [("hat", 0.75, "zero-shot"), ("dress", 0.25, "zero-shot")]
    assert said(gallery, 3) == []
    assert ids(gallery, "label:hat") == [1, 2]
    assert ids(gallery, "predicted:hat>=0.5") == [1]
    assert ids(gallery, "predicted:blue") == []
    assert ids(gallery, "source:folder source:zero-shot") == [1, 2]


def test_one_probability_or_one_for_each_label_is_spread(gallery: Gallery) -> None:
    gallery.add_labels([1, 2], ["a", "b"], probabilities=0.5, source="s")
    gallery.add_labels([3, 4], ["a", "b"], probabilities=np.float32([0.25, 0.75]), source="s")
    assert said(gallery, 2) == [("a", 0.5, "s"), ("b", 0.5, "s")]
    assert said(gallery, 4) == [("b", 0.75, "s"), ("a", 0.25, "s")]


def test_adding_the_same_prediction_again_replaces_it_only(gallery: Gallery) -> None:
    gallery.add_labels([1], ["a", "b"], probabilities=0.5, source="s")
    gallery.add_labels([1], "a", probabilities=0.75, source="s")
    gallery.add_labels([1], "a", probabilities=0.125, source="t")
    assert said(gallery, 1) == [("a", 0.75, "s"), ("b", 0.5, "s"), ("a", 0.125, "t")]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"source": "zero-shot"}, "probabilities=… is missing"),
        ({"probabilities": 0.5}, "no probability"),
        ({"probabilities": 0.5, "source": "folder"}, "facts"),
        ({"probabilities": 0.5, "source": "a b"}, "a source is a word"),
        ({"probabilities": 0.5, "source": ""}, "a source is a word"),
        ({"probabilities": 1.01, "source": "s"}, "between 0 and 1"),
        ({"probabilities": float("nan"), "source": "s"}, "between 0 and 1"),
        ({"probabilities": [0.1, 0.2, 0.3], "source": "s"}, r"shape \(3,\)"),
    ],
)
def test_what_is_no_prediction_is_refused(gallery: Gallery, arguments: dict, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        gallery.add_labels([1, 2], ["x", "y"], **arguments)
    assert ids(gallery, "label:x") == []
    with pytest.raises(ImageNotFoundError):
        gallery.add_labels([99], "x", probabilities=0.5, source="s")


def test_removing_labels_leaves_predictions_and_the_other_way_round(gallery: Gallery) -> None:
    gallery.add_labels([1], "x")
    gallery.add_labels([1, 2], "x", probabilities=0.5, source="s")
    gallery.remove_labels([1], "x")
    assert gallery.image(1).labels == ("blue",)
    assert said(gallery, 1) == [("x", 0.5, "s")]
    gallery.add_labels([1], "x")
    gallery.remove_labels([1], "x", source="s")
    assert (gallery.image(1).labels, said(gallery, 1)) == (("blue", "x"), [])
    assert gallery.remove_predictions("s", where="path:*") == 1
    assert gallery.remove_predictions("s") == 0
    assert gallery.image(1).labels == ("blue", "x")
    with pytest.raises(UsageError, match="facts"):
        gallery.remove_predictions("user")


def test_a_pass_is_seen_only_when_it_is_finished_and_replaces_its_source_only(
    gallery: Gallery, store: Predictions
) -> None:
    gallery.add_labels([1], "old", probabilities=0.5, source="s")
    gallery.add_labels([2], "other", probabilities=0.5, source="t")
    run = store.begin("s", model="m", details="{}")
    store.save(run, [(1, "new", 0.25), (3, "new", 0.75)], last_id=3)
    assert said(gallery, 1) == [("old", 0.5, "s")]
    assert ids(gallery, "label:new") == ids(gallery, "predicted:new") == ids(gallery, "confidence=0.75") == []
    assert "new" not in gallery.status().labels_by_source["s"]
    store.finish(run)
    assert said(gallery, 1) == [("new", 0.25, "s")]
    assert said(gallery, 2) == [("other", 0.5, "t")]
    assert ids(gallery, "label:new") == [1, 3]
    status = gallery.status()
    assert status.labels_by_source == {"folder": {"blue": 4, "red": 3}, "s": {"new": 2}, "t": {"other": 1}}
    assert status.labels == {"blue": 4, "red": 3}
    assert [(one.source, one.model) for one in status.predictions] == [("s", "m"), ("t", None)]


def test_a_pass_over_some_images_leaves_what_its_source_said_of_the_others(
    gallery: Gallery, store: Predictions
) -> None:
    gallery.add_labels([1, 2, 3], "old", probabilities=0.5, source="s")
    run = store.begin("s", model="m", details="{}")
    store.save(run, [(2, "new", 0.25)], last_id=3)
    store.finish(run, covered=[2, 3])
    assert [said(gallery, number) for number in (1, 2, 3)] == [[("old", 0.5, "s")], [("new", 0.25, "s")], []]
    run = store.begin("s", model="m", details="{}")
    store.finish(run, covered=[1, 2])
    assert [one.id for one in store.runs()] == [run.id]  # passes of which nothing is left go


def test_an_interrupted_pass_goes_on_with_the_same_settings_only(gallery: Gallery, store: Predictions) -> None:
    run = store.begin("s", model="m", details='{"top": 1}')
    store.save(run, [(1, "a", 0.5)], last_id=1)
    again = store.begin("s", model="m", details='{"top": 1}', resume=True)
    assert (again.id, again.last_id) == (run.id, 1)
    other = store.begin("s", model="m", details='{"top": 2}', resume=True)
    assert (other.last_id, [one.id for one in store.runs()]) == (0, [other.id])
    store.discard(other)
    assert store.runs() == []


def test_predictions_follow_a_renamed_file_and_leave_an_edited_one(
    gallery: Gallery, photos: Path, model: FakeModel, draw: Draw
) -> None:
    gallery.add_labels([1, 2], "x", probabilities=0.5, source="s")
    first, second = (gallery.image(number).path for number in (1, 2))
    first.rename(photos / "moved.png")
    draw(second, 23)
    gallery.index()
    assert said(gallery, 1) == [("x", 0.5, "s")]
    assert ids(gallery, "predicted:x") == [1]
    assert gallery.check() == []


def test_two_files_that_change_places_keep_their_predictions(gallery: Gallery, photos: Path) -> None:
    gallery.add_labels([1, 2], ["x", "y"], probabilities=[[0.5, 0.25], [0.125, 1]], source="s")
    first, second = (gallery.image(number).path for number in (1, 2))
    first.rename(photos / "aside.png")
    second.rename(first)
    (photos / "aside.png").rename(second)
    gallery.index()
    assert (gallery.image(1).path, gallery.image(2).path) == (second, first)
    assert said(gallery, 1) == [("x", 0.5, "s"), ("y", 0.25, "s")]
    assert said(gallery, 2) == [("y", 1, "s"), ("x", 0.125, "s")]


def test_saving_a_prediction_of_an_image_that_just_left_is_no_error(gallery: Gallery, store: Predictions) -> None:
    run = store.begin("s", model=None, details="{}")
    store.save(run, [(1, "x", 0.5), (99, "x", 0.5)], last_id=99)
    store.finish(run)
    assert ids(gallery, "predicted:x") == [1]
    gallery.image(1).path.unlink()
    gallery.index()
    assert ids(gallery, "predicted:x") == []
    assert gallery.check() == []


def test_a_rebuilt_index_keeps_predictions(gallery: Gallery, model: FakeModel) -> None:
    gallery.add_labels([2, 3], "x", probabilities=0.75, source="s")
    gallery.close()
    recover(gallery.path)
    with Gallery(gallery.path, model=model) as again:
        assert said(again, 3) == [("x", 0.75, "s")]
        assert again.check() == []


def test_labels_of_a_gallery_go_through_sqlite_untouched(gallery: Gallery) -> None:
    odd = "robert'); DROP TABLE predictions; --"
    gallery.add_labels([1], odd, probabilities=0.5, source="s")
    assert said(gallery, 1) == [(odd, 0.5, "s")]
    with pytest.raises(FilterSyntaxError):
        gallery.count("label:dress>=0.5")


def make_schema_2(file: Path) -> None:
    """An index as the second schema left it: two images with labels of the user and of a folder, and vectors."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.executescript(migrations()[1])
    connection.executescript(migrations()[2])
    connection.executescript(
        """
        PRAGMA application_id = 0x76697473; PRAGMA user_version = 2; PRAGMA journal_mode = WAL;
        INSERT INTO meta VALUES ('vitseek_version', '0.1.0'), ('default_space', '1');
        INSERT INTO roots VALUES (1, X'2E', 1);
        INSERT INTO contents VALUES (1, X'00112233', 71, 53, NULL), (2, X'44556677', 61, 43, NULL);
        INSERT INTO images VALUES
            (1, 1, X'632F612E6A7067', 'c/a.jpg', 'a.jpg', 1, 5, 6, 7, 8, '2024-01-01T00:00:00', 'ok', NULL, 0),
            (2, 1, X'632F622E6A7067', 'c/b.jpg', 'b.jpg', 2, 5, 6, 7, 8, '2024-01-01T00:00:00', 'ok', NULL, 0);
        INSERT INTO labels VALUES (1, 'mine', 'user'), (1, 'c', 'folder'), (2, 'c', 'folder');
        INSERT INTO spaces VALUES (1, 'old', 'old', 'ab', 'key', 'cls', 2, 'old', 'official', '2024-01-01', 1);
        INSERT INTO vectors VALUES (1, 1, 1, X'0000803F00000000'), (2, 2, 1, X'000000000000803F');
        """
    )
    connection.close()


def upgraded_is_whole(folder: Path) -> None:
    with Gallery(folder) as gallery:
        assert gallery.status().schema == SCHEMA == gallery._catalog.database.value("PRAGMA user_version")
        assert [record.labels for record in gallery.images()] == [("c", "mine"), ("c",)]
        assert gallery.vectors()[1].tolist() == [[1, 0], [0, 1]]
        gallery.add_labels([2], "dress", probabilities=0.5, source="zero-shot")
        assert ids(gallery, "label:c") == [1, 2]
        assert ids(gallery, "label:dress or label:mine") == [1, 2]
        assert gallery.check() == []


def test_a_gallery_of_the_previous_schema_upgrades_and_keeps_its_labels(tmp_path: Path) -> None:
    (tmp_path / ".vitseek").mkdir()
    make_schema_2(tmp_path / ".vitseek" / "index.db")
    upgraded_is_whole(tmp_path)


KILLED = """
import os, signal, sys
from vitseek.gallery.stores import migrate
from vitseek.gallery.stores.sqlite import Database
whole = migrate._statements
def half(script):
    for number, statement in enumerate(whole(script)):
        if number == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield statement
migrate._statements = half
Database(__import__("pathlib").Path(sys.argv[1]))
"""


@pytest.mark.parametrize("statement", [0, 1, 4])
def test_an_upgrade_that_is_killed_in_the_middle_is_done_by_the_next_one(tmp_path: Path, statement: int) -> None:
    (tmp_path / ".vitseek").mkdir()
    file = tmp_path / ".vitseek" / "index.db"
    make_schema_2(file)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(file), str(statement)], check=False, env=dict(os.environ))
    assert ended.returncode == -9
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert connection.execute("SELECT 1 FROM sqlite_master WHERE name LIKE 'prediction%'").fetchone() is None
    connection.close()
    upgraded_is_whole(tmp_path)
