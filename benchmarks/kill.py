"""Kill an indexing process with SIGKILL again and again, and count what was lost.

    python -m benchmarks.kill [--kills 10] [--images 400] [--quick]

A child process indexes a folder of generated pictures with a model of random weights. It prints every
acknowledged count: rows whose transaction was committed. The parent kills it at a random moment, opens the gallery,
checks its integrity, and counts acknowledged rows that are not there. The last run is left to finish.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.report import Report, add_csv_option
from vitseek.gallery.gallery import Gallery

CHILD = """
import sys
from benchmarks.models import random_model
from vitseek.gallery import indexing
from vitseek.gallery.gallery import Gallery

indexing.COMMIT_S = 0.02
last = -1

def say(progress):
    global last
    if progress.saved != last:
        last = progress.saved
        print(gallery.count(), flush=True)

gallery = Gallery(sys.argv[1], model=random_model("micro"))
report = gallery.index(batch_size=4, progress=say)
print("finished", report.images, flush=True)
"""


@dataclass
class Kill:
    """One killed run: what it had acknowledged, what was there afterwards, what the integrity check said."""

    after_s: float
    acknowledged: int
    present: int
    damage: list[str]
    finished: bool

    @property
    def lost(self) -> int:
        return max(0, self.acknowledged - self.present)


def draw_pictures(folder: Path, count: int, *, size: tuple[int, int] = (96, 64)) -> None:
    """Noise pictures, all different."""
    rng = np.random.default_rng(7)
    for number in range(count):
        pixels = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        path = folder / f"{number % 20:02d}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def kill_once(folder: Path, after_s: float | None) -> Kill:
    """Start indexing; kill the process ``after_s`` after its first acknowledged row (None: let it finish)."""
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    if after_s is not None:
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
    lines += process.communicate()[0].splitlines()  # a last line that was cut off only says less than it could
    counts = [int(line.split()[-1]) for line in lines if line.strip() and line.split()[-1].isdigit()]
    with Gallery(folder) as gallery:
        present = gallery.count()
        damage = gallery.check()
        ids, matrix = gallery.vectors() if present else (np.empty(0), np.empty(0))
        if len(ids) != present or len(matrix) != present:
            damage.append(f"{present} images but {len(matrix)} rows in the search matrix")
    return Kill(
        after_s or 0, max(counts, default=0), present, damage, any(line.startswith("finished") for line in lines)
    )


def run(folder: Path, *, kills: int, images: int, seed: int = 11, longest_s: float = 0.5) -> list[Kill]:
    """Kill ``kills`` times at random moments, then let a run finish."""
    draw_pictures(folder, images)
    moments = random.Random(seed)
    done = [kill_once(folder, moments.uniform(0, longest_s)) for _ in range(kills)]
    return [*done, kill_once(folder, None)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--quick", action="store_true", help="3 kills, 300 images")
    add_csv_option(parser)
    options = parser.parse_args()
    kills, images = (3, 300) if options.quick else (options.kills, options.images)
    with tempfile.TemporaryDirectory(prefix="vitseek-kill-") as folder:
        results = run(Path(folder), kills=kills, images=images)
    rows = [
        {
            "run": f"{number}" if number <= kills else "last",
            "killed after": f"{result.after_s * 1000:.0f} ms" if number <= kills else "not killed",
            "acknowledged": f"{result.acknowledged:,}",
            "present": f"{result.present:,}",
            "lost": f"{result.lost:,}",
            "integrity": "; ".join(result.damage) or "ok",
        }
        for number, result in enumerate(results, 1)
    ]
    report = Report.of("kill", options)
    report.table(f"SIGKILL while {images:,} pictures are indexed", rows)
    lost, damaged = sum(result.lost for result in results), sum(bool(result.damage) for result in results)
    print(f"{kills} kills: {lost} acknowledged rows lost, {damaged} galleries damaged")
    whole = results[-1]
    if any(result.lost or result.damage for result in results) or not whole.finished or whole.present != images:
        sys.exit("rows were lost, or the gallery is not whole")


if __name__ == "__main__":
    main()
