"""Passes that label a gallery: by words and by a head; interrupted, killed, two at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.gallery.fake_model import FakeJudge, FakeModel, FakeReader
from vitseek.errors import GalleryLockedError, TextUnsupportedError, UsageError
from vitseek.gallery import by_words, predicting
from vitseek.gallery.by_head import HeadKeywords
from vitseek.gallery.gallery import Gallery
from vitseek.heads.zero_shot import unit

Said = dict[int, list[tuple[str, str]]]


def said(gallery: Gallery) -> Said:
    """(label, source) of every image."""
    return {record.id: [(one.label, one.source) for one in record.predictions] for record in gallery.images()}


@pytest.fixture
def reading(photos: Path) -> Iterator[Gallery]:
    with Gallery(photos, model=FakeReader()) as opened:
        opened.index(labels_from_folders=True)
        yield opened


@pytest.fixture
def judging(photos: Path) -> Iterator[Gallery]:
    with Gallery(photos, model=FakeJudge(), lock_timeout_s=0) as opened:
        opened.index(labels_from_folders=True)
        yield opened


def test_words_find_the_pictures_of_their_colour(reading: Gallery) -> None:
    reading.add_labels([1], "mine")
    steps: list[tuple[str, int, int]] = []
    report = reading.classify_zero_shot(
        ["red", "blue"], templates=["{}"], progress=lambda *step: steps.append(step), each=lambda *_: None
    )
    assert (report.images, report.labelled, report.saved, report.from_vectors) == (7, 7, True, True)
    assert {one.label: one.images for one in report.labels} == {"blue": 4, "red": 3}
    assert all(record.predictions[0].label in record.labels for record in reading.images())
    assert reading.image(1).labels == ("blue", "mine")
    assert steps == [("words", 2, 2), ("images", 7, 7)]
    assert reading.model.seen == 7  # by indexing


def test_a_label_that_no_picture_gets_is_reported_with_zero(reading: Gallery) -> None:
    report = reading.classify_zero_shot(["red", "blue", "green"], templates="{}")
    assert {one.label: one.images for one in report.labels} == {"blue": 4, "red": 3, "green": 0}
    assert report.labels[-1].mean_probability == 0
    nobody = reading.classify_zero_shot(["red", "blue"], templates="{}", threshold=1.0)
    assert (nobody.labelled, nobody.images) == (0, 7)
    assert all(found == [] for found in said(reading).values())


def test_a_sigmoid_model_gives_several_labels_or_none(photos: Path) -> None:
    model = FakeReader(name="fake-sigmoid", logit_scale=50.0, logit_bias=-20.0)
    with Gallery(photos, model=model) as gallery:
        gallery.index()
        cosines = gallery.vectors()[1] @ unit(model.embed_texts(["red"]))[0]
        middle = float(np.median(1 / (1 + np.exp(20 - 50 * cosines)))) * 0.999
        red = gallery.classify_zero_shot("red", templates="{}", threshold=middle)  # a single label is fine
        assert red.labelled == 4
        several = gallery.classify_zero_shot(["red", "blue", "green"], templates="{}", threshold=0.0)
        assert sum(label.images for label in several.labels) == 21
        none = gallery.classify_zero_shot(["red", "blue"], templates="{}", threshold=0.999)
        assert none.labelled == 0


def test_examples_are_the_surest_pictures(reading: Gallery) -> None:
    report = reading.classify_zero_shot(["red", "blue"], templates="{}")
    [blue] = [one for one in report.labels if one.label == "blue"]
    by_probability = sorted(reading.images("predicted:blue"), key=lambda record: -record.predictions[0].probability)
    assert blue.examples == [record.id for record in by_probability[:3]]
    mean = sum(record.predictions[0].probability for record in by_probability) / len(by_probability)
    assert blue.mean_probability == pytest.approx(mean)


def test_many_remarks_of_the_tokenizer_become_a_few(reading: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = FakeReader.embed_texts

    def talkative(self, texts, *, report=None):
        for text in texts:
            report(f"{text!r} was cut")
        return plain(self, texts)

    monkeypatch.setattr(FakeReader, "embed_texts", talkative)
    heard: list[str] = []
    reading.classify_zero_shot([f"thing {number}" for number in range(11)], templates="{}", report=heard.append)
    assert heard == [*(f"'thing {number}' was cut" for number in range(3)), "… and 8 more remarks of this kind"]


@pytest.mark.parametrize("step", ["words", "images"])
def test_an_interrupted_pass_by_words_leaves_what_was_there(
    reading: Gallery, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(by_words, "NUMBERS_AT_ONCE", 4)
    monkeypatch.setattr(predicting, "SAVE_ROWS", 1)
    reading.classify_zero_shot(["red", "blue"], templates="{}")
    before = said(reading)

    def stop(what: str, done: int, total: int) -> None:
        if what == step and done < total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reading.classify_zero_shot([f"kind {number}" for number in range(101)], templates="{}", progress=stop)
    assert said(reading) == before
    assert len(reading.status().predictions) == 1


KILLED = """
import os, signal, sys
from tests.gallery.fake_model import FakeReader
from vitseek.gallery import by_words, predicting
from vitseek.gallery.gallery import Gallery
by_words.NUMBERS_AT_ONCE = 4
predicting.SAVE_ROWS = 1
with Gallery(sys.argv[1], model=FakeReader()) as gallery:
    def stop(what, done, total):
        if what == "images" and done >= 4:
            os.kill(os.getpid(), signal.SIGKILL)
    gallery.classify_zero_shot(["green", "dark"], templates="{}", progress=stop)
