import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vitseek.cli.app import app
from vitseek.errors import MissingExtraError, UsageError
from vitseek.train.options import RECIPES, ClipOptions, FinetuneOptions, SupervisedOptions


@pytest.mark.parametrize("recipe", RECIPES)
def test_options_survive_a_checkpoint(recipe: str) -> None:
    kind = RECIPES[recipe][0]
    options = kind.smoke(data=Path("a b"), seed=5)
    assert kind.from_dict(options.to_dict()) == options


def test_options_of_another_recipe_are_refused() -> None:
    with pytest.raises(UsageError, match="SupervisedOptions has no option center_momentum"):
        SupervisedOptions.from_dict({"seed": 1, "center_momentum": 0.9})


def test_a_smoke_run_is_small_and_what_is_given_wins() -> None:
    options = SupervisedOptions.smoke(epochs=3)
    assert (options.width, options.epochs, options.mixup) == (48, 3, 0.0)
    assert SupervisedOptions().epochs == 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "--epochs must be above 0, not 0"),
        ({"lr": -1e-3}, "--lr must be above 0"),
        ({"workers": -1}, "--workers must be 0 or more, not -1"),
        ({"warmup_epochs": 9.0, "epochs": 7}, "--warmup-epochs 9 is longer than the run of --epochs 7"),
        ({"precision": "int8"}, "--precision must be one of auto, no, bf16, fp16, not 'int8'"),
        ({"model": "gigantic"}, "--model must be one of tiny, small, base, large, huge"),
    ],
)
def test_numbers_that_cannot_work_are_refused_by_name(given: dict[str, object], message: str) -> None:
    options = SupervisedOptions(**given)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        options.check()


def test_options_without_a_size_are_fine() -> None:
    FinetuneOptions().check()
    ClipOptions().check()


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_lists_every_option_of_a_recipe_with_its_default(recipe: str) -> None:
    result = CliRunner().invoke(app, ["train", recipe, "--help"], terminal_width=200)
    assert result.exit_code == 0
    for name in RECIPES[recipe][0].__dataclass_fields__:
        assert "--" + name.replace("_", "-") in result.output
    assert "Examples:" in result.output
    assert "--smoke" in result.output


def test_help_needs_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert CliRunner().invoke(app, ["train", "mae", "--help"]).exit_code == 0


@pytest.mark.parametrize("arguments", [["train", "mae", "--smoke"], ["export", "runs/mae"]])
def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    for name in [name for name in sys.modules if name.startswith("vitseek.train.") and "options" not in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, MissingExtraError)
    assert 'pip install "vitseek[train]"' in str(result.exception)
    assert "torch" in str(result.exception)
