"""Random histories of a folder, against a plain model of what the gallery should hold."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from PIL import Image

from tests.gallery.fake_model import FakeModel
from vitseek.gallery.gallery import Gallery

FOLDERS = ("", "a", "b", "a/deep")
LABELS = ("x", "y")
SEEDS = st.integers(0, 6)
FILES = st.integers(0, 12)


class FolderHistory(RuleBasedStateMachine):
    """Files are added, copied, renamed, rotated, edited, broken, deleted, labelled; the index runs now and then."""

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

    def _one(self, number: int) -> str:
        return sorted(self.disk)[number % len(self.disk)]

    @initialize()
    def start(self) -> None:
        for seed, folder in enumerate(FOLDERS):
            self.add(folder, seed)
        self.index(False)

    @rule(folder=st.sampled_from(FOLDERS), seed=SEEDS)
    def add(self, folder: str, seed: int) -> None:
        self._paint(self._fresh(folder), seed)

    @precondition(lambda self: self.disk)
    @rule(number=FILES, seed=SEEDS)
    def edit(self, number: int, seed: int) -> None:
        self._paint(self._one(number), seed)

    @precondition(lambda self: self.disk)
    @rule(number=FILES)
    def break_file(self, number: int) -> None:
        path = self._one(number)
        (self.folder / path).write_text("no picture")
        self.disk[path] = None

    @precondition(lambda self: self.disk)
    @rule(number=FILES, folder=st.sampled_from(FOLDERS))
    def rename(self, number: int, folder: str) -> None:
        path, target = self._one(number), self._fresh(folder)
        (self.folder / path).rename(self.folder / target)
        self.disk[target] = self.disk.pop(path)

    @precondition(lambda self: len(self.disk) > 1)
    @rule(numbers=st.lists(FILES, min_size=2, max_size=4))
    def rotate(self, numbers: list[int]) -> None:
        """Two files swap their names, or several pass them on."""
        paths = list(dict.fromkeys(map(self._one, numbers)))
        contents = [self.disk[path] for path in paths]
        for path in paths:
            (self.folder / path).rename(self.folder / f"{path}.spare")
        for path, new, content in zip(paths, paths[1:] + paths[:1], contents, strict=True):
            (self.folder / f"{path}.spare").rename(self.folder / new)
            self.disk[new] = content

    @precondition(lambda self: len(self.disk) > 1)
    @rule(first=FILES, second=FILES)
    def overwrite(self, first: int, second: int) -> None:
        source, target = self._one(first), self._one(second)
        if source != target:
            (self.folder / source).replace(self.folder / target)
            self.disk[target] = self.disk.pop(source)

    @precondition(lambda self: self.disk)
    @rule(number=FILES, folder=st.sampled_from(FOLDERS))
    def copy(self, number: int, folder: str) -> None:
        path, target = self._one(number), self._fresh(folder)
        shutil.copy2(self.folder / path, self.folder / target)
        self.disk[target] = self.disk[path]

    @precondition(lambda self: self.disk)
    @rule(number=FILES)
    def delete(self, number: int) -> None:
        path = self._one(number)
        (self.folder / path).unlink()
        del self.disk[path]

    @precondition(lambda self: self.indexed)
    @rule(number=FILES, label=st.sampled_from(LABELS))
    def label(self, number: int, label: str) -> None:
        image_id = sorted(self.indexed.values(), key=lambda pair: pair[1])[number % len(self.indexed)][1]
        self.gallery.add_labels([image_id], label)
        self.labels.setdefault(image_id, set()).add(label)

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
