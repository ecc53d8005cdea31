"""Images per second of vitseek's engines, beside the same runtimes fed with transformers' own model.

    python -m benchmarks.engines [--quick] [--models vit_base/14 …] [--precisions float32 int8] [--batches 1 8]

The same random weights and pictures, the same threads; every contestant is a process of its own that loads files, warms
up, and computes when its turn comes (:mod:`benchmarks.contest`). vitseek's engines compute the class token. The peers
are what a user of transformers gets from the documentation: the model in PyTorch, ``torch.onnx.export`` of it in ONNX
Runtime, ``openvino.convert_model`` of it in OpenVINO, and the int8 that each of them offers, all with the class token
of ``last_hidden_state`` as output (:mod:`benchmarks.exports`).

Outputs are compared with those of NumPy in float32 before anything is timed. Float32 and bfloat16 must be near, or the
contestant is not timed; int8 is timed, and "cosine" says what is left of the features (the least of all pictures).
"ratio" is the median of the rounds' own ratios: above 1, the contestant is faster than the peer that is named.

GFLOP/s count matrix products, those with only the class token in the last block where the engine saves the rest.
"matrix products" is what NumPy's BLAS reaches with the model's layers and nothing between them, in a turn of its own;
"of BLAS" holds the others against that. "peak" is the whole process, with Python and mapped weights, from start to end;
"own" what of it lies in no file, after the last round. Where all workers would not fit into memory at once, the
precisions come one after the other.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.contest import Contestant, Limits, Outcome, Outputs, WorkerFailed, available_bytes, contest, missing
from benchmarks.exports import Exports, dinov2_config
from benchmarks.report import Report, add_csv_option
from benchmarks.runtimes import gflop
from vitseek.engines import available, checked
from vitseek.engines.threads import default_threads
from vitseek.models.config import VARIANTS, parameter_shapes

PRECISIONS = ("float32", "bfloat16", "int8", "int8-static")  # int8: scales of each batch; static: of sample pictures
JUDGED = ("float32", "bfloat16")  # by checked.TOLERANCES; eight bits are shown only
NEEDS_TIMES_WEIGHTS = 4  # of memory, at most, in any runtime here: its own layout beside what it read
TURN_S = 0.4
PROCESS_BYTES = 1 << 30  # besides the weights
HELD_TIMES_WEIGHTS, HELD_BYTES = 2, 150 << 20  # of memory by a worker that waits, the mean of all
CASES = {  # (model/patch, side) by default, and the batches that are left out
    ("vit_tiny/16", 224): (),
    ("vit_small/14", 224): (),
    ("vit_base/14", 224): (),
    ("vit_large/14", 224): (),
    ("vit_base/14", 518): (8,),
}
QUICK = (("vit_small/14", 224),)


@dataclass(frozen=True)
class Engine:
    """One line of the table: who computes, from which file, and what it is held against."""

    name: str
    precision: str
    make: str  # a function of benchmarks.runtimes
    file: str  # an export of benchmarks.exports, or "weights"
    settings: Mapping[str, str]
    peer: str = ""
    needs: tuple[str, ...] = ()
    counted: str = "all"

    @property
    def label(self) -> str:
        return f"{self.name}, {self.precision}"


def ours(engine: str, precision: str = "float32", peer: str = "torch") -> Engine:
    """An engine of vitseek in one precision, against a peer of the same precision."""
    settings = {"engine": engine, "precision": precision}
    return Engine(f"vitseek {engine}", precision, "vitseek", "weights", settings, f"{peer}, {precision}", (), "class")


def peer(name: str, precision: str, file: str, /, **settings: str) -> Engine:
    """A runtime as its documentation says."""
    runtime = name.partition(" ")[0]
    needs = {"torch": ("torch", "transformers")}.get(runtime, (runtime,))
    return Engine(name, precision, runtime, file, settings, needs=needs)


REFERENCE = ours("numpy")
PRODUCTS = Engine("matrix products", "float32", "products", "", {}, counted="products")
# To add a contestant, add a line.
ENGINES = (
    REFERENCE,
    ours("onnx", peer="onnxruntime"),
    ours("openvino", peer="openvino"),
    ours("numba", peer="openvino"),
    ours("torch"),
    ours("openvino", "bfloat16", peer="openvino"),
    ours("torch", "bfloat16"),
    ours("onnx", "int8", peer="onnxruntime"),
    ours("onnx", "int8-static", peer="onnxruntime"),
    ours("openvino", "int8-static", peer="openvino"),
    peer("torch", "float32", "transformers", precision="float32"),
    peer("onnxruntime", "float32", "onnx"),
    peer("openvino", "float32", "openvino", hint="f32"),
    peer("torch", "bfloat16", "transformers", precision="bfloat16"),
    peer("openvino", "bfloat16", "openvino", hint="bf16"),
    peer("torch", "int8", "transformers", precision="int8"),
    peer("onnxruntime", "int8", "onnx-int8-dynamic"),
    peer("onnxruntime by channel", "int8", "onnx-int8-dynamic-channel"),
    peer("onnxruntime", "int8-static", "onnx-int8-static"),
    peer("openvino", "int8-static", "openvino-int8", hint="f32"),
    PRODUCTS,
)


@dataclass(frozen=True)
class Case:
    """A model at a picture size, in a batch."""

    model: str
    patch: int
    side_px: int
    batch: int
    threads: int

    @property
    def weights_bytes(self) -> int:
        """What the weights take in float32."""
        shapes = parameter_shapes(dinov2_config(self.model, self.patch, self.side_px)).values()
        return 4 * sum(int(np.prod(shape)) for shape in shapes)

    def contestant(self, engine: Engine, exports: Exports) -> Contestant:
        """The worker of an engine, its files exported; or the reason why there can be none."""
        settings: dict[str, object] = {
            "side_px": self.side_px,
            "batch": self.batch,
            "threads": self.threads,
            **engine.settings,
        }
        if engine.make in ("vitseek", "products"):
            settings |= {"model": self.model, "patch": self.patch}
        needs, file = engine.needs, ""
        if engine.make == "vitseek":
            needs = available.PACKAGES.get(engine.settings["engine"], ())
        reason = missing(needs)
        if engine.make == "vitseek" and engine.settings["engine"] not in available.ENGINES:
            reason = "no engine of that name in this version"
        if engine.file and not reason:  # nothing is exported for who cannot come
            try:
                file = exports.obtain(engine.file)
                if engine.make == "vitseek" and engine.precision == "int8-static":
                    settings["calibration"] = exports.obtain("calibration")
            except WorkerFailed as failure:
                reason = str(failure)
        if file:
            settings["folder" if engine.file == "transformers" else "file"] = file
        return Contestant(
            name=engine.label,
            make=f"benchmarks.runtimes:{engine.make}",
            arguments=settings,
            needs=needs,
            needs_bytes=NEEDS_TIMES_WEIGHTS * self.weights_bytes + PROCESS_BYTES,
            skipped=reason,
        )

    def gflops(self, engine: Engine, seconds: float) -> float:
        """GFLOP/s of a run."""
        return self.batch * gflop(self.model, self.patch, self.side_px, engine.counted) / seconds


def too_far(engines: Mapping[str, Engine], outputs: Outputs) -> dict[str, str]:
    """Whose features are not those of the reference, with the distance."""
    reasons = {}
    if REFERENCE.label not in outputs:
        return dict.fromkeys(outputs, f"nothing to compare with: {REFERENCE.label} has no output")
    for name, own in outputs.items():
        precision = engines[name].precision
        allowed = checked.TOLERANCES[precision] if precision in JUDGED else None
        if not own:
            continue  # matrix products alone
        if own[""].shape != outputs[REFERENCE.label][""].shape or not np.isfinite(own[""]).all():
            reasons[name] = f"computes something else: features {own[''].shape}, or numbers that are none"
        elif allowed and (distance := checked.distance(own[""], outputs[REFERENCE.label][""])) > allowed:
            reasons[name] = f"computes something else: features {distance:.2g} of their length away"
    return reasons


def least_cosine(found: np.ndarray, wanted: np.ndarray) -> float:
    """Of the picture that lost most."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return float(np.min(np.sum(found * wanted, axis=1, dtype=np.float64) / lengths))


