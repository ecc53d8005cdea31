import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.gallery.conftest import Draw
from tests.gallery.fake_model import FakeModel
from vitseek.errors import GalleryNotFoundError, OutsideGalleryError, UsageError, WeightsError
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.records import IndexProgress


def names(gallery: Gallery) -> dict[str, int]:
    return {record.relative_path: record.id for record in gallery.images()}


def test_the_first_run_embeds_every_image_and_the_second_none(photos: Path, model: FakeModel) -> None:
    with Gallery(photos, model=model) as gallery:
        first = gallery.index()
        second = gallery.index()
    assert (first.new, first.unchanged, first.images) == (7, 0, 7)
    assert (second.new, second.unchanged, second.images) == (0, 7, 7)
    assert model.seen == 7


def test_a_run_without_news_neither_reads_files_nor_loads_the_model(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(photos)
    gallery.index()  # notes the older times

    def forbidden(*_: object) -> None:
        raise AssertionError("an unchanged file costs a stat and nothing else")

    monkeypatch.setattr("vitseek.gallery.indexing.read_image", forbidden)
    with Gallery(photos) as other:
        monkeypatch.setattr(other._models, "of", forbidden)
        assert other.index().unchanged == 7


def test_a_renamed_file_keeps_its_id_vector_and_labels(gallery: Gallery, photos: Path, model: FakeModel) -> None:
    old = gallery.image_id(photos / "red" / "red-0.png")
    gallery.add_labels([old], "mine")
    (photos / "red" / "red-0.png").rename(photos / "blue" / "renamed.png")
    report = gallery.index()
    assert (report.renamed, report.new, report.removed, report.embedded) == (1, 0, 0, 0)
    assert gallery.image_id(photos / "blue" / "renamed.png") == old
    assert gallery.image(old).labels == ("blue", "mine")
    assert model.seen == 7


def test_a_moved_folder_is_renamed_as_a_whole(gallery: Gallery, photos: Path, model: FakeModel) -> None:
    before = names(gallery)
    (photos / "red").rename(photos / "crimson")
    report = gallery.index()
    assert report.renamed == 3
    assert model.seen == 7
    assert names(gallery) == {path.replace("red/", "crimson/"): number for path, number in before.items()}


def test_two_files_that_swap_names_swap_ids_and_labels(gallery: Gallery, photos: Path, model: FakeModel) -> None:
    a, b, spare = (photos / "red" / name for name in ("red-0.png", "red-1.png", "spare"))
    first, second = gallery.image_id(a), gallery.image_id(b)
    gallery.add_labels([first], "first")
    a.rename(spare)
    b.rename(a)
    spare.rename(b)
    report = gallery.index()
    assert (gallery.image_id(a), gallery.image_id(b)) == (second, first)
    assert "first" in gallery.image(first).labels
    assert "first" not in gallery.image(second).labels
    assert model.seen == 7
    assert (report.renamed, report.new, report.changed, report.removed) == (2, 0, 0, 0)


def test_a_swap_of_equal_size_and_time_is_seen_by_the_change_time(tmp_path: Path, draw: Draw, model: FakeModel) -> None:
    a, b = draw(tmp_path / "a.bmp", 1), draw(tmp_path / "b.bmp", 2)
    for path in (a, b):
        os.utime(path, ns=(10**18, 10**18))
    assert a.stat().st_size == b.stat().st_size
    with Gallery(tmp_path, model=model) as gallery:
        gallery.index()
        first = gallery.image_id(a)
        a.rename(tmp_path / "c")
        b.rename(a)
        (tmp_path / "c").rename(b)
        gallery.index()
        assert gallery.image_id(b) == first


def test_an_edited_file_gets_a_new_id_and_keeps_its_labels(gallery: Gallery, photos: Path, draw: Draw) -> None:
    path = photos / "red" / "red-0.png"
    old = gallery.image_id(path)
    gallery.add_labels([old], ["keep", "also this"])
    draw(path, 99)
    report = gallery.index()
    new = gallery.image_id(path)
    assert (report.changed, report.embedded, report.removed) == (1, 1, 0)
    assert new != old
    assert gallery.image(new).labels == ("also this", "keep", "red")
    assert gallery.image(new).width == 23
    assert old not in names(gallery).values()


def test_a_file_edited_twice_within_the_clocks_step_is_not_missed(tmp_path: Path, draw: Draw, model: FakeModel) -> None:
    path = draw(tmp_path / "a.bmp", 1)
    with Gallery(tmp_path, model=model) as gallery:
        gallery.index()
        times = path.stat()
        draw(path, 2)  # same size
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert gallery.index().changed == 1


def test_deleted_images_never_come_back_in_results(gallery: Gallery, photos: Path) -> None:
    gone = gallery.image_id(photos / "red" / "red-0.png")
    (photos / "red" / "red-0.png").unlink()
    report = gallery.index()
    assert (report.removed, report.images) == (1, 6)
    assert gone not in {match.id for match in gallery.search(photos / "red" / "red-1.png", k=100)}


def test_ids_of_deleted_images_are_never_given_again(gallery: Gallery, photos: Path, draw: Draw) -> None:
    highest = max(names(gallery).values())
    for path in photos.glob("blue/*.png"):
        path.unlink()
    gallery.index()
    draw(photos / "new.png", 3)
    gallery.index()
    assert gallery.image_id(photos / "new.png") > highest


def test_copies_of_one_picture_are_embedded_once(tmp_path: Path, draw: Draw, model: FakeModel) -> None:
    first = draw(tmp_path / "a.png", 1)
    for name in ("b.png", "c.png", "d.png"):
        shutil.copy(first, tmp_path / name)
    with Gallery(tmp_path, model=model) as gallery:
        report = gallery.index()
        assert (report.new, report.duplicates, report.embedded) == (4, 3, 1)
        assert model.seen == 1
        shutil.copy(first, tmp_path / "e.png")
        report = gallery.index()
        assert (report.new, report.duplicates, report.embedded) == (1, 1, 0)
        assert [match.score for match in gallery.search(first)] == pytest.approx([1] * 5)


def test_unreadable_files_are_recorded_and_not_tried_again(photos: Path, model: FakeModel) -> None:
    bad = photos / "red" / "bad.jpg"
    bad.write_text("this is not an image")
    settle(photos)
    with Gallery(photos, model=model) as gallery:
        report = gallery.index()
        assert (report.new, report.unreadable, report.unreadable_new) == (7, 1, 1)
        assert report.problems[0].path == bad
        assert "not an image" in report.problems[0].reason
        [record] = gallery.unreadable()
        assert (record.path, record.status) == (bad, "unreadable")
        again = gallery.index()
        assert (again.unreadable, again.unreadable_new, again.unchanged) == (1, 0, 8)
        assert again.problems[0].path == bad


def test_an_unreadable_file_that_is_repaired_is_indexed(photos: Path, draw: Draw, model: FakeModel) -> None:
    bad = photos / "red" / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    with Gallery(photos, model=model) as gallery:
        gallery.index()
        draw(bad, 5)
        report = gallery.index()
        assert (report.changed, report.unreadable, report.images) == (1, 0, 8)
        assert gallery.image(gallery.image_id(bad)).reason is None


def test_a_picture_that_becomes_unreadable_leaves_the_results(gallery: Gallery, photos: Path) -> None:
    path = photos / "red" / "red-0.png"
    gallery.add_labels([gallery.image_id(path)], "mine")
    path.write_bytes(path.read_bytes()[:100])
    report = gallery.index()
    assert (report.images, report.unreadable) == (6, 1)
    assert path not in {match.path for match in gallery.search(1, k=100)}
    assert "mine" in next(gallery.unreadable()).labels


def test_a_missing_root_is_offline_and_loses_nothing(tmp_path: Path, photos: Path, model: FakeModel) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with Gallery(home, roots=[photos], model=model) as gallery:
        gallery.index()
        photos.rename(tmp_path / "unplugged")
        report = gallery.index()
        assert (report.removed, report.images, report.kept) == (0, 7, 7)
        assert [problem.path for problem in report.offline] == [photos]
        assert not gallery.status().roots[0].online
        (tmp_path / "unplugged").rename(photos)
        assert gallery.index().unchanged == 7


def test_an_empty_root_is_taken_for_an_unmounted_disk(gallery: Gallery, photos: Path) -> None:
    for kind in ("red", "blue"):
        shutil.rmtree(photos / kind)
    report = gallery.index()
    assert (report.removed, report.images) == (0, 7)
    assert report.offline[0].reason == "is empty"
    report = gallery.index(forget_missing=True)
    assert (report.removed, report.images) == (7, 0)


def test_a_lost_mount_below_a_root_keeps_its_images(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a mount looks like from here: a folder on another device than its parent.
    gallery._catalog.database.write_many("INSERT INTO mounts (root_id, raw_path) VALUES (?, ?)", [(1, b"red/")])
    shutil.rmtree(photos / "red")
    (photos / "red").mkdir()
    report = gallery.index()
    assert (report.removed, report.images) == (0, 7)
    assert report.offline[0].path == photos / "red"
    assert gallery.index().images == 7
    assert gallery.index(forget_missing=True).removed == 3
    assert gallery.index().offline == []


def test_only_what_is_named_is_looked_at(gallery: Gallery, photos: Path, draw: Draw) -> None:
    draw(photos / "red" / "new.png", 1)
    draw(photos / "blue" / "new.png", 2)
    (photos / "blue" / "blue-0.png").unlink()
    report = gallery.index(photos / "red")
    assert (report.new, report.removed) == (1, 0)
    report = gallery.index([photos / "blue" / "new.png"])
    assert (report.new, report.removed) == (1, 0)
    assert gallery.index().removed == 1


def test_a_deleted_folder_can_be_named(gallery: Gallery, photos: Path) -> None:
    shutil.rmtree(photos / "red")
    assert gallery.index(photos / "red").removed == 3


def test_a_move_into_a_part_that_was_indexed_alone_is_still_a_move(gallery: Gallery, photos: Path) -> None:
    number = gallery.image_id(photos / "red" / "red-0.png")
    gallery.add_labels([number], "mine")
    (photos / "red" / "red-0.png").rename(photos / "blue" / "here.png")
    gallery.index(photos / "blue")
    gallery.index()
    assert gallery.image_id(photos / "blue" / "here.png") == number
    assert "mine" in gallery.image(number).labels


def test_a_file_outside_every_root_is_refused_and_a_folder_becomes_a_root(
    gallery: Gallery, tmp_path: Path, draw: Draw
) -> None:
    other = draw(tmp_path / "elsewhere" / "x.png", 4)
    with pytest.raises(OutsideGalleryError, match="vitseek index"):
        gallery.index(other)
    with pytest.raises(GalleryNotFoundError, match="does not exist"):
        gallery.index(tmp_path / "nothing")
    assert gallery.index(other.parent).new == 1
    assert gallery.roots == [gallery.path, other.parent]
    assert gallery.index().unchanged == 8


def test_a_root_inside_a_root_is_not_indexed_twice(tmp_path: Path, photos: Path, model: FakeModel) -> None:
    with Gallery(photos, model=model) as gallery:
        gallery.index()
        before = {record.path: record.id for record in gallery.images()}
    with Gallery(photos, roots=[photos / "red"], model=model) as gallery:
        report = gallery.index()
        assert (report.images, report.removed) == (7, 0)
        assert {record.path: record.id for record in gallery.images()} == before


def test_a_gallery_can_be_moved_with_its_folder(gallery: Gallery, photos: Path, model: FakeModel) -> None:
    gallery.close()
    moved = photos.with_name("moved")
    photos.rename(moved)
    with Gallery(moved, model=model) as again:
        report = again.index()
        assert (report.unchanged, report.new, report.removed) == (7, 0, 0)
        assert all(record.path.is_file() for record in again.images())
        assert again.search(moved / "red" / "red-0.png")[0].path == moved / "red" / "red-0.png"


def test_removed_images_stay_out_until_they_are_taken_back(gallery: Gallery, photos: Path, model: FakeModel) -> None:
    before = names(gallery)
    assert gallery.remove(photos / "red") == 3
    assert gallery.count() == 4
    assert gallery.index().images == 4
    assert gallery.status().removed == 3
    (photos / "red" / "red-0.png").rename(photos / "red" / "other.png")
    assert gallery.index().images == 4
    report = gallery.index(restore_removed=True)
    assert (report.restored, report.images) == (3, 7)
    assert names(gallery)["red/other.png"] == before["red/red-0.png"]
    assert all(path.is_file() for path in photos.glob("*/*.png"))


def test_removal_takes_ids_files_folders_and_filters(gallery: Gallery, photos: Path) -> None:
    assert gallery.remove(gallery.image_id(photos / "red" / "red-0.png")) == 1
    assert gallery.remove([photos / "red" / "red-1.png"], where="path:*blue-3*") == 2
    assert sorted(names(gallery)) == ["blue/blue-0.png", "blue/blue-1.png", "blue/blue-2.png", "red/red-2.png"]


def test_vectors_of_removed_images_are_deleted(gallery: Gallery) -> None:
    gallery.remove(where="label:red")
    assert gallery._catalog.database.value("SELECT count(*) FROM vectors") == 4


def test_a_whole_root_can_leave(gallery: Gallery, tmp_path: Path, draw: Draw) -> None:
    other = draw(tmp_path / "elsewhere" / "x.png", 4).parent
    gallery.index(other)
    shutil.rmtree(other)
    assert gallery.remove(other) == 1
    assert gallery.roots == [gallery.path]


def test_folder_labels_follow_the_folder_and_can_be_switched_off(gallery: Gallery, photos: Path, draw: Draw) -> None:
    draw(photos / "top.png", 1)
    draw(photos / "red" / "deep" / "er.png", 2)
    gallery.index()  # the setting is remembered
    labels = {record.relative_path: record.labels for record in gallery.images()}
    assert labels["top.png"] == ()
    assert labels["red/deep/er.png"] == ("red",)
    gallery.add_labels([1], "mine")
    gallery.index(labels_from_folders=False)
    assert gallery.status().labels == {"mine": 1}


def test_labels_are_checked_and_counted(gallery: Gallery) -> None:
    gallery.add_labels([1, 2], ["x", " two  words "])
    assert gallery.status().labels == {"blue": 4, "red": 3, "two words": 2, "x": 2}
    gallery.remove_labels([1], ["x", "never there"])
    assert gallery.image(1).labels == ("blue", "two words")
    with pytest.raises(UsageError):
        gallery.add_labels([1], "")


def test_the_date_is_when_the_picture_was_taken(tmp_path: Path, model: FakeModel, rng: np.random.Generator) -> None:
    from PIL import Image

    image = Image.fromarray(rng.integers(0, 255, (19, 29, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2019:05:17 08:09:10"
    exif[0x0112] = 6
    image.save(tmp_path / "taken.jpg", exif=exif)
    image.save(tmp_path / "plain.png")
    os.utime(tmp_path / "plain.png", (1_500_000_000, 1_500_000_000))
    with Gallery(tmp_path, model=model) as gallery:
        gallery.index()
        taken = gallery.image(gallery.image_id(tmp_path / "taken.jpg"))
        plain = gallery.image(gallery.image_id(tmp_path / "plain.png"))
        assert taken.date.isoformat() == "2019-05-17T08:09:10"
        assert (taken.width, taken.height) == (19, 29)  # turned upright
        assert plain.date.timestamp() == 1_500_000_000
        assert [record.id for record in gallery.images("date>=2019-05-17 date<2019-05-18")] == [taken.id]


def test_pictures_of_several_shapes_are_embedded_in_batches_of_their_own(tmp_path: Path, model: FakeModel) -> None:
    from PIL import Image

    from vitseek.preprocess.image import ImagePreprocessing

    class AnyShape(FakeModel):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            self.seen += len(pixels)
            shapes.append(pixels.shape)
            return pixels.mean(axis=(2, 3)) @ np.ones((3, self.embed_dim), np.float32) + np.arange(13)

    shapes: list[tuple[int, ...]] = []
    for number, size in enumerate([(20, 30), (30, 20), (20, 60), (20, 30), (30, 20)]):
        Image.new("RGB", size, (number * 40, 10, 200)).save(tmp_path / f"{number}.png")
    flexible = AnyShape(preprocessing=ImagePreprocessing(policy="short-side", size_px=16, patch_size_px=8))
    with Gallery(tmp_path, model=flexible) as gallery:
        assert gallery.index(batch_size=2).images == 5
    assert sorted(shapes) == [(1, 3, 48, 16), (2, 3, 16, 24), (2, 3, 24, 16)]


def test_progress_counts_up_to_the_total(photos: Path, model: FakeModel) -> None:
    steps: list[IndexProgress] = []
    with Gallery(photos, model=model) as gallery:
        gallery.index(batch_size=2, progress=steps.append)
    done = [step.done for step in steps if step.phase == "index"]
    assert done == sorted(done)
    assert steps[-1].phase == "finish"
    assert (steps[-1].done, steps[-1].total, steps[-1].saved) == (7, 7, 7)


def test_an_interrupted_run_keeps_what_was_embedded_and_the_next_goes_on(photos: Path, model: FakeModel) -> None:
    def stop(progress: IndexProgress) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    with Gallery(photos, model=model) as gallery:
        with pytest.raises(KeyboardInterrupt):
            gallery.index(batch_size=2, progress=stop)
        assert gallery.count() == 4
        assert gallery.status().last_run["finished"] is None
        report = gallery.index()
        assert (report.new, report.unchanged) == (3, 4)
        assert model.seen == 7


def test_a_model_that_fails_leaves_a_usable_gallery(photos: Path) -> None:
    class Failing(FakeModel):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            if self.seen >= 4:
                raise RuntimeError("out of luck")
            return super().embed_pixels(pixels)

    with Gallery(photos, model=Failing()) as gallery:
        with pytest.raises(RuntimeError, match="out of luck"):
            gallery.index(batch_size=2)
        assert len(gallery.search(1)) == 4


def test_features_that_are_not_numbers_are_refused_with_a_reason(photos: Path) -> None:
    class Broken(FakeModel):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            features = super().embed_pixels(pixels)
            features[0] = np.nan
            return features

    with Gallery(photos, model=Broken()) as gallery:
        report = gallery.index(batch_size=7)
    assert (report.images, report.unreadable) == (6, 1)
    assert "infinite or undefined features" in report.problems[0].reason


def test_a_picture_that_one_model_fails_on_stays_in_the_other_space(photos: Path) -> None:
    class Broken(FakeModel):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            features = super().embed_pixels(pixels)
            features[0] = np.nan
            return features

    with Gallery(photos, model=FakeModel()) as gallery:
        gallery.index()
        report = gallery.index(model=Broken(name="broken"), batch_size=7)
        assert report.unreadable == 0
        [note] = [note for note in report.notes if "infinite or undefined features" in note]
        assert note.endswith("has no vector in this space: the model broken gave infinite or undefined features for it")
        assert {space.name: space.images for space in gallery.status().spaces} == {"fake-small": 7, "broken": 6}
        assert len(gallery.search(1, k=9)) == 7


def test_a_model_that_gives_no_numbers_at_all_is_refused_and_leaves_the_other_space_as_it_is(photos: Path) -> None:
    class Undefined(FakeModel):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            return np.full_like(super().embed_pixels(pixels), np.nan)

    with Gallery(photos, model=FakeModel()) as gallery:
        gallery.index()
        with pytest.raises(WeightsError, match="the model undefined gives infinite or undefined features"):
            gallery.index(model=Undefined(name="undefined"))
        assert len(gallery.search(1)) == 7
        assert gallery.status().unreadable == 0


def test_a_model_of_zeros_is_refused_and_leaves_the_other_space_as_it_is(photos: Path) -> None:
    class Empty(FakeModel):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            return np.zeros_like(super().embed_pixels(pixels))

    with Gallery(photos, model=FakeModel()) as gallery:
        gallery.index()
        with pytest.raises(WeightsError, match="the model empty makes zeros alone of every picture"):
            gallery.index(model=Empty(name="empty"))
        assert len(gallery.search(1)) == 7


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"workers": 0}])
def test_impossible_options_are_refused(gallery: Gallery, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        gallery.index(**options)


def test_an_empty_folder_needs_no_model(tmp_path: Path) -> None:
    with Gallery(tmp_path, model="no such model") as gallery:
        report = gallery.index()
    assert (report.images, report.space) == (0, "")


def settle(folder: Path) -> None:
    """Make files old: one written a moment ago is read again, because its time proves nothing yet."""
    import time

    for path in folder.rglob("*.*"):
        if path.is_file() and ".vitseek" not in path.parts:
            os.utime(path, (1_600_000_000, 1_600_000_000))
    time.sleep(2.1)  # the change time cannot be set
