"""Where the time of one forward pass goes, and how near it comes to what BLAS can do.

    python -m benchmarks.profile_forward [--quick] [--engines numpy numba] [--model vit_base] [--batches 1 8]
                                         [--save FILE]

The engines' own pass runs, class token only, with its steps (``engines/kernels.py`` or Numba's) wrapped in clocks;
random weights, float32. Threads' times are added up and divided by their number, so that the parts of a pass add up to
its time on the clock. What no clock sees is *the rest*: pictures cut into patches, the last block, which computes the
class token alone, waiting for the interpreter's lock and for the other thread.

The limit is what BLAS reaches on this machine in the same rounds, each thread with products of its own: the four
weights of a block times as many rows as a pack has at most. A pass that spends nothing on anything else would reach it;
its operations are those that it does, without those that it saves. Weights that are packed in advance may pass it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forward import operations, random_weights
from benchmarks.report import Report, add_csv_option
from vitseek.engines import kernels
from vitseek.engines.build import check_engine
from vitseek.engines.numpy_engine import PACK_ROWS, NumpyEngine
from vitseek.engines.threads import BLAS, default_threads
from vitseek.errors import MissingExtraError
from vitseek.models.config import VARIANTS, ViTConfig

PATCH_PX, SIDE_PX = 14, 224
PRODUCTS, ATTENTION, SOFTMAX = "products with weights", "attention's products", "softmax"
ACTIVATION, NORMS, ADDITIONS, REST = "activation", "norms", "biases and residuals", "the rest"
PARTS = (PRODUCTS, ATTENTION, SOFTMAX, ACTIVATION, NORMS, ADDITIONS, REST)


class Clocks:
    """The steps of an engine, each timed; seconds of all threads, by part."""

    def __init__(self, steps: Any, exponentials: kernels.Exponentials) -> None:
        self.seconds: list[tuple[str, float]] = []  # appending is safe from any thread
        self.multiply = self._timed(PRODUCTS, steps.multiply)
        self.normalise = self._timed(NORMS, steps.normalise)
        self.add_branch = self._timed(ADDITIONS, steps.add_branch)
        self.add_bias = self._timed(ADDITIONS, steps.add_bias)
        self.rotate = self._timed(ATTENTION, steps.rotate)
        self.bias_swiglu = self._timed(ACTIVATION, steps.bias_swiglu)
        self.ACTIVATIONS = {name: self._timed(ACTIVATION, step) for name, step in steps.ACTIVATIONS.items()}
        self._exponentials = self._timed(SOFTMAX, exponentials)

    def attend(self, *arrays: Any, out: Any, scores: Any, kept: Any = None, bias: Any = None) -> None:
        """Attention with the exponentials' time taken apart: what is left is products, and one division a row."""
        softmax = 0.0

        def exponentials(block: Any) -> Any:
            nonlocal softmax
            start = time.perf_counter()
            total = self._exponentials(block)
            softmax += time.perf_counter() - start
            return total

        start = time.perf_counter()
        kernels.attend_with(exponentials, *arrays, out=out, scores=scores, kept=kept, bias=bias)
        self.seconds.append((ATTENTION, time.perf_counter() - start - softmax))

    def _timed(self, part: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = step(*arguments, **options)
            self.seconds.append((part, time.perf_counter() - start))
            return result

        return run


def clocks_of(name: str, engine: NumpyEngine) -> Clocks:
    if name == "numpy":
        return Clocks(kernels, kernels.exponentials)
    from vitseek.engines import numba_kernels
    from vitseek.engines.numba_engine import compiled_kernels

    return Clocks(compiled_kernels(engine), numba_kernels.exponentials)


def blas_products(config: ViTConfig, threads: int) -> Callable[[], float]:
    """What measures BLAS: GFLOP/s of all threads together."""
    rng = np.random.default_rng(0)
    width, hidden = config.embed_dim, config.mlp_dim
    shapes = ((width, 3 * width), (width, width), (width, hidden), (hidden, width))
    weights = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    rows = [[rng.standard_normal((PACK_ROWS, len(weight)), dtype=np.float32) for weight in weights]] * threads
    outs = [[np.empty((PACK_ROWS, weight.shape[1]), np.float32) for weight in weights] for _ in range(threads)]
    work = 2 * threads * PACK_ROWS * sum(weight.size for weight in weights) / 1e9
    repeat = max(1, round(30 / work))  # 0.1 s on two cores

    def member(number: int) -> None:
        for _ in range(repeat):
            for x, weight, out in zip(rows[number], weights, outs[number], strict=True):
                np.matmul(x, weight, out=out)

    def measure() -> float:
        with BLAS.single_threaded(), ThreadPoolExecutor(threads) as pool:
            start = time.perf_counter()
            list(pool.map(member, range(threads)))
            return work * repeat / (time.perf_counter() - start)

    return measure


def profile(name: str, batch: int, *, config: ViTConfig, engine: NumpyEngine, rounds: int) -> dict[str, float]:
    """Milliseconds an image of each part, of the pass, and GFLOP/s of the pass and of BLAS; medians of the rounds."""
    clocks = clocks_of(name, engine)
    timed, measure = engine.with_kernels(clocks), blas_products(config, engine.threads)
    pixels = np.random.default_rng(1).standard_normal((batch, 3, SIDE_PX, SIDE_PX), dtype=np.float32)
    found: list[dict[str, float]] = []
    for turn in range(rounds + 1):
        limit = measure()
        clocks.seconds.clear()
        start = time.perf_counter()
        timed.embed_pixels(pixels)
        wall_s = time.perf_counter() - start
        if not turn:  # compiles, and makes room
            continue
        parts: Counter[str] = Counter()
        for part, seconds in clocks.seconds:
            parts[part] += seconds / engine.threads
        parts[REST] = wall_s - sum(parts.values())
        speed = operations(config, SIDE_PX)[1] * batch / wall_s
        row = {part: parts[part] / batch * 1e3 for part in PARTS} | {"pass": wall_s / batch * 1e3}
        found.append(row | {"GFLOP/s": speed, "BLAS": limit, "of BLAS": speed / limit})
    return {key: statistics.median(row[key] for row in found) for key in found[0]}


def draw(profiles: dict[tuple[str, int], dict[str, float]], title: str, file: Path) -> None:
    """Draw one bar a profile, its parts side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.6 + 0.7 * len(profiles)), layout="constrained")
    axes = figure.subplots()
    labels = [f"{name}, batch {batch}" for name, batch in profiles]
    left = np.zeros(len(profiles))
    for number, part in enumerate(PARTS):
        widths = np.array([row[part] for row in profiles.values()])
        bars = axes.barh(labels, widths, left=left, label=part, color=f"C{number}")
        totals = [row["pass"] for row in profiles.values()]
        shown = [f"{width:.0f}" if width > 0.03 * max(totals) else "" for width in widths]
        axes.bar_label(bars, labels=shown, label_type="center", fontsize=8, color="white")
        left += widths
    ideal = [row["pass"] * row["of BLAS"] for row in profiles.values()]
    axes.plot(ideal, labels, "k|", markersize=26, label="BLAS's limit")
    axes.invert_yaxis()
    axes.set(xlabel="ms an image", title=title)
    axes.legend(ncols=4, fontsize=8, markerscale=0.4, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds of the small model")
    parser.add_argument("--engines", choices=["numpy", "numba"], nargs="+", default=["numpy", "numba"])
    parser.add_argument("--model", choices=list(VARIANTS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--save", type=Path, metavar="FILE", help="also draw the table: .png, .svg or .pdf")
    add_csv_option(parser)
    options = parser.parse_args()
    name = options.model or ("vit_small" if options.quick else "vit_base")
    rounds = options.rounds or (3 if options.quick else 9)
    config = ViTConfig(**VARIANTS[name], patch_size=PATCH_PX, img_size=(SIDE_PX, SIDE_PX), layer_scale=True)
    engine = NumpyEngine(random_weights(config, np.random.default_rng(0)), config, threads=options.threads)
    report = Report.of("profile_forward", options)
    profiles: dict[tuple[str, int], dict[str, float]] = {}
    for kind in options.engines:
        try:
            check_engine(kind, config)
        except MissingExtraError as error:
            print(f"  left out: {error}")
            continue
        for batch in options.batches:
            profiles[kind, batch] = profile(kind, batch, config=config, engine=engine, rounds=rounds)
    title = f"{name}, patch {PATCH_PX}, {SIDE_PX} px, class token, {options.threads} threads, median of {rounds} rounds"
    rows = []
    for part in (*PARTS, "pass"):
        row = {"ms an image": part}
        for (kind, batch), own in profiles.items():
            row[f"{kind}, batch {batch}"] = f"{own[part]:7.2f} ({own[part] / own['pass']:4.0%})"
        rows.append(row)
    for key, shape in (("GFLOP/s", ".0f"), ("BLAS", ".0f"), ("of BLAS", ".0%")):
        values = {f"{kind}, batch {batch}": format(own[key], shape) for (kind, batch), own in profiles.items()}
        rows.append({"ms an image": key if key != "BLAS" else "BLAS, GFLOP/s"} | values)
    report.table(title, rows)
    if options.save:
        draw(profiles, title, options.save)
        print(f"drawn: {options.save}")


if __name__ == "__main__":
    main()
