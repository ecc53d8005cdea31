import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.errors import UsageError  # noqa: E402
from vitseek.models.text import TextConfig, encode, text_parameter_shapes  # noqa: E402
from vitseek.train import checkpoint as checkpoints  # noqa: E402
from vitseek.train import tokenizer as tokenizers  # noqa: E402
from vitseek.train.clip import Clip, contrastive_loss, recalls  # noqa: E402
from vitseek.train.run import options_for, run  # noqa: E402
from vitseek.train.smoke import draw_pictures  # noqa: E402
from vitseek.train.text import TextTower  # noqa: E402
from vitseek.train.vit import VisionTransformer, VitConfig  # noqa: E402

TEXT = TextConfig(
    vocab_size=31, context_length=11, width=24, depth=2, num_heads=2, embedding_dim=13,
    bos_token_id=29, eos_token_id=30, pad_token_id=30,
)  # fmt: skip


@pytest.fixture
def text() -> TextTower:
    torch.manual_seed(3)
    return TextTower(TEXT).eval()


def test_the_text_feature_is_read_at_the_end_token_and_what_follows_changes_nothing(text: TextTower) -> None:
    numbers = torch.tensor([[29, 5, 7, 30, 0, 0, 0], [29, 5, 7, 8, 9, 3, 30]])
    feature = text(numbers)
    padded = numbers.clone()
    padded[0, 4:] = torch.tensor([11, 13, 17])
    assert torch.allclose(text(padded), feature, atol=1e-6)
    padded[0, 2] = 8
    assert not torch.allclose(text(padded)[0], feature[0], atol=1e-3)


def test_a_token_sees_only_what_came_before(text: TextTower) -> None:
    full = text(torch.tensor([[29, 5, 7, 30, 2, 2, 2]]))
    short = text(torch.tensor([[29, 5, 7, 30]]))
    assert torch.allclose(full, short, atol=1e-5)


@pytest.mark.parametrize("mlp_layer", ["gelu", "quick-gelu"])
def test_the_runtime_reads_a_text_to_the_same_embedding(mlp_layer: Any) -> None:
    torch.manual_seed(5)
    config = dataclasses.replace(TEXT, mlp_layer=mlp_layer, hidden_dim=53)
    tower = TextTower(config).double().eval()
    for parameter in tower.parameters():  # norms and biases are no longer ones and zeros
        torch.nn.init.normal_(parameter, std=0.3)
    params = {f"text.{name}": value.numpy() for name, value in tower.state_dict().items()}
    assert {name: value.shape for name, value in params.items()} == text_parameter_shapes(config)
    numbers = torch.tensor([[29, 5, 7, 30, 30, 30, 30], [29, 5, 7, 8, 9, 3, 30]])
    mask = np.array([[1, 1, 1, 1, 0, 0, 0], [1] * 7])
    ours = encode(params, config, numbers.numpy(), mask)
    assert np.abs(tower(numbers).detach().numpy() - ours).max() < 1e-12  # float64; entries of about 1


def test_a_text_tower_of_another_family_is_refused() -> None:
    for change in ({"pooling": "first"}, {"causal": False}, {"embedding_dim": 0}):
        with pytest.raises(ValueError, match="this tower is CLIP's"):
            TextTower(dataclasses.replace(TEXT, **change))
    with pytest.raises(ValueError, match="exact or quick GELU"):
        TextTower(dataclasses.replace(TEXT, mlp_layer="gelu-tanh"))


