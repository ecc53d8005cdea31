"""The `vitseek` program: global options, error manners, and the list of commands.

A command lives in its own file and imports what is heavy inside its function, so that
`vitseek --help` and a cold `vitseek search` start fast.
"""

import gc
import sys
from typing import Annotated

import typer

import vitseek
from vitseek.cli import demo, embed, export, features, index, models, remove, search, serve, status, train, verify
from vitseek.cli.common import printable
from vitseek.errors import VitseekError

app = typer.Typer(
    name="vitseek",
    help="Search your own images with Vision Transformers, on any CPU, without PyTorch.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130
GC_THRESHOLD = 100_000  # new objects between two collections; Python's own is 700 (2,000 from 3.13 on)
_debug = False


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vitseek {vitseek.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    global _debug
    _debug = debug


app.command()(index.index)
app.command()(search.search)
app.command()(serve.serve)
app.command()(demo.demo)
app.command()(status.status)
app.command()(remove.remove)
app.add_typer(features.app, name="features")
app.add_typer(train.app, name="train")
app.command()(embed.embed)
app.command()(export.export)
app.command(cls=verify.TakesSeveralImages)(verify.verify)
app.add_typer(models.app, name="models")


def main() -> None:
    """Run the command line; every expected error is one or two lines and an exit status."""
    # Imports make many objects and no garbage: looking for it costs a cold search some percent of its time.
    gc.set_threshold(GC_THRESHOLD)
    try:
        app()
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
