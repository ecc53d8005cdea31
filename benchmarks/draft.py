"""Does JPEG draft scaling keep the features? Decoding at a half or a quarter, against decoding everything.

    python -m benchmarks.draft --data FOLDER [--model NAME|FILE] [--size-px 112] [--images 200] [--threads 1]

The JPEG library can leave out the highest frequencies of every block and decode a picture at 1/2, 1/4 or 1/8 for less
work. Each photo is prepared twice, exactly and from the smallest draft whose sides are at least ``margin`` times what
the resize wants, and embedded both times. Printed: the cosines of the two features, and the processor time of decoding
and resizing. vitseek takes draft scaling only where every photo keeps a cosine of 0.9999.

``--size-px`` shows smaller pictures to the model, so that photos of the size at hand are large enough to be drafted.
"""

import argparse
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import vitseek
from benchmarks.report import Report, add_csv_option
from vitseek.engines.model import Model
from vitseek.preprocess.colour import to_rgb
from vitseek.preprocess.image import ImagePreprocessing, decode, to_pixels

WANTED_COSINE = 0.9999
MARGINS = (1, 2)
BATCH = 16

Prepare = Callable[[Path, ImagePreprocessing], np.ndarray]


def exact(path: Path, preprocessing: ImagePreprocessing) -> np.ndarray:
    """The pixels that the model is meant to see."""
    return to_pixels(decode(path), preprocessing)


def drafted(margin: int) -> Prepare:
    """The same from a draft; a photo that is too small for one is decoded as usual."""

    def prepare(path: Path, preprocessing: ImagePreprocessing) -> np.ndarray:
        with Image.open(path) as image:
            wanted = margin * preprocessing.resize_px / min(image.size)
            image.draft("RGB", (math.ceil(wanted * image.width), math.ceil(wanted * image.height)))
            return to_pixels(to_rgb(image), preprocessing)

    return prepare


def scale_of(path: Path, margin: int, preprocessing: ImagePreprocessing) -> int:
    """By how much a draft shrinks a photo: 1, 2, 4 or 8."""
    with Image.open(path) as image:
        before, wanted = image.width, margin * preprocessing.resize_px / min(image.size)
        image.draft("RGB", (math.ceil(wanted * image.width), math.ceil(wanted * image.height)))
        return round(before / image.width)


def embedded(model: Model, pixels: list[np.ndarray]) -> np.ndarray:
    """Features of equal length 1."""
    parts = [model.embed_pixels(np.stack(pixels[start : start + BATCH])) for start in range(0, len(pixels), BATCH)]
    features = np.concatenate(parts).astype(np.float64)
    unit: np.ndarray = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit


def prepared(paths: list[Path], prepare: Prepare, preprocessing: ImagePreprocessing) -> tuple[list[np.ndarray], float]:
    """The pixels of all photos, and the processor seconds that they took."""
    start = time.process_time()
    pixels = [prepare(path, preprocessing) for path in paths]
    return pixels, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with JPEGs, searched to the bottom")
    parser.add_argument("--model", default="vitseek-tiny")
    parser.add_argument("--size-px", type=int, help="what the model sees; its own size by default")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--threads", type=int)
    add_csv_option(parser)
    options = parser.parse_args()
    model = vitseek.load(options.model, threads=options.threads)
    own = model.preprocessing
    size = options.size_px or own.size_px
    preprocessing = dataclasses.replace(own, size_px=size, resize_px=round(size * own.resize_px / own.size_px))
    found = sorted(options.data.rglob("*.jpg"))
    paths = found[:: max(1, len(found) // options.images)][: options.images]
    if not paths:
        raise SystemExit(f"error: {options.data} holds no .jpg")
    report = Report.of("draft", options)
    reference, usual_s = prepared(paths, exact, preprocessing)
    features = embedded(model, reference)
    rows = []
    for margin in MARGINS:
        scales = np.array([scale_of(path, margin, preprocessing) for path in paths])
        if not (scales > 1).any():
            print(f"margin {margin}: no photo is large enough to be drafted for {preprocessing.resize_px} px")
            continue
        pixels, seconds = prepared(paths, drafted(margin), preprocessing)
        cosines = np.sum(features * embedded(model, pixels), axis=1)[scales > 1]
        rows.append(
            {
                "margin": f"{margin}",
                "drafted": f"{len(cosines)} of {len(paths)}",
                "at": ", ".join(f"1/{scale}" for scale in sorted(set(scales[scales > 1].tolist()))),
                "least cosine": f"{cosines.min():.6f}",
                "5 % below": f"{np.quantile(cosines, 0.05):.6f}",
                "median": f"{np.median(cosines):.6f}",
                f"above {WANTED_COSINE}": f"{np.mean(cosines >= WANTED_COSINE):.0%}",
                "time": f"{seconds / usual_s:.2f} of exact",
                "harmless": "yes" if cosines.min() >= WANTED_COSINE else "no",
            }
        )
    report.table(f"{model.name} at {size} px, {len(paths)} photos", rows)


if __name__ == "__main__":
    main()
