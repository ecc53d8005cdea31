import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from typer.testing import CliRunner  # noqa: E402

from vitseek.cli.app import app  # noqa: E402
from vitseek.engines.model import load  # noqa: E402
from vitseek.errors import TrainingError, UsageError, VitseekError  # noqa: E402
from vitseek.preprocess.image import preprocess  # noqa: E402
from vitseek.train import checkpoint as checkpoints  # noqa: E402
from vitseek.train import export as exports  # noqa: E402
from vitseek.train.export import export  # noqa: E402
from vitseek.train.run import options_for, run  # noqa: E402
from vitseek.train.smoke import draw_pictures  # noqa: E402

Options = Callable[..., Any]


@pytest.fixture
def trained(small: Options, tmp_path: Path) -> Path:
    run("supervised", small("supervised", out=tmp_path / "trained", registers=2, layer_scale=0.1))
    return tmp_path / "trained"


def test_the_runtime_loads_what_was_exported_with_labels_and_preprocessing(trained: Path, classes: Path) -> None:
    done = export(trained, trained / "colours.safetensors", licence="CC0-1.0")
    assert done.differences.worst < 1e-5
    assert done.differences.scores is not None
    model = load(trained / "colours.safetensors")
    assert (model.name, model.labels) == ("colours", ["blue", "green", "red"])
    assert (model.preprocessing.size_px, model.preprocessing.resize_px) == (16, 18)
    found = checkpoints.load(done.files[0].parent)
    file = classes / "red" / "3.png"
    pixels = preprocess(file, model.preprocessing)[None]
    from vitseek.train.bridge import load_start

    features = load_start(str(trained / "best.pt")).module().eval().features(torch.from_numpy(pixels))
    assert np.abs(features.detach().numpy() - model.embed([file])).max() < 1e-5
    document = json.loads((trained / "colours.json").read_text())
    assert document["licence"] == "CC0-1.0"
    assert document["training"]["recipe"] == found.recipe == "supervised"


def test_a_folder_gets_the_names_that_the_loader_looks_for(trained: Path, tmp_path: Path) -> None:
    done = export(trained, tmp_path / "models" / "colours", dtype="float16")
    assert [file.name for file in done.files] == ["model.safetensors", "model.json"]
    assert load(tmp_path / "models" / "colours").labels == ["blue", "green", "red"]
    assert done.files[0].stat().st_size < 2.5 * done.parameters
    modes = {stat.S_IMODE(file.stat().st_mode) for file in done.files}
    assert len(modes) == 1  # weights as readable as their description


