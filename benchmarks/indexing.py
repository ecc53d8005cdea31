"""What indexing adds to the forward pass: decoding, hashing and storing, at the size of ViT-B/14.

    python -m benchmarks.indexing [--quick] [--model vit_base] [--images 64] [--width 1280] [--height 960]
    python -m benchmarks.indexing --model vitseek-tiny --photos FOLDER [--images 512]

JPEGs of the size of photos are indexed with random weights, or photos of one's own with a real model. Pure forward time
is measured right before and right after on the same pixels in batches of the same size; the overhead is the wall time
of the whole run over that. Decoding runs in threads beside the model, but on the same cores, so that what it costs
there is in the figure. Processor time is compared too: it says the same on a machine that is busy with other work. The
second run, which finds nothing new, is timed as well.

"reading" is what the reading threads do alone: open, hash, decode, resize, normalise. Reading and model both fill all
cores, so that no pipeline can be faster than their times added up: "of the limit" is how near the run comes to that,
and "cores busy" the share of the cores' time in which this process computes. "model's share" is the part of the run in
which the model computes: its utilisation.
"""

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.models import random_model
from benchmarks.report import machine, print_table
from vitseek.engines.model import Model, load
from vitseek.engines.threads import default_threads
from vitseek.gallery.budget import PixelBudget
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.identity import FileStamp
from vitseek.gallery.reading import read_image
from vitseek.gallery.stores.scan import Job
from vitseek.models.config import VARIANTS
from vitseek.preprocess.image import IMAGE_SUFFIXES

JPEG_QUALITY = 90


def draw_photos(folder: Path, count: int, size: tuple[int, int]) -> int:
    """Pictures with the detail of photos (blurred noise in several scales); bytes in all."""
    rng = np.random.default_rng(5)
    total = 0
    for number in range(count):
        layers = np.zeros((size[1], size[0], 3), np.float32)
        for scale in (8, 32, 128):
            coarse = rng.integers(0, 255, (size[1] // scale + 1, size[0] // scale + 1, 3), dtype=np.uint8)
            layers += np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float32) / 3
        picture = Image.fromarray(layers.clip(0, 255).astype(np.uint8)).filter(ImageFilter.SHARPEN)
        path = folder / f"{number:04d}.jpg"
        picture.save(path, quality=JPEG_QUALITY)
        total += path.stat().st_size
    return total


def clocks() -> np.ndarray:
    """Wall seconds, and processor seconds of all threads."""
    return np.array([time.perf_counter(), time.process_time()])


def forward_s(model: Model, pixels: np.ndarray, batch_size: int) -> np.ndarray:
    """Wall and processor seconds of the model alone on pixels that are ready."""
    start = clocks()
    for first in range(0, len(pixels), batch_size):
        model.embed_pixels(pixels[first : first + batch_size])
    return clocks() - start


def link_photos(source: Path, folder: Path, count: int) -> int:
    """Links to photos from all over a folder; their bytes in all."""
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    chosen = found[:: max(1, len(found) // count)][:count]
    if not chosen:
        raise SystemExit(f"error: {source} holds no photos")
    for number, path in enumerate(chosen):
        (folder / f"{number:05d}{path.suffix}").symlink_to(path.resolve())
    return sum(path.stat().st_size for path in chosen)


def reading_s(model: Model, paths: list[Path]) -> np.ndarray:
    """Wall and processor seconds of what the reading threads do, alone."""
    jobs = [Job(0, os.fsencode(path.name), FileStamp.of(path.stat())) for path in paths]
    budget = PixelBudget()
    start = clocks()
    with ThreadPoolExecutor(default_threads()) as pool:
        for path, job in zip(paths, jobs, strict=True):
            pool.submit(read_image, path.parent, job, lambda: model.preprocessing, lambda _: False, budget)
    return clocks() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_base", help="a size, with random weights, or what vitseek.load takes")
    parser.add_argument("--photos", type=Path, help="index these, by links to them, instead of drawn ones")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=960)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="vit_tiny, 16 images, 1 round")
    options = parser.parse_args()
    if options.quick:
        options.model, options.images, options.rounds = "vit_tiny", 16, 1
    print(machine())
    random = options.model in VARIANTS
    model = random_model(options.model) if random else load(options.model)
    ratios, rows = [], []
    with tempfile.TemporaryDirectory(prefix="vitseek-index-") as name:
        folder = Path(name)
        photos = folder / "photos"
        photos.mkdir()
        if options.photos:
            size = link_photos(options.photos, photos, options.images)
        else:
            size = draw_photos(photos, options.images, (options.width, options.height))
        paths = sorted(photos.iterdir())
        count = len(paths)
        pixels = np.stack([model.preprocess(path) for path in paths])
        forward_s(model, pixels[: options.batch_size], options.batch_size)  # warm up
        for number in range(options.rounds):
            before, reading = forward_s(model, pixels, options.batch_size), reading_s(model, paths)
            (folder / str(number)).mkdir()
            with Gallery(folder / str(number), roots=[photos], model=model) as gallery:
                start = clocks()
                report = gallery.index(batch_size=options.batch_size)
                whole = clocks() - start
                start = time.perf_counter()
                gallery.index()
                again = time.perf_counter() - start
            after = forward_s(model, pixels, options.batch_size)
            alone = (before + after) / 2
            ratios.append(whole / alone)
            rows.append(
                {
                    "round": f"{number + 1}",
                    "forward": f"{count / alone[0]:.2f} images/s",
                    "reading": f"{count / reading[0]:.1f} images/s",
                    "index": f"{count / whole[0]:.2f} images/s",
                    "of the limit": f"{(alone[0] + reading[0]) / whole[0]:.0%}",
                    "cores busy": f"{whole[1] / whole[0] / default_threads():.0%}",
                    "model's share": f"{report.embed_s / whole[0]:.0%}",
                    "wall ratio": f"{whole[0] / alone[0]:.3f}",
                    "processor ratio": f"{whole[1] / alone[1]:.3f}",
                    "nothing new": f"{again * 1000:.0f} ms",
                }
            )
    kind = "photos" if options.photos else f"JPEGs of {options.width} × {options.height} px"
    print_table(
        f"{model.name} at {model.preprocessing.size_px} px, {count} {kind}, {size / count / 1e3:.0f} kB each, "
        f"batches of {options.batch_size}",
        rows,
    )
    wall, processor = np.median(ratios, axis=0) - 1
    print(f"overhead of indexing: {wall:+.1%} of pure forward time, {processor:+.1%} in processor time (medians)")


if __name__ == "__main__":
    main()
