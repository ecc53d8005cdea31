"""From photos on the disk to stored vectors: the whole of `vitseek index` with each engine, beside its model alone.

    python -m benchmarks.indexing [--quick] [--photos FOLDER] [--engines numpy onnx …] [--model vit_base] [--images 32]
    python -m benchmarks.indexing --model vitseek-tiny --photos FOLDER --images 512

Photos of one's own, or pictures that `vitseek.sample` draws, as JPEGs of the size of photos; a size such as vit_base,
with random weights, or a real model. Every engine has two processes that take turns with all others
(:mod:`benchmarks.contest`):

- one holds the model and measures, on the same photos: "forward", the model alone on pixels that are ready; "reading",
  what the reading threads do alone (open, hash, decode, resize, normalise); "index", a whole run into a new gallery,
  and "nothing new", a second run. Reading and model both fill all cores, so that no pipeline can be faster than their
  times added up: "of the limit" is how near the run comes to that, "cores busy" the share of the cores' time in which
  this process computes, "model's share" the part of the run in which the model computes: its utilisation. The ratios
  hold the run against the model alone, in wall and in processor time.
- the other runs the command, ``vitseek index PHOTOS --gallery NEW``, from the shell to its end: starting and loading
  included. "peak" is the memory of that process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import run_with_peak
from benchmarks.contest import Contestant, Limits, Outcome, contest
from benchmarks.forward import random_weights
from benchmarks.models import random_config
from benchmarks.report import Report, add_csv_option, cores, installed
from benchmarks.worker import Prepared, Unavailable
from vitseek.engines import available
from vitseek.engines.model import Model, load
from vitseek.engines.threads import default_threads
from vitseek.errors import VitseekError
from vitseek.gallery.budget import PixelBudget
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.identity import FileStamp
from vitseek.gallery.reading import read_image
from vitseek.gallery.stores.scan import Job
from vitseek.models.config import VARIANTS
from vitseek.preprocess.image import IMAGE_SUFFIXES
from vitseek.sample.canvas import Canvas
from vitseek.sample.gallery import KINDS

JPEG_QUALITY = 90
SAME_VECTORS = 1e-3  # of a vector's length, to those of the numpy engine; int8 is not compared


@dataclass(frozen=True)
class Task:
    """What a worker indexes, and with what; plain values, so that it can be sent."""

    model: str
    engine: str
    precision: str
    photos: str
    pixels: str
    batch_size: int

    @property
    def options(self) -> dict[str, str]:
        """The engine and precision, as `vitseek.load` takes them."""
        chosen = {"engine": self.engine}
        return chosen if self.precision == "float32" else {**chosen, "precision": self.precision}


def draw_photos(folder: Path, number: int, size: tuple[int, int]) -> int:
    """Draw the sample gallery's kinds as large as photos; return their bytes in all."""
    kinds = list(KINDS.values())
    for one in range(number):
        canvas = Canvas(*size, np.random.default_rng([5, one]))
        kinds[one % len(kinds)](canvas)
        canvas.finished().save(folder / f"{one:05d}.jpg", quality=JPEG_QUALITY)
    return sum(path.stat().st_size for path in folder.iterdir())