def row(case: Case, engine: Engine, outcomes: Mapping[str, Outcome], batch: int) -> dict[str, str]:
    """What the table says of a contestant."""
    outcome, reference = outcomes[engine.label], outcomes[REFERENCE.label].outputs.get("")
    cells = dict.fromkeys(
        ("images/s", "slowest", "fastest", "cpu an image", "GFLOP/s", "of BLAS", "apart", "cosine", "ratio", "to",
         "peak", "own"), "–",
    )  # fmt: skip
    if (found := outcome.outputs.get("")) is not None and reference is not None and found.shape == reference.shape:
        cells |= {
            "apart": f"{checked.distance(found, reference):.1e}",
            "cosine": f"{least_cosine(found, reference):.5f}",
        }
    if not outcome.skipped:
        seconds = outcome.wall_s[""]
        cells |= {
            "images/s": f"{batch / outcome.median_s():.2f}",
            "slowest": f"{batch / max(seconds):.2f}",
            "fastest": f"{batch / min(seconds):.2f}",
            "cpu an image": f"{np.median(outcome.processor_s['']) / batch * 1000:.0f} ms",
            "GFLOP/s": f"{case.gflops(engine, outcome.median_s()):.0f}",
            "peak": f"{outcome.peak_bytes / 2**20:.0f} MiB",
            "own": f"{outcome.own_bytes / 2**20:.0f} MiB",
        }
        limit = outcomes.get(PRODUCTS.label)
        if limit and not limit.skipped and engine.precision == "float32" and engine is not PRODUCTS:
            share = case.gflops(engine, 1) / case.gflops(PRODUCTS, 1) * outcome.times_faster(limit)
            cells["of BLAS"] = f"{share:.0%}"
        other = outcomes.get(engine.peer)
        if other and not other.skipped:
            cells |= {"ratio": f"{outcome.times_faster(other):.2f}", "to": engine.peer}
    return {"engine": engine.name, "precision": engine.precision, **cells, "skipped": outcome.skipped}


