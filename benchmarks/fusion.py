"""What joining several things to search with is worth: words with a picture, and two spaces.

    python -m benchmarks.fusion --means CLIP.safetensors [--looks MODEL] [--data ../shared/data] [--quick] [--cache DIR]

**Words with a picture, in one space.** The captioned photos that a model was not trained on (the same tenth that the
recipe holds out) are to be found again, among all photos, by a poor picture of them (the middle ninth, 24 px wide) and
one of their captions, with the words weighing 1/4 to 4 times the picture. ``sum``: of unit vectors; ``centred``:
pictures less the mean of the gallery, words less the mean of the other photos' captions (which a search does not have);
``standard``: what vitseek does, each term divided by the spread of its scores. ``share``: the correlation of the joined
scores with those of the picture, and of the words, at equal weights.

**Two spaces.** Photos with classes: mAP and 5-NN accuracy, for a space of looks and one of meanings and both joined by
standard scores or by reciprocal ranks, at several balances. Captioned photos: the same search as above, where the
first space sees the picture only.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import vitseek
from benchmarks.report import Report, add_csv_option
from benchmarks.retrieval import Measurement
from vitseek.evaluate.retrieval import knn_accuracy, mean_average_precision
from vitseek.gallery.matrix import unit_rows
from vitseek.search.fusion import Fusion, Side, combine, fuse
from vitseek.train.sources import hold_out_indices, read_captions

BATCH = 16
HELD_OUT, SEED = 0.1, 0  # of the recipe that trains on captioned photos
POOR_PX = 24
WORD_WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
BALANCES = (0.1, 0.25, 0.5, 0.75, 0.9)
QUICK_QUERIES = 20
NEIGHBOURS = 5
CAPTIONED = Path("flickr8k_1000") / "captions.txt"
CLASSES = ("clothing", "corel1k")


class Features:
    """Unit features of files, kept in a folder if one is given."""

    def __init__(self, cache: Path | None) -> None:
        self.cache = cache

    def __call__(self, model: vitseek.Model, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        file = self.cache / f"{model.name}-{model.weights_sha256[:8]}-{name}.npy" if self.cache else None
        if file is not None and file.is_file():
            return np.load(file)
        found = unit_rows(make())
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, found)
        return found


def poor(path: Path) -> Image.Image:
    """The middle ninth of a photo, in a few blurred pixels."""
    with Image.open(path) as opened:
        photo = opened.convert("RGB")
    width, height = photo.size
    part = photo.crop((width // 3, height // 3, width - width // 3, height - height // 3))
    return part.resize((POOR_PX, max(1, round(POOR_PX * part.height / part.width))), Image.Resampling.BOX)


class Captioned:
    """Photos with captions: all of them are the gallery, those held out from training are to be found."""

    def __init__(self, file: Path, *, quick: bool) -> None:
        found = read_captions(file)
        kept, held = hold_out_indices(found, HELD_OUT, SEED)
        self.paths, self.captions = found.paths, found.captions
        self.kept = kept
        self.held = held[:QUICK_QUERIES] if quick else held
        if quick:
            self.paths = [self.paths[place] for place in (*self.held, *kept[:QUICK_QUERIES])]
            self.captions = [self.captions[place] for place in (*self.held, *kept[:QUICK_QUERIES])]
            self.held, self.kept = list(range(len(self.held))), list(range(len(self.held), len(self.paths)))

    def pairs(self) -> list[tuple[int, str]]:
        """(photo to be found, one of its captions)."""
        return [(place, caption) for place in self.held for caption in self.captions[place]]


def recalls(ranks: Sequence[int]) -> dict[str, str]:
    found = np.array(ranks)
    return {f"recall@{k}": f"{(found < k).mean():.3f}" for k in (1, 5, 10)} | {
        "median rank": f"{np.median(found) + 1:.0f}"
    }


def rank_of(scores: np.ndarray, place: int) -> int:
    return int((scores > scores[place]).sum())


def words_with_a_picture(captioned: Captioned, model: vitseek.Model, features: Features) -> list[dict[str, str]]:
    """Recall of the photo, by how the two terms are joined and how much the words weigh."""
    gallery = features(model, "photos", lambda: model.embed(captioned.paths, batch_size=BATCH))
    pictures = features(model, "poor", lambda: model.embed([poor(captioned.paths[p]) for p in captioned.held]))
    pairs = captioned.pairs()
    words = features(model, "words", lambda: model.embed_texts([text for _, text in pairs]))
    others = [captioned.captions[place][0] for place in captioned.kept]
    mean_words = features(model, "other-words", lambda: model.embed_texts(others)).mean(axis=0)
    mean_picture = gallery.mean(axis=0)
    number = {place: row for row, place in enumerate(captioned.held)}
    queries = [(place, pictures[number[place]], words[row]) for row, (place, _) in enumerate(pairs)]

    def joined(way: str, picture: np.ndarray, text: np.ndarray, weight: float) -> np.ndarray:
        if way == "standard":
            return combine([picture, text], [1.0, weight], gallery)
        if way == "centred":
            picture, text = unit_rows(np.stack([picture - mean_picture, text - mean_words]))
        return picture + weight * text

    rows = [
        {"query": "picture alone", "words weigh": "–", **recalls([rank_of(gallery @ p, i) for i, p, _ in queries])},
        {"query": "words alone", "words weigh": "–", **recalls([rank_of(gallery @ t, i) for i, _, t in queries])},
    ]
    for way in ("sum", "centred", "standard"):
        for weight in WORD_WEIGHTS:
            ranks = [rank_of(gallery @ joined(way, p, t, weight), place) for place, p, t in queries]
            rows.append({"query": f"both, {way}", "words weigh": f"{weight:g}", **recalls(ranks)})
    for row in rows:
        row["share"] = "–"
    for way in ("sum", "centred", "standard"):
        shares = np.mean([_shares(gallery, joined(way, p, t, 1.0), p, t) for _, p, t in queries], axis=0)
        place = next(row for row in rows if row["query"] == f"both, {way}" and row["words weigh"] == "1")
        place["share"] = f"{shares[0]:.2f} / {shares[1]:.2f}"
    return rows


def _shares(gallery: np.ndarray, vector: np.ndarray, picture: np.ndarray, text: np.ndarray) -> tuple[float, float]:
    both = gallery @ vector
    return float(np.corrcoef(both, gallery @ picture)[0, 1]), float(np.corrcoef(both, gallery @ text)[0, 1])


def fused_scores(sides: Sequence[Side], fusion: Fusion) -> np.ndarray:
    """One score for every image, in the order of ids, from the library's own fusion."""
    ids, scores = fuse(sides, len(sides[0].ids), fusion=fusion)
    dense = np.empty(len(ids))
    dense[ids] = scores
    return dense


