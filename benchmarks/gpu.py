"""Images per second on a graphics card: engine torch beside transformers' Dinov2Model, and from JPEGs to features.

    python -m benchmarks.gpu [--models vit_base …] [--batches 1 32 256] [--photos FOLDER] [--csv FILE]
    python -m benchmarks.gpu --device cpu --quick      tiny, on the processor: whether everything runs and agrees

The same random weights (patch 14, 224 px) and the same pictures in ordinary memory, normalised, in float32; features of
the class token come back to ordinary memory, and every contestant waits for them. The peer is what the documentation
of transformers says: ``attn_implementation="sdpa"``, bfloat16, inference mode, its pictures in page-locked memory and
copied without waiting; and the same through ``torch.compile``, where that works. Contestants take turns; medians.

Features are compared with NumPy's in float32 before anything is timed. "of the ceiling" holds a contestant against the
products of the model's layers alone, (images x tokens, in) with (in, out) in bfloat16, in a turn of their own. "memory"
is the most that PyTorch has held on the GPU for a contestant: weights, input, the numbers between the layers, and what
it keeps of the batch sizes before. "first" is the time until the first features of that batch size: kernels are
chosen, passes recorded or compiled.

The second table goes from photos on the disk to features: threads decode and resize while the GPU computes. "decoding"
and "model" are each alone on the same photos; the whole cannot be faster than the slower of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.exports import Exports, class_token, dinov2_config, quiet
from benchmarks.forward import take_turns
from benchmarks.indexing import draw_photos, link_photos
from benchmarks.report import Report, add_csv_option, cores, installed
from benchmarks.runtimes import pictures, product_shapes
from vitseek.engines.checked import TOLERANCES, distance
from vitseek.engines.model import Model, load
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.torch_engine import DEVICE_VARIABLE, TorchEngine
from vitseek.weights.loader import load_weights

PATCH = 14
PRODUCTS = "products alone, bfloat16"
PEER = "transformers, bfloat16"
COMPILED = "transformers compiled, bfloat16"
OURS = {precision: f"vitseek torch, {precision}" for precision in ("bfloat16", "float32")}
LARGEST_ON_PROCESSOR = 8
AHEAD = 3  # batches that are decoded before they are needed
PHOTO_PX = (1600, 1200)
DRAWN = 48  # and gone through again and again


@dataclass
class Runner:
    """One line of the table, ready to be timed; or the reason why it is not."""

    name: str
    run: Callable[[], Any]
    memory_bytes: int = 0
    kept_bytes: int = 0  # of these, what it goes on to hold
    first_s: float = 0.0
    skipped: str = ""


class Card:
    """The device: what PyTorch says about it, and nothing where it is the processor."""

    def __init__(self, torch: Any, name: str) -> None:
        self.torch, self.device = torch, torch.device(name)
        self.is_gpu = self.device.type == "cuda"

    @property
    def title(self) -> str:
        """For people."""
        if not self.is_gpu:
            return f"{self.device}, PyTorch {self.torch.__version__}"
        kind = self.torch.cuda.get_device_properties(self.device)
        versions = f"CUDA {self.torch.version.cuda}, PyTorch {self.torch.__version__}"
        return f"{kind.name}, {kind.total_memory / 2**30:.0f} GiB, {versions}"

    def wait(self) -> None:
        """Until everything is computed."""
        if self.is_gpu:
            self.torch.cuda.synchronize(self.device)

    def begin(self) -> int:
        """Start to watch memory; what is held now, in bytes."""
        if not self.is_gpu:
            return 0
        self.torch.cuda.empty_cache()
        self.torch.cuda.reset_peak_memory_stats(self.device)
        return int(self.torch.cuda.memory_reserved(self.device))

    def most(self) -> int:
        """The most that was held since, in bytes."""
        return int(self.torch.cuda.max_memory_reserved(self.device)) if self.is_gpu else 0


def readied(
    card: Card,
    name: str,
    make: Callable[[], Callable[[], np.ndarray]],
    wanted: np.ndarray,
    most: float,
    *,
    kept_bytes: int = 0,
) -> Runner:
    """Make a contestant, and have it compute once, be compared and compute again.

    ``kept_bytes``: what it holds on the card already, its weights for example.
    """
    held, start = card.begin(), time.perf_counter()
    try:
        run = make()
        found = run()
        first_s = time.perf_counter() - start
        run()
    except Exception as error:  # a peer may lack a compiler, or memory: the others go on
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        return Runner(name, lambda: None, kept_bytes=kept_bytes, skipped=reason)
    if (apart := distance(found, wanted)) > most:
        reason = f"features are {apart:.2g} of their length from NumPy's"
        return Runner(name, lambda: None, kept_bytes=kept_bytes, skipped=reason)
    memory_bytes = kept_bytes + card.most() - held
    return Runner(name, run, memory_bytes=memory_bytes, kept_bytes=kept_bytes + card.begin() - held, first_s=first_s)


def ours(engine: TorchEngine, pixels: np.ndarray) -> Callable[[], np.ndarray]:
    """An engine of our own; it fails where NumPy has taken over."""

    def run() -> np.ndarray:
        features = engine.embed_pixels(pixels)
        if engine.computes != "torch":
            raise RuntimeError("NumPy computes instead")
        return features

    return run


def peer(card: Card, model: Any, pixels: np.ndarray) -> Callable[[], np.ndarray]:
    """transformers' model from pictures in page-locked memory to features in ordinary memory."""
    torch = card.torch
    host = torch.from_numpy(pixels)
    if card.is_gpu:
        host = host.pin_memory()

    def run() -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = model(host.to(card.device, non_blocking=True).to(torch.bfloat16)).float().cpu().numpy()
        return found

    return run


