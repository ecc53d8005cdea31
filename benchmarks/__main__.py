"""Run every benchmark, one after the other, each in a process of its own: `python -m benchmarks [--quick]`.

One that cannot run here says why and is skipped; one that fails is shown and makes the exit status 1.
"""

import argparse
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from benchmarks.report import add_csv_option, csv_file, machine, print_table, skipped_in

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "shared"
BENCHMARKS = {
    "engines": "images/s of every engine and precision, beside PyTorch, ONNX Runtime and OpenVINO",
    "indexing": "photos from the disk to stored vectors, with each engine",
    "search": "cold, warm, exact and approximate search, beside FAISS, usearch and hnswlib",
    "forward": "the NumPy engine against PyTorch",
    "profile_forward": "where the time of a pass goes",
    "speed": "what each way to compute faster gains",
    "gpu": "engines on a graphics card",
    "families": "every family against PyTorch",
    "texts": "the text towers against PyTorch",
    "memory": "peak memory against the size of the gallery",
    "kill": "what kill -9 during indexing loses",
    "search_latency": "exact search against matrix @ query",
    "search_bounds": "exact search of a large gallery by bounds",
    "cold_start": "vitseek search from the shell to the answer",
    "words": "recall of search by words",
    "classify": "labels without training, by words",
    "retrieval": "accuracy and mean average precision on real photos",
}


def why_not(name: str) -> str:
    """Why a benchmark cannot run here; empty if it can."""
    if not (HERE / f"{name}.py").is_file():
        return "not in this version"
    if name == "retrieval" and not (SHARED / "data").is_dir():
        return f"needs the photos in {SHARED}"
    if name == "gpu" and not sees_gpu():
        return "PyTorch sees no GPU, or is not installed"
    if name == "families" and (missing := missing_references()):
        return f"needs {' and '.join(missing)}"
    return ""


def keeps_csv(name: str) -> bool:
    """Whether a benchmark takes ``--csv-dir``."""
    return "add_csv_option(parser)" in (HERE / f"{name}.py").read_text("utf-8")


def sees_gpu() -> bool:
    """Whether PyTorch is there and has an NVIDIA or AMD GPU."""
    if find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def missing_references() -> list[str]:
    """What of the libraries that vitseek is compared with is not installed."""
    return [module for module in ("torch", "transformers") if find_spec(module) is None]


def remark(name: str) -> str:
    """What is missing for the whole of a benchmark."""
    missing = missing_references()
    return f"without {' and '.join(missing)}: vitseek alone" if name == "forward" and missing else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repetitions")
    add_csv_option(parser)
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(BENCHMARKS)):
        parser.error(f"no benchmark called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    print(machine(), flush=True)
    rows, skipped = [], []
    for name in options.names or BENCHMARKS:
        if reason := why_not(name):
            print(f"\n== {name}: skipped, {reason}", flush=True)
            rows.append({"benchmark": name, "shows": BENCHMARKS[name], "result": f"skipped: {reason}", "took": "–"})
            continue
        print(f"\n== {name}: {BENCHMARKS[name]}", flush=True)
        start, begun = time.perf_counter(), time.time()
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if options.quick else [])]
        if keeps_csv(name):
            command += ["--csv-dir", str(options.csv_dir.resolve())]
        status = subprocess.run(
            command, check=False, cwd=HERE.parent, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        ).returncode
        rows.append(
            {
                "benchmark": name,
                "shows": BENCHMARKS[name],
                "result": remark(name) or "done" if status == 0 else f"FAILED with exit status {status}",
                "took": f"{time.perf_counter() - start:.0f} s",
            }
        )
        file = csv_file(name, options.csv_dir, quick=options.quick)
        if file.is_file() and file.stat().st_mtime >= begun - 1:  # not one of an earlier run
            skipped += [{"benchmark": name, "skipped": who, "reason": why} for who, why in skipped_in(file)]
    if skipped:
        print_table("left out", skipped)
    print_table("summary", rows)
    print(f"\nthe tables as CSV: {options.csv_dir}")
    sys.exit(any(row["result"].startswith("FAILED") for row in rows))


if __name__ == "__main__":
    main()