"""


def test_a_killed_pass_changes_nothing_and_the_next_one_cleans_up(reading: Gallery) -> None:
    reading.classify_zero_shot(["red", "blue"], templates="{}")
    before = said(reading)
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(reading.path)], check=False, cwd=root, env={**os.environ, "PYTHONPATH": "."}
    )
    assert ended.returncode == -signal.SIGKILL
    assert said(reading) == before
    assert [one.finished is None for one in reading.status().predictions] == [False, True]
    assert reading.count("predicted:green or predicted:dark") == 0
    reading.classify_zero_shot(["red", "blue"], templates="{}")
    assert [one.finished is None for one in reading.status().predictions] == [False]
    assert reading.check() == []


def test_words_need_a_space_that_understands_them(gallery: Gallery) -> None:
    with pytest.raises(TextUnsupportedError, match="understands pictures only"):
        gallery.classify_zero_shot(["red", "blue"])


def test_words_go_to_the_space_that_understands_them(gallery: Gallery, photos: Path) -> None:
    with Gallery(photos, model=FakeReader()) as reader:
        reader.index()
        heard: list[str] = []
        report = reader.classify_zero_shot(["red", "blue"], templates="{}", report=heard.append)
        assert (report.space, heard) == ("fake-reader", [])
        with pytest.raises(TextUnsupportedError):
            reader.classify_zero_shot(["red", "blue"], space="fake-small")


def test_a_head_opens_the_images_where_vectors_are_not_what_it_sees(judging: Gallery) -> None:
    report = judging.classify_head(top=1, batch_size=2)
    assert (report.images, report.labelled, report.from_vectors, report.skipped) == (7, 7, False, 0)
    assert all(record.predictions[0].label == record.labels[0] for record in judging.images())
    assert judging.model.judged == 7


def stop_after(images: int) -> Callable[[str, int, int], None]:
    def stop(_: str, done: int, total: int) -> None:
        if done == images:
            raise KeyboardInterrupt

    return stop


def test_an_interrupted_pass_of_a_head_goes_on_with_the_same_settings(judging: Gallery) -> None:
    judging.add_labels([1, 7], "old", probabilities=0.5, source="head")
    for after in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            judging.classify_head(top=1, batch_size=1, progress=stop_after(after))
    assert [one[0] for one in said(judging)[1]] == ["old"]
    judged = judging.model.judged
    heard: list[str] = []
    report = judging.classify_head(top=1, batch_size=1, report=heard.append)
    assert (report.images, report.labelled, report.resumed) == (7, 7, 4)
    assert sum(one.images for one in report.labels) == 7
    assert judging.model.judged - judged == 3
    assert heard == ["4 images had been classified before the last run was interrupted"]
    assert said(judging) == {n: [("blue", "head")] if n <= 4 else [("red", "head")] for n in range(1, 8)}


def test_a_pass_that_goes_on_hands_out_what_the_interrupted_one_found(judging: Gallery) -> None:
    with pytest.raises(KeyboardInterrupt):
        judging.classify_head(top=1, batch_size=1, progress=stop_after(3))
    found: list[int] = []
    judging.classify_head(top=1, batch_size=1, each=lambda number, labels: found.append(number))
    assert found == list(range(1, 8))


def test_an_older_label_goes_where_the_interrupted_pass_found_none(judging: Gallery) -> None:
    judging.add_labels(range(1, 8), "old", probabilities=0.5, source="head")
    settings = HeadKeywords(threshold=1.0, where="label:blue", batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        judging.classify_head(**settings, progress=stop_after(2))
    report = judging.classify_head(**settings)
    assert (report.images, report.labelled, report.resumed) == (4, 0, 2)
    assert [number for number, found in said(judging).items() if found] == [5, 6, 7]


@pytest.mark.parametrize("mended", [True, False])
def test_what_the_interrupted_pass_could_not_open_gets_another_look(judging: Gallery, mended: bool) -> None:
    judging.add_labels([1, 2], "old", probabilities=0.5, source="head")
    place = judging.image(1).path
    whole = place.read_bytes()
    place.write_bytes(b"not now")
    with pytest.raises(KeyboardInterrupt):
        judging.classify_head(top=1, batch_size=1, progress=stop_after(3))
    if mended:
        place.write_bytes(whole)
    report = judging.classify_head(top=1, batch_size=1)
    assert (report.images, report.skipped, report.resumed) == (6 + mended, 1 - mended, 2)
    assert said(judging)[1] == [("blue" if mended else "old", "head")]
    assert said(judging)[2] == [("blue", "head")]


def test_other_settings_begin_anew(judging: Gallery) -> None:
    with pytest.raises(KeyboardInterrupt):
        judging.classify_head(top=1, progress=stop_after(3))
    report = judging.classify_head(top=2)
    assert (report.resumed, report.images) == (0, 7)
    assert all(len(found) == 2 for found in said(judging).values())
    assert len(judging.status().predictions) == 1


def test_a_pass_over_some_images_keeps_the_others(judging: Gallery) -> None:
    judging.add_labels(range(1, 8), "old", probabilities=0.5, source="head")
    report = judging.classify_head(top=1, where="label:red")
    assert report.images == 3
    assert sorted({label for found in said(judging).values() for label, _ in found}) == ["old", "red"]


def test_what_cannot_be_opened_now_keeps_its_older_predictions(judging: Gallery) -> None:
    judging.add_labels([1, 2], "old", probabilities=0.5, source="head")
    Image.new("RGB", (9, 9)).save(judging.image(1).path)
    report = judging.classify_head(top=1)
    assert (report.images, report.skipped) == (6, 1)
    assert "changed since it was indexed" in report.problems[0].reason
    assert said(judging)[1] == [("old", "head")]
    assert said(judging)[2] == [("blue", "head")]


def test_two_passes_at_once_are_refused_and_indexing_is_not(judging: Gallery) -> None:
    refused: list[str] = []

    def meanwhile(*_: object) -> None:
        if not refused:
            with pytest.raises(GalleryLockedError, match="classifying since"):
                judging.classify_head(top=1)
            refused.append("yes")
            assert judging.index().unchanged == 7

    judging.classify_head(top=1, progress=meanwhile)
    assert refused == ["yes"]
    judging.classify_head(top=1)


def test_a_model_without_a_head_or_names_is_refused(gallery: Gallery, judging: Gallery) -> None:
    plain = FakeModel()
    plain.num_classes = 0
    with pytest.raises(UsageError, match="fake-small has no classification head"):
        gallery.classify_head(model=plain)
    with pytest.raises(UsageError, match="2 names were given for the 3 classes of fake-judge"):
        judging.classify_head(names=["a", "b"])
    judge = FakeJudge()
    judge.labels = None
    judge.num_classes = 21843
    with pytest.raises(UsageError, match=r"no names are known for a head with 21,843 outputs.*--names FILE"):
        judging.classify_head(model=judge)


@pytest.mark.parametrize("options", [{"top": 0}, {"threshold": 2.0}, {"source": "folder"}, {"where": "label:("}])
def test_a_wrong_call_is_refused_before_anything_is_done(reading: Gallery, judging: Gallery, options: dict) -> None:
    with pytest.raises(UsageError):
        reading.classify_zero_shot(["red", "blue"], **options)
    with pytest.raises(UsageError):
        judging.classify_head(**options)
    assert reading.status().predictions == []
