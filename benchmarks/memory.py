"""Peak memory of indexing against the size of the gallery.

    python -m benchmarks.memory [--quick] [--sizes 1000 4000]
    python -m benchmarks.memory --model vit_base --sizes 24 48 --width 4000 --height 3000

Each size is indexed by a process of its own. With a model of a few thousand weights, the default, what could grow with
the gallery shows: the list of files, queues, vectors, the search matrix. With a real size and large photos, what the
model and decoding need shows: "beside the weights" is the peak less the weights, to be held against 300 MB. Peak
resident memory is what the kernel reports (VmHWM) after importing everything and after the run; mapped files count
while they are mapped.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.kill import draw_pictures
from benchmarks.models import random_config
from benchmarks.report import Report, add_csv_option
from vitseek.models.config import parameter_shapes

CHILD = """
import json, sys
from benchmarks.models import random_model
from benchmarks.worker import peak_bytes
from vitseek.gallery.gallery import Gallery

model = random_model(sys.argv[2])
model.embed([next(iter(__import__("pathlib").Path(sys.argv[1]).glob("*/*.jpg")))])
with open("/proc/self/clear_refs", "w") as marks:
    marks.write("5")  # the peak begins anew: making random weights needs them twice
before = peak_bytes()
with Gallery(sys.argv[1], model=model) as gallery:
    report = gallery.index()
print(json.dumps({"before": before, "peak": peak_bytes(), "images": report.images, "seconds": report.seconds}))
"""


def measure(images: int, model: str, size: tuple[int, int]) -> dict[str, float]:
    """Index that many generated pictures in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="vitseek-memory-") as folder:
        draw_pictures(Path(folder), images, size=size)
        run = subprocess.run([sys.executable, "-c", CHILD, folder, model], capture_output=True, text=True, check=True)
    facts: dict[str, float] = json.loads(run.stdout)
    return facts


def weights_mib(model: str) -> float:
    """What the weights of a size take in float32."""
    config = random_config(model)
    return sum(math.prod(shape) for shape in parameter_shapes(config).values()) * 4 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--model", default="micro", help="a size, such as vit_base, with random weights")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--height", type=int, default=48)
    parser.add_argument("--quick", action="store_true", help="200 and 800 images")
    add_csv_option(parser)
    options = parser.parse_args()
    sizes = [200, 800] if options.quick else options.sizes
    weights = weights_mib(options.model)
    results = [measure(size, options.model, (options.width, options.height)) for size in sizes]
    report = Report.of("memory", options)
    report.table(
        f"Peak resident memory of indexing: {options.model} ({weights:.1f} MiB of weights), pictures of "
        f"{options.width} × {options.height} px",
        [
            {
                "images": f"{result['images']:,.0f}",
                "before": f"{result['before'] / 2**20:.1f} MiB",
                "peak": f"{result['peak'] / 2**20:.1f} MiB",
                "added": f"{(result['peak'] - result['before']) / 2**20:.1f} MiB",
                "beside the weights": f"{result['peak'] / 2**20 - weights:.1f} MiB",
                "time": f"{result['seconds']:.1f} s",
            }
            for result in results
        ],
    )
    if len(results) == 1:
        return
    more = (results[-1]["peak"] - results[0]["peak"]) / 2**20
    extra = results[-1]["images"] - results[0]["images"]
    print(f"{extra:,.0f} more images: {more:+.1f} MiB, {more * 2**20 / extra:,.0f} bytes an image")


if __name__ == "__main__":
    main()
