"""How well a model finds pictures of the same kind: 5-NN accuracy, mAP and recall@1.

    python -m benchmarks.retrieval [--model NAME|FILE] [--data DIR] [--only own] [--quick]

A folder with train/CLASS/ and test/CLASS/ is measured as a split: the first 60 training images a class, by name, are
the gallery, the test images the queries. A folder of classes without a split (Corel-1k) is measured leaving one out:
every image queries all the others. Pooled features, centred on the gallery's mean, cosine; k = 5 neighbours vote.

Rows: ``own``, the model with its own preprocessing; ``quoted``, short side 256 px bilinear, crop 224 px beginning at
(side - 224) // 2: the preprocessing behind 0.868 / 0.660, the figures that this project quotes for ViT-Ti (AugReg) on
the clothing photos, with ties to the first class by name; ``random``, random weights, the floor. Columns: 5-NN accuracy
with ties to the larger sum of scores, the same with ties to the first class by name, mAP, recall@1.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np

import vitseek
from benchmarks.forward import random_weights
from benchmarks.report import Report, add_csv_option
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.evaluate.retrieval import RetrievalFigures, Ties, evaluate_leave_one_out, evaluate_split
from vitseek.preprocess.image import IMAGE_SUFFIXES
from vitseek.zoo import DEFAULT_MODEL

GALLERY_PER_CLASS = 60
QUICK_PER_CLASS = 8
BATCH = 16
ROWS = ("own", "quoted", "random")

Labelled = list[tuple[Path, str]]


def labelled(folder: Path, per_class: int | None = None) -> Labelled:
    """Images with the name of their class folder, classes and images sorted by name."""
    found: Labelled = []
    for kind in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        images = sorted(path for path in kind.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        found += [(path, kind.name) for path in images[:per_class]]
    if len({label for _, label in found}) < 2:
        raise SystemExit(f"error: {folder} has no two folders of images, one for each class")
    return found


class Measurement:
    """The images of one data set, and what a model's features of them are worth."""

    def __init__(self, data: Path, *, quick: bool) -> None:
        self.is_split = (data / "train").is_dir() and (data / "test").is_dir()
        limit = QUICK_PER_CLASS if quick else None
        if self.is_split:
            self.gallery = labelled(data / "train", limit or GALLERY_PER_CLASS)
            self.queries = labelled(data / "test", limit)
        else:
            self.gallery, self.queries = labelled(data, limit), []

    def __str__(self) -> str:
        if self.is_split:
            return f"{len(self.gallery)} gallery images, {len(self.queries)} queries"
        return f"{len(self.gallery)} images, leaving one out"

    def figures(self, features: np.ndarray, ties: Ties) -> RetrievalFigures:
        labels = [label for _, label in self.gallery + self.queries]
        count = len(self.gallery)
        if self.is_split:
            return evaluate_split(features[:count], labels[:count], features[count:], labels[count:], ties=ties)
        return evaluate_leave_one_out(features, labels, ties=ties)

    def row(self, name: str, model: vitseek.Model, engine: NumpyEngine | None = None) -> dict[str, str]:
        """Measure a model; with an engine, only the preprocessing is the model's."""
        start = time.perf_counter()
        paths = [path for path, _ in self.gallery + self.queries]
        if engine is None:
            features = model.embed(paths, batch_size=BATCH)
        else:
            blocks = [paths[first : first + BATCH] for first in range(0, len(paths), BATCH)]
            features = np.concatenate(
                [engine.embed_pixels(np.stack([model.preprocess(path) for path in block])) for block in blocks]
            )
        by_score, by_label = self.figures(features, "score"), self.figures(features, "label")
        return {
            "features": name,
            "5-NN": f"{by_score.knn_accuracy:.3f}",
            "5-NN, ties by name": f"{by_label.knn_accuracy:.3f}",
            "mAP": f"{by_score.mean_average_precision:.3f}",
            "recall@1": f"{by_score.recall[1]:.3f}",
            "seconds": f"{time.perf_counter() - start:.0f}",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|FILE")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/clothing"), metavar="DIR")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PER_CLASS} images a class")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument("--only", choices=ROWS, nargs="+", default=ROWS, help="rows to measure")
    add_csv_option(parser)
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"error: no folder {options.data}; name one with --data")
    measurement = Measurement(options.data, quick=options.quick)
    model = vitseek.load(options.model)
    own = model.preprocessing
    report = Report.of("retrieval", options)
    quoted = dataclasses.replace(
        own, policy="official", resize="shortest-edge", resize_px=round(own.size_px * 256 / 224),
        interpolation="bilinear", crop_rounding="floor",
    )  # fmt: skip
    rows = []
    if "own" in options.only:
        rows.append(measurement.row(f"{model.name}, its own preprocessing", model))
    if "quoted" in options.only:
        model.preprocessing = quoted
        resized = f"short side {quoted.resize_px} px, bilinear, crop {quoted.size_px} px"
        rows.append(measurement.row(f"{model.name}, {resized}", model))
        model.preprocessing = own
    if "random" in options.only:
        weights = random_weights(model.config, np.random.default_rng(options.seed))
        engine = NumpyEngine(weights, model.config, model.pooling)
        rows.append(measurement.row("random weights", model, engine))
    report.table(f"{options.data.name}: {measurement}; {model.pooling}, centred on the gallery, cosine", rows)


if __name__ == "__main__":
    main()
