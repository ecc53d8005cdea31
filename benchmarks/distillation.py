"""How near a student came to its teacher: retrieval at several sizes, features picture by picture, and weights.

    python -m benchmarks.distillation --teacher FILE [--student NAME|FILE] [--data DIR] [--sizes 160 192 224] [--quick]

Retrieval is that of benchmarks.retrieval (5-NN accuracy, mAP). "Cosine of features" compares student and teacher on the
same pixels of the native size of the student, features centred on the teacher's mean: 1 is a perfect copy. "Cosine of
weights" is that of the matrices of the same name: 1 would be the teacher's own weights, 0 is what two models that were
trained apart have. It does not see that hidden units may be the same in another order.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

import vitseek
from benchmarks.report import Report, add_csv_option
from benchmarks.retrieval import BATCH, Measurement
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.hub import obtain
from vitseek.weights.loader import load_weights
from vitseek.zoo import DEFAULT_MODEL, find


def at_size(known: ImagePreprocessing, size_px: int) -> ImagePreprocessing:
    """The preprocessing for pictures of another size, with the margin around the crop in the same proportion."""
    return dataclasses.replace(known, size_px=size_px, resize_px=round(size_px * known.resize_px / known.size_px))


def centred_cosines(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """(n, D) and (n, D) -> (n,)."""
    mean = teacher.mean(axis=0)
    ours, theirs = student - mean, teacher - mean
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines: np.ndarray = (ours * theirs).sum(axis=1) / lengths
    return cosines


def matrix_cosines(student: str, teacher: str) -> list[dict[str, str]]:
    """A row a kind of matrix: the smallest and largest cosine over the blocks."""
    ours, theirs = (load_weights(_file(name)).params for name in (student, teacher))
    kinds: dict[str, list[float]] = {}
    for name in ours:
        if (
            name in theirs
            and name.endswith("weight")
            and ours[name].ndim > 1
            and ours[name].shape == theirs[name].shape
        ):
            a, b = (np.asarray(params[name], np.float64).ravel() for params in (ours, theirs))
            kind = ".".join(part for part in name.split(".") if not part.isdigit())
            kinds.setdefault(kind, []).append(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    return [
        {"matrices": kind, "number": str(len(values)), "lowest": f"{min(values):.3f}", "highest": f"{max(values):.3f}"}
        for kind, values in kinds.items()
    ]


def _file(name: str) -> Path:
    return Path(name) if Path(name).exists() else obtain(find(name).source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, metavar="NAME|FILE")
    parser.add_argument("--student", default=DEFAULT_MODEL, metavar="NAME|FILE")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/clothing"), metavar="DIR")
    parser.add_argument("--sizes", type=int, nargs="*", default=[160, 192, 224], metavar="PX")
    parser.add_argument("--quick", action="store_true", help="a few images a class")
    add_csv_option(parser)
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"error: no folder {options.data}; name one with --data")
    measurement = Measurement(options.data, quick=options.quick)
    student, teacher = vitseek.load(options.student), vitseek.load(options.teacher)
    known = student.preprocessing, teacher.preprocessing
    report = Report.of("distillation", options)

    rows = []
    for size_px in options.sizes:
        for role, model, native in zip(("student", "teacher"), (student, teacher), known, strict=True):
            model.preprocessing = at_size(native, size_px)
            rows.append(measurement.row(f"{role}, {size_px} px", model))
    report.table(f"{options.data.name}: {measurement}; centred on the gallery, cosine", rows)

    student.preprocessing = teacher.preprocessing = known[0]
    paths = [path for path, _ in measurement.queries or measurement.gallery]
    cosines = centred_cosines(student.embed(paths, batch_size=BATCH), teacher.embed(paths, batch_size=BATCH))
    row = {
        "pictures": str(len(paths)),
        "mean": f"{cosines.mean():.3f}",
        "worst 5 %": f"{np.percentile(cosines, 5):.3f}",
    }
    report.table(f"cosine of features, {known[0].size_px} px", [row])
    report.table("cosine of weights", matrix_cosines(options.student, options.teacher))


if __name__ == "__main__":
    main()
