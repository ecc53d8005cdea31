import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.gallery.fake_model import FakeModel
from vitseek.gallery import indexing
from vitseek.gallery.budget import PixelBudget
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.reading import Reading
from vitseek.gallery.stores.scan import Job


def started(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def fail(budget: PixelBudget) -> None:
    with budget.share() as share:
        share.take(13)
        raise ZeroDivisionError


def test_pictures_that_fit_together_do_not_wait() -> None:
    budget = PixelBudget(13)
    with budget.share() as one, budget.share() as other:
        one.take(6)
        other.take(7)


def test_one_picture_too_many_waits_until_another_is_done() -> None:
    budget, entered = PixelBudget(13), threading.Event()

    def decode() -> None:
        with budget.share() as share:
            share.take(7)
            entered.set()

    with budget.share() as first:
        first.take(7)
        thread = started(decode)
        assert not entered.wait(0.05)
    assert entered.wait(10)
    thread.join(10)


def test_a_picture_above_the_limit_is_decoded_alone() -> None:
    budget, entered = PixelBudget(13), threading.Event()

    def decode() -> None:
        with budget.share() as share:
            share.take(1)
            entered.set()

    with budget.share() as large:
        large.take(1009)  # does not wait for room that never comes
        thread = started(decode)
        assert not entered.wait(0.05)
    assert entered.wait(10)
    thread.join(10)


def test_a_failed_picture_gives_its_room_back() -> None:
    budget = PixelBudget(13)
    with pytest.raises(ZeroDivisionError):
        fail(budget)
    with budget.share() as next_one:
        next_one.take(13)  # would wait for ever


def test_a_second_decoder_of_the_same_file_does_not_wait_for_the_first() -> None:
    budget = PixelBudget(13)
    with budget.share() as share:
        share.take(11)
        share.take(11)


def test_large_pixels_are_not_read_far_ahead_of_the_model(
    photos: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    before_embedding: list[int] = []
    usual_reading, usual_embedding = indexing.read_image, model.embed_pixels

    def reading(root: Path, job: Job, *rest: Any) -> Reading:
        read.append(str(job.raw_path))
        return usual_reading(root, job, *rest)

    def embedding(pixels: np.ndarray) -> np.ndarray:
        time.sleep(0.1)  # long enough for a worker to run ahead, if it may
        before_embedding.append(len(read))
        return usual_embedding(pixels)

    monkeypatch.setattr(indexing, "AHEAD_BYTES", 1)
    monkeypatch.setattr(indexing, "read_image", reading)
    monkeypatch.setattr(model, "embed_pixels", embedding)
    with Gallery(photos, model=model) as gallery:
        assert gallery.index(batch_size=2, workers=1).images == 7
    assert before_embedding == [3, 5, 7, 7]  # always one file ahead, so that the worker never stands idle
