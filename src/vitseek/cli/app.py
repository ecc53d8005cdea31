"""The `vitseek` program: global options, error manners, and the list of commands.

A command lives in its own file, is imported only when it is called, and imports what is heavy inside its function, so
that a cold `vitseek search` starts fast.
"""

import gc
import sys
from importlib import import_module
from typing import Annotated

import typer

from vitseek import blas
from vitseek.cli.common import printable
from vitseek.engines.cores import usable_cores
from vitseek.errors import VitseekError
from vitseek.version import __version__

COMMANDS = (
    "index", "search", "serve", "demo", "tune", "status", "spaces", "remove", "features", "label", "classify", "train",
    "embed", "export", "verify", "models",
)  # fmt: skip
INTERRUPTED = 130
GC_THRESHOLD = 100_000  # new objects between two collections; Python's own is 700 (2,000 from 3.13 on)
_debug = False


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vitseek {__version__}")
        raise typer.Exit


def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    global _debug
    _debug = debug


def build(names: tuple[str, ...] = COMMANDS) -> typer.Typer:
    """Return the program with the commands ``names``.

    The module ``vitseek.cli.NAME`` has a function NAME, and perhaps a click class ``COMMAND_CLASS`` for it; or, for a
    group of commands, a typer program ``app``.
    """
    program = typer.Typer(
        name="vitseek",
        help="Search your own images with Vision Transformers, on any CPU, without PyTorch.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    program.callback()(options)
    for name in names:
        module = import_module(f"vitseek.cli.{name}")
        if hasattr(module, "app"):
            program.add_typer(module.app, name=name)
        else:
            program.command(name, cls=getattr(module, "COMMAND_CLASS", None))(getattr(module, name))
    return program


def __getattr__(name: str) -> typer.Typer:
    # `app`, the whole program, is made when tests or docs ask for it: a called command does not pay for the others.
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    program = globals()["app"] = build()
    return program


def main() -> None:
    """Run the command line; every expected error is one or two lines and an exit status."""
    # Imports make many objects and no garbage: looking for it costs a cold search some percent of its time.
    gc.set_threshold(GC_THRESHOLD)
    blas.prefer_faster_kernels()
    blas.limit_threads(usable_cores())
    called = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    try:
        build((called,) if called in COMMANDS else COMMANDS)()
    except VitseekError as error:
        if _debug:
            raise
        sys.stderr.write(f"error: {printable(error)}\n")
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `vitseek search … | head` is no error
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if _debug:
            raise
        sys.stderr.write(
            f"error: unexpected {type(error).__name__}: {printable(error)}\n"
            "This is a bug in vitseek: please report it with the output of `vitseek --debug …`.\n"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
