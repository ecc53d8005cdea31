"""Peak memory of indexing against the size of the gallery.

    python -m benchmarks.memory [--quick] [--sizes 1000 4000]

Each size is indexed by a process of its own with a model of a few thousand weights, so that what could grow with the
gallery shows: the list of files, queues, vectors, the search matrix. Peak resident memory is what the kernel reports
(VmHWM) after importing everything and after the run; mapped files count while they are mapped.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.kill import draw_pictures
from benchmarks.report import machine, print_table

CHILD = """
import json, sys
from benchmarks.models import random_model
from vitseek.gallery.gallery import Gallery

def peak_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

model = random_model("micro")
model.embed([next(iter(__import__("pathlib").Path(sys.argv[1]).glob("*/*.jpg")))])
before = peak_kib()
with Gallery(sys.argv[1], model=model) as gallery:
    report = gallery.index()
print(json.dumps({"before": before, "peak": peak_kib(), "images": report.images, "seconds": report.seconds}))
"""


def measure(images: int) -> dict[str, float]:
    """Index that many generated pictures in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="vitseek-memory-") as folder:
        draw_pictures(Path(folder), images, size=(64, 48))
        run = subprocess.run([sys.executable, "-c", CHILD, folder], capture_output=True, text=True, check=True)
    facts: dict[str, float] = json.loads(run.stdout)
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--quick", action="store_true", help="200 and 800 images")
    options = parser.parse_args()
    sizes = [200, 800] if options.quick else options.sizes
    results = [measure(size) for size in sizes]
    print(machine())
    print_table(
        "Peak resident memory of indexing",
        [
            {
                "images": f"{result['images']:,.0f}",
                "before": f"{result['before'] / 1024:.1f} MiB",
                "peak": f"{result['peak'] / 1024:.1f} MiB",
                "added": f"{(result['peak'] - result['before']) / 1024:.1f} MiB",
                "time": f"{result['seconds']:.1f} s",
            }
            for result in results
        ],
    )
    more = (results[-1]["peak"] - results[0]["peak"]) / 1024
    extra = results[-1]["images"] - results[0]["images"]
    print(f"{extra:,.0f} more images: {more:+.1f} MiB, {more * 2**20 / extra:,.0f} bytes an image")


if __name__ == "__main__":
    main()
