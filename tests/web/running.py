"""A real server over a real gallery, in a process of its own, for tests with a socket or a browser."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 60.0
STOP_S = 20.0


@dataclass
class RunningServer:
    """A `vitseek serve` that answers, and what it has printed."""

    address: str
    process: "subprocess.Popen[str]"
    lines: list[str]

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "VITSEEK_STATE": str(home / "state"),
        "VITSEEK_CACHE": str(home / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "error",
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vitseek", *arguments]


@contextmanager
def serving(gallery: Path, home: Path, arguments: Sequence[str] = ()) -> Iterator[RunningServer]:
    """Start the server on a free port, wait until it says its address, stop it afterwards."""
    process = subprocess.Popen(
        command("serve", "--gallery", str(gallery), "--port", "0", *arguments),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment(home),
    )
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line.rstrip())
            if "vitseek is at" in line:
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(START_S), lines
        found = re.search(r"vitseek is at (http://\S+)", "\n".join(lines))
        assert found, f"the server ended with {process.wait(STOP_S)}: {lines}"
        yield RunningServer(found[1], process, lines)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_S)
        reader.join(STOP_S)
        assert process.stderr is not None
        process.stderr.close()
