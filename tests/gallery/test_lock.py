import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gallery.conftest import Draw
from tests.gallery.fake_model import FakeModel
from vitseek.errors import GalleryLockedError
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.lock import Holder, WriteLock, writer

HOLD = """
import sys, time
from pathlib import Path
from vitseek.gallery.lock import WriteLock
with WriteLock(Path(sys.argv[1]), "indexing"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_writer(gallery: Gallery) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, gallery._layout.lock], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_told_who_the_first_is(
    gallery: Gallery, other_writer: subprocess.Popen[str], model: FakeModel
) -> None:
    told: list[Holder | None] = []
    with Gallery(gallery.path, model=model, lock_timeout_s=0.3, waiting=told.append) as second:
        with pytest.raises(GalleryLockedError, match=rf"process {other_writer.pid} on .* \(indexing since"):
            second.index()
        assert len(told) == 1
        assert told[0] is not None
        assert told[0].pid == other_writer.pid
        assert f"process {other_writer.pid}" in (second.status().writer or "")


def test_reading_and_labelling_go_on_while_another_process_indexes(
    gallery: Gallery, other_writer: subprocess.Popen[str]
) -> None:
    assert len(gallery.search(1, k=7)) == 7
    gallery.add_labels([1], "meanwhile")
    assert "meanwhile" in gallery.image(1).labels


def test_a_killed_writer_holds_nothing(gallery: Gallery, other_writer: subprocess.Popen[str]) -> None:
    other_writer.kill()
    other_writer.wait()
    assert gallery.status().writer is None
    assert gallery.index().unchanged == 7


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with WriteLock(tmp_path / "lock", "second", timeout_s=10):
            order.append("second")

    with WriteLock(tmp_path / "lock", "first"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
        holding = writer(tmp_path / "lock")
        assert holding is not None
        assert holding.job == "first"
    thread.join()
    assert order == ["first", "second"]
    assert writer(tmp_path / "lock") is None


def test_searches_during_a_run_see_whole_images_only(tmp_path: Path, draw: Draw) -> None:
    """Threads search while the index grows: every answer holds together, and the count never falls."""
    for seed in range(41):
        draw(tmp_path / f"{seed}.png", seed)

    class Slow(FakeModel):
        def embed_pixels(self, pixels):  # type: ignore[no-untyped-def]
            time.sleep(0.02)
            return super().embed_pixels(pixels)

    counts: list[int] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def read(reader: Gallery) -> None:
        try:
            while not stop.is_set():
                ids, matrix = reader.vectors()
                assert len(ids) == len(matrix)
                counts.append(len(ids))
                if len(ids):
                    assert reader.search(int(ids[0]), k=1)[0].score == pytest.approx(1, abs=1e-5)
        except BaseException as error:
            failures.append(error)

    with Gallery(tmp_path, model=Slow()) as gallery:
        gallery.index(tmp_path / "0.png")
        with Gallery(tmp_path, model=FakeModel()) as reader:
            threads = [threading.Thread(target=read, args=(reader,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            import vitseek.gallery.indexing as indexing

            original, indexing.COMMIT_S = indexing.COMMIT_S, 0.0
            try:
                gallery.index(batch_size=3)
            finally:
                indexing.COMMIT_S = original
                stop.set()
                for thread in threads:
                    thread.join()
            assert failures == []
            assert len(reader.vectors()[0]) == 41
    assert len(set(counts)) > 2
    assert counts[0] >= 1
