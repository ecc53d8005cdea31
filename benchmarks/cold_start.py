"""How long `vitseek search` takes from the shell to the answer, against a budget, and how much of it is imports.

    python -m benchmarks.cold_start            # 15 rounds
    python -m benchmarks.cold_start --quick    # 5 rounds
    python -m benchmarks.cold_start --imports  # the packages behind it, slowest first

A gallery of 10,000 pictures and a file with the weights of ViT-S/14 (random numbers: nobody looks at the answer) are
made once. In every round each command runs once as a new process, `python -c 'import numpy'` among them, so that a
machine that becomes slower becomes so for all; and this process, which holds the model, makes one forward pass of one
picture.

"wall" and "cpu" (user and system time of the process) are the least of all rounds, since a busy machine can only add.
The budget is for two cores that have nothing else to do. That of the search is besides one forward pass: the least pass
is taken off first. The exit status is 1 where a budget is missed.

Python keeps compiled modules, as an installer makes them, in a folder of this run's own, and the first run of each
command is not counted.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

import vitseek
from benchmarks.forward import random_weights
from benchmarks.models import random_config
from benchmarks.report import Report, add_csv_option
from vitseek.engines.model import Model

IMAGES = 10_000
SIZE = "vit_small"
NUMPY = "python -c 'import numpy'"
NEW_PICTURE = "vitseek search, a new picture"
BUDGETS_MS = {"python -c 'import vitseek'": 150.0, "vitseek --help": 300.0, NEW_PICTURE: 500.0}


def make_gallery(folder: Path, weights: Path, images: int) -> tuple[Model, Path]:
    """An indexed gallery of the model's, the model, and a picture that is not in it."""
    rng = np.random.default_rng(0)
    save_file(random_weights(random_config(SIZE), rng), weights)
    model = vitseek.load(weights)
    folder.mkdir()
    for number in range(images):
        pixels = np.array([[number >> shift & 255 for shift in (16, 8, 0)]], np.uint8)
        Image.fromarray(np.full((8, 8, 3), pixels, np.uint8)).save(folder / f"{number:05d}.png")

    class Quick:
        """The model with invented features, so that making the gallery takes seconds."""

        name, preprocessing, config, pooling = model.name, model.preprocessing, model.config, model.pooling
        source = model.source

        def space(self) -> object:
            return model.space()

        def embed(self, images: list[object]) -> np.ndarray:
            return rng.standard_normal((len(images), model.embed_dim), dtype=np.float32)

        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            return rng.standard_normal((len(pixels), model.embed_dim), dtype=np.float32)

    with vitseek.Gallery(folder, model=Quick()) as gallery:  # type: ignore[arg-type]
        gallery.index()
    query = folder.parent / "query.jpg"
    Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(query)
    return model, query


@dataclass
class Times:
    """Milliseconds of each round of a command."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run it once more."""
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        self.wall.append((time.perf_counter() - start) * 1e3)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3)


def as_installed(modules: Path) -> dict[str, str]:
    """The environment of the commands: modules are compiled once, whatever this process was told."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environment, "PYTHONPYCACHEPREFIX": str(modules)}


def row(name: str, times: Times, numpy: Times, forward_ms: float, imports_ms: float) -> dict[str, str]:
    """A command's line of the table, with its budget where it has one."""
    wall = min(times.wall)
    ratio = statistics.median(ours / theirs for ours, theirs in zip(times.wall, numpy.wall, strict=True))
    cells = {
        "command": name,
        "wall": f"{wall:.0f} ms",
        "cpu": f"{min(times.cpu):.0f} ms",
        "of it imports": f"{imports_ms:.0f} ms",
        "to NumPy's import": f"{ratio:.2f}",
    }
    if name not in BUDGETS_MS:
        return {**cells, "counts": "–", "budget": "–", "margin": "–", "result": ""}
    counts = wall - (forward_ms if name == NEW_PICTURE else 0)
    margin = BUDGETS_MS[name] - counts
    return {
        **cells,
        "counts": f"{counts:.0f} ms",
        "budget": f"{BUDGETS_MS[name]:.0f} ms",
        "margin": f"{margin:.0f} ms",
        "result": "met" if margin >= 0 else "MISSED",
    }


def imports(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, Counter[str]]:
    """Milliseconds spent in imports, and the part of each package in them."""
    ran = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    own: Counter[str] = Counter()
    for line in ran.stderr.splitlines():
        if line.startswith("import time:") and line.split("|")[0].split()[-1].isdigit():
            microseconds, _, name = line.removeprefix("import time:").split("|")
            own[name.strip().split(".")[0]] += int(microseconds) / 1e3  # type: ignore[assignment]
    return sum(own.values()), own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 15")
    parser.add_argument("--images", type=int, default=IMAGES, help="size of the gallery")
    parser.add_argument("--imports", action="store_true", help="list the packages that are imported")
    add_csv_option(parser)
    options = parser.parse_args()
    report = Report.of("cold_start", options)
    with tempfile.TemporaryDirectory(prefix="vitseek-cold-") as place:
        os.environ["VITSEEK_STATE"] = str(Path(place) / "state")  # the gallery made here is nobody's last one
        gallery = Path(place) / "pictures"
        model, query = make_gallery(gallery, Path(place) / f"random-{SIZE}.safetensors", options.images)
        program = [sys.executable, "-m", "vitseek"]
        search = [*program, "search", "--gallery", str(gallery)]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            NUMPY: [sys.executable, "-c", "import numpy"],
            "python -c 'import vitseek'": [sys.executable, "-c", "import vitseek"],
            "vitseek --version": [*program, "--version"],
            "vitseek --help": [*program, "--help"],
            "vitseek search, a picture of the gallery": [*search, str(gallery / "00007.png")],
            NEW_PICTURE: [*search, str(query)],
            "vitseek search, a new picture, --json": [*search, str(query), "--json"],
        }
        environment = as_installed(Path(place) / "modules")
        pixels = model.preprocess(query)[None]
        for command in commands.values():
            Times().run(command, environment)
        model.embed_pixels(pixels)
        times = {name: Times() for name in commands}
        forwards = []
        for _ in range(5 if options.quick else 15):
            for name, command in commands.items():
                times[name].run(command, environment)
            start = time.perf_counter()
            model.embed_pixels(pixels)
            forwards.append((time.perf_counter() - start) * 1e3)
        spent = {name: imports(command, environment) for name, command in commands.items()}
    rows = [row(name, times[name], times[NUMPY], min(forwards), spent[name][0]) for name in commands]
    report.table(f"cold start, {options.images:,} pictures, {SIZE}: the least of all rounds (imports: one run)", rows)
    print(f"one forward pass in a warm process: {min(forwards):.0f} ms; {NEW_PICTURE} counts without it")
    if options.imports:
        report.table(
            "imports of the last command, by package",
            [{"package": name, "ms": f"{part:.1f}"} for name, part in spent[name][1].most_common(25)],
        )
    sys.exit(any(one["result"] == "MISSED" for one in rows))


if __name__ == "__main__":
    main()
