from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.gallery.fake_model import FakeModel
from vitseek.errors import (
    FilterSyntaxError,
    GalleryEmptyError,
    GalleryMismatchError,
    GalleryNotFoundError,
    ImageNotFoundError,
    OutsideGalleryError,
    UsageError,
)
from vitseek.gallery.gallery import Gallery


def test_a_search_finds_the_image_itself_first_with_a_cosine_of_one(gallery: Gallery, photos: Path) -> None:
    best = gallery.search(photos / "red" / "red-1.png", k=3)
    assert len(best) == 3
    assert best[0].path == photos / "red" / "red-1.png"
    assert best[0].score == pytest.approx(1, abs=1e-6)
    assert [match.score for match in best] == sorted((match.score for match in best), reverse=True)
    assert (best[0].width, best[0].height, best[0].labels) == (71, 53, ("red",))


def test_scores_are_cosines_of_the_models_features(gallery: Gallery, photos: Path, model: FakeModel) -> None:
    paths = sorted(photos.glob("*/*.png"))
    features = model.embed(paths).astype(np.float64)
    query = features[2]
    expected = features @ query / (np.linalg.norm(features, axis=1) * np.linalg.norm(query))
    found = {match.path: match.score for match in gallery.search(paths[2], k=7)}
    np.testing.assert_allclose([found[path] for path in paths], expected, atol=1e-6)


def test_an_image_of_the_gallery_is_searched_without_the_model(
    gallery: Gallery, photos: Path, model: FakeModel
) -> None:
    before = model.seen
    gallery.search(photos / "blue" / "blue-0.png")
    gallery.search((photos / "blue" / "blue-0.png").read_bytes())
    gallery.search(gallery.image_id(photos / "blue" / "blue-0.png"))
    assert model.seen == before


def test_every_kind_of_query_gives_the_same_answer(gallery: Gallery, photos: Path, model: FakeModel) -> None:
    path = photos / "red" / "red-0.png"
    vector = model.embed([path])[0]
    answers = [
        gallery.search(query, k=7)
        for query in (path, str(path), path.read_bytes(), Image.open(path), gallery.image_id(path), vector)
    ]
    with path.open("rb") as stream:
        answers.append(gallery.search(stream, k=7))
    for answer in answers[1:]:
        assert [match.id for match in answer] == [match.id for match in answers[0]]
        np.testing.assert_allclose([m.score for m in answer], [m.score for m in answers[0]], atol=1e-6)


def test_several_queries_give_several_answers(gallery: Gallery, photos: Path, model: FakeModel) -> None:
    paths = [photos / "red" / "red-0.png", photos / "blue" / "blue-2.png"]
    by_list = gallery.search(paths, k=2)
    by_matrix = gallery.search(model.embed(paths), k=2)
    assert [answer[0].path for answer in by_list] == paths
    assert [[m.id for m in answer] for answer in by_list] == [[m.id for m in answer] for answer in by_matrix]
    assert gallery.search([]) == []


def test_the_query_and_its_copies_can_be_left_out(gallery: Gallery, photos: Path) -> None:
    path = photos / "red" / "red-0.png"
    (photos / "copy.png").write_bytes(path.read_bytes())
    gallery.index()
    assert [match.score for match in gallery.search(path, k=2)] == pytest.approx([1, 1])
    others = gallery.search(path, k=7, exclude_query=True)
    assert len(others) == 6
    assert not {match.path.name for match in others} & {"red-0.png", "copy.png"}


def test_a_filter_limits_the_answers(gallery: Gallery, photos: Path) -> None:
    found = gallery.search(photos / "red" / "red-0.png", k=10, where="label:blue")
    assert len(found) == 4
    assert all(match.labels == ("blue",) for match in found)
    assert gallery.search(photos / "red" / "red-0.png", where="width>5000") == []
    with pytest.raises(FilterSyntaxError):
        gallery.search(photos / "red" / "red-0.png", where="width>>1")


def test_k_larger_than_the_gallery_gives_everything(gallery: Gallery, photos: Path) -> None:
    assert len(gallery.search(photos / "red" / "red-0.png", k=1000)) == 7


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "3"])
def test_k_below_one_or_not_a_number_is_refused(gallery: Gallery, k: object) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        gallery.search(1, k=k)  # type: ignore[arg-type]


