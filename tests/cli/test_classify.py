"""`vitseek classify` and `vitseek label` as a user calls them, on drawn pictures, with the tiny model of two towers."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.cli.tiny_model import write_tiny_model
from vitseek.cli.predicted import written
from vitseek.gallery.gallery import Gallery
from vitseek.models.config import ViTConfig, parameter_shapes
from vitseek.sample import draw_gallery

TINY_CLIP = Path(__file__).resolve().parents[1] / "fixtures" / "tiny-clip" / "tiny-clip.safetensors"
KINDS = "balloon, butterfly, cat, city, fish, flower, forest, house, mountains, sailboat, snowman, sunset"
CHANCE = 1 / 12


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve kinds, five pictures each, drawn with a seed that the model was not trained with."""
    folder = tmp_path_factory.mktemp("drawn") / "pictures"
    folder.mkdir()
    draw_gallery(folder, seed=7, per_kind=5)
    return folder


@pytest.fixture(scope="module")
def indexed(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = tmp_path_factory.mktemp("indexed") / "gallery"
    index.mkdir()
    with Gallery(index, roots=[drawn], model=TINY_CLIP) as gallery:
        gallery.index(labels_from_folders=True)
    return index


@pytest.fixture
def words(indexed: Path, tmp_path: Path) -> Path:
    """A gallery of these pictures with the vectors of the tiny model, labelled by folders."""
    return Path(shutil.copytree(indexed, tmp_path / "gallery"))


def write_headed_model(
    folder: Path, *, classes: int = 5, labels: list[str] | None = None, pooling: str = "cls"
) -> Path:
    """Random weights with a head; stored features are what it sees where the pooling is "cls"."""
    write_tiny_model(folder)
    facts = json.loads((folder / "config.json").read_text())
    config = ViTConfig.from_dict(facts["config"] | {"num_classes": 5})
    rng = np.random.default_rng(11)
    weights = {k: rng.normal(0, 0.3, s).astype(np.float32) for k, s in sorted(parameter_shapes(config).items())}
    save_file(weights, folder / "model.safetensors")
    facts |= {"config": config.to_dict(), "labels": labels, "pooling": pooling, "name": f"headed-{pooling}"}
    (folder / "config.json").write_text(json.dumps(facts))
    return folder


def test_words_label_a_gallery_without_opening_an_image(run_command: Callable, words: Path, drawn: Path) -> None:
    done = run_command("classify", "zero-shot", "--labels", KINDS, "--gallery", words, "--json")
    assert done.status == 0, done.err
    facts = json.loads(done.out)
    assert (facts["images"], facts["labelled"], facts["saved"], facts["from_vectors"]) == (60, 60, True, True)
    assert sum(one["images"] for one in facts["labels"]) == 60
    assert all(Path(path).is_relative_to(drawn) for one in facts["labels"] for path in one["examples"])
    with Gallery(words) as gallery:
        records = list(gallery.images())
    right = sum(record.predictions[0].label == record.labels[0] for record in records)
    assert right / len(records) > 6 * CHANCE  # measured: 0.95
    assert "vitseek label remove --source zero-shot" in done.err


def test_counts_are_a_table_with_bars_examples_and_what_to_do_next(run_command: Callable, words: Path) -> None:
    done = run_command("classify", "zero-shot", "--labels", "cat, hot-air balloon,", "--gallery", words)
    assert done.status == 0
    assert "█" in done.out
    assert ".jpg" in done.out or ".png" in done.out
    assert "1 empty label was left out" in done.err
    with Gallery(words) as gallery:
        counted = gallery.status().labels_by_source["zero-shot"]
    for label, count in counted.items():
        assert f"{label} " in done.out
        assert f" {count} " in done.out
    assert "predicted:" in done.err


def test_a_dry_run_writes_nothing_and_csv_has_a_line_for_each_label(run_command: Callable, words: Path) -> None:
    done = run_command(
        "classify", "zero-shot", "--labels", "cat, dog", "--top", 2, "--dry-run", "--csv", "--gallery", words
    )
    rows = list(csv.reader(io.StringIO(done.out)))
    assert rows[0] == ["path", "label", "probability", "source", "id"]
    assert len(rows) == 1 + 2 * 60
    by_image: dict[str, float] = {}
    for path, _, probability, source, _ in rows[1:]:
        by_image[path] = by_image.get(path, 0) + float(probability)
        assert source == "zero-shot"
    assert all(abs(total - 1) < 1e-4 for total in by_image.values())
    assert "nothing was written" in done.err
    with Gallery(words) as gallery:
        assert list(gallery.status().labels_by_source) == ["folder"]


def test_a_second_run_replaces_its_source_and_leaves_the_others(run_command: Callable, words: Path) -> None:
    common = ("--gallery", words)
    run_command("label", "add", "cat", "--where", "path:cat/*", *common)
    run_command("classify", "zero-shot", "--labels", "cat, house", *common)
    run_command("classify", "zero-shot", "--labels", "day, night", "--source", "light", *common)
    run_command("classify", "zero-shot", "--labels", "fish, flower", *common)
    run_command("classify", "zero-shot", "--labels", "forest, city", "--where", "path:fish/*", *common)
    with Gallery(words) as gallery:
        by_source = gallery.status().labels_by_source
        assert by_source["user"] == {"cat": 5}
        assert set(by_source["light"]) <= {"day", "night"}
        assert set(by_source["zero-shot"]) <= {"fish", "flower", "forest", "city"}
        assert gallery.count("predicted:forest or predicted:city") == 5
        assert gallery.count("path:fish/* source:zero-shot (predicted:fish or predicted:flower)") == 0
        assert gallery.count("predicted:fish or predicted:flower") == 55


def test_other_things_compete_and_are_never_written(run_command: Callable, words: Path) -> None:
    options = ("classify", "zero-shot", "--labels", "cat", "--gallery", words)
    alone = run_command(*options)
    assert alone.status == 2
    assert "every picture would get it" in alone.err
    others = [part for kind in KINDS.split(", ") if kind != "cat" for part in ("--other", kind)]
    done = run_command(*options, *others, "--json")
    facts = json.loads(done.out)
    assert facts["images"] == 60
    assert 0 < facts["labelled"] < 15
    assert [one["label"] for one in facts["labels"]] == ["cat"]
    with Gallery(words) as gallery:
        found = [record.labels[0] for record in gallery.images("predicted:cat")]
    assert found.count("cat") > len(found) / 2
    clash = run_command(*options, "--other", "CAT")
    assert clash.status == 2
    assert "'CAT' cannot be a label and something else" in clash.err


def test_templates_and_labels_come_from_files_too(run_command: Callable, words: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("# kinds\ncat\nhouse, red or white\n\nCat\n")
    (tmp_path / "prompts.txt").write_text("a picture of {}\na drawing of {}\n")
    done = run_command(
        "classify", "zero-shot", "--labels-file", tmp_path / "labels.txt", "--template-file", tmp_path / "prompts.txt",
        "--template", "{}", "--gallery", words, "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert {one["label"] for one in json.loads(done.out)["labels"]} == {"cat", "house, red or white"}
    with Gallery(words) as gallery:
        [status] = gallery.status().predictions
    assert status.details["templates"] == ["{}", "a picture of {}", "a drawing of {}"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "which labels?"),
        (("--labels", " , ,"), "there is no label"),
        (("--labels", 'cat, "dog'), "double quotes"),
        (("--labels", "cat, dog", "--template", "a photo"), "has no {}"),
        (("--labels", "cat, dog", "--threshold", "1.5"), "probability from 0 to 1"),
        (("--labels", "cat, dog", "--top", "0"), "'--top': 0 is not in the range x>=1"),
        (("--labels", "cat, dog", "--source", "user"), "facts"),
        (("--labels", "cat, dog", "--source", "two words"), "a source is a word"),
        (("--labels", "cat, dog", "--where", "label:("), "filter"),
        (("--labels", "cat, dog", "--json", "--csv"), "only one of"),
        (("--labels-file", "nowhere.txt"), "nowhere.txt cannot be read"),
    ],
)
def test_a_wrong_call_says_what_is_wanted(run_command: Callable, words: Path, arguments: tuple, problem: str) -> None:
    done = run_command("classify", "zero-shot", *arguments, "--gallery", words)
    assert done.status == 2
    assert problem in done.err
    assert done.out == ""


def test_a_space_without_words_names_the_way_out(run_command: Callable, photos: Path, tmp_path: Path) -> None:
    with Gallery(photos, model=write_tiny_model(tmp_path / "model")) as gallery:
        gallery.index()
    done = run_command("classify", "zero-shot", "--labels", "cat, dog", "--gallery", photos)
    assert done.status == 2
    assert "understands pictures only" in done.err
    assert "vitseek index" in done.err


def test_images_without_a_vector_are_counted(run_command: Callable, words: Path, drawn: Path, tmp_path: Path) -> None:
    with Gallery(words, model=write_tiny_model(tmp_path / "model")) as gallery:
        gallery.index()
        gallery.use_space("tiny-random")
    Image.new("RGB", (31, 29), "red").save(drawn / "new.png")
    try:
        with Gallery(words) as gallery:
            gallery.index()
        done = run_command("classify", "zero-shot", "--labels", "cat, dog", "--gallery", words)
    finally:
        (drawn / "new.png").unlink()
    assert "words are understood by space 'tiny-clip'; 'tiny-random' knows pictures only" in done.err
    assert "60 of 60 images got a label" in done.err
    assert "1 image has no vector there yet" in done.err


def test_thousands_of_labels_work(run_command: Callable, words: Path, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("\n".join(["cat", *(f"thing {number}" for number in range(1201))]))
    done = run_command(
        "classify", "zero-shot", "--labels-file", tmp_path / "many.txt", "--template", "{}", "--gallery", words
    )
    assert done.status == 0, done.err
    assert "more labels with" in done.out


# -- a checkpoint's own classes


def test_images_are_classified_without_a_gallery(run_command: Callable, photos: Path, tmp_path: Path) -> None:
    model = write_headed_model(tmp_path / "model", labels=["cat", "dog", "hat", "bee", "oak"])
    picture = photos / "red" / "red-0.png"
    done = run_command("classify", "head", picture, photos / "none.png", "--model", model, "--json", "--top", 3)
    assert done.status == 0
    facts = json.loads(done.out)
    assert [Path(one["path"]) for one in facts["results"]] == [picture]
    values = [one["probability"] for one in facts["results"][0]["labels"]]
    assert len(values) == 3
    assert values == sorted(values, reverse=True)
    assert "none.png" in done.err
    shown = run_command("classify", "head", picture, "--model", model)
    assert shown.out.count("%") == 5
    assert "names from the checkpoint's own description" in shown.err
    whole = run_command("classify", "head", picture, "--model", model, "--csv")
    rows = list(csv.reader(io.StringIO(whole.out)))
    assert abs(sum(float(row[2]) for row in rows[1:]) - 1) < 1e-4


def test_classes_without_names_are_numbers_for_images_and_refused_for_a_gallery(
    run_command: Callable, photos: Path, tmp_path: Path
) -> None:
    model = write_headed_model(tmp_path / "model")
    done = run_command("classify", "head", photos / "red" / "red-0.png", "--model", model)
    assert "class " in done.out
    assert "no names are known for a head with 5 outputs; give them with --names" in done.err
    with Gallery(photos, model=model) as gallery:
        gallery.index()
    refused = run_command("classify", "head", "--gallery", photos)
    assert refused.status == 2
    assert "--names FILE" in refused.err
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    short = run_command("classify", "head", "--gallery", photos, "--names", tmp_path / "names.txt")
    assert "3 names were given for the 5 classes" in short.err


@pytest.mark.parametrize("pooling", ["cls", "patch-mean"])
def test_a_head_labels_a_gallery_from_vectors_where_that_is_the_same(
    run_command: Callable, photos: Path, tmp_path: Path, pooling: str
) -> None:
    model = write_headed_model(tmp_path / "model", labels=["cat", "dog", "hat", "bee", "oak"], pooling=pooling)
    with Gallery(photos, model=model) as gallery:
        gallery.index()
    done = run_command("classify", "head", "--gallery", photos, "--top", 2, "--json")
    assert done.status == 0, done.err
    facts = json.loads(done.out)
    assert facts["from_vectors"] is (pooling == "cls")
    assert (facts["images"], facts["labelled"]) == (7, 7)
    picture = photos / "blue" / "blue-1.png"
    direct = run_command("classify", "head", picture, "--model", model, "--top", 2, "--json")
    expected = [(one["label"], one["probability"]) for one in json.loads(direct.out)["results"][0]["labels"]]
    with Gallery(photos, model=model) as gallery:
        image_id = gallery.image_id(picture)
        assert image_id is not None
        found = [(one.label, one.probability) for one in gallery.image(image_id).predictions]
    assert [label for label, _ in found] == [label for label, _ in expected]
    np.testing.assert_allclose([p for _, p in found], [p for _, p in expected], atol=1e-5)


def test_another_model_than_the_gallerys_opens_the_images_and_skips_what_changed(
    run_command: Callable, photos: Path, tmp_path: Path
) -> None:
    with Gallery(photos, model=write_tiny_model(tmp_path / "plain")) as gallery:
        gallery.index()
        without = run_command("classify", "head", "--gallery", photos)
        assert without.status == 2
        assert "tiny-random has no classification head, only features. Models that have one: " in without.err
        assert "vit-tiny" in without.err
        gallery.add_labels([1, 2, 3], "old", probabilities=0.5, source="head")
        Image.new("RGB", (31, 29), "red").save(gallery.image(1).path)
        gallery.image(2).path.unlink()
        model = write_headed_model(tmp_path / "model", labels=["cat", "dog", "hat", "bee", "oak"])
        done = run_command("classify", "head", "--gallery", photos, "--model", model)
        assert done.status == 0, done.err
        assert "5 of 5 images got a label" in done.err
        assert "changed since it was indexed" in done.err
        assert "cannot be read now" in done.err
        assert [one.label for one in gallery.image(1).predictions] == ["old"]  # nothing newer is known of it
        assert "old" not in [one.label for one in gallery.image(3).predictions]


# -- labels by hand


def test_labels_are_added_listed_and_removed(run_command: Callable, words: Path, drawn: Path) -> None:
    common = ("--gallery", words)
    assert "5 images now have 'pet', 'soft'" in run_command("label", "add", "pet, soft", drawn / "cat", *common).err
    picture = sorted((drawn / "cat").iterdir())[0]
    assert "1 image no longer has 'soft'" in run_command("label", "remove", "soft", picture, *common).err
    shown = run_command("label", "list", picture, *common)
    assert shown.out.rstrip().endswith(": cat, pet")
    counts = json.loads(run_command("label", "list", "--json", *common).out)
    assert counts["user"] == {"pet": 5, "soft": 4}
    assert counts["folder"]["cat"] == 5
    rows = list(csv.reader(io.StringIO(run_command("label", "list", "--csv", *common).out)))
    assert ["pet", "user", "5"] in rows
    assert run_command("label", "remove", "never", *common).status == 1
    assert run_command("label", "add", "x", *common).status == 2
    assert run_command("label", "remove", *common).status == 2
    again = run_command("label", "remove", "cat", picture, *common)
    assert "come back at the next run" in again.err


def test_predictions_become_labels_and_are_taken_back(run_command: Callable, words: Path) -> None:
    common = ("--gallery", words)
    run_command("classify", "zero-shot", "--labels", KINDS, *common)
    with Gallery(words) as gallery:
        sure = gallery.count("predicted:fish>=0.9")
    assert sure
    assert run_command("label", "add", "swimmer", "--where", "predicted:fish>=0.9", *common).status == 0
    listed = json.loads(run_command("label", "list", "--where", "label:swimmer", "--json", *common).out)["images"]
    assert len(listed) == sure
    assert all(one["predictions"][0]["probability"] >= 0.9 for one in listed)
    few = json.loads(
        run_command("label", "remove", "--source", "zero-shot", "--where", "path:fish/*", "--json", *common).out
    )
    assert few == {"source": "zero-shot", "removed": 5}
    assert (
        "55 predictions of 'zero-shot' are gone" in run_command("label", "remove", "--source", "zero-shot", *common).err
    )
    nothing = run_command("label", "remove", "--source", "zero-shot", *common)
    assert nothing.status == 1
    assert "there was no prediction of 'zero-shot'" in nothing.err
    with Gallery(words) as gallery:
        assert gallery.status().labels_by_source["user"] == {"swimmer": sure}


def test_a_label_is_not_taken_from_many_images_by_mistake(run_command: Callable, words: Path) -> None:
    common = ("--gallery", words)
    run_command("label", "add", "draft", "--where", "width>0", *common)
    asked = run_command("label", "remove", "draft", *common)
    assert asked.status == 2
    assert "add --yes" in asked.err
    assert "60 images no longer have 'draft'" in run_command("label", "remove", "draft", "--yes", *common).err


@pytest.mark.parametrize(
    "label",
    ["dress", "hot-air balloon", "crane (bird)", "carpenter's kit", 'say "hi"', "a*b?", "a\\b", ">=0.5", "été", "or"],
)
def test_the_filter_that_is_proposed_finds_exactly_this_label(words: Path, label: str) -> None:
    with Gallery(words) as gallery:
        gallery.add_labels([1], label, probabilities=0.75, source="s")
        gallery.add_labels([2], f"{label}x", probabilities=0.75, source="s")
        for where in (written("predicted", label), f"{written('predicted', label)}>=0.7", written("label", label)):
            assert [record.id for record in gallery.images(where)] == [1]
        assert gallery.count(f"{written('predicted', label)}>0.75") == 0