def two_spaces(
    data: Path, looks: vitseek.Model, means: vitseek.Model, features: Features, *, quick: bool
) -> list[dict[str, str]]:
    """mAP and 5-NN accuracy of photos with classes, in each space and in both."""
    measured = Measurement(data, quick=quick)
    paths = [path for path, _ in measured.gallery + measured.queries]
    labels = np.array([label for _, label in measured.gallery + measured.queries])
    count = len(measured.gallery)
    one, other = (
        features(model, f"{data.name}{'-quick' * quick}", lambda model=model: model.embed(paths, batch_size=BATCH))
        for model in (looks, means)
    )
    asked = range(count, len(paths)) if measured.is_split else range(count)
    ids = np.arange(count)

    def row(name: str, balance: float | None, score: Callable[[int], np.ndarray]) -> dict[str, str]:
        scores, known = [], []
        for query in asked:
            found = score(query)
            keep = np.arange(count) != query  # in a split, the query is none of them
            scores.append(found[keep] if not measured.is_split else found)
            known.append(labels[:count][keep] if not measured.is_split else labels[:count])
        # Every row has its own gallery where one is left out: the figures are means over queries either way.
        figures = [
            (mean_average_precision(s[None], k, [labels[q]]), knn_accuracy(s[None], k, [labels[q]], k=NEIGHBOURS))
            for s, k, q in zip(scores, known, asked, strict=True)
        ]
        precision, accuracy = np.mean(figures, axis=0)
        weight = "–" if balance is None else f"{balance:g}"
        return {
            "data": data.name,
            "searched": name,
            "balance": weight,
            "mAP": f"{precision:.3f}",
            "5-NN": f"{accuracy:.3f}",
        }

    rows = [
        row(f"looks alone ({looks.name})", None, lambda q: one[:count] @ one[q]),
        row(f"means alone ({means.name})", None, lambda q: other[:count] @ other[q]),
    ]
    for fusion in ("scores", "ranks"):
        for balance in BALANCES:

            def joined(query: int, balance: float = balance, fusion: Fusion = fusion) -> np.ndarray:
                sides = [
                    Side(ids, one[:count], one[query], 1 - balance),
                    Side(ids, other[:count], other[query], balance),
                ]
                return fused_scores(sides, fusion)

            rows.append(row(f"both, {fusion}", balance, joined))
    return rows


