"""The sha256 of a file is computed once per state of the file."""

import hashlib
import os
from pathlib import Path

import pytest

from vitseek.weights import fingerprint
from vitseek.weights.fingerprint import file_sha256, sha256_of


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were really read."""
    names: list[str] = []
    real = hashlib.file_digest

    def spy(stream, algorithm):
        names.append(Path(stream.name).name)
        return real(stream, algorithm)

    monkeypatch.setattr(fingerprint.hashlib, "file_digest", spy)
    return names


def test_a_file_is_hashed_once(tmp_path: Path, computed: list[str]) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"weights")
    wanted = hashlib.sha256(b"weights").hexdigest()
    assert [file_sha256(file), file_sha256(file)] == [wanted, wanted]
    assert computed == ["a"]


def test_a_changed_file_is_hashed_again(tmp_path: Path, computed: list[str]) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"weights")
    file_sha256(file)
    file.write_bytes(b"weightS")  # the same size
    os.utime(file, ns=(1, 2))
    assert file_sha256(file) == hashlib.sha256(b"weightS").hexdigest()
    assert computed == ["a", "a"]


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[str]
) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_bytes(b"")
    monkeypatch.setenv("VITSEEK_CACHE", str(blocker / "cache"))
    file = tmp_path / "a"
    file.write_bytes(b"weights")
    assert file_sha256(file) == file_sha256(file) == hashlib.sha256(b"weights").hexdigest()
    assert computed == ["a", "a"]


def test_a_damaged_cache_entry_is_not_believed(tmp_path: Path, private_home: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"weights")
    wanted = file_sha256(file)
    for entry in (private_home / "cache" / "sha256").iterdir():
        entry.write_text("deadbeef")
    assert file_sha256(file) == wanted


def test_several_files_have_one_sha256_that_depends_on_each(tmp_path: Path) -> None:
    files = []
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
        files.append(tmp_path / name)
    both = sha256_of(files)
    assert both not in (sha256_of(files[:1]), sha256_of(files[::-1]))
    (tmp_path / "b").write_bytes(b"other")
    assert sha256_of(files) != both
