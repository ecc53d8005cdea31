"""`vitseek embed` as a user calls it: what the file holds, what is said, what is refused."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import vitseek
from tests.cli.tiny_model import write_tiny_model
from tests.hostile import images as hostile
from vitseek.cli import app


class Ran(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["vitseek", "embed", *map(str, arguments)])
        status = 0
        try:
            app.main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


def test_a_folder_and_a_file_give_paths_and_the_models_features(
    run: Run, photos: Path, model: Path, tmp_path: Path
) -> None:
    single = tmp_path / "single.png"
    Image.new("RGB", (41, 37), (200, 30, 90)).save(single)
    ran = run(photos, single, "-o", tmp_path / "out.npz", "--model", model, "--batch-size", 3)
    assert ran.status == 0
    assert ran.out == ""
    assert "features of 8 pictures, 22-d (tiny-random)" in ran.err
    with np.load(tmp_path / "out.npz", allow_pickle=False) as saved:
        paths = saved["paths"].tolist()
        features = saved["features"]
        assert str(saved["model"]) == "tiny-random"
        assert str(saved["pooling"]) == "cls"
        assert set(saved.files) >= {"weights_sha256", "preprocessing", "dim"}
        assert "tokens" not in saved.files
    assert paths == [*sorted(str(path) for path in photos.rglob("*.png")), str(single)]
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, vitseek.load(model).embed(paths), atol=1e-5)


def test_tokens_are_saved_with_their_grid_and_agree_with_the_model(
    run: Run, photos: Path, model: Path, tmp_path: Path
) -> None:
    assert run(photos, "-o", tmp_path / "out.npz", "--model", model, "--tokens").status == 0
    loaded = vitseek.load(model)
    with np.load(tmp_path / "out.npz") as saved:
        paths, tokens = saved["paths"].tolist(), saved["tokens"]
        assert tokens.shape == (7, 17, 22)  # a class token and 4 × 4 patches
        assert saved["grids"].tolist() == [[4, 4]] * 7
        assert int(saved["num_prefix_tokens"]) == 1
        np.testing.assert_allclose(saved["features"], tokens[:, 0], atol=1e-6)
    expected = loaded.forward(np.stack([loaded.preprocess(path) for path in paths]))
    np.testing.assert_allclose(tokens, expected, atol=1e-5)


def test_tokens_of_several_sizes_lie_one_after_the_other(run: Run, model: Path, tmp_path: Path) -> None:
    for name, size in (("a", (32, 32)), ("b", (64, 32)), ("c", (32, 32)), ("d", (32, 96))):
        Image.effect_noise(size, 60).save(tmp_path / f"{name}.png")
    pictures = [tmp_path / f"{name}.png" for name in "abcd"]
    options = ("--model", model, "--tokens", "--preprocess", "short-side")
    assert run(*pictures, "-o", tmp_path / "out.npz", *options).status == 0
    loaded = vitseek.load(model, preprocess="short-side")
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["paths"].tolist() == [str(path) for path in pictures]
        assert saved["grids"].tolist() == [[4, 4], [4, 8], [4, 4], [12, 4]]
        starts = saved["token_starts"]
        assert starts.tolist() == [0, 17, 50, 67, 116]
        for row, path in enumerate(pictures):
            expected = loaded.forward(loaded.preprocess(path)[None])[0]
            np.testing.assert_allclose(saved["tokens"][starts[row] : starts[row + 1]], expected, atol=1e-5)


def test_another_policy_and_pooling_change_the_features(run: Run, photos: Path, model: Path, tmp_path: Path) -> None:
    options = ("--preprocess", "center-crop", "--pooling", "patch-mean")
    ran = run(photos, "-o", tmp_path / "out.npz", "--model", model, *options)
    assert ran.status == 0
    with np.load(tmp_path / "out.npz") as saved:
        assert str(saved["preprocessing"]).startswith("center-crop-32-")
        loaded = vitseek.load(model, preprocess="center-crop", pooling="patch-mean")
        np.testing.assert_allclose(saved["features"], loaded.embed(saved["paths"].tolist()), atol=1e-5)


def test_unreadable_files_are_left_out_and_listed_with_their_reason(
    run: Run, photos: Path, model: Path, tmp_path: Path
) -> None:
    hostile.text_as_jpg(photos)
    hostile.truncated_png(photos)
    ran = run(photos, tmp_path / "nowhere.jpg", "-o", tmp_path / "out.npz", "--model", model)
    assert ran.status == 0
    assert "warning: 3 left out:" in ran.err
    assert f"  {photos}/text.jpg: it is not an image but text" in ran.err
    assert f"  {photos}/cut.png: it is cut off" in ran.err
    assert "nowhere.jpg: there is no such file" in ran.err
    with np.load(tmp_path / "out.npz") as saved:
        assert len(saved["paths"]) == len(saved["features"]) == 7


def test_every_hostile_file_leaves_the_good_ones_embedded(run: Run, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    bad, good = hostile.unreadable_images(folder), hostile.readable_images(folder)
    ran = run(folder, "-o", tmp_path / "out.npz", "--model", model, "--json")
    assert ran.status == 0
    report = json.loads(ran.out)
    found = {str(path) for path in good.values() if path.suffix}  # a file without suffix is no picture to a walk
    with np.load(tmp_path / "out.npz") as saved:
        assert set(saved["paths"].tolist()) == found
    left_out = {entry["path"] for entry in report["skipped"]}
    unlisted = {"folder_called_jpg", "named_pipe"}  # a folder is walked into, a pipe is no file
    assert left_out >= {str(path) for name, path in bad.items() if name not in unlisted}
    assert all(entry["reason"] for entry in report["skipped"])


def test_nothing_usable_is_exit_status_one_and_writes_nothing(run: Run, model: Path, tmp_path: Path) -> None:
    picture = hostile.text_as_jpg(tmp_path)
    ran = run(picture, "-o", tmp_path / "out.npz", "--model", model)
    assert ran.status == 1
    assert ran.err == (
        f"error: the picture could not be used; {picture}: it is not an image but text; remove it or leave it out\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "text.jpg"]


def test_a_folder_without_pictures_is_exit_status_one(run: Run, model: Path, tmp_path: Path) -> None:
    ran = run(model, "-o", tmp_path / "out.npz", "--model", model)
    assert ran.status == 1
    assert ran.err == f"error: no pictures in {model}. Is it the right folder?\n"


def test_an_existing_file_is_kept_unless_forced(run: Run, photos: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    output.write_bytes(b"precious")
    ran = run(photos, "-o", output, "--model", model)
    assert ran.status == 2
    assert ran.err == f"error: {output} exists already. Add --force to overwrite it, or name another file.\n"
    assert output.read_bytes() == b"precious"
    assert run(photos, "-o", output, "--model", model, "--force").status == 0
    with np.load(output) as saved:
        assert len(saved["paths"]) == 7


@pytest.mark.parametrize(
    ("output", "message"),
    [("out.npy", "named *.npz"), ("missing/out.npz", "there is no folder"), ("folder.npz", "is a folder")],
)
def test_a_place_that_cannot_hold_the_output_is_refused_first(
    run: Run, photos: Path, tmp_path: Path, output: str, message: str
) -> None:
    (tmp_path / "folder.npz").mkdir()
    ran = run(photos, "-o", tmp_path / output, "--model", "no-such-model")
    assert ran.status == 2
    assert message in ran.err


def test_an_unknown_policy_names_the_known_ones(run: Run, photos: Path, model: Path, tmp_path: Path) -> None:
    ran = run(photos, "-o", tmp_path / "out.npz", "--model", model, "--preprocess", "stretch")
    assert ran.status == 2
    assert "official" in ran.err
    assert "center-crop" in ran.err


def test_json_is_one_document_on_stdout(run: Run, photos: Path, model: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    Image.new("RGB", (5, 3)).save(small)
    hostile.empty(tmp_path)
    options = ("--model", model, "--preprocess", "center-crop", "--tokens", "--json")
    ran = run(photos, small, tmp_path / "empty.jpg", "-o", tmp_path / "out.npz", *options)
    report = json.loads(ran.out)
    assert (report["images"], report["dim"], report["tokens"]) == (8, 22, 8 * 17)
    assert (report["model"], report["policy"], report["pooling"]) == ("tiny-random", "center-crop", "cls")
    assert report["file"] == str(tmp_path / "out.npz")
    reason = "the file is empty (0 bytes); copy or download it again"
    assert report["skipped"] == [{"path": str(tmp_path / "empty.jpg"), "reason": reason}]
    assert "1 × is smaller than the 32 px crop: padded with black" in report["notes"]
    assert ran.err == ""


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS file names are UTF-8")
def test_a_name_of_invalid_utf8_is_embedded_and_printed_safely(run: Run, model: Path, tmp_path: Path) -> None:
    good = hostile.name_of_invalid_utf8(tmp_path)
    bad = tmp_path / os.fsdecode(b"bad-\xff.jpg")
    bad.write_bytes(b"")
    ran = run(good, bad, "-o", tmp_path / "out.npz", "--model", model)
    assert ran.status == 0
    ran.err.encode("utf-8")
    assert "bad-" in ran.err
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["paths"].tolist() == [str(good)]


def test_a_full_disk_is_said_and_leaves_nothing_behind(
    run: Run, photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    ran = run(photos, "-o", tmp_path / "out.npz", "--model", model)
    assert ran.status == 1
    assert ran.err.startswith(f"error: cannot write {tmp_path / 'out.npz'}: No space left on device")
    assert not list(tmp_path.glob("*npz*"))


def test_the_file_can_be_searched_as_course_features(run: Run, photos: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "gallery_features.npz"
    assert run(photos, "-o", output, "--model", model).status == 0
    with vitseek.Gallery(photos, model=str(model)) as gallery:
        gallery.index()
        report = gallery.import_features(output, space="imported", model=str(model))
    assert report.imported == 7


def test_texts_and_pictures_go_into_one_file(run: Run, photos: Path, tiny_clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.npz"
    ran = run(photos, "-o", out, "--model", tiny_clip, "--text", "a cat", "--text", "a red house")
    assert ran.status == 0
    assert "features of 7 pictures and 2 texts, 32-d (tiny-clip)" in ran.err
    model = vitseek.load(tiny_clip)
    with np.load(out, allow_pickle=False) as saved:
        assert saved["texts"].tolist() == ["a cat", "a red house"]
        np.testing.assert_allclose(saved["text_features"], model.embed_texts(["a cat", "a red house"]), atol=1e-5)
        np.testing.assert_allclose(saved["features"], model.embed(saved["paths"].tolist()), atol=1e-4)
        assert float(saved["logit_scale"]) == pytest.approx(model.logit_scale)
        assert "logit_bias" not in saved


def test_texts_alone_need_no_picture(run: Run, tiny_clip: Path, tmp_path: Path) -> None:
    long = "a red dress " * 30
    ran = run("-o", tmp_path / "out.npz", "--model", tiny_clip, "--text", long, "--json")
    assert ran.status == 0
    facts = json.loads(ran.out)
    assert (facts["images"], facts["texts"]) == (0, 1)
    assert len(facts["notes"]) == 1
    assert "was cut after 24 tokens" in facts["notes"][0]
    with np.load(tmp_path / "out.npz", allow_pickle=False) as saved:
        assert saved["text_features"].shape == (1, 32)
        assert "features" not in saved
    ran = run("-o", tmp_path / "again.npz", "--model", tiny_clip, "--text", "a red dress")
    assert "features of 1 text, 32-d (tiny-clip)" in ran.err


def test_words_for_a_model_of_pictures_are_refused_before_any_picture_is_read(
    run: Run, photos: Path, model: Path, tmp_path: Path
) -> None:
    ran = run(photos, "-o", tmp_path / "out.npz", "--model", model, "--text", "a cat")
    assert ran.status == 2
    assert "does not read text" in ran.err
    assert "vitseek index FOLDER --model" in ran.err
    assert not (tmp_path / "out.npz").exists()


def test_an_empty_text_and_nothing_at_all_are_refused(run: Run, tiny_clip: Path, tmp_path: Path) -> None:
    empty = run("-o", tmp_path / "out.npz", "--model", tiny_clip, "--text", " ")
    assert empty.status == 2
    assert 'the text "" has no word for the model' in empty.err
    nothing = run("-o", tmp_path / "out.npz")
    assert nothing.status == 2
    assert "nothing to embed: name pictures or folders, or a text with --text" in nothing.err