def captions_in_two_spaces(
    captioned: Captioned, looks: vitseek.Model, means: vitseek.Model, features: Features
) -> list[dict[str, str]]:
    """Recall of the photo where the first space sees the picture, the second one the picture and the words."""
    one = features(looks, "photos", lambda: looks.embed(captioned.paths, batch_size=BATCH))
    other = features(means, "photos", lambda: means.embed(captioned.paths, batch_size=BATCH))
    poor_one = features(looks, "poor", lambda: looks.embed([poor(captioned.paths[p]) for p in captioned.held]))
    poor_other = features(means, "poor", lambda: means.embed([poor(captioned.paths[p]) for p in captioned.held]))
    pairs = captioned.pairs()
    words = features(means, "words", lambda: means.embed_texts([text for _, text in pairs]))
    number = {place: row for row, place in enumerate(captioned.held)}
    ids = np.arange(len(one))

    def row(name: str, balance: float | None, score: Callable[[int, np.ndarray], np.ndarray]) -> dict[str, str]:
        ranks = [
            rank_of(score(number[place], combine([poor_other[number[place]], text], [1, 1], other)), place)
            for (place, _), text in zip(pairs, words, strict=True)
        ]
        return {"searched": name, "balance": "–" if balance is None else f"{balance:g}", **recalls(ranks)}

    rows = [
        row("looks alone, picture", None, lambda n, _: one @ poor_one[n]),
        row("means alone, picture + words", None, lambda _, both: other @ both),
    ]
    for fusion in ("scores", "ranks"):
        for balance in BALANCES:

            def joined(n: int, both: np.ndarray, balance: float = balance, fusion: Fusion = fusion) -> np.ndarray:
                return fused_scores([Side(ids, one, poor_one[n], 1 - balance), Side(ids, other, both, balance)], fusion)

            rows.append(row(f"both, {fusion}", balance, joined))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--means", required=True, metavar="NAME|FILE", help="a model with a text tower")
    parser.add_argument(
        "--looks", metavar="NAME|FILE",
        default="../shared/weights/vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="DIR")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_QUERIES} captioned photos, 8 images a class")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep features here between runs")
    add_csv_option(parser)
    options = parser.parse_args()
    looks, means = vitseek.load(options.looks), vitseek.load(options.means)
    if not means.has_text:
        raise SystemExit(f"error: {means.name} has no text tower; name a model that has one with --means")
    features = Features(options.cache if not options.quick else None)
    report = Report.of("fusion", options)
    if (options.data / CAPTIONED).is_file():
        captioned = Captioned(options.data / CAPTIONED, quick=options.quick)
        title = f"{len(captioned.pairs())} searches for one of {len(captioned.paths)} captioned photos"
        report.table(f"{title}; {means.name}", words_with_a_picture(captioned, means, features))
        report.table(f"{title}; two spaces", captions_in_two_spaces(captioned, looks, means, features))
    for name in CLASSES:
        if (options.data / name).is_dir():
            rows = two_spaces(options.data / name, looks, means, features, quick=options.quick)
            report.table(f"{name}: photos of the same class", rows)


if __name__ == "__main__":
    main()
