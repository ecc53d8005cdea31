"""Random histories of a folder, against a plain model of what the gallery should hold."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from PIL import Image

from tests.gallery.fake_model import FakeModel
from vitseek.gallery.gallery import Gallery

FOLDERS = ("", "a", "b", "a/deep")
LABELS = ("x", "y")


class FolderHistory(RuleBasedStateMachine):
    """Files are added, copied, renamed, edited, broken, deleted, labelled; the index runs now and then."""

    files = Bundle("files")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="vitseek-test-"))
        self.model = FakeModel()
        self.gallery = Gallery(self.folder, model=self.model)
        self.gallery.index(labels_from_folders=True)
        self.serial = 0
        self.disk: dict[str, bytes | None] = {}  # path → content hash; None: not an image
        self.indexed: dict[str, tuple[bytes, int]] = {}  # path → content hash and id at the last run
        self.labels: dict[int, set[str]] = {}

    def teardown(self) -> None:
        self.gallery.close()
        shutil.rmtree(self.folder)

    def _fresh(self, folder: str) -> str:
        self.serial += 1
        (self.folder / folder).mkdir(parents=True, exist_ok=True)
        return f"{folder}/{self.serial}.png".lstrip("/")

    def _paint(self, path: str, seed: int) -> None:
        pixels = np.random.default_rng(seed).integers(0, 255, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(self.folder / path)
        self.disk[path] = hashlib.sha256((self.folder / path).read_bytes()).digest()

    @rule(target=files, folder=st.sampled_from(FOLDERS), seed=st.integers(0, 4))
    def add(self, folder: str, seed: int) -> str:
        path = self._fresh(folder)
        self._paint(path, seed)
        return path

    @rule(path=files, seed=st.integers(0, 4))
    def edit(self, path: str, seed: int) -> None:
        if path in self.disk:
            self._paint(path, seed)

    @rule(path=files)
    def break_file(self, path: str) -> None:
        if path in self.disk:
            (self.folder / path).write_text("no picture")
            self.disk[path] = None

    @rule(target=files, path=consumes(files), folder=st.sampled_from(FOLDERS))
    def rename(self, path: str, folder: str) -> str:
        target = self._fresh(folder)
        if path in self.disk:
            (self.folder / path).rename(self.folder / target)
            self.disk[target] = self.disk.pop(path)
        return target

    @rule(first=files, second=files)
    def swap(self, first: str, second: str) -> None:
        if first in self.disk and second in self.disk and first != second:
            spare = self.folder / "spare"
            (self.folder / first).rename(spare)
            (self.folder / second).rename(self.folder / first)
            spare.rename(self.folder / second)
            self.disk[first], self.disk[second] = self.disk[second], self.disk[first]

    @rule(target=files, path=files, folder=st.sampled_from(FOLDERS))
    def copy(self, path: str, folder: str) -> str:
        target = self._fresh(folder)
        if path in self.disk:
            shutil.copy2(self.folder / path, self.folder / target)
            self.disk[target] = self.disk[path]
        return target

    @rule(path=consumes(files))
    def delete(self, path: str) -> None:
        if path in self.disk:
            (self.folder / path).unlink()
            del self.disk[path]

    @rule(path=files, label=st.sampled_from(LABELS))
    def label(self, path: str, label: str) -> None:
        if path in self.indexed:
            number = self.indexed[path][1]
            self.gallery.add_labels([number], label)
            self.labels.setdefault(number, set()).add(label)

    @rule(reopen=st.booleans())
    def index(self, reopen: bool) -> None:
        if reopen:
            self.gallery.close()
            self.gallery = Gallery(self.folder, model=self.model)
        usable = {path: digest for path, digest in self.disk.items() if digest is not None}
        report = self.gallery.index(batch_size=3, forget_missing=True)
        records = {record.relative_path: record for record in self.gallery.images()}

        assert records.keys() == usable.keys()
        assert {path: record.content_hash for path, record in records.items()} == {
            path: digest.hex() for path, digest in usable.items()
        }
        assert len({record.id for record in records.values()}) == len(records)
        assert (report.images, report.unreadable) == (len(usable), len(self.disk) - len(usable))

        # An id means one content for ever, and stays with a content that is still somewhere.
        content_of = {number: digest for digest, number in self.indexed.values()}
        for path, record in records.items():
            if record.id in content_of:
                assert content_of[record.id] == usable[path]
        for digest in set(content_of.values()):
            before = sum(known == digest for known in content_of.values())
            now = [record.id for path, record in records.items() if usable[path] == digest]
            kept = sum(number in content_of for number in now)
            assert kept == min(before, len(now))

        # Labels stay with their image, whatever its name.
        for record in records.values():
            mine = set(record.labels) & set(LABELS)
            assert self.labels.get(record.id, set()) <= mine
            self.labels[record.id] = mine
            folder = record.relative_path.split("/")[0] if "/" in record.relative_path else None
            assert set(record.labels) - set(LABELS) == ({folder} if folder else set())
        self.indexed = {path: (usable[path], record.id) for path, record in records.items()}

    @invariant()
    def a_search_finds_the_index_as_it_is(self) -> None:
        ids, matrix = self.gallery.vectors() if self.gallery.status().spaces else (np.empty(0), np.empty((0, 13)))
        assert sorted(ids.tolist()) == sorted(number for _, number in self.indexed.values())
        np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)


TestFolderHistory = FolderHistory.TestCase
TestFolderHistory.settings = settings(
    max_examples=int(os.environ.get("VITSEEK_TEST_HISTORIES", "8")),
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
