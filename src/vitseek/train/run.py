"""Run a recipe by name: the one entry of the command line and of Python users."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from vitseek.errors import UsageError
from vitseek.train import checkpoint as checkpoints
from vitseek.train.loop import Outcome, check_folder, fit
from vitseek.train.options import RECIPES, RunOptions
from vitseek.train.task import Reporter, Silence, Task
from vitseek.train.team import Team


def options_for(recipe: str, given: dict[str, Any], *, smoke: bool = False, resume: bool = False) -> RunOptions:
    """Put the options of a run together: defaults, or what a resumed run had, then what was given.

    Raises
    ------
    UsageError
        If there is no such recipe, no run to resume, or an option that does not fit.
    """
    if recipe not in RECIPES:
        raise UsageError(f"no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    kind = RECIPES[recipe][0]
    if resume:
        out = Path(given.get("out", kind().out))
        check_folder(out, resume)
        found = checkpoints.load(out)
        if found.recipe != recipe:
            raise UsageError(f"{out} holds a run of {found.recipe}, not of {recipe}: choose another --out")
        options = dataclasses.replace(kind.from_dict(found.options), **{**given, "out": out})
    else:
        options = kind.smoke(**given) if smoke else kind(**given)
        if "warmup_epochs" not in given:  # a short trial need not be told twice that it is short
            options.warmup_epochs = min(options.warmup_epochs, options.epochs / 5)
        if options.data is None and not smoke:
            raise UsageError(f"{recipe} needs --data (or --smoke, which draws its own pictures)")
    options.check()
    return options


def build(recipe: str, options: RunOptions, team: Team, reporter: Reporter | None = None) -> Task:
    """Prepare the run of a recipe without starting it."""
    module = importlib.import_module(f"vitseek.train.{recipe}")
    task: Task = module.build(options, team, reporter or Silence())
    return task


def run(recipe: str, options: RunOptions, reporter: Reporter | None = None, *, resume: bool = False) -> Outcome:
    """Train a recipe to its end.

    Raises
    ------
    VitseekError
        Whatever reading the data, building the model or training raises; see :func:`vitseek.train.loop.fit`.
    """
    reporter = reporter or Silence()
    team = Team.join(options)
    check_folder(options.out, resume)
    if team.leads:
        reporter.note(f"{recipe}: {team!r}")
    outcome = fit(build(recipe, options, team, reporter), team, reporter, resume=resume)
    team.leave()
    return outcome
