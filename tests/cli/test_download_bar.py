"""The bar of a download: there when something comes, and nothing of it otherwise."""

import io

import pytest
from rich.console import Console

from vitseek.cli import common


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr(common, "stderr", lambda: Console(file=written, force_terminal=True, width=100))
    return written


def test_without_a_download_nothing_is_drawn(terminal: io.StringIO) -> None:
    with common.download_bar():
        pass
    assert terminal.getvalue() == ""


def test_files_share_one_bar_which_is_gone_at_the_end(terminal: io.StringIO) -> None:
    with common.download_bar() as show:
        show("config.json", 7, 7)
        show("model.safetensors", 1_000_000, 86_000_000)
    drawn = terminal.getvalue()
    assert "model.safetensors" in drawn
    assert "1.0/86.0 MB" in drawn
    last = drawn.rpartition("model.safetensors")[2]
    assert "\x1b[2K" in last, "the line is cleared"
    assert drawn.count("\x1b[?25l") == 1, "one bar: the cursor is hidden once"


def test_a_bar_is_closed_when_the_download_fails(terminal: io.StringIO) -> None:
    def fail() -> None:
        with common.download_bar() as show:
            show("model.safetensors", 1, None)
            raise OSError("cut off")

    with pytest.raises(OSError, match="cut off"):
        fail()
    assert terminal.getvalue().count("\x1b[?25h") == 1, "the cursor is shown again"
