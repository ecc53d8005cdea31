"""Distillation: the student learns the teacher, whatever it is compared with, and stops where it cannot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.engines.model import load  # noqa: E402
from vitseek.errors import TrainingError, UsageError  # noqa: E402
from vitseek.train import checkpoint as checkpoints  # noqa: E402
from vitseek.train.bridge import to_runtime  # noqa: E402
from vitseek.train.data import Pictures  # noqa: E402
from vitseek.train.distill import build  # noqa: E402
from vitseek.train.export import export  # noqa: E402
from vitseek.train.hints import Answers, Distiller  # noqa: E402
from vitseek.train.metrics import read_rows  # noqa: E402
from vitseek.train.options import DistillOptions  # noqa: E402
from vitseek.train.run import run  # noqa: E402
from vitseek.train.sources import ImageList  # noqa: E402
from vitseek.train.task import Silence  # noqa: E402
from vitseek.train.team import Team  # noqa: E402
from vitseek.train.views import Drawn, View, compute_targets, shares_of  # noqa: E402
from vitseek.train.vit import VisionTransformer, VitConfig  # noqa: E402

CONFIG = VitConfig(image_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2)
VIEW = View(16, 0.5, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A small Vision Transformer with weights large enough that its features differ from image to image."""
    torch.manual_seed(11)
    module = VisionTransformer(CONFIG)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    path = tmp_path / "teacher.safetensors"
    module.save(path)
    picture = {"size_px": 16, "resize_px": 18, "mean": [0.5] * 3, "std": [0.5] * 3, "patch_size_px": 4}
    note = {"format": "vitseek", "version": 1, "name": "teacher", "pooling": "cls"}
    note |= {"config": to_runtime(CONFIG).to_dict(), "preprocessing": picture}
    path.with_suffix(".json").write_text(json.dumps(note))
    return path


@pytest.fixture
def options(classes: Path, tmp_path: Path, teacher: Path) -> Callable[..., DistillOptions]:
    def make(**given: Any) -> DistillOptions:
        numbers = {"data": classes, "out": tmp_path / "run", "image_size": 16, "batch_size": 5, "teacher": str(teacher)}
        return DistillOptions.smoke(**{**numbers, **given})

    return make


def _pair() -> tuple[Distiller, VisionTransformer, Answers, Any]:
    torch.manual_seed(13)
    wanted = VisionTransformer(CONFIG).eval()
    module = Distiller(CONFIG, DistillOptions())
    pixels = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        hidden = wanted.hidden(pixels)
    return module, wanted, Answers(hidden.normed, hidden), pixels


@pytest.mark.parametrize("targets", ["blocks", "hints", "final"])
def test_a_student_equal_to_its_teacher_has_no_loss_and_another_has(targets: Any) -> None:
    module, wanted, answers, pixels = _pair()
    module.targets = targets
    module.spread.follow(answers, Team.join(DistillOptions()))
    before = module(pixels, answers)["loss"].item()
    module.student.load_state_dict(wanted.state_dict())
    assert before > 0.1
    assert module(pixels, answers)["loss"].item() < 1e-5  # float32 rounding through two blocks


def test_a_block_learns_from_the_teachers_input_alone() -> None:
    module, _, answers, pixels = _pair()
    module.targets = "blocks"
    module.spread.follow(answers, Team.join(DistillOptions()))

    def gradients() -> Any:
        module.zero_grad()
        module(pixels, answers)["loss"].backward()
        return module.student.blocks[1].mlp.fc1.weight.grad.clone()

    first = gradients()
    with torch.no_grad():
        module.student.blocks[0].mlp.fc2.weight.add_(1.0)  # an earlier block goes astray
    assert torch.equal(gradients(), first)
    module.targets = "hints"
    end_to_end = gradients()
    with torch.no_grad():
        module.student.blocks[0].mlp.fc2.weight.sub_(1.0)
    assert not torch.allclose(gradients(), end_to_end)


def test_targets_are_scaled_by_the_spread_of_each_channel_and_half_block() -> None:
    module, _, answers, _ = _pair()
    module.spread.follow(answers, Team.join(DistillOptions()))
    hidden = answers.hidden
    assert hidden is not None
    increment = (hidden.blocks[1] - hidden.attended[1]).flatten(0, 1)
    assert torch.allclose(module.spread.thought[1], increment.var(dim=0, unbiased=False), rtol=1e-3, atol=1e-6)
    increment = (hidden.attended[1] - hidden.blocks[0]).flatten(0, 1)
    assert torch.allclose(module.spread.attended[1], increment.var(dim=0, unbiased=False), rtol=1e-3, atol=1e-6)
    assert torch.allclose(module.spread.mean[0], answers.normed[:, 0].mean(dim=0), atol=1e-6)
    before = module.spread.thought.clone()
    module.spread.follow(Answers(answers.normed * 3, hidden), Team.join(DistillOptions()))
    assert torch.allclose(module.spread.thought, before, rtol=1e-5)  # the same again, followed slowly
    ratio = module.spread.mean[0] / answers.normed[:, 0].mean(dim=0)
    assert torch.allclose(ratio, torch.full_like(ratio, 1.2), rtol=1e-3)  # a tenth of the way from 1 to 3