def link_photos(source: Path, folder: Path, number: int) -> int:
    """Links to photos from all over a folder; their bytes in all."""
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    chosen = list(islice(found[:: max(1, len(found) // number)], number))
    if not chosen:
        raise SystemExit(f"error: {source} holds no photos")
    for one, path in enumerate(chosen):
        (folder / f"{one:05d}{path.suffix}").symlink_to(path.resolve())
    return sum(path.stat().st_size for path in chosen)


def reading(model: Model, paths: list[Path]) -> None:
    """What the reading threads do, alone."""
    jobs = [Job(0, os.fsencode(path.name), FileStamp.of(path.stat())) for path in paths]
    budget = PixelBudget()
    with ThreadPoolExecutor(default_threads()) as pool:
        for path, job in zip(paths, jobs, strict=True):
            pool.submit(read_image, path.parent, job, lambda: model.preprocessing, lambda _: False, budget)


def in_process(task: Mapping[str, object]) -> Prepared:
    """The worker that holds the model."""
    own = Task(**task)  # type: ignore[arg-type]
    photos, pixels = sorted(Path(own.photos).iterdir()), np.load(own.pixels, mmap_mode="r")
    try:
        options: dict[str, Any] = dict(own.options)
        if own.precision == "int8-static":  # a gallery does the same by itself
            options["calibration"] = load(own.model, offline=True).calibrate(photos)
        model = load(own.model, offline=True, **options)
    except VitseekError as error:
        raise Unavailable(str(error)) from None
    galleries = tempfile.TemporaryDirectory(prefix="vitseek-galleries-")
    numbers = count()

    def forward() -> np.ndarray:
        batches = (np.array(pixels[at : at + own.batch_size]) for at in range(0, len(pixels), own.batch_size))
        features = [model.embed_pixels(batch) for batch in batches]
        if model.engine != own.engine:  # NumPy took over: its time would stand under another name
            raise Unavailable(next(iter(reversed(model.notes)), "NumPy computes instead"))
        return np.concatenate(features)

    def index() -> dict[str, float]:
        folder = Path(galleries.name) / str(next(numbers))
        folder.mkdir()
        with Gallery(folder, roots=[own.photos], model=model) as gallery:
            start, used = time.perf_counter(), time.process_time()
            report = gallery.index(batch_size=own.batch_size)
            wall_s, processor_s = time.perf_counter() - start, time.process_time() - used
            start = time.perf_counter()
            gallery.index()
            again_s = time.perf_counter() - start
        return {"wall_s": wall_s, "processor_s": processor_s, "embed_s": report.embed_s, "again_s": again_s}

    runs = {"forward": forward, "reading": lambda: reading(model, photos), "index": index}
    return Prepared(runs, installed(available.PACKAGES.get(own.engine, ())))


def command(task: Mapping[str, object]) -> Prepared:
    """The worker that runs `vitseek index` in processes of their own."""
    own = Task(**task)  # type: ignore[arg-type]
    galleries = tempfile.TemporaryDirectory(prefix="vitseek-galleries-")
    numbers = count()

    def run() -> dict[str, float]:
        folder = Path(galleries.name) / str(next(numbers))
        folder.mkdir()
        options = [part for name, value in own.options.items() for part in (f"--{name}", value)]
        words = ["index", own.photos, "--gallery", str(folder), "--model", own.model, "--offline", "--json"]
        words += ["--batch-size", str(own.batch_size), *options]
        wall_s, printed, peak = run_with_peak(words)
        notes = json.loads(printed)["notes"]
        if own.engine != "numpy" and any("numpy" in note.lower() for note in notes):
            raise Unavailable(f"NumPy computed instead: {notes}")
        return {"wall_s": wall_s, "peak_bytes": float(peak)}

    return Prepared({"": run})


def labels(engine: str, precision: str) -> tuple[str, str]:
    """The names of an engine's two contestants."""
    return f"{engine}, {precision}", f"vitseek index --engine {engine}, {precision}"


def contestants(tasks: Sequence[Task]) -> list[Contestant]:
    """Two for each engine."""
    found = []
    for task in tasks:
        reason = "" if task.engine in available.ENGINES else "no engine of that name in this version"
        for name, make in zip(labels(task.engine, task.precision), ("in_process", "command"), strict=True):
            arguments = {"task": vars(task)}
            found.append(
                Contestant(
                    name=name,
                    make=f"benchmarks.indexing:{make}",
                    arguments=arguments,
                    needs=available.PACKAGES.get(task.engine, ()),
                    skipped=reason,
                )
            )
    return found


def different(outputs: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, str]:
    """Whose vectors are not those of the numpy engine."""
    wanted = outputs.get(labels("numpy", "float32")[0], {}).get("forward")
    reasons = {}
    for name, own in outputs.items():
        if wanted is None or "forward" not in own or not name.endswith("float32"):
            continue
        apart = np.linalg.norm(own["forward"] - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
        if not apart.max() <= SAME_VECTORS:
            reasons[name] = f"computes something else: vectors {apart.max():.2g} of their length away"
    return reasons


def medians(facts: Sequence[Mapping[str, float]], name: str) -> float:
    return statistics.median(one[name] for one in facts)


def row(task: Task, outcomes: Mapping[str, Outcome], number: int) -> dict[str, str]:
    """What the table says of an engine."""
    own, whole = (outcomes[name] for name in labels(task.engine, task.precision))
    cells = dict.fromkeys(
        ("forward", "reading", "index", "of the limit", "cores busy", "model's share", "wall ratio", "processor ratio",
         "nothing new", "command", "command took", "slowest", "peak"), "–",
    )  # fmt: skip
    if not own.skipped:
        forward_s, reading_s, runs = own.median_s("forward"), own.median_s("reading"), own.facts["index"]
        index_s = medians(runs, "wall_s")
        # The ratios of a round's own: a machine that becomes slower between rounds moves both.
        walls = [run["wall_s"] / alone for run, alone in zip(runs, own.wall_s["forward"], strict=True)]
        processor = [run["processor_s"] / used for run, used in zip(runs, own.processor_s["forward"], strict=True)]
        cells |= {
            "forward": f"{number / forward_s:.2f} images/s",
            "reading": f"{number / reading_s:.1f} images/s",
            "index": f"{number / index_s:.2f} images/s",
            "of the limit": f"{(forward_s + reading_s) / index_s:.0%}",
            "cores busy": f"{medians(runs, 'processor_s') / index_s / cores():.0%}",
            "model's share": f"{medians(runs, 'embed_s') / index_s:.0%}",
            "wall ratio": f"{statistics.median(walls):.3f}",
            "processor ratio": f"{statistics.median(processor):.3f}",
            "nothing new": f"{medians(runs, 'again_s') * 1000:.0f} ms",
        }
    if not whole.skipped:
        walls = [run["wall_s"] for run in whole.facts[""]]
        cells |= {
            "command": f"{number / statistics.median(walls):.2f} images/s",
            "command took": f"{statistics.median(walls):.1f} s",
            "slowest": f"{max(walls):.1f} s",
            "peak": f"{medians(whole.facts[''], 'peak_bytes') / 2**20:.0f} MiB",
        }
    reason = own.skipped if own.skipped == whole.skipped else "; ".join(filter(None, (own.skipped, whole.skipped)))
    return {"engine": task.engine, "precision": task.precision, **cells, "skipped": reason}


def saved(model: str, folder: Path) -> str:
    """What `--model` takes: the name itself, or a file with random weights of a named size."""
    if model not in VARIANTS:
        return model
    from safetensors.numpy import save_file

    file = folder / f"random-{model}.safetensors"
    save_file(random_weights(random_config(model), np.random.default_rng(3)), file)
    return str(file)


def chosen(text: str) -> tuple[str, str]:
    """``"numpy/int8"`` or ``"numpy"`` (float32)."""
    name, _, precision = text.partition("/")
    return name, precision or "float32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_base", help="a size, with random weights, or what vitseek.load takes")
    parser.add_argument("--engines", type=chosen, nargs="+", metavar="NAME[/PRECISION]", help="all, in float32")
    parser.add_argument("--photos", type=Path, help="index these, by links to them, instead of drawn ones")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=960)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="vit_tiny, 32 images, 1 round")
    add_csv_option(parser)
    options = parser.parse_args()
    if options.quick:
        options.model, options.images, options.rounds = "vit_tiny", 32, 1
    report = Report.of("indexing", options)
    with tempfile.TemporaryDirectory(prefix="vitseek-index-") as name:
        folder = Path(name)
        os.environ.update(VITSEEK_STATE=str(folder / "state"))  # the galleries made here are nobody's last one
        photos = folder / "photos"
        photos.mkdir()
        if options.photos:
            size_bytes = link_photos(options.photos, photos, options.images)
        else:
            size_bytes = draw_photos(photos, options.images, (options.width, options.height))
        file = saved(options.model, folder)
        paths = sorted(photos.iterdir())
        model = load(file, offline=True)
        np.save(folder / "pixels.npy", np.stack([model.preprocess(path) for path in paths]))
        tasks = [
            Task(file, engine, precision, str(photos), str(folder / "pixels.npy"), options.batch_size)
            for engine, precision in options.engines or [chosen(name) for name in available.ENGINES]
        ]
        outcomes = contest(
            contestants(tasks), rounds=options.rounds, check=different, limits=Limits(1800, 1800), warmups=1
        )
    kind = "photos" if options.photos else f"drawn JPEGs of {options.width} × {options.height} px"
    versions = {name: version for one in outcomes.values() for name, version in one.versions.items()}
    report.table(
        f"{options.model} at {model.preprocessing.size_px} px, {len(paths)} {kind}, "
        f"{size_bytes / len(paths) / 1e3:.0f} kB each, batches of {options.batch_size}, {options.rounds} rounds",
        [row(task, outcomes, len(paths)) for task in tasks],
        versions=versions,
    )
    first = row(tasks[0], outcomes, len(paths))
    if not outcomes[labels(tasks[0].engine, tasks[0].precision)[0]].skipped:
        wall, processor = float(first["wall ratio"]) - 1, float(first["processor ratio"]) - 1
        print(f"overhead of indexing with {first['engine']}: {wall:+.1%} of pure forward time, ", end="")
        print(f"{processor:+.1%} in processor time (medians)")
    print(f"\nkept in {report.file}")


if __name__ == "__main__":
    main()