@pytest.mark.parametrize("part", ["class token", "patches", "scores"])
def test_nothing_is_written_if_numpy_and_torch_differ(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    from vitseek.train.vit import VisionTransformer

    tokens, logits = VisionTransformer.tokens, VisionTransformer.logits

    def off(self: Any, pixels: Any) -> Any:
        rows = tokens(self, pixels).clone()
        if part == "class token":
            rows[:, 0] += 2e-4
        elif part == "patches":
            rows[:, 5:] += 3e-3
        return rows

    monkeypatch.setattr(VisionTransformer, "tokens", off)
    if part == "scores":
        monkeypatch.setattr(VisionTransformer, "logits", lambda self, rows: (logits(self, rows)[0] + 2e-4, None))
    with pytest.raises(TrainingError, match=r"nothing was written: NumPy and torch differ by .* more than 0.0001"):
        export(trained, tmp_path / "out" / "x.safetensors")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("apart", [(float("nan"), 0.0, None), (0.0, 0.0, 2e-4), (0.0, float("nan"), 0.0)])
def test_what_is_not_proven_equal_does_not_pass(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: tuple[float, float, float | None]
) -> None:
    monkeypatch.setattr(exports, "compare", lambda *_: exports.Differences(*apart))
    with pytest.raises(TrainingError, match=r"nothing was written: NumPy and torch differ by (nan|0.0002)"):
        export(trained, tmp_path / "x.safetensors")


def test_real_weights_pass_though_their_tokens_are_large(shared_dir: Path, tmp_path: Path) -> None:
    from vitseek.train.bridge import load_start, to_runtime
    from vitseek.train.task import Card

    start = load_start(str(shared_dir / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"))
    module = start.module()
    card = Card(to_runtime(module.config).to_dict(), start.preprocessing.to_dict())
    found = checkpoints.Checkpoint("finetune", {}, card.to_dict(), 0, module.state_dict())
    checkpoints.save(tmp_path / "last.pt", found)
    apart = export(tmp_path, tmp_path / "x.safetensors").differences
    assert apart.worst < 1e-4


def test_existing_files_are_not_replaced_unless_that_is_said(trained: Path) -> None:
    export(trained, trained / "x.safetensors")
    with pytest.raises(UsageError, match=r"x.safetensors exists already: choose another name, or allow it with --over"):
        export(trained, trained / "x.safetensors")
    export(trained, trained / "x.safetensors", overwrite=True)
    with pytest.raises(UsageError, match=r"must end in .safetensors, or be a folder"):
        export(trained, trained / "x.pt")


def test_a_checkpoint_of_another_architecture_is_refused(trained: Path, tmp_path: Path) -> None:
    found = checkpoints.load(trained)
    found.card["config"]["depth"] = 3
    checkpoints.save(tmp_path / "odd.pt", found)
    with pytest.raises(TrainingError, match=r"odd.pt is a checkpoint of another architecture:\n  missing: blocks.2"):
        export(tmp_path / "odd.pt", tmp_path / "x.safetensors")


@pytest.mark.parametrize("recipe", ["mae", "dino", "deit", "finetune"])
def test_every_recipe_s_model_is_the_same_in_numpy(recipe: str, small: Options, trained: Path, tmp_path: Path) -> None:
    given = {"deit": {"teacher": str(trained)}, "finetune": {"start": str(trained)}}.get(recipe, {})
    run(recipe, small(recipe, epochs=1, **given))
    done = export(tmp_path / "run", tmp_path / "x.safetensors")
    assert done.differences.worst < 1e-5
    assert (done.differences.scores is None) == (recipe in ("mae", "dino"))
    assert load(tmp_path / "x.safetensors").config.distilled == (recipe == "deit")


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A short run of clip."""
    folder = draw_pictures(tmp_path / "pictures", seed=1, per_class=3)
    given = {"data": folder / "captions.csv", "epochs": 1, "out": tmp_path / "pair", "text_depth": 1}
    run("clip", options_for("clip", given, smoke=True))
    return tmp_path / "pair"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_clip_exports_both_towers_as_one_model(pair: Path, tmp_path: Path, dtype: Any) -> None:
    done = export(pair, tmp_path / "out" / "pairs.safetensors", dtype=dtype)
    assert [file.name for file in done.files] == ["pairs.safetensors", "pairs.json", "pairs-tokenizer.json"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(file.name for file in done.files)
    assert done.differences.texts is not None
    assert done.differences.worst < 1e-5
    model = load(tmp_path / "out" / "pairs.safetensors")
    assert (model.pooling, model.embed_dim) == ("embedding", 32)
    assert model.embed_texts(["a red disc", "there is a ring ."]).shape == (2, 32)
    assert model.logit_scale == pytest.approx(1 / 0.07, rel=0.1)


def test_a_pair_moves_with_its_folder(pair: Path, tmp_path: Path) -> None:
    export(pair, tmp_path / "one")
    wanted = load(tmp_path / "one").embed_texts("a blue triangle")
    (tmp_path / "one").rename(tmp_path / "two")
    assert np.array_equal(load(tmp_path / "two").embed_texts("a blue triangle"), wanted)


@pytest.mark.parametrize("part", ["projection", "text"])
def test_a_pair_is_not_written_if_an_embedding_differs(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    from vitseek.engines.model import Model

    name = {"projection": "embed_pixels", "text": "embed_texts"}[part]
    right = getattr(Model, name)
    monkeypatch.setattr(Model, name, lambda self, *given, **more: right(self, *given, **more) + np.float32(2e-4))
    with pytest.raises(TrainingError, match=r"nothing was written: NumPy and torch differ by 0.0002"):
        export(pair, tmp_path / "out" / "x.safetensors")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_pair_is_not_written_if_its_tokenizer_gives_other_numbers(pair: Path, tmp_path: Path) -> None:
    from vitseek.train import tokenizer as tokenizers

    right = json.loads((pair / "tokenizer.json").read_text())["model"]["merges"]
    other = tokenizers.build(
        [(a, b) for a, b in (pair_ if isinstance(pair_, list) else pair_.split() for pair_ in right)][:-5]
    )
    other.save(str(pair / "tokenizer.json"))
    with pytest.raises(VitseekError, match=r"belongs to another model"):
        export(pair, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_a_pair_needs_its_tokenizer(pair: Path, tmp_path: Path) -> None:
    (pair / "tokenizer.json").unlink()
    with pytest.raises(TrainingError, match=r"tokenizer.json belongs to .* and is missing"):
        export(pair, tmp_path / "again.safetensors")
    assert not (tmp_path / "again.safetensors").exists()


def test_a_pair_s_trunk_can_be_finetuned(pair: Path, small: Options, tmp_path: Path) -> None:
    export(pair, tmp_path / "pairs.safetensors")
    start = str(tmp_path / "pairs.safetensors")
    run("finetune", small("finetune", start=start, image_size=64, epochs=1, out=tmp_path / "tuned"))
    assert load(export(tmp_path / "tuned", tmp_path / "t.safetensors").files[0]).labels == ["blue", "green", "red"]


def test_the_command_prints_the_proof(trained: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(trained), "-o", str(tmp_path / "a.safetensors"), "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["differences"]["features"] < 1e-5
    assert [Path(file).name for file in document["files"]] == ["a.safetensors", "a.json"]
    result = CliRunner().invoke(app, ["export", str(trained), "-o", str(tmp_path / "b"), "--dtype", "int8"])
    assert isinstance(result.exception, UsageError)
