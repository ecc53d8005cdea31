import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.gallery.fake_model import FakeModel
from vitseek.errors import FeaturesError, GalleryMismatchError
from vitseek.gallery.gallery import Gallery


def test_exported_features_are_the_models_own_in_any_numpy(
    gallery: Gallery, photos: Path, tmp_path: Path, model: FakeModel
) -> None:
    assert gallery.export_features(tmp_path / "out.npz") == 7
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        paths, features = archive["paths"].tolist(), archive["features"]
        assert archive["model"] == "fake-small"
        assert archive["labels"].tolist()[0] == "blue"
    assert paths == sorted(paths)
    np.testing.assert_array_equal(features, model.embed([photos / path for path in paths]))


def test_features_go_round_to_another_gallery(gallery: Gallery, photos: Path, tmp_path: Path, model: FakeModel) -> None:
    gallery.export_features(tmp_path / "out.npz")
    expected = gallery.search(1, k=7)
    gallery.close()
    shutil.rmtree(photos / ".vitseek")
    with Gallery(photos, model=model) as other:
        report = other.import_features(tmp_path / "out.npz")
        assert (report.imported, report.missing, report.outside) == (7, 0, 0)
        assert [(match.path, match.score) for match in other.search(1, k=7)] == [
            (match.path, match.score) for match in expected
        ]
        assert model.seen == 7
        assert other.index().embedded == 0  # the vectors are in the model's own space


def course_file(
    photos: Path, tmp_path: Path, features: np.ndarray, names: tuple[str, str] = ("features", "paths")
) -> Path:
    paths = np.array([str(path) for path in sorted(photos.glob("*/*.png"))])
    file = tmp_path / "gallery_features.npz"
    np.savez(file, **dict(zip(names, (features, paths), strict=True)))
    return file


@pytest.mark.parametrize("names", [("features", "paths"), ("gallery_features", "filenames"), ("x", "y")])
def test_a_foreign_file_is_searched_by_vector_and_by_image(
    photos: Path, tmp_path: Path, names: tuple[str, str], rng: np.random.Generator
) -> None:
    features = rng.normal(size=(7, 19))
    file = course_file(photos, tmp_path, features, names)
    with Gallery(photos) as gallery:
        report = gallery.import_features(file)
        assert (report.space, report.imported) == ("gallery_features", 7)
        assert "(7, 19)" in report.read
        third = sorted(photos.glob("*/*.png"))[3]
        assert gallery.search(features[3], k=1)[0].path == third
        assert gallery.search(third, k=1)[0].score == pytest.approx(1)
        with pytest.raises(GalleryMismatchError, match="--model NAME"):
            gallery.search(Image.new("RGB", (30, 30)))


def test_a_named_model_is_compared_with_the_features(photos: Path, tmp_path: Path, model: FakeModel) -> None:
    features = model.embed(sorted(photos.glob("*/*.png")))
    file = course_file(photos, tmp_path, features)
    with Gallery(photos) as gallery:
        report = gallery.import_features(file, model=model)
        assert "lowest cosine 1.0000" in report.checked
        assert len(gallery.search(Image.new("RGB", (30, 30)), k=7)) == 7
        with pytest.raises(GalleryMismatchError, match="cosine with the model's own"):
            gallery.import_features(file, model=FakeModel(seed=6))
        with pytest.raises(GalleryMismatchError, match="13-d features, but fake-large makes 17-d"):
            gallery.import_features(file, model=FakeModel(name="fake-large", embed_dim=17))


def test_importing_again_replaces_the_vectors(photos: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    with Gallery(photos) as gallery:
        gallery.import_features(course_file(photos, tmp_path, rng.normal(size=(7, 19))))
        gallery.vectors()
        second = rng.normal(size=(7, 19))
        gallery.import_features(course_file(photos, tmp_path, second))
        best = gallery.search(second[2], k=1)[0]
        assert best.score == pytest.approx(1)
        with pytest.raises(GalleryMismatchError, match="another name"):
            gallery.import_features(course_file(photos, tmp_path, rng.normal(size=(7, 5))))


def test_rows_without_a_file_are_counted_and_named(photos: Path, tmp_path: Path) -> None:
    (photos / "fake.png").write_text("no image")
    (tmp_path / "outside.png").write_bytes(next(photos.glob("red/*.png")).read_bytes())
    paths = np.array(["red/red-0.png", "red/none.png", str(tmp_path / "outside.png"), "fake.png"])
    np.savez(tmp_path / "f.npz", features=np.eye(4, 5), paths=paths)
    with Gallery(photos) as gallery:
        report = gallery.import_features(tmp_path / "f.npz")
    assert (report.imported, report.missing, report.outside) == (1, 2, 1)
    assert any("red/none.png: no such file" in text for text in report.problems)
    assert any("outside the folders" in text for text in report.problems)


def test_files_that_are_no_features_are_refused(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "f.npz"

    def refusal() -> str:
        with Gallery(photos) as gallery, pytest.raises(FeaturesError) as error:
            gallery.import_features(file)
        return str(error.value)

    assert "not a readable .npz" in refusal()
    file.write_bytes(b"rubbish")
    assert "f.npz" in refusal()
    np.savez(file, features=np.eye(3), paths=np.array(["a", "b", {}], dtype=object))
    assert "Python objects" in refusal()
    np.savez(file, features=np.eye(3))
    assert "Wanted: features (n, D) of numbers and paths (n,)" in refusal()
    np.savez(file, features=np.eye(3), paths=np.array(["a", "b"]))
    assert "3 rows and paths 2" in refusal()
    np.savez(file, features=np.full((2, 3), np.nan), paths=np.array(["a", "b"]))
    assert "NaN" in refusal()
    with file.open("wb") as out:
        np.save(out, np.eye(3))
    assert "one array" in refusal()
