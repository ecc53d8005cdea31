"""What the tests of several commands share."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from vitseek.cli import app


class Ran(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Call the program in this process, as its user does."""

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["vitseek", *map(str, arguments)])
        status = 0
        try:
            app.main()
        except SystemExit as end:
            status = int(end.code or 0)
        return Ran(status, *capfd.readouterr())

    return call
