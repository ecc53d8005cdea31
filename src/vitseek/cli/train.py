"""`vitseek train RECIPE`: one command a recipe, its options made from the recipe's dataclass.

The options are plain dataclasses, so help and documentation need no torch; the recipes themselves are imported when one
is run.
"""

import dataclasses
import inspect
import os
import sys
import time
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vitseek.cli.common import JsonOption, note, print_json, progress_bar
from vitseek.errors import MissingExtraError, TrainingInterrupted
from vitseek.train.options import RECIPES, RunOptions, flag

EXTRA = 'training needs PyTorch and more: pip install "vitseek[train]"'
EXAMPLES = {
    "supervised": ("--smoke", "--data photos/train --validation photos/validation --model small --epochs 300"),
    "finetune": ("--data photos/train --start vitseek-tiny", "--data labels.csv --start dinov2-small --freeze"),
    "deit": ("--data photos --teacher runs/finetune --model tiny", "--out runs/deit --resume"),
    "distill": (
        "--smoke",
        "--data photos --teacher vit-tiny.safetensors --targets hints --start runs/blocks --lr 5e-4",
    ),
    "mae": ("--data photos --image-size 96 --epochs 200", "--smoke --out /tmp/mae"),
    "dino": ("--data photos --image-size 96 --epochs 100", "--data photos --out runs/dino --resume"),
    "clip": (
        "--data captions.csv --images photos --start vitseek-tiny --image-lr-scale 0 --image-size 192",
        "--smoke --out /tmp/clip",
    ),
}

app = typer.Typer(
    help="Train a Vision Transformer with PyTorch, for the NumPy runtime.\n\n"
    "\b\nExamples:\n"
    "  vitseek train supervised --smoke\n"
    "  vitseek train finetune --data photos/train --start vitseek-tiny\n"
    "  vitseek train mae --data photos --out runs/mae --resume\n"
    "  torchrun --nproc_per_node 2 -m vitseek train dino --data photos\n\n"
    "A run's folder has last.pt and best.pt, metrics.csv, steps.csv, curves.png and tensorboard/. Ctrl-C saves.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Console:
    """Shows a run on stderr: a bar while it works, a line for every epoch."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.task: Any = None
        self.what = ""
        self.shown_at = 0.0

    def note(self, text: str) -> None:
        """Print one line above the bar."""
        self.bar.stop()
        note(text)
        self.bar.start()

    def progress(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Move the bar, ten times a second at most."""
        now = time.monotonic()
        if done < total and what == self.what and now - self.shown_at < 0.1:
            return
        self.shown_at = now
        if what != self.what or self.task is None:
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.task, self.what = self.bar.add_task(what, total=total, rate=detail), what
        self.bar.update(self.task, completed=done, rate=detail)


def _command(recipe: str, kind: type[RunOptions], text: str) -> Callable[..., None]:
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}

    def command(*, smoke: bool, resume: bool, as_json: bool, **given: Any) -> None:
        _train(recipe, {name: value for name, value in given.items() if value is not None}, smoke, resume, as_json)

    parameters = [_parameter(name, hints[name], field) for name, field in fields.items()]
    switches = {
        "smoke": (bool, "Under a minute: a small model, few epochs; draws pictures if there is no --data."),
        "resume": (bool, "Go on with the run in --out, with its options; those given here win."),
    }
    parameters += [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[hint, typer.Option(flag(name), help=line)],
        )
        for name, (hint, line) in switches.items()
    ]
    parameters.append(
        inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption)
    )
    examples = "\n".join(f"  vitseek train {recipe} {line}" for line in EXAMPLES[recipe])
    command.__doc__ = f"{text}\n\n\b\nExamples:\n{examples}\n"
    command.__name__ = recipe
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameter(name: str, hint: Any, field: "dataclasses.Field[Any]") -> inspect.Parameter:
    """An option that is None unless it is given, so that a resumed run keeps its own; help shows the true default."""
    bare = [part for part in typing.get_args(hint) if part is not types.NoneType] if _optional(hint) else [hint]
    kind, text = bare[0], field.metadata["help"]
    names = (f"{flag(name)}/--no-{name.replace('_', '-')}",) if kind is bool else (flag(name),)
    metavar = None
    if typing.get_origin(kind) is typing.Literal:
        metavar, kind = "|".join(typing.get_args(kind)), str
    shown = str(field.default) if field.default is not None else False
    option = typer.Option(*names, help=text, show_default=shown, metavar="PATH" if kind is Path else metavar)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _optional(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) and types.NoneType in typing.get_args(hint)


def _train(recipe: str, given: dict[str, Any], smoke: bool, resume: bool, as_json: bool) -> None:
    try:
        from vitseek.train.run import options_for, run
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{EXTRA} ({error.name} is missing)") from error

    options = options_for(recipe, given, smoke=smoke, resume=resume)
    with progress_bar() as bar:
        try:
            outcome = run(recipe, options, Console(bar), resume=resume)
        except TrainingInterrupted as stop:
            note(str(stop))
            raise typer.Exit(stop.exit_status) from stop
    facts: dict[str, Any] = {
        "recipe": recipe,
        "folder": outcome.folder,
        "checkpoint": outcome.checkpoint,
        "steps": outcome.steps,
        "scores": outcome.scores,
        "pictures": [str(path) for path in outcome.pictures],
    }
    if outcome.leads and as_json:
        print_json(facts)
    elif outcome.leads:
        note(f"curves: {', '.join(facts['pictures'])}")
        note(f"checkpoint: {outcome.checkpoint}")
        note(f"export it: vitseek export {outcome.checkpoint} -o model.safetensors")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Everything is written. Now and then gloo's threads outlive the interpreter and abort the process ("terminate
        # called without an active exception"), and torchrun would call the finished run a failure.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


for _recipe, (_kind, _text) in RECIPES.items():
    app.command(_recipe)(_command(_recipe, _kind, _text))
