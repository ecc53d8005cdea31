"""How often labels without training are right.

    python -m benchmarks.classify [--quick] [--words MODEL --images FOLDER] [--head MODEL --imagenet FOLDER]

Without options, words are tried on drawn pictures of twelve kinds with the tiny model of the tests, which was trained
on such pictures. With ``--words MODEL --images FOLDER`` on your own: each folder in FOLDER is a label. Three ways to
ask are compared: the bare label, one template, and the default set of templates. ``--head MODEL --imagenet FOLDER``
counts how often a checkpoint's own head is right on ImageNet images whose file names begin with their WordNet id,
such as ``n01440764_tench.JPEG``.
"""

import argparse
import re
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.report import Report, add_csv_option
from vitseek.engines.model import load
from vitseek.gallery.by_head import require_head
from vitseek.heads.class_names import imagenet_1k
from vitseek.heads.zero_shot import DEFAULT_TEMPLATES, choose, classifier, probabilities
from vitseek.preprocess.image import IMAGE_SUFFIXES
from vitseek.sample import draw_gallery

TINY_CLIP = Path(__file__).parents[1] / "tests" / "fixtures" / "tiny-clip" / "tiny-clip.safetensors"
SEED = 20_261  # not the one that the tiny model was trained with
WAYS = {
    "the bare label": ("{}",),
    "'a photo of a {}'": ("a photo of a {}",),
    f"the {len(DEFAULT_TEMPLATES)} default templates": DEFAULT_TEMPLATES,
}
BATCH = 32


def pictures(folder: Path, each: int | None) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return found[:each]


def by_words(model_file: Path, folder: Path, each: int | None) -> list[dict[str, str]]:
    """One row a way to ask: top-1, and how sure the model was when it was right and when it was wrong."""
    model = load(model_file)
    kinds = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    listed = [(kind.name, path) for kind in kinds for path in pictures(kind, each)]
    labels = [kind.name.replace("_", " ").replace("-", " ") for kind in kinds]
    truth = np.array([[kind.name for kind in kinds].index(name) for name, _ in listed])
    features = model.embed([path for _, path in listed])
    rows = []
    for way, templates in WAYS.items():
        started = time.perf_counter()
        values = probabilities(features, classifier(model, labels, templates), model)
        seconds = time.perf_counter() - started
        best = values.argmax(axis=1)
        right, sure = best == truth, values.max(axis=1)
        rows.append(
            {
                "prompts": way,
                "images": f"{len(listed):,}",
                "labels": str(len(labels)),
                "chance": f"{1 / len(labels):.3f}",
                "top-1": f"{right.mean():.3f}",
                "sure if right": f"{sure[right].mean():.2f}" if right.any() else "–",
                "sure if wrong": f"{sure[~right].mean():.2f}" if (~right).any() else "–",
                "words and comparison": f"{seconds * 1000:.0f} ms",
            }
        )
    return rows


def by_head(model_file: Path, folder: Path, limit: int | None) -> list[dict[str, str]]:
    """Top-1 and top-5 of a head with ImageNet's classes."""
    model = load(model_file)
    require_head(model)
    number_of = {one.wordnet_id: number for number, one in enumerate(imagenet_1k())}
    listed = [
        (number_of[found[0]], path)
        for path in pictures(folder, None)
        if (found := re.match(r"n\d{8}", path.name)) and found[0] in number_of
    ]
    listed = listed[:: max(1, len(listed) // limit)] if limit else listed
    started, top1, top5 = time.perf_counter(), 0, 0
    for part in batches(listed):
        logits = model.classify(np.stack([model.preprocess(path) for _, path in part]))
        for (truth, _), places in zip(part, choose(logits, top=5, threshold=-np.inf), strict=True):
            top1 += int(places[0] == truth)
            top5 += int(truth in places)
    seconds = time.perf_counter() - started
    return [
        {
            "model": model.name,
            "images": f"{len(listed):,}",
            "classes": f"{len({truth for truth, _ in listed}):,}",
            "top-1": f"{top1 / len(listed):.3f}",
            "top-5": f"{top5 / len(listed):.3f}",
            "images/s": f"{len(listed) / seconds:.1f}",
        }
    ]


def batches(items: list[tuple[int, Path]]) -> Iterable[list[tuple[int, Path]]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=Path, metavar="MODEL", help="a model that reads text")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="a folder of folders, each named by a label")
    parser.add_argument("--each", type=int, metavar="N", help="images of each label; all by default")
    parser.add_argument("--head", type=Path, metavar="MODEL", help="a checkpoint with a head of ImageNet's classes")
    parser.add_argument("--imagenet", type=Path, metavar="FOLDER", help="images named by WordNet id")
    parser.add_argument("--quick", action="store_true", help="fewer images")
    add_csv_option(parser)
    options = parser.parse_args()
    if (options.head is None) != (options.imagenet is None) or (options.words is None) != (options.images is None):
        parser.error("--words and --images belong together, and --head and --imagenet do")
    report = Report.of("classify", options)
    if options.words:
        title = f"{options.words.stem} on {options.images}"
        report.table(title, by_words(options.words, options.images, 20 if options.quick else options.each))
    if options.head:
        title = f"the head of {options.head.stem} on {options.imagenet}"
        report.table(title, by_head(options.head, options.imagenet, 100 if options.quick else None))
    if not options.words and not options.head:
        with tempfile.TemporaryDirectory(prefix="vitseek-drawn-") as place:
            draw_gallery(Path(place), seed=SEED, per_kind=5 if options.quick else 40)
            report.table("tiny-clip on drawn pictures", by_words(TINY_CLIP, Path(place), None))


if __name__ == "__main__":
    main()
