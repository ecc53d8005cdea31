"""How long `vitseek search` takes from the shell to the answer, and how much of it is imports.

    python -m benchmarks.cold_start            # 15 runs of each command
    python -m benchmarks.cold_start --quick    # 5 runs
    python -m benchmarks.cold_start --imports  # the packages behind it, slowest first

A gallery of 240 random pictures is indexed once with the embedded model, and one of 10,000 (--quick: 500) with a file
of ViT-S/14 with random weights. Each figure is a new process: the least of all runs, since a busy machine can only add.
"cpu" is the processor time of the process (user and system). A search with ViT-S may take half a second besides one
forward pass, which is measured here, in a warm process.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

import vitseek
from benchmarks.forward import random_weights
from benchmarks.report import Report, add_csv_option
from vitseek.engines.model import Model
from vitseek.models.config import VARIANTS, ViTConfig

IMAGES = 240
LARGE, LARGE_QUICK = 10_000, 500
WITH_SMALL = "vitseek search, a new picture, ViT-S/14"
# What a start may take on two cores that have nothing else to do; the last besides one forward pass.
SEARCH_MS = 500
BUDGETS_MS = {"python -c 'import vitseek'": 150, "vitseek --help": 300, "vitseek search, a new picture": SEARCH_MS}


def write_small(file: Path) -> Path:
    """A checkpoint of ViT-S/14 with random weights, under timm's names."""
    config = ViTConfig(**VARIANTS["vit_small"], patch_size=14, img_size=(224, 224))
    save_file(random_weights(config, np.random.default_rng(1)), file)
    return file


def make_gallery(folder: Path, model: Model, images: int) -> tuple[Path, Path]:
    """An indexed gallery, and a picture that is not in it. The vectors are random: nobody looks at the answer."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    size = (400, 300) if images == IMAGES else (20, 15)
    for number in range(images):
        pixels = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(folder / f"{number:03d}.jpg")

    class Quick:
        """The model with invented features, so that making the gallery takes a second."""

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
    query = folder.parent / f"query-of-{folder.name}.jpg"
    Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(query)
    return folder, query


def least(command: list[str], runs: int) -> tuple[float, float]:
    """Wall and processor milliseconds of the quickest run."""
    walls, processor = [], []
    for _ in range(runs):
        before, start = os.times(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        walls.append((time.perf_counter() - start) * 1e3)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        processor.append(used * 1e3)
    return min(walls), min(processor)


def imports(command: list[str]) -> tuple[float, Counter[str], set[str]]:
    """Milliseconds spent in imports, the part of each package in them, and all module names."""
    ran = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    own: Counter[str] = Counter()
    modules = set()
    for line in ran.stderr.splitlines():
        if line.startswith("import time:") and line.split("|")[0].split()[-1].isdigit():
            microseconds, _, name = line.removeprefix("import time:").split("|")
            modules.add(name.strip())
            own[name.strip().split(".")[0]] += int(microseconds) / 1e3  # type: ignore[assignment]
    return sum(own.values()), own, modules


def forward_ms(model: Model, query: Path, runs: int) -> float:
    """Milliseconds of the quickest pass for one picture, decoded before."""
    pixels = model.preprocess(query)[None]
    model.embed_pixels(pixels)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        model.embed_pixels(pixels)
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 runs instead of 15")
    parser.add_argument("--imports", action="store_true", help="list the packages that are imported")
    add_csv_option(parser)
    options = parser.parse_args()
    report = Report.of("cold_start", options)
    with tempfile.TemporaryDirectory() as place:
        os.environ["VITSEEK_STATE"] = str(Path(place) / "state")
        gallery, query = make_gallery(Path(place) / "pictures", vitseek.load(), IMAGES)
        small = vitseek.load(write_small(Path(place) / "vit_small_patch14.safetensors"))
        large, other = make_gallery(Path(place) / "many", small, LARGE_QUICK if options.quick else LARGE)
        runs = 5 if options.quick else 15
        budgets = BUDGETS_MS | {WITH_SMALL: round(SEARCH_MS + forward_ms(small, other, runs))}
        program = [sys.executable, "-m", "vitseek"]
        search = [*program, "search", "--gallery", str(gallery)]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
            "python -c 'import vitseek'": [sys.executable, "-c", "import vitseek"],
            "vitseek --version": [*program, "--version"],
            "vitseek --help": [*program, "--help"],
            "vitseek search, a picture of the gallery": [*search, str(gallery / "007.jpg")],
            "vitseek search, a new picture": [*search, str(query)],
            "vitseek search, a new picture, --json": [*search, str(query), "--json"],
            WITH_SMALL: [*program, "search", "--gallery", str(large), str(other)],
        }
        rows = []
        for name, command in commands.items():
            wall, processor = least(command, runs)
            spent, packages, _ = imports(command)
            rows.append(
                {
                    "command": name,
                    "wall": f"{wall:.0f} ms",
                    "cpu": f"{processor:.0f} ms",
                    "of it imports": f"{spent:.0f} ms",
                    "budget": f"{budgets[name]} ms" if name in budgets else "–",
                    "kept": ("yes" if wall <= budgets[name] else "NO") if name in budgets else "",
                }
            )
        report.table("cold start, the least of all runs (imports: one run)", rows)
        if options.imports:
            report.table(
                "imports of the last command, by package",
                [{"package": name, "ms": f"{spent:.1f}"} for name, spent in packages.most_common(25)],
            )


if __name__ == "__main__":
    main()