def test_a_vector_of_another_width_is_refused(gallery: Gallery) -> None:
    with pytest.raises(GalleryMismatchError, match="the query vector has 17 values"):
        gallery.search(np.ones(17, np.float32))


@pytest.mark.parametrize(
    "query", [np.ones((2, 3, 5)), np.array(["a", "b"]), np.full(13, np.nan), True], ids=["3-d", "text", "nan", "bool"]
)
def test_an_array_that_is_no_feature_vector_is_refused(gallery: Gallery, query: object) -> None:
    with pytest.raises(UsageError):
        gallery.search(query)  # type: ignore[call-overload]


def test_searching_before_indexing_says_what_to_do(tmp_path: Path, model: FakeModel) -> None:
    with Gallery(tmp_path, model=model) as gallery, pytest.raises(GalleryEmptyError, match="vitseek index"):
        gallery.search(np.ones(13))


def test_a_model_of_another_space_is_refused(gallery: Gallery, photos: Path) -> None:
    large = FakeModel(name="fake-large", seed=7, embed_dim=17)
    with Gallery(photos, model=large) as other, pytest.raises(GalleryMismatchError) as refusal:
        other.search(photos / "red" / "red-0.png")
    text = str(refusal.value)
    assert "holds fake-small (13-d) vectors, but the query uses fake-large (17-d)" in text
    assert "vitseek index" in text


def test_the_same_model_with_other_weights_is_refused(gallery: Gallery, photos: Path) -> None:
    with Gallery(photos, model=FakeModel(seed=7)) as other, pytest.raises(GalleryMismatchError, match="weights sha256"):
        other.search(photos / "red" / "red-0.png")


def test_two_spaces_live_side_by_side(gallery: Gallery, photos: Path, model: FakeModel) -> None:
    large = FakeModel(name="fake-large", seed=7, embed_dim=17)
    report = gallery.index(model=large)
    assert (report.filled, report.new, report.embedded) == (7, 0, 7)
    ids, matrix = gallery.vectors("fake-large")
    assert matrix.shape == (7, 17)
    assert gallery.vectors()[1].shape == (7, 13)
    assert ids.tolist() == gallery.vectors()[0].tolist()
    assert [space.name for space in gallery.status().spaces if space.default] == ["fake-small"]
    assert len(gallery.search(ids[0].item(), space="fake-large")) == 7
    with pytest.raises(GalleryMismatchError, match="'fake-small', 'fake-large'"):
        gallery.search(1, space="nothing")


def test_images_are_described(gallery: Gallery, photos: Path) -> None:
    record = gallery.image(gallery.image_id(photos / "blue" / "blue-3.png"))
    file = photos / "blue" / "blue-3.png"
    assert record.path == file
    assert record.relative_path == "blue/blue-3.png"
    assert record.root == photos
    assert (record.width, record.height, record.bytes) == (71, 53, file.stat().st_size)
    assert record.modified.timestamp() == pytest.approx(file.stat().st_mtime, abs=1e-3)
    assert record.status == "ok"
    assert record.labels == ("blue",)


def test_unknown_ids_and_outside_paths_are_told_apart(gallery: Gallery, photos: Path) -> None:
    with pytest.raises(ImageNotFoundError, match="no image 999"):
        gallery.image(999)
    with pytest.raises(ImageNotFoundError, match="no image 999"):
        gallery.search(999)
    assert gallery.image_id(photos / "red" / "nothing.png") is None
    with pytest.raises(OutsideGalleryError, match="outside gallery 'photos'"):
        gallery.image_id("/etc/passwd")
    with pytest.raises(OutsideGalleryError, match="outside gallery 'photos'"):
        gallery.remove(photos.parent / "elsewhere.png")


def test_images_are_listed_by_pages_and_filters(gallery: Gallery) -> None:
    everything = [record.id for record in gallery.images()]
    assert everything == sorted(everything)
    assert len(everything) == 7
    assert [record.id for record in gallery.images(limit=3, offset=2)] == everything[2:5]
    assert len(list(gallery.images("label:red"))) == 3
    with pytest.raises(UsageError):
        gallery.images(limit=-1)


def test_opening_a_folder_without_an_index_can_be_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryNotFoundError, match="vitseek index"):
        Gallery(tmp_path, create=False)
    assert not (tmp_path / ".vitseek").exists()
    with pytest.raises(GalleryNotFoundError, match="not a folder"):
        Gallery(tmp_path / "nothing")
