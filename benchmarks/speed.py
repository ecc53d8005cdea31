"""What each way to compute faster gains, and what it costs of the results: the frontier behind ``--speed``.

    python -m benchmarks.speed [--data DIR] [--model NAME|FILE] [--images 372] [--plot FILE.png] [--quick]

The pictures of ``--data``, whose folders are their labels (drawn ones by default), are measured as ``vitseek tune``
does, with more contestants: every engine and precision that is installed, more and fewer merged tokens, pruning,
smaller pictures, and both together. Exact features by NumPy take turns with each contestant; the ratio is the median of
the turns'. "top 10" is the share of a picture's ten nearest others that are those of the exact features.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Report, add_csv_option, installed
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.shortcuts import Shortcuts
from vitseek.gallery.tuning import AGREEMENT, Measured, Tuning, contestants
from vitseek.zoo import DEFAULT_MODEL

if TYPE_CHECKING:
    from vitseek.engines.model import Model

MERGED = ("merge-8", "merge-16", "merge-24", "merge-32", "merge-48")
PRUNED = ("prune-0.9", "prune-0.7", "prune-0.5")
SIDES = (7 / 8, 3 / 4, 5 / 8)  # of the model's own
PACKAGES = ("numba", "onnxruntime", "openvino", "torch")
FAMILIES = {"merge": "merged tokens", "prune": "pruned tokens", "--size": "smaller pictures"}


def candidates(model: Model) -> list[Shortcuts]:
    """Those of ``vitseek tune``, and the rest of the frontier."""
    size, patch = model.preprocessing.size_px, model.config.patch_size
    found = contestants(size, patch)
    found += [Shortcuts(reduction=reduction) for reduction in (*MERGED, *PRUNED)]
    found += [Shortcuts(size_px=round(size * side / patch) * patch) for side in SIDES]
    return list(dict.fromkeys(found))


def drawn(folder: Path, images: int) -> None:
    """A labelled gallery of the project's own drawings."""
    from vitseek.sample.gallery import KINDS, draw_gallery

    draw_gallery(folder, per_kind=-(-images // len(KINDS)))


def measure(data: Path, model: str, images: int, *, quick: bool) -> Tuning:
    """Index the pictures, so that there is a catalog of them, and measure."""
    from vitseek.engines.model import load

    wanted: str | Path = Path(model) if Path(model).exists() else model
    with tempfile.TemporaryDirectory(prefix="vitseek-speed-") as folder:
        with Gallery(folder, roots=[data]) as gallery:
            gallery.index(labels_from_folders=True)  # with the small model: only the list of pictures is needed
        with Gallery(folder, model=wanted) as gallery:
            chosen = contestants(224, 16) if quick else candidates(load(wanted))
            return gallery.tune(
                images=images, chosen=chosen,
                progress=lambda what, number, total: print(f"  {number + 1} of {total}: {what}", flush=True),
            )  # fmt: skip


def row_of(row: Measured, recommended: str) -> dict[str, str]:
    options = row.options or "exact (numpy)"
    if row.problem is not None:
        empty = dict.fromkeys(("images/s", "faster", "top 10", "mAP", ""), "")
        return {"engine": options, **empty, "skipped": row.problem}
    precision = "" if row.mean_average_precision is None else f"{row.mean_average_precision:.4f}"
    return {
        "engine": options, "images/s": f"{row.images_per_s:.1f}", "faster": f"{row.faster:.2f} x",
        "top 10": f"{row.agreement:.3f}", "mAP": precision, "": "recommended" if row.options == recommended else "",
        "skipped": "",
    }  # fmt: skip


def plot(found: Tuning, file: Path) -> None:
    """Speed to the right, agreement upwards, a colour for each kind."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), dpi=80)
    kinds: dict[str, list[Measured]] = {}
    for row in found.rows:
        if row.problem is None:
            kinds.setdefault(_kind(row.options), []).append(row)
    for kind, rows in kinds.items():
        axes.plot([row.faster for row in rows], [row.agreement for row in rows], "o", label=kind)
        for row in rows:
            axes.annotate(_short(row.options), (row.faster, row.agreement), fontsize=6, xytext=(3, 3),
                          textcoords="offset points")  # fmt: skip
    axes.axhline(AGREEMENT, linewidth=0.8, linestyle="--", color="grey")
    axes.set_xlabel("times as fast as exact features by NumPy")
    axes.set_ylabel("share of the top 10 that stays")
    axes.set_title(f"{found.model}, {found.images} pictures", fontsize=9)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file)


def _kind(options: str) -> str:
    reduced = next((kind for mark, kind in FAMILIES.items() if mark in options), None)
    if "--precision" in options:
        return "lower precision" if reduced is None else f"lower precision and {reduced}"
    return reduced or "float32"


def _short(options: str) -> str:
    return options.replace("--engine ", "").replace("--precision ", "").replace("--reduction ", "") or "numpy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="pictures, in a folder for each label")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--images", type=int, default=372)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the frontier (needs matplotlib)")
    parser.add_argument("--quick", action="store_true", help="64 pictures, the contestants of `vitseek tune`")
    add_csv_option(parser)
    options = parser.parse_args()
    report = Report.of("speed", options)
    images = 64 if options.quick else options.images
    with tempfile.TemporaryDirectory(prefix="vitseek-drawn-") as folder:
        data = options.data
        if data is None:
            data = Path(folder)
            drawn(data, images)
        found = measure(data, options.model, images, quick=options.quick)
    rows = [row_of(row, found.recommended) for row in found.rows]
    report.table(f"{found.model}, {found.images} pictures", rows, versions=installed(PACKAGES))
    if options.plot:
        plot(found, options.plot)
        print(f"drawn: {options.plot}")


if __name__ == "__main__":
    main()
