from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.errors import UsageError  # noqa: E402
from vitseek.train.dino import Dino, View, build, dino_loss  # noqa: E402
from vitseek.train.knn import knn_accuracy  # noqa: E402
from vitseek.train.metrics import read_rows  # noqa: E402
from vitseek.train.options import DinoOptions  # noqa: E402
from vitseek.train.run import run  # noqa: E402
from vitseek.train.task import Clock, Silence  # noqa: E402
from vitseek.train.team import Team  # noqa: E402
from vitseek.train.vit import VitConfig  # noqa: E402

CONFIG = VitConfig(image_size=20, patch_size=4, embed_dim=24, depth=2, num_heads=2)
OPTIONS = DinoOptions(prototypes=13, head_hidden=17, head_bottleneck=11)


@pytest.fixture
def module() -> Dino:
    torch.manual_seed(3)
    return Dino(CONFIG, CONFIG, OPTIONS)


def test_the_loss_is_the_cross_entropy_between_different_crops() -> None:
    student, teacher, center = torch.randn(5, 3, 7), torch.randn(2, 3, 7), torch.randn(7)
    wanted = []
    for t in range(2):
        for s in range(5):
            if s != t:
                target = torch.softmax((teacher[t] - center) / 0.04, dim=1)
                wanted.append(-(target * torch.log_softmax(student[s] / 0.1, dim=1)).sum(dim=1).mean())
    assert torch.allclose(dino_loss(student, teacher, center, 0.1, 0.04), torch.stack(wanted).mean(), atol=1e-5)


def test_the_teacher_starts_as_the_student_and_never_gets_a_gradient(module: Dino) -> None:
    pixels = torch.randn(3, 2, 3, 20, 20)
    answers = module.eval()(pixels, torch.empty(3, 0, 3, 8, 8))
    assert torch.allclose(answers, module.teach(pixels), atol=1e-6)
    answers.sum().backward()
    assert all(p.grad is None for p in [*module.teacher.parameters(), *module.teacher_head.parameters()])
    assert all(p.grad is not None for p in [*module.student.parameters(), *module.student_head.parameters()])


def test_the_teacher_moves_towards_the_student_by_the_momentum(module: Dino) -> None:
    old = {name: value.clone() for name, value in module.teacher.state_dict().items()}
    with torch.no_grad():
        for parameter in module.student.parameters():
            parameter.add_(1.0)
    module.follow(0.75)
    assert all(torch.allclose(module.teacher.state_dict()[n], value + 0.25, atol=1e-6) for n, value in old.items())


def test_answers_are_ordered_crop_by_crop_and_sizes_may_differ(module: Dino) -> None:
    module.eval()
    large, small = torch.randn(3, 2, 3, 20, 20), torch.randn(3, 5, 3, 8, 8)
    answers = module(large, small)
    assert answers.shape == (7, 3, 13)
    alone = module.student_head(module.student.features(small[:, 4]))
    assert torch.allclose(answers[6], alone, atol=1e-5)


def test_a_view_has_two_global_and_several_local_crops(rng: np.random.Generator) -> None:
    picture = Image.fromarray(rng.integers(0, 256, (47, 61, 3), dtype=np.uint8))
    view = View(DinoOptions(image_size=28, local_crops=5), 12)(picture, rng)
    assert view["global"].shape == (2, 3, 28, 28)
    assert view["local"].shape == (5, 3, 12, 12)
    none = View(DinoOptions(image_size=28, local_crops=0), 12)(picture, rng)
    assert none["local"].shape == (0, 3, 12, 12)


def test_neighbours_vote_with_their_similarity() -> None:
    bank = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.7, 0.7], [0.6, 0.8]]), dim=1)
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([4, 1, 1])
    assert knn_accuracy(bank, labels, queries, torch.tensor([4, 1]), k=1) == 1.0
    assert knn_accuracy(bank, labels, queries, torch.tensor([4, 1]), k=3) == 1.0  # one equal beats two that are alike
    assert knn_accuracy(bank, labels, queries, torch.tensor([1, 4]), k=99) == 0.0


def test_the_last_layer_rests_at_first_and_the_centre_follows_the_teacher(small: Callable[..., Any]) -> None:
    options = small("dino", freeze_last_epochs=1.0, center_momentum=0.5, prototypes=13)
    task = build(options, Team.join(options), Silence())
    module: Any = task.module
    batch = {name: torch.stack([task.data[0, i][name] for i in range(5)]) for name in ("global", "local")}
    for step, rests in ((2, True), (3, False)):
        clock = Clock(step, 3, 6, 0, 0)
        module.center.zero_()
        found = task.step(module, batch, clock)
        found["loss"].backward()
        assert torch.allclose(module.center, module.teach(batch["global"]).mean(dim=(0, 1)) / 2, atol=1e-6)
        task.before_update(module, clock)  # type: ignore[misc]
        assert (module.student_head.prototypes.grad is None) is rests
        assert 0.0 <= float(found["teacher_entropy"]) <= 1.0


def test_local_crops_that_are_no_whole_patches_are_refused(small: Callable[..., Any]) -> None:
    options = small("dino", local_size=10)
    with pytest.raises(UsageError, match="--local-size 10 px is not a whole number of 4 px patches"):
        build(options, Team.join(options), Silence())


def test_a_run_reports_knn_accuracy_where_there_are_classes(small: Callable[..., Any], tmp_path: Path) -> None:
    run("dino", small("dino", prototypes=13, local_crops=1))
    rows = read_rows(tmp_path / "run" / "metrics.csv")
    assert all(0.0 <= row["knn_accuracy"] <= 1.0 for row in rows)
    assert {"train_loss", "train_teacher_entropy"} <= rows[0].keys()


def test_a_run_without_classes_needs_none(small: Callable[..., Any], tmp_path: Path, classes: Path) -> None:
    run("dino", small("dino", data=classes / "red", prototypes=13, local_crops=1, epochs=1))
    assert "knn_accuracy" not in read_rows(tmp_path / "run" / "metrics.csv")[0]