def products(card: Card, model: str, side_px: int, batch: int) -> Callable[[], None]:
    """The products of a model's layers with nothing between them."""
    torch = card.torch
    tokens = batch * (1 + (side_px // PATCH) ** 2)
    shapes = product_shapes(model, PATCH, side_px)
    options = {"dtype": torch.bfloat16, "device": card.device}
    weights = {shape: torch.randn(*shape, **options) for shape in set(shapes)}
    inputs = {wide: torch.randn(tokens, wide, **options) for wide, _ in weights}

    def run() -> None:
        with torch.inference_mode():
            for shape in shapes:
                torch.mm(inputs[shape[0]], weights[shape])
        card.wait()

    return run


def compare(
    card: Card,
    model: str,
    side_px: int,
    batches: list[int],
    rounds: int,
    folder: Path,
    report: Report,
    *,
    compile_mode: str,
) -> None:
    """Print and keep what each batch takes."""
    torch = card.torch
    exports = Exports(model, PATCH, side_px, folder)
    transformers, weights = exports.obtain("transformers"), exports.obtain("weights")
    config = dinov2_config(model, PATCH, side_px)
    params = load_weights(Path(weights), config=config).params
    reference = NumpyEngine(params, config)
    engines = {
        precision: TorchEngine(params, config, "cls", precision=precision, device=str(card.device))
        for precision in OURS
    }
    held = card.begin()
    theirs = class_token(transformers, "bfloat16").to(card.device)
    kept = dict.fromkeys(OURS.values(), 0) | dict.fromkeys((PEER, COMPILED), card.begin() - held)
    for batch in batches:
        pixels = pictures(batch, side_px)
        shown = pixels[:4]  # NumPy computes on the processor
        wanted = reference.embed_pixels(shown)

        def first_of(run: Callable[[], np.ndarray], count: int = len(shown)) -> Callable[[], np.ndarray]:
            return lambda: run()[:count]

        makes: dict[str, Callable[[], Callable[[], np.ndarray]]] = {
            OURS[precision]: lambda engine=engine, pixels=pixels: first_of(ours(engine, pixels))
            for precision, engine in engines.items()
        }
        makes[PEER] = lambda pixels=pixels: first_of(peer(card, theirs, pixels))
        if card.is_gpu:  # on a processor it only waits for a C++ compiler
            makes[COMPILED] = lambda pixels=pixels: first_of(
                peer(card, torch.compile(theirs, mode=compile_mode, dynamic=False), pixels)
            )
        with quiet():
            runners = [
                readied(
                    card,
                    name,
                    make,
                    wanted,
                    TOLERANCES["float32" if "float32" in name else "bfloat16"],
                    kept_bytes=kept[name],
                )
                for name, make in makes.items()
            ]
        kept |= {one.name: one.kept_bytes for one in runners}
        runs = {one.name: one.run for one in runners if not one.skipped}
        runs[PRODUCTS] = products(card, model, side_px, batch)
        times = {name: own.wall_s for name, own in take_turns(runs, rounds=rounds).items()}
        report.table(
            f"{model}/{PATCH} at {side_px} px, batch {batch}, {rounds} rounds; {card.title}",
            [line(one, times, batch) for one in [*runners, Runner(PRODUCTS, lambda: None)]],
            versions=installed(["torch", "transformers"]),
        )


def line(runner: Runner, times: dict[str, list[float]], batch: int) -> dict[str, str]:
    """A contestant's cells."""
    cells = dict.fromkeys(("images/s", "best", "ratio", "of the ceiling", "memory", "first"), "–")
    if not runner.skipped:
        own = times[runner.name]
        cells["images/s"] = f"{batch / statistics.median(own):.1f}"
        cells["best"] = f"{batch / min(own):.1f}"
        if runner.name != PRODUCTS:
            cells["of the ceiling"] = (
                f"{statistics.median(a / b for a, b in zip(times[PRODUCTS], own, strict=True)):.0%}"
            )
            cells["first"] = f"{runner.first_s:.1f} s"
        if PEER in times and runner.name in OURS.values():
            cells["ratio"] = f"{statistics.median(a / b for a, b in zip(times[PEER], own, strict=True)):.2f}"
        if runner.memory_bytes:
            cells["memory"] = f"{runner.memory_bytes / 2**20:.0f} MiB"
    return {"engine": runner.name, **cells, "skipped": runner.skipped}


def decoded(model: Model, paths: list[Path], batch: int, pool: ThreadPoolExecutor) -> Iterator[np.ndarray]:
    """Batches of pixels in order; some more are decoded while one is used."""
    waiting: list[list[Future[np.ndarray]]] = []
    rest = iter(paths)
    while True:
        while len(waiting) <= AHEAD and (some := list(islice(rest, batch))):
            waiting.append([pool.submit(model.preprocess, path) for path in some])
        if not waiting:
            return
        yield np.stack([one.result() for one in waiting.pop(0)])


def from_photos(
    card: Card,
    name: str,
    side_px: int,
    batch: int,
    rounds: int,
    folder: Path,
    paths: list[Path],
    report: Report,
    kind: str,
) -> None:
    """Print and keep how fast photos on the disk become features."""
    weights = Exports(name, PATCH, side_px, folder).obtain("weights")
    model = load(weights, engine="torch", precision="bfloat16", offline=True)
    with ThreadPoolExecutor(cores(), thread_name_prefix="decode") as pool:
        ready = list(decoded(model, paths, batch, pool))
        for pixels in ready:  # every size of batch is recorded
            model.embed_pixels(pixels)

        def whole() -> None:
            for pixels in decoded(model, paths, batch, pool):
                model.embed_pixels(pixels)

        def decoding() -> None:
            for _ in decoded(model, paths, batch, pool):
                pass

        def alone() -> None:
            for pixels in ready:
                model.embed_pixels(pixels)

        times = take_turns({"whole": whole, "decoding": decoding, "model": alone}, rounds=rounds)
    if model.late_notes:
        raise SystemExit(f"error: {model.late_notes[0]}")
    speed = {what: len(paths) / statistics.median(own.wall_s) for what, own in times.items()}
    limit = [max(a, b) for a, b in zip(times["decoding"].wall_s, times["model"].wall_s, strict=True)]
    share = statistics.median(a / b for a, b in zip(limit, times["whole"].wall_s, strict=True))
    report.table(
        f"{name}/{PATCH}: {len(paths)} {kind} to features, batch {batch}, {cores()} threads decode; {card.title}",
        [{
            "engine": OURS["bfloat16"], **{what: f"{each:.1f} images/s" for what, each in speed.items()},
            "of the limit": f"{share:.0%}",
        }],
        versions=installed(["torch", "pillow"]),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vit_small", "vit_base", "vit_large"], metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32, 256], metavar="N")
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--device", default="cuda", help="as PyTorch calls it")
    parser.add_argument(
        "--compile-mode", default="reduce-overhead", help="of torch.compile; max-autotune takes minutes"
    )
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="JPEGs; by default some are drawn")
    parser.add_argument("--images", type=int, default=1024, metavar="N", help="photos to go through")
    parser.add_argument("--quick", action="store_true", help="everything tiny, for whether it runs")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="where the CSV goes, instead of --csv-dir")
    add_csv_option(parser)
    options = parser.parse_args()
    try:
        import torch
        import transformers  # noqa: F401 - asked for here, because it is the peer
    except ImportError as error:
        raise SystemExit(f"error: this compares PyTorch and transformers, and one is not installed: {error}") from None
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("error: PyTorch sees no GPU here. Without one: --device cpu --quick shows whether it runs")
    side_px, batch = 224, 128
    if options.quick:
        options.models, options.batches, options.rounds, options.images = ["vit_tiny"], [1, 3], 2, 10
        side_px, batch = 56, 4
    elif not options.device.startswith("cuda"):
        options.batches = [size for size in options.batches if size <= LARGEST_ON_PROCESSOR] or [1]
        batch = LARGEST_ON_PROCESSOR
    os.environ[DEVICE_VARIABLE] = options.device
    card = Card(torch, options.device)
    report = Report.of("gpu", options)
    if options.csv is not None:
        report.file = options.csv
    print(card.title, flush=True)
    with tempfile.TemporaryDirectory(prefix="vitseek-gpu-") as place:
        photos = Path(place) / "photos"
        photos.mkdir()
        for model in options.models:
            folder = Path(place) / model
            folder.mkdir()
            compare(
                card, model, side_px, options.batches, options.rounds, folder, report, compile_mode=options.compile_mode
            )
        if options.photos:
            link_photos(options.photos, photos, options.images)
        else:
            draw_photos(photos, min(options.images, DRAWN), PHOTO_PX if not options.quick else (320, 240))
        kind = "photos" if options.photos else "drawn JPEGs"
        paths = list(islice(cycle(sorted(photos.iterdir())), options.images))
        for model in options.models:
            folder = Path(place) / model
            rounds = min(options.rounds, 5)
            from_photos(card, model, side_px, batch, rounds, folder, paths, report, kind)
    print(f"\nkept in {report.file}")


if __name__ == "__main__":
    main()
