"""The sample gallery: complete, repeatable, varied, and it leaves finished files alone."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitseek.errors import StorageError, UsageError
from vitseek.evaluate.retrieval import evaluate_leave_one_out
from vitseek.preprocess.image import IMAGE_SUFFIXES, decode
from vitseek.sample import KINDS, draw_gallery
from vitseek.sample.gallery import draw


def test_every_kind_gets_its_folder_and_its_number_of_pictures(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    paths = draw_gallery(tmp_path, per_kind=5, progress=lambda done, total: seen.append((done, total)))
    assert len(KINDS) == 12
    assert paths == sorted(paths)
    assert len(paths) == len(set(paths)) == 60
    assert {path.parent.name for path in paths} == set(KINDS)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == paths
    assert seen == [(done, 60) for done in range(1, 61)]
    assert {path.suffix for path in paths} == {".jpg", ".png"} <= IMAGE_SUFFIXES
    for path in paths:
        width, height = decode(path).size
        assert 280 <= min(width, height) <= max(width, height) <= 480


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same_picture_and_another_seed_another(kind: str) -> None:
    picture = np.asarray(draw(kind, 3, seed=7))
    np.testing.assert_array_equal(picture, np.asarray(draw(kind, 3, seed=7)))
    others = [draw(kind, 3, seed=8), draw(kind, 4, seed=7)]
    assert all(other.size != picture.shape[1::-1] or (np.asarray(other) != picture).mean() > 0.5 for other in others)


def test_more_pictures_do_not_change_the_first_ones(tmp_path: Path) -> None:
    few = draw_gallery(tmp_path / "few", per_kind=1)
    many = draw_gallery(tmp_path / "many", per_kind=2)
    for path in few:
        assert (tmp_path / "many" / path.relative_to(tmp_path / "few")).read_bytes() == path.read_bytes()
    assert len(many) == 24


def test_a_second_run_leaves_the_files_alone_and_mends_what_is_missing_or_cut_off(tmp_path: Path) -> None:
    first, second, third, *_ = draw_gallery(tmp_path, per_kind=1)
    content = first.read_bytes(), second.read_bytes()
    os.utime(third, ns=(5, 5))
    first.unlink()
    second.write_bytes(content[1][:100])
    draw_gallery(tmp_path, per_kind=1)
    assert (first.read_bytes(), second.read_bytes()) == content
    assert third.stat().st_mtime_ns == 5


@pytest.mark.parametrize("number", range(12))
def test_no_picture_is_blank_or_outside_the_range_of_sizes(number: int) -> None:
    kind = list(KINDS)[number % len(KINDS)]
    picture = np.asarray(draw(kind, number, seed=1))
    assert picture.dtype == np.uint8
    assert picture.std() > 15


def test_kinds_differ_more_than_pictures_of_one_kind(tmp_path: Path) -> None:
    # No network here: 6 × 6 colours per picture are enough to see that kinds hang together, and not trivially so.
    features, labels = [], []
    for kind in KINDS:
        for number in range(5):
            small = draw(kind, number, seed=2).resize((6, 6), Image.Resampling.BOX)
            features.append(np.asarray(small, dtype=np.float64).ravel())
            labels.append(kind)
    figures = evaluate_leave_one_out(np.stack(features), labels)
    assert 3 / 12 < figures.knn_accuracy < 0.98


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "balloon").write_text("a file where a folder is wanted")
    with pytest.raises(StorageError, match=r"cannot write the sample picture .*balloon-01\.jpg.*Name another folder"):
        draw_gallery(tmp_path, per_kind=1)


@pytest.mark.parametrize("options", [{"per_kind": 0}, {"seed": -1}])
def test_impossible_numbers_are_refused(options: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        draw_gallery(tmp_path, **options)