@pytest.mark.parametrize("targets", ["blocks", "hints", "final"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_the_loss_falls_and_features_come_closer(
    options: Callable[..., DistillOptions], targets: Any, optimizer: Any
) -> None:
    outcome = run("distill", options(targets=targets, optimizer=optimizer, epochs=20, lr=5e-3))
    losses = [row["loss"] for row in read_rows(outcome.folder / "steps.csv")]
    cosines = [row["cosine"] for row in read_rows(outcome.folder / "metrics.csv")]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert max(cosines) > cosines[0] + 0.1


def test_a_second_stage_starts_where_the_first_ended(options: Callable[..., DistillOptions], tmp_path: Path) -> None:
    first = run("distill", options(epochs=3, out=tmp_path / "blocks"))
    task = build(
        options(targets="hints", start=tmp_path / "blocks", out=tmp_path / "hints"), Team.join(options()), Silence()
    )
    kept = checkpoints.load(first.checkpoint).model
    for name, value in task.module.student.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(value, kept[f"average.{name}"]), name


def test_the_student_never_starts_from_the_teacher(options: Callable[..., DistillOptions]) -> None:
    task = build(options(), Team.join(options()), Silence())
    torch.manual_seed(options().seed)
    fresh = VisionTransformer(CONFIG)
    for name, value in task.module.student.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(value, fresh.state_dict()[name]), name  # the seed decides, nothing else


def test_a_resumed_run_ends_with_the_same_weights(options: Callable[..., DistillOptions], tmp_path: Path) -> None:
    whole = run("distill", options(epochs=4, out=tmp_path / "whole", targets="hints"))
    out = tmp_path / "halved"
    task = build(options(epochs=4, out=out, targets="hints"), Team.join(options()), Silence())
    assert task.evaluate is not None
    evaluate, seen = task.evaluate, []

    def stop_after_two(module: Any) -> dict[str, float]:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return evaluate(module)

    from vitseek.train.loop import fit

    task.evaluate = stop_after_two
    with pytest.raises(KeyboardInterrupt):
        fit(task, Team.join(options()))
    resumed = run("distill", options(epochs=4, out=out, targets="hints"), resume=True)
    one, other = (checkpoints.load(outcome.folder / checkpoints.LAST).model for outcome in (whole, resumed))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_an_exported_student_gives_torchs_features_in_numpy(
    options: Callable[..., DistillOptions], tmp_path: Path
) -> None:
    outcome = run("distill", options(epochs=3))
    written = export(outcome.checkpoint, tmp_path / "student.safetensors", dtype="float16")
    assert written.differences.tokens < 1e-4
    model = load(tmp_path / "student.safetensors")
    assert model.preprocessing.size_px == 16
    assert model.preprocessing.resize_px == 18  # in the teacher's proportion
    assert not any("teacher" in name for name in checkpoints.load(outcome.checkpoint).model)


def test_a_smaller_start_still_teaches_the_full_grid_of_positions(options: Callable[..., DistillOptions]) -> None:
    task = build(options(small_size=8, small_share=1.0, targets="hints"), Team.join(options()), Silence())
    clock = type("Clock", (), {"step": 0, "total_steps": 10})()
    sizes = []
    module = task.module
    forward = module.forward

    def spy(pixels: Any, answers: Any, native: Any) -> Any:
        sizes.append((tuple(pixels.shape[-2:]), tuple(native[0].shape)))
        return forward(pixels, answers, native)

    module.forward = spy  # type: ignore[method-assign]
    figures = task.step(module, {"pixels": torch.randn(5, 3, 16, 16)}, clock)  # type: ignore[arg-type]
    figures["loss"].backward()
    assert sizes == [((8, 8), (1, 3, 16, 16))]
    gradient = module.student.pos_embed.grad  # type: ignore[union-attr]
    assert (gradient[0].abs().sum(dim=1) > 0).all()  # type: ignore[index]


def test_cached_answers_belong_to_the_view_they_come_with(
    options: Callable[..., DistillOptions], teacher: Path
) -> None:
    chosen = options(targets="final", cache_views=2)
    task = build(chosen, Team.join(chosen), Silence())
    module = VisionTransformer(CONFIG).eval()
    module.load(teacher)
    for key in ((0, 3), (1, 3), (0, 7)):
        sample = task.data[key]  # type: ignore[index]
        with torch.no_grad():
            wanted = module.tokens(sample["pixels"][None])[0]
        assert torch.allclose(sample["target"].float(), wanted, atol=1e-2, rtol=1e-3)  # kept in float16


def test_cached_answers_are_reused_and_computed_anew_for_other_images(tmp_path: Path, rng: np.random.Generator) -> None:
    levels = rng.integers(0, 255, (3, 17, 19, 3), dtype=np.uint8)
    pictures = Pictures([Path(str(i)) for i in range(3)], list(levels), 17)
    asked = []

    def answer(pixels: Any) -> Any:
        asked.append(len(pixels))
        return pixels.flatten(2)[:, :, :5]

    path = tmp_path / "teacher.npy"
    found = compute_targets(path, "a", pictures, VIEW, answer, views=2, seed=0)
    assert found.shape == (2, 3, 3, 5)
    assert not np.array_equal(found[0], found[1])
    asked.clear()
    again = compute_targets(path, "a", pictures, VIEW, answer, views=2, seed=0)
    assert not asked
    assert np.array_equal(found, again)
    compute_targets(path, "b", pictures, VIEW, answer, views=2, seed=0)
    assert asked


def test_images_are_drawn_by_the_shares_of_their_folders() -> None:
    images = ImageList([Path(str(i)) for i in range(10)], [0] * 7 + [1] * 2 + [2], ("a", "b", "c"))
    pictures = Pictures(images.paths, [np.full((17, 17, 3), i, np.uint8) for i in range(10)], 17)
    drawn = Drawn(pictures, VIEW, seed=3, shares=shares_of("a=1, b=3,c=0", images), count=2000)
    counts = np.bincount([drawn[0, item]["index"] for item in range(2000)], minlength=10)
    assert len(drawn) == 2000
    assert counts[9] == 0
    assert counts[7:9].sum() / 2000 == pytest.approx(0.75, abs=0.04)
    assert counts[:7].min() > 0
    assert drawn[1, 5]["index"] != drawn[2, 5]["index"] or drawn[1, 6]["index"] != drawn[2, 6]["index"]
    assert torch.equal(drawn[1, 5]["pixels"], drawn[1, 5]["pixels"])


@pytest.mark.parametrize("mix", ["a=1", "a=1,b=2,d=1", "a=1,b", "a=-1,b=1,c=1", "a=0,b=0,c=0"])
def test_shares_that_do_not_fit_the_folders_are_refused(mix: str) -> None:
    images = ImageList([Path(str(i)) for i in range(3)], [0, 1, 2], ("a", "b", "c"))
    with pytest.raises(UsageError, match="--mix"):
        shares_of(mix, images)


def test_retrieval_figures_come_with_every_epoch(options: Callable[..., DistillOptions], classes: Path) -> None:
    split = run("distill", options(gallery=classes, queries=classes, gallery_limit=4))
    # every query is in the gallery or not; with four of each colour, colour alone answers
    assert split.scores["knn_accuracy"] > 0.5
    alone = run("distill", options(gallery=classes, out=options().out.with_name("alone")))
    assert 0.0 < alone.scores["mean_average_precision"] <= 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cache_views": 2}, "--cache-views keeps the teacher's final tokens"),
        ({"cache_views": 2, "targets": "final", "small_size": 8}, "--small-size"),
        ({"queries": Path("q")}, "--gallery"),
        ({"ema": 1.0}, "--ema"),
        ({"small_size": 7}, "whole patches of 4 px"),
        ({"small_size": 32}, "at most --image-size 16"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: Callable[..., DistillOptions], given: dict[str, Any], message: str
) -> None:
    chosen = options(**given)
    with pytest.raises(UsageError, match=message):
        build(chosen, Team.join(chosen), Silence())


def test_a_start_of_another_shape_is_refused(options: Callable[..., DistillOptions], tmp_path: Path) -> None:
    run("distill", options(epochs=1, out=tmp_path / "blocks"))
    other = tmp_path / "other.safetensors"
    wide = VitConfig(image_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=2)
    VisionTransformer(wide).save(other)
    note = {"format": "vitseek", "version": 1, "name": "other", "config": to_runtime(wide).to_dict()}
    other.with_suffix(".json").write_text(json.dumps(note))
    chosen = options(teacher=str(other), start=tmp_path / "blocks", out=tmp_path / "hints")
    with pytest.raises(UsageError, match="another shape than the teacher"):
        build(chosen, Team.join(chosen), Silence())


def test_too_few_images_to_hold_some_out_are_refused(options: Callable[..., DistillOptions], tmp_path: Path) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 20), (number * 50, 0, 0)).save(folder / f"{number}.png")
    chosen = options(data=folder)
    with pytest.raises(TrainingError, match="too few"):
        build(chosen, Team.join(chosen), Silence())