def test_the_loss_is_symmetric_and_lowest_for_pairs_that_match() -> None:
    images = torch.nn.functional.normalize(torch.randn(7, 13), dim=1)
    texts = torch.nn.functional.normalize(torch.randn(7, 13), dim=1)
    scale = torch.tensor(10.0)
    loss = contrastive_loss(images, texts, scale)
    assert torch.allclose(loss, contrastive_loss(texts, images, scale), atol=1e-6)
    assert contrastive_loss(images, images, scale) < loss
    one = contrastive_loss(images[:1], texts[:1], scale)
    assert float(one) == pytest.approx(0.0, abs=1e-6)
    rows = torch.log_softmax(scale * images @ texts.T, dim=1).diagonal().mean()
    columns = torch.log_softmax(scale * images @ texts.T, dim=0).diagonal().mean()
    assert torch.allclose(loss, -(rows + columns) / 2, atol=1e-5)


def test_the_temperature_starts_where_it_is_told(text: TextTower) -> None:
    image = VisionTransformer(VitConfig(image_size=8, patch_size=4, embed_dim=24, depth=1, num_heads=2))
    module = Clip(image, text, 0.07)
    pixels, numbers = torch.randn(2, 3, 8, 8), torch.tensor([[29, 5, 30], [29, 6, 30]])
    images, texts, scale = module(pixels, numbers)
    assert float(scale.detach()) == pytest.approx(1 / 0.07, rel=1e-5)
    assert images.shape == texts.shape == (2, 13)
    assert torch.allclose(images.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(module(image.features(pixels), numbers)[0], images)


def test_the_temperature_stays_above_a_hundredth(tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", seed=1, per_class=5)
    given = {"data": folder / "captions.csv", "width": 24, "depth": 1, "epochs": 1, "text_depth": 1}
    run("clip", options_for("clip", {**given, "out": tmp_path / "run", "temperature": 0.001}, smoke=True))
    scale = checkpoints.load(tmp_path / "run").model["logit_scale"]
    assert float(scale.exp()) == pytest.approx(100.0, rel=1e-2)


def test_recall_counts_any_caption_of_an_image_both_ways() -> None:
    images = torch.eye(12)
    of_text = torch.tensor([0, 0, 1, 2])
    texts = images[torch.tensor([3, 0, 1, 5])]  # the first and the last caption are wrong
    scores = recalls(images, texts, of_text)
    assert scores["text_to_image_recall@1"] == 0.5
    # images 0 and 1 find a caption of theirs first; image 2's only caption looks like image 5; nine have none
    assert scores["image_to_text_recall@1"] == pytest.approx(2 / 12)
    assert scores["image_to_text_recall@10"] == pytest.approx(3 / 12)
    assert scores["mean_recall"] == pytest.approx(np.mean([v for k, v in scores.items() if k != "mean_recall"]))


def test_a_run_keeps_its_tokenizer_and_resumes_with_it(tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", seed=1, per_class=5)
    given = {"data": folder / "captions.csv", "width": 24, "depth": 2, "heads": 2, "epochs": 1, "text_depth": 1}
    out = tmp_path / "run"
    run("clip", options_for("clip", {**given, "out": out}, smoke=True))
    first = tokenizers.read(out / "tokenizer.json")
    assert first.get_vocab_size() > 514
    given = {"out": out, "epochs": 2, "vocabulary": 520}
    outcome = run("clip", options_for("clip", given, resume=True), resume=True)
    assert tokenizers.read(out / "tokenizer.json").to_str() == first.to_str()
    names = {f"{way}_recall@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
    assert names <= outcome.scores.keys()
    assert 0.0 < outcome.scores["train_temperature"] < 0.1


def test_captions_must_be_a_csv_file(tmp_path: Path, classes: Path) -> None:
    options = options_for("clip", {"data": classes, "out": tmp_path / "run"}, smoke=True)
    with pytest.raises(UsageError, match="image-caption pairs are a CSV file with the columns image,caption"):
        run("clip", options)


def test_a_text_tower_whose_heads_do_not_fit_is_refused(small: Callable[..., Any], tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", seed=1, per_class=2)
    given = {"data": folder / "captions.csv", "text_width": 25, "text_heads": 2, "out": tmp_path / "run"}
    with pytest.raises(UsageError, match="the text tower does not hold together: text: width 25 does not split over 2"):
        run("clip", options_for("clip", given, smoke=True))


def locked(tmp_path: Path, **given: Any) -> Any:
    """Options of a short run whose image tower is vitseek-tiny, as it is."""
    folder = draw_pictures(tmp_path / "pictures", seed=1, per_class=4)
    fixed = {"data": folder / "captions.csv", "start": "vitseek-tiny", "image_lr_scale": 0.0, "image_size": 32}
    return options_for("clip", {**fixed, "epochs": 4, "out": tmp_path / "run", **given}, smoke=True)


def test_a_locked_image_tower_stays_as_it_is_and_the_text_learns(tmp_path: Path) -> None:
    from vitseek.train.bridge import load_start
    from vitseek.train.metrics import read_rows

    outcome = run("clip", locked(tmp_path))
    found = checkpoints.load(tmp_path / "run" / "last.pt")
    start = load_start("vitseek-tiny").module(image_size=32, num_classes=0).state_dict()
    for name, value in start.items():
        assert torch.equal(found.model[f"image.{name}"], value)
    rows = read_rows(tmp_path / "run" / "metrics.csv")
    assert rows[-1]["train_loss"] < 0.9 * rows[0]["train_loss"]
    assert outcome.scores["text_to_image_recall@10"] > 0.5


def test_a_locked_tower_sees_each_crop_once_and_epochs_choose_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitseek.train.run import build
    from vitseek.train.task import Silence
    from vitseek.train.team import Team

    passes: list[int] = []
    features = VisionTransformer.features
    monkeypatch.setattr(VisionTransformer, "features", lambda self, x: (passes.append(len(x)), features(self, x))[1])
    options = locked(tmp_path, views=3)
    task = build("clip", options, Team.join(options), Silence())
    pictures = len(task.data)  # type: ignore[arg-type]
    assert sum(passes) == 3 * pictures
    seen = {tuple(task.data[epoch, 5]["pixels"][:4].tolist()) for epoch in range(40)}
    assert len(seen) == 3
    assert torch.equal(task.data[7, 2]["pixels"], task.data[7, 2]["pixels"])
    assert sum(passes) == 3 * pictures


def test_a_pair_as_start_gives_its_image_tower_and_says_so(tmp_path: Path, tiny_clip: Path) -> None:
    from vitseek.train.bridge import load_start
    from vitseek.train.run import build
    from vitseek.train.task import Silence
    from vitseek.train.team import Team

    notes: list[str] = []

    class Told(Silence):
        def note(self, text: str) -> None:
            notes.append(text)

    options = locked(tmp_path, start=str(tiny_clip), image_size=48, views=1)
    task = build("clip", options, Team.join(options), Told())
    assert any("its text tower is left behind, and a new one learned" in note for note in notes)
    known = load_start(str(tiny_clip)).params
    assert task.card.config["embedding_dim"] == options.projection
    for name, value in task.module.image.state_dict().items():
        assert np.array_equal(value.numpy(), known[name]), name


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"image_lr_scale": 0.0}, "a tower of random weights has nothing to keep: give --start"),
        ({"image_lr_scale": -1.0}, "--image-lr-scale must be 0 or more, not -1"),
        ({"text_dropout": 1.0}, "--text-dropout is a part of 0 or more and less than 1, not 1"),
        ({"views": 0}, "--views must be at least 1, not 0"),
    ],
)
def test_options_that_cannot_work_are_refused(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        options_for("clip", {"out": tmp_path / "run", **given}, smoke=True)


def test_dropout_is_of_training_alone(text: TextTower) -> None:
    torch.manual_seed(1)
    dropped = TextTower(TEXT, dropout=0.5)
    numbers = torch.tensor([[29, 5, 7, 30]])
    assert not torch.equal(dropped(numbers), dropped(numbers))
    dropped.load_state_dict(text.state_dict())
    assert torch.equal(dropped.eval()(numbers), text(numbers))