def against_the_fastest(engines: list[Engine], outcomes: Mapping[str, Outcome]) -> list[str]:
    """A line for each precision: vitseek's fastest engine against the fastest peer of the same precision."""
    said = []
    for precision in PRECISIONS:
        timed = [one for one in engines if one.precision == precision and not outcomes[one.label].skipped]
        sides = {
            own: min(
                (one for one in timed if one.counted == counted),
                key=lambda one: outcomes[one.label].median_s(),
                default=None,
            )
            for own, counted in (("ours", "class"), ("theirs", "all"))
        }
        if (mine := sides["ours"]) and (other := sides["theirs"]):
            ratio = outcomes[mine.label].times_faster(outcomes[other.label])
            said.append(f"{precision}: {mine.name} is {ratio:.2f} times as fast as the fastest peer, {other.name}")
    return said


def groups(engines: list[Engine], weights_bytes: int, free_bytes: int | None) -> list[list[Engine]]:
    """Who takes turns together: all, or one precision after the other where they would not fit into memory at once.

    The reference is in every group, to compare with; every other has its peer in its own.
    """
    needed = len(engines) * (HELD_TIMES_WEIGHTS * weights_bytes + HELD_BYTES)
    if free_bytes is None or needed <= free_bytes:
        return [engines]
    found = [[one for one in engines if one.precision == precision or one is REFERENCE] for precision in PRECISIONS]
    return [group for group in found if group != [REFERENCE] or engines == [REFERENCE]]


def measure(case: Case, engines: list[Engine], exports: Exports, rounds: int, report: Report) -> bool:
    """Time all engines in one case; False if one computed something else."""
    outcomes: dict[str, Outcome] = {}
    for group in groups(engines, case.weights_bytes, available_bytes()):
        found = contest(
            [case.contestant(engine, exports) for engine in group],
            rounds=rounds,
            check=lambda outputs: too_far({one.label: one for one in engines}, outputs),
            limits=Limits(start_s=900, run_s=300),
            turn_s=TURN_S,
        )
        outcomes = found | outcomes  # the reference's own figures are those of the first group
    versions = {name: version for one in outcomes.values() for name, version in one.versions.items()}
    report.table(
        f"{case.model}/{case.patch} at {case.side_px} px, batch {case.batch}, {case.threads} threads, {rounds} rounds",
        [row(case, engine, outcomes, case.batch) for engine in engines],
        versions=versions,
    )
    for line in against_the_fastest(engines, outcomes):
        print(line, flush=True)
    return not any("computes something else" in one.skipped for one in outcomes.values())


def sized(text: str) -> tuple[str, int]:
    """``"vit_base/14"`` or ``"vit_base"`` (the patch of the default cases) as name and patch."""
    name, _, patch = text.partition("/")
    if name not in VARIANTS or (patch and not patch.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no model: give one of {', '.join(VARIANTS)}, as vit_base/14")
    return name, int(patch) if patch else 16 if name == "vit_tiny" else 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ViT-S/14, batch 8, 3 rounds")
    parser.add_argument("--models", type=sized, nargs="+", metavar="NAME[/PATCH]")
    parser.add_argument("--batches", type=int, nargs="+", help="1 and 8 by default")
    parser.add_argument("--precisions", choices=PRECISIONS, nargs="+", default=list(PRECISIONS))
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--side", type=int, help="pixels; for --models, 224 by default")
    parser.add_argument("--large-batches", action="store_true", help="also batch 8 at 518 px")
    parser.add_argument("--rounds", type=int, help="5 by default")
    add_csv_option(parser)
    options = parser.parse_args()
    report = Report.of("engines", options)
    chosen = [(name, patch, options.side or 224) for name, patch in options.models or ()] or [
        (*sized(name), side_px) for name, side_px in (QUICK if options.quick else CASES)
    ]
    # The reference computes in any case.
    engines = [one for one in ENGINES if one.precision in options.precisions or one is REFERENCE]
    engines.sort(key=lambda one: PRECISIONS.index(one.precision))
    if "float32" not in options.precisions:
        engines = [one for one in engines if one is not PRODUCTS]
    equal = True
    for model, patch, side_px in chosen:
        with tempfile.TemporaryDirectory(prefix="vitseek-exports-") as folder:
            exports = Exports(model, patch, side_px, Path(folder), say=lambda said: print(f"  {said}", flush=True))
            left_out = () if options.large_batches else CASES.get((f"{model}/{patch}", side_px), ())
            for batch in options.batches or ([8] if options.quick else [1, 8]):
                if batch in left_out and not options.models:
                    continue
                case = Case(model, patch, side_px, batch, options.threads)
                rounds = options.rounds or (3 if options.quick else 5)
                equal &= measure(case, engines, exports, rounds, report)
    print(f"\nkept in {report.file}")
    if not equal:
        sys.exit("an engine computes something else than NumPy; see its row")


if __name__ == "__main__":
    main()
