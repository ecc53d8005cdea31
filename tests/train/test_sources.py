from pathlib import Path

import pytest

from vitseek.errors import TrainingError, UsageError
from vitseek.train.sources import (
    NO_LABEL,
    hold_out_indices,
    read_captions,
    read_images,
    read_labelled,
)


def test_a_folder_of_classes_is_read_in_one_order_with_labels_by_name(classes: Path) -> None:
    images = read_labelled(classes)
    assert images.classes == ("blue", "green", "red")
    assert [images.labels.count(label) for label in range(3)] == [5, 7, 11]
    assert images.paths == sorted(images.paths)


def test_a_folder_that_does_not_exist_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist: --data is a folder of images or a CSV file"):
        read_labelled(tmp_path / "nowhere")


def test_one_class_is_refused_and_named(classes: Path) -> None:
    for name in ("green", "blue"):
        for file in (classes / name).iterdir():
            file.unlink()
        (classes / name).rmdir()
    with pytest.raises(TrainingError, match="one class only, 'red': a classifier needs two or more"):
        read_labelled(classes)


def test_an_empty_class_is_refused_and_named(classes: Path) -> None:
    (classes / "violet").mkdir()
    (classes / "violet" / "notes.txt").write_text("no image")
    with pytest.raises(TrainingError, match=r"class 'violet' of .* has no image. Put images there"):
        read_labelled(classes)


def test_a_folder_without_class_folders_says_what_is_expected(classes: Path) -> None:
    with pytest.raises(TrainingError, match=r"no class folders. A classifier needs .*/CLASS/\*\.jpg"):
        read_labelled(classes / "red")


def test_hidden_files_and_folders_are_no_images(classes: Path) -> None:
    (classes / ".thumbnails").mkdir()
    (classes / "red" / "._0.png").write_bytes(b"resource fork")
    assert len(read_labelled(classes)) == 23


def test_a_csv_file_names_paths_relative_to_itself(classes: Path) -> None:
    table = classes / "labels.csv"
    table.write_text("\ufeffpath,label,note\nred/0.png,warm,x\nred/1.png,warm\nblue/0.png,cold,\n", encoding="utf-8")
    images = read_labelled(table)
    assert images.classes == ("cold", "warm")
    assert images.labels == [1, 1, 0]
    assert images.paths[0] == classes / "red" / "0.png"


def test_csv_paths_that_do_not_exist_are_skipped_and_listed(classes: Path) -> None:
    table = classes / "labels.csv"
    table.write_text("path,label\nred/0.png,warm\ngone.png,warm\nblue/0.png,cold\n")
    images = read_labelled(table)
    assert len(images) == 2
    assert [(file.path.name, file.reason) for file in images.skipped] == [("gone.png", "does not exist")]


def test_a_csv_file_in_which_nothing_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\na.png,x\nb.png,y\n")
    with pytest.raises(TrainingError, match="names 2 images and none of them exists"):
        read_labelled(tmp_path / "labels.csv")


def test_a_csv_file_without_its_columns_says_which_and_what_came(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file;class\na.png;x\n")
    with pytest.raises(
        UsageError, match="lacks the column path, label: its first line must be path,label, and is file;"
    ):
        read_labelled(tmp_path / "labels.csv")


def test_rows_without_a_label_are_refused_with_their_lines(classes: Path) -> None:
    (classes / "labels.csv").write_text("path,label\nred/0.png,warm\nred/1.png,\nblue/0.png\n")
    with pytest.raises(TrainingError, match="rows without a label: line '3', '4'"):
        read_labelled(classes / "labels.csv")


def test_labels_that_training_does_not_know_are_refused_and_named(classes: Path) -> None:
    (classes / "validation.csv").write_text("path,label\nred/0.png,red\nblue/0.png,turquoise\n")
    with pytest.raises(TrainingError, match=r"labels that the training images do not have: 'turquoise' \(training has"):
        read_labelled(classes / "validation.csv", classes=("blue", "green", "red"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"path,label\n\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not a CSV file in UTF-8"):
        read_labelled(tmp_path / "labels.csv")


def test_unlabelled_reading_keeps_classes_where_there_are_any(classes: Path) -> None:
    (classes / "red" / "0.png").rename(classes / "loose.png")
    images = read_images(classes)
    assert len(images) == 23
    assert images.labels[images.paths.index(classes / "loose.png")] == NO_LABEL
    assert images.classes == ("blue", "green", "red")


def test_captions_of_an_image_are_kept_together_and_missing_images_listed(classes: Path) -> None:
    table = classes / "captions.csv"
    table.write_text('image,caption\nred/0.png,"A red, noisy one ."\ngone.png,x\nred/0.png,Noise .\nblue/1.png,Blue\n')
    found = read_captions(table)
    assert found.captions == [("A red, noisy one .", "Noise ."), ("Blue",)]
    assert [file.path.name for file in found.skipped] == ["gone.png"]
    assert len(read_captions(table, classes)) == 2


def test_captions_without_any_image_say_where_they_were_looked_for(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("image,caption\na.png,x\n")
    with pytest.raises(TrainingError, match=r"none of the 1 images .* Say where they are with --images"):
        read_captions(tmp_path / "captions.csv")


def test_holding_out_takes_a_part_of_every_class_and_is_the_same_each_time(classes: Path) -> None:
    images = read_labelled(classes)
    kept, held = hold_out_indices(images, 0.2, seed=3)
    assert sorted(kept + held) == list(range(23))
    assert [[images.labels[i] for i in held].count(label) for label in range(3)] == [1, 1, 2]
    assert (kept, held) == hold_out_indices(images, 0.2, seed=3)
    assert held != hold_out_indices(images, 0.2, seed=4)[1]


def test_a_class_of_one_image_cannot_be_held_out(classes: Path) -> None:
    for number in range(1, 5):
        (classes / "blue" / f"{number}.png").unlink()
    with pytest.raises(TrainingError, match="'blue' has a single image"):
        hold_out_indices(read_labelled(classes), 0.2, seed=0)


@pytest.mark.parametrize("part", [0.0, 1.0, -0.5])
def test_a_held_out_part_lies_between_nothing_and_all(classes: Path, part: float) -> None:
    with pytest.raises(UsageError, match="--holdout is a part between 0 and 1"):
        hold_out_indices(read_labelled(classes), part, seed=0)


def test_the_fingerprint_tells_other_images_and_labels_apart(classes: Path) -> None:
    images = read_labelled(classes)
    assert images.fingerprint() == read_labelled(classes).fingerprint()
    assert images.fingerprint() != images.subset(range(22)).fingerprint()
    images.labels[0] = 2
    assert images.fingerprint() != read_labelled(classes).fingerprint()
