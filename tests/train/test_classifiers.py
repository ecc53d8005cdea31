"""The three classifiers: from nothing, from pretrained weights, and with a teacher."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.errors import TrainingError, UnknownModelError, UsageError  # noqa: E402
from vitseek.train.bridge import load_start, to_runtime  # noqa: E402
from vitseek.train.classification import accuracy  # noqa: E402
from vitseek.train.deit import Student, Teacher  # noqa: E402
from vitseek.train.metrics import read_rows  # noqa: E402
from vitseek.train.run import build, run  # noqa: E402
from vitseek.train.task import Silence  # noqa: E402
from vitseek.train.team import Team  # noqa: E402
from vitseek.train.vit import VisionTransformer, VitConfig  # noqa: E402

Options = Callable[..., Any]


class Notes(Silence):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_a_classifier_learns_three_colours_from_random_weights(small: Options, tmp_path: Path, positions: str) -> None:
    outcome = run("supervised", small("supervised", epochs=12, positions=positions))
    rows = read_rows(tmp_path / "run" / "metrics.csv")
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]
    assert outcome.best is not None
    assert outcome.best > 0.7


def test_the_fixed_positions_stay_fixed_and_the_learned_ones_learn(small: Options) -> None:
    for positions, moves in (("sincos", False), ("learned", True)):
        options = small("supervised", positions=positions, out=Path(small("supervised").out.parent / positions))
        task = build("supervised", options, Team.join(options))
        before = task.module.pos_embed.detach().clone()
        run("supervised", options)
        from vitseek.train import checkpoint as checkpoints

        after = checkpoints.load(options.out).model["pos_embed"]
        assert torch.equal(before, after) is not moves


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large", "huge"])
def test_every_named_size_can_be_configured(size: str) -> None:
    from vitseek.train.bridge import configured
    from vitseek.train.options import SupervisedOptions

    config = configured(SupervisedOptions(model=size))  # type: ignore[arg-type]
    assert to_runtime(config).img_size == (224, 224)
    assert config.patch_size == (14 if size == "huge" else 16)


def test_numbers_that_make_no_model_are_refused(small: Options) -> None:
    options = small("supervised", width=25)
    with pytest.raises(UsageError, match=r"the model does not hold together: embed_dim 25 cannot be split"):
        build("supervised", options, Team.join(options))


def test_unreadable_images_are_counted_listed_and_left_out(small: Options, classes: Path, tmp_path: Path) -> None:
    (classes / "red" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    notes = Notes()
    run("supervised", small("supervised", epochs=1), notes)
    assert any(line.startswith("1 images left out") and "torn.jpg" in line for line in notes.lines)
    assert "torn.jpg" in (tmp_path / "run" / "skipped.txt").read_text()


def test_a_class_whose_images_are_all_unreadable_is_refused(small: Options, classes: Path) -> None:
    for file in (classes / "blue").iterdir():
        file.write_bytes(b"no image")
    options = small("supervised")
    with pytest.raises(TrainingError, match=r"class 'blue' of .* has no readable image"):
        build("supervised", options, Team.join(options))


def test_validation_labels_that_training_does_not_know_are_refused(small: Options, classes: Path) -> None:
    table = classes / "validation.csv"
    table.write_text("path,label\nred/0.png,red\nblue/0.png,turquoise\n")
    options = small("supervised", validation=table)
    with pytest.raises(TrainingError, match="labels that the training images do not have: 'turquoise'"):
        build("supervised", options, Team.join(options))


def test_a_new_head_starts_fresh_and_the_trunk_where_it_was(small: Options, tmp_path: Path, classes: Path) -> None:
    run("supervised", small("supervised", out=tmp_path / "first", epochs=1))
    (classes / "red").rename(classes / "crimson")
    (classes / "violet").mkdir()
    for number in range(4):
        (classes / "blue" / f"{number}.png").rename(classes / "violet" / f"{number}.png")
    (classes / "violet" / "0.png").rename(classes / "blue" / "9.png")
    options = small("finetune", start=str(tmp_path / "first"), image_size=None)
    task = build("finetune", options, Team.join(options))
    start = load_start(str(tmp_path / "first"))
    assert task.module.head.weight.shape == (4, 24)
    assert task.card.labels == ("blue", "crimson", "green", "violet")
    own = task.module.state_dict()
    assert all(torch.equal(own[n], torch.tensor(v)) for n, v in start.params.items() if not n.startswith("head"))


def test_a_frozen_trunk_stays_and_the_head_learns(small: Options, tmp_path: Path) -> None:
    from vitseek.train import checkpoint as checkpoints

    run("supervised", small("supervised", out=tmp_path / "first", epochs=1))
    run("finetune", small("finetune", start=str(tmp_path / "first"), freeze=True, out=tmp_path / "second", epochs=1))
    first, second = (checkpoints.load(tmp_path / name / "last.pt").model for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first if not name.startswith("head"))
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_finetuning_at_another_size_resizes_the_positions_once(small: Options, tmp_path: Path) -> None:
    run("supervised", small("supervised", out=tmp_path / "first", epochs=1))
    options = small("finetune", start=str(tmp_path / "first"), image_size=24, epochs=1)
    task = build("finetune", options, Team.join(options))
    assert task.module.pos_embed.shape == (1, 1 + 36, 24)
    assert task.card.preprocessing["size_px"] == 24
    options = small("finetune", start=str(tmp_path / "first"), image_size=22)
    with pytest.raises(UsageError, match="22 px is not a whole number of 4 px patches"):
        build("finetune", options, Team.join(options))


def test_a_start_that_is_unknown_or_of_another_kind_is_refused(small: Options, tmp_path: Path) -> None:
    options = small("finetune", start="dinov9")
    with pytest.raises(UnknownModelError, match="no model called 'dinov9'"):
        build("finetune", options, Team.join(options))
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    options = small("finetune", start=str(tmp_path / "other.pt"))
    with pytest.raises(TrainingError, match="is not a checkpoint of `vitseek train`"):
        build("finetune", options, Team.join(options))


def test_finetuning_real_weights_starts_from_the_real_features(shared_dir: Path, small: Options) -> None:
    file = shared_dir / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
    options = small("finetune", start=str(file), image_size=32, epochs=1)
    outcome = run("finetune", options)
    assert outcome.scores["val_accuracy"] >= 0.5


def test_the_teacher_sees_its_own_normalisation_size_and_class_order(small: Options, tmp_path: Path) -> None:
    run("supervised", small("supervised", out=tmp_path / "first", epochs=12))
    start = load_start(str(tmp_path / "first"))
    options = small("supervised", out=tmp_path / "other")
    task = build("supervised", options, Team.join(options))
    import dataclasses

    imagenet = dataclasses.replace(
        start.preprocessing, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size_px=32, resize_px=37
    )
    from vitseek.train.data import Still
    from vitseek.train.sources import read_labelled

    still = Still(read_labelled(options.data), imagenet)
    classes = ("red", "blue", "green")
    teacher = Teacher(start, classes, imagenet, torch.device("cpu"))
    pixels, labels = next(still.batches(99))
    said = [classes[i] for i in teacher(pixels).tolist()]
    assert said == [("blue", "green", "red")[i] for i in labels.tolist()]
    assert not any(p.requires_grad for p in teacher.module.parameters())
    assert task.card.labels == ("blue", "green", "red")


def test_a_teacher_of_other_classes_or_without_a_head_is_refused(small: Options, tmp_path: Path, classes: Path) -> None:
    run("supervised", small("supervised", out=tmp_path / "three", epochs=1))
    run("mae", small("mae", out=tmp_path / "headless", epochs=1))
    (classes / "red").rename(classes / "crimson")
    for teacher, message in (
        ("three", r"the teacher .*three.* does not know the class crimson"),
        ("headless", r"has no classification head, and the images have 3 classes"),
    ):
        options = small("deit", teacher=str(tmp_path / teacher))
        with pytest.raises(TrainingError, match=message):
            build("deit", options, Team.join(options))
    options = small("deit")
    with pytest.raises(UsageError, match="deit needs --teacher"):
        build("deit", options, Team.join(options))


def test_the_student_answers_twice_while_it_learns_and_once_afterwards() -> None:
    config = VitConfig(
        image_size=8, patch_size=4, embed_dim=24, depth=1, num_heads=2, distilled=True, num_classes=5, drop_path=0.0
    )
    student = Student(VisionTransformer(config))
    pixels = torch.randn(3, 3, 8, 8)
    own, taught = student.train()(pixels)
    assert torch.allclose(student.eval()(pixels), (own + taught) / 2, atol=1e-6)
    assert torch.allclose(student(pixels), student.trunk(pixels), atol=1e-6)


def test_a_distilled_run_learns_from_both_and_reports_both(small: Options, tmp_path: Path) -> None:
    run("supervised", small("supervised", out=tmp_path / "teacher", epochs=12))
    run("deit", small("deit", teacher=str(tmp_path / "teacher"), epochs=6))
    rows = read_rows(tmp_path / "run" / "metrics.csv")
    assert rows[-1]["train_loss"] == pytest.approx(
        (rows[-1]["train_true_loss"] + rows[-1]["train_taught_loss"]) / 2, rel=1e-4
    )
    assert rows[-1]["train_taught_loss"] < rows[0]["train_taught_loss"]


def test_accuracy_counts_right_answers_and_averages_the_loss(small: Options) -> None:
    from vitseek.preprocess.image import ImagePreprocessing
    from vitseek.train.data import Still
    from vitseek.train.sources import read_labelled

    options = small("supervised")
    images = read_labelled(options.data)
    still = Still(images, ImagePreprocessing(size_px=8, resize_px=8))

    class Fixed(torch.nn.Module):
        def forward(self, pixels: Any) -> Any:
            return torch.tensor([0.0, 0.0, 5.0]).expand(len(pixels), 3)  # always "red": 11 of 23

    scores = accuracy(Fixed(), still, Team.join(options))
    assert scores["val_accuracy"] == pytest.approx(11 / 23)
    right, wrong = -torch.log_softmax(torch.tensor([0.0, 0.0, 5.0]), dim=0)[[2, 0]]
    assert scores["val_loss"] == pytest.approx(float(11 * right + 12 * wrong) / 23, rel=1e-5)
    assert "val_top5_accuracy" not in scores
