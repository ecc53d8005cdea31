"""Write docs/cli.md from the command line itself: `python docs/generate_cli.py`; `--check` only compares.

Read from the functions' signatures and docstrings, not from `--help`: the page is the same whatever the width of
the terminal and the version of typer.
"""

import enum
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from vitseek.cli.app import app

TARGET = Path(__file__).parent / "cli.md"
HEADER = """# Command line

This page is generated from the program (`make docs`). Every command has `--help`.

Common manners: results go to stdout, progress and warnings to stderr; `--json` prints one JSON document on stdout and
nothing else. Exit status: 0 success, 1 a check failed or nothing usable was found, 2 wrong use, 130 interrupted by
Ctrl-C, which loses nothing that was saved.
"""
TYPE_NAMES = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}


def reference() -> str:
    """The whole page."""
    sections = list(_commands(app, "vitseek", 2))
    parts = [HEADER, "| command | |\n|---|---|\n" + "\n".join(_index(sections))]
    if app.registered_callback and (callback := app.registered_callback.callback):
        parts.append("## Before any command\n\n    vitseek [OPTIONS] COMMAND …\n\n" + _options(callback))
    parts += [text for _, _, _, text in sections]
    return "\n".join(part.rstrip() + "\n" for part in parts)


Section = tuple[str, int, str, str]  # the command's words, depth of its heading, its first line, its text


def _commands(group: typer.Typer, words: str, depth: int) -> Iterator[Section]:
    # Typer keeps commands and groups apart; by name they are found again.
    for command in group.registered_commands:
        if command.callback and not command.hidden:
            name = command.name or command.callback.__name__.replace("_", "-")
            yield _section(command.callback, f"{words} {name}", depth)
    for info in group.registered_groups:
        inner = info.typer_instance
        if inner is None or info.hidden is True:
            continue
        path = f"{words} {info.name or inner.info.name}"
        callback = inner.registered_callback.callback if inner.registered_callback else None
        if callback is not None:
            yield _section(callback, path, depth, suffix=" [COMMAND]")
        else:
            first, text = _prose(str(inner.info.help or ""))
            yield path, depth, first, f"{'#' * depth} {path}\n\n{text}\n"
        yield from _commands(inner, path, depth + 1)


def _index(sections: list[Section]) -> Iterator[str]:
    for words, depth, first, _ in sections:
        indent = "&nbsp;&nbsp;" * (depth - 2)
        yield f"| {indent}[`{words}`](#{words.replace(' ', '-')}) | {_cell(first)} |"


def _section(function: Callable[..., Any], words: str, depth: int, suffix: str = "") -> Section:
    first, text = _prose(inspect.getdoc(function) or "")
    usage = " ".join([words, "[OPTIONS]", *(_shown(*argument) for argument in _parameters(function, "argument"))])
    body = f"{'#' * depth} {words}\n\n    {usage}{suffix}\n\n{text}\n\n{_options(function)}"
    return words, depth, first, body


def _shown(parameter: inspect.Parameter, info: Any) -> str:
    name = info.metavar or parameter.name.upper()
    return str(name) if parameter.default is inspect.Parameter.empty or name.startswith("[") else f"[{name}]"


def _prose(docstring: str) -> tuple[str, str]:
    """The first line, and the text with its `\\b` blocks (Examples) as code."""
    blocks = [block for block in docstring.strip().split("\n\n") if block.strip()]
    shown = []
    for block in blocks:
        if not block.lstrip().startswith("\b"):
            shown.append(" ".join(line.strip() for line in block.splitlines()))
            continue
        title, *lines = block.replace("\b", "").strip("\n").splitlines()
        code = "\n".join(f"    {line.strip()}" for line in lines)
        shown.append(f"{title.strip()}\n\n{code}" if code else title.strip())
    return shown[0] if shown else "", "\n\n".join(shown)


def _parameters(function: Callable[..., Any], kind: str) -> Iterator[tuple[inspect.Parameter, Any]]:
    wanted = typer.models.OptionInfo if kind == "option" else typer.models.ArgumentInfo
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        for info in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(info, wanted) and not info.hidden:
                yield parameter, info


def _options(function: Callable[..., Any]) -> str:
    rows = [
        f"| `{_piped(_shown(parameter, info))}` | {_cell(info.help)} |  |"
        for parameter, info in _parameters(function, "argument")
    ]
    for parameter, info in _parameters(function, "option"):
        names, value = _names(parameter, info), _value(parameter, info)
        shown = ", ".join(f"`{name}`" for name in [*names[:-1], f"{names[-1]} {value}".rstrip()])
        rows.append(f"| {_piped(shown)} | {_cell(_meaning(parameter, info))} | {_default(parameter)} |")
    return "| option | meaning | default |\n|---|---|---|\n" + "\n".join(rows) + "\n" if rows else ""


def _names(parameter: inspect.Parameter, info: Any) -> list[str]:
    # In Annotated[…] typer takes the first name for its `default` field.
    given = [info.default] if isinstance(info.default, str) and info.default.startswith("-") else []
    names = [*given, *(info.param_decls or ())]
    if not names:
        long = f"--{parameter.name.replace('_', '-')}"
        names = [f"{long}/--no-{long[2:]}"] if _is_flag(parameter) else [long]
    return [part.strip() for name in names for part in name.split("/")]


def _kind(parameter: inspect.Parameter) -> Any:
    """The type of one value: without Annotated, Optional and list."""
    kind = parameter.annotation.__origin__
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _is_flag(parameter: inspect.Parameter) -> bool:
    return _kind(parameter) is bool


def _value(parameter: inspect.Parameter, info: Any) -> str:
    if _is_flag(parameter):
        return ""
    if info.metavar:
        return str(info.metavar)
    kind = _kind(parameter)
    if typing.get_origin(kind) is list:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(map(str, typing.get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "|".join(str(member.value) for member in kind)
    return TYPE_NAMES.get(kind, getattr(kind, "__name__", str(kind)).upper())


def _meaning(parameter: inspect.Parameter, info: Any) -> str:
    limits = [f"at least {info.min}"] * (info.min is not None) + [f"at most {info.max}"] * (info.max is not None)
    text = str(info.help or "")
    if limits:
        text = f"{text.removesuffix('.')}; {', '.join(limits)}."
    if typing.get_origin(_kind(parameter)) is list and "repeated" not in text and "…" not in str(info.metavar):
        text += " May be repeated."
    return text


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
    if parameter.default in (None, False, "", []):
        return ""
    value = parameter.default.value if isinstance(parameter.default, enum.Enum) else parameter.default
    return f"`{value}`" if value is not True else "on"


def _piped(code: str) -> str:
    """Code in a cell of a table, whose ends are written like a pipe."""
    return code.replace("|", "\\|")


def _cell(text: str | None) -> str:
    return _piped(" ".join((text or "").split())).replace("<", "&lt;")


def main() -> None:
    """Write the page, or with --check exit 1 when it is not current."""
    text = reference()
    if "--check" in sys.argv[1:]:
        if not TARGET.is_file() or TARGET.read_text("utf-8") != text:
            sys.exit(f"{TARGET} is not what the program says: run `make docs` and commit it")
        return
    TARGET.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
