import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.errors import UsageError  # noqa: E402
from vitseek.train import bpe  # noqa: E402
from vitseek.train.clip import Clip, contrastive_loss, recalls  # noqa: E402
from vitseek.train.run import options_for, run  # noqa: E402
from vitseek.train.smoke import draw_pictures  # noqa: E402
from vitseek.train.text import TextConfig, TextTower  # noqa: E402
from vitseek.train.vit import VisionTransformer, VitConfig  # noqa: E402

TEXT = TextConfig(vocabulary=31, context=11, width=24, depth=2, num_heads=2)


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


def test_the_temperature_starts_where_it_is_told_and_stays_above_a_hundredth(text: TextTower) -> None:
    image = VisionTransformer(VitConfig(image_size=8, patch_size=4, embed_dim=24, depth=1, num_heads=2))
    module = Clip(image, text, 13, 0.07)
    pixels, numbers = torch.randn(2, 3, 8, 8), torch.tensor([[29, 5, 30], [29, 6, 30]])
    images, texts, scale = module(pixels, numbers)
    assert float(scale.detach()) == pytest.approx(1 / 0.07, rel=1e-5)
    assert images.shape == texts.shape == (2, 13)
    assert torch.allclose(images.norm(dim=1), torch.ones(2), atol=1e-5)
    with torch.no_grad():
        module.logit_scale.fill_(math.log(1000))
    assert float(module(pixels, numbers)[2].detach()) == pytest.approx(100.0, rel=1e-4)


def test_recall_counts_any_caption_of_an_image_both_ways() -> None:
    images = torch.eye(12)
    of_text = torch.tensor([0, 0, 1, 2])
    texts = images[torch.tensor([3, 0, 1, 5])]  # the first and the last caption are wrong
    scores = recalls(images, texts, of_text)
    assert scores["text_to_image_recall@1"] == 0.5
    # images 0 and 1 find a caption of theirs first; image 2's only caption looks like image 5; nine have none
    assert scores["image_to_text_recall@1"] == pytest.approx(2 / 12)
    assert scores["image_to_text_recall@10"] == pytest.approx(3 / 12)


def test_a_run_keeps_its_tokenizer_and_resumes_with_it(tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", seed=1, per_class=5)
    given = {"data": folder / "captions.csv", "width": 24, "depth": 2, "heads": 2, "epochs": 1, "text_depth": 1}
    out = tmp_path / "run"
    run("clip", options_for("clip", {**given, "out": out}, smoke=True))
    first = bpe.read(out / "tokenizer.json")
    assert len(first) > 514
    (out / "tokenizer.json").write_text((out / "tokenizer.json").read_text())
    outcome = run("clip", options_for("clip", {"out": out, "epochs": 2, "vocabulary": 520}, resume=True), resume=True)
    assert bpe.read(out / "tokenizer.json").tokens == first.tokens
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
    with pytest.raises(UsageError, match="the text tower does not hold together: embed_dim 25 cannot be split over 2"):
        run("clip", options_for("clip", given, smoke=True))
