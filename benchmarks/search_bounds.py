"""How much a search that bounds scores by a rotated prefix gains on the exact one, with the same results.

    python -m benchmarks.search_bounds                       # 100 k and 1 M rows of 384 numbers
    python -m benchmarks.search_bounds --quick               # 100 k rows, fewer queries
    python -m benchmarks.search_bounds --features F.npy      # grown from real features, shape (n, D)

Three kinds of vectors, float32, memory-mapped, one query at a time, k = 10, one thread: "model" has clusters and the
spectrum of a Vision Transformer's features (the share of their variance in the first 16, 32, 64 and 128 principal axes
is 0.48, 0.60, 0.72 and 0.86, as measured on the class token and patch mean of ViT-Ti/16 on photos); "normal" has no
structure at all, the worst case: no prefix is worthwhile there, and none is used; with --features, "real" adds noise of
the features' own covariance to pairs of neighbours until there are enough rows, and its queries are features that took
no part in that. Both searches take turns; medians over the queries, and the slowest query. "left" is the share of rows
that the bound leaves; "same" counts queries with equal results, scores and rows.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.report import Report, add_csv_option
from vitseek.search import prefix
from vitseek.search.exact import top_k

WIDTH = 384
K = 10
CLUSTERS = 2003
WITHIN = 0.5  # of the spread lies within a cluster
SPECTRUM_POWER, SPECTRUM_AXES = 0.9, 250
NEIGHBOURS = 8
NOISE = 0.35
HELD_OUT = 200
BLOCK = 20_000


def unit(rows: np.ndarray) -> np.ndarray:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def normal(rng: np.random.Generator, count: int) -> np.ndarray:
    return unit(rng.standard_normal((count, WIDTH), dtype=np.float32))


class ModelLike:
    """Clusters around random centres, all with one decaying spectrum, around a common mean."""

    def __init__(self, rng: np.random.Generator, width: int = WIDTH) -> None:
        spread = np.zeros(width, np.float32)
        spread[:SPECTRUM_AXES] = np.arange(1, SPECTRUM_AXES + 1) ** (-SPECTRUM_POWER / 2)
        spread *= np.sqrt(0.75) / np.linalg.norm(
            spread
        )  # a quarter of the squared length is the common mean, as measured
        self.width = width
        self.turn = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)
        self.spread = spread
        self.mean = 0.5 * self.turn[width - 1]
        self.centres = rng.standard_normal((CLUSTERS, width), dtype=np.float32)

    def __call__(self, rng: np.random.Generator, count: int) -> np.ndarray:
        centre = self.centres[rng.integers(0, CLUSTERS, count)]
        own = rng.standard_normal((count, self.width), dtype=np.float32)
        return unit(((1 - WITHIN) ** 0.5 * centre + WITHIN**0.5 * own) * self.spread @ self.turn + self.mean)


class Grown:
    """More rows like some real features."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = unit(features[:-HELD_OUT].astype(np.float32))
        self.queries = unit(features[-HELD_OUT:].astype(np.float32))
        centred = self.features - self.features.mean(axis=0)
        values, axes = np.linalg.eigh(centred.T @ centred / len(centred))
        self.noise = (axes * np.sqrt(np.maximum(values, 0))).astype(np.float32).T * np.float32(NOISE)
        self.neighbours = np.concatenate(
            [
                top_k(self.features, self.features[i : i + 256], NEIGHBOURS + 1)[1]
                for i in range(0, len(self.features), 256)
            ]
        )[:, 1:]

    def __call__(self, rng: np.random.Generator, count: int) -> np.ndarray:
        first = rng.integers(0, len(self.features), count)
        second = self.neighbours[first, rng.integers(0, NEIGHBOURS, count)]
        share = rng.uniform(0.4, 1.0, (count, 1)).astype(np.float32)
        rows = share * self.features[first] + (1 - share) * self.features[second]
        rows += rng.standard_normal((count, rows.shape[1]), dtype=np.float32) @ self.noise
        return unit(rows)


@contextmanager
def mapped(make: object, rng: np.random.Generator, count: int, width: int) -> Iterator[np.ndarray]:
    """``count`` rows in a file, as a gallery has them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "matrix"
        written = np.memmap(file, np.float32, "w+", shape=(count, width))
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            written[start:stop] = make(rng, stop - start)  # type: ignore[operator]
        written.flush()
        yield np.memmap(file, np.float32, "r", shape=(count, width)).view(np.ndarray)


def measure(name: str, matrix: np.ndarray, queries: np.ndarray) -> dict[str, str]:
    start = time.perf_counter()
    axes = prefix.principal_axes(matrix)
    width = prefix.choose_width(matrix, axes)
    row = {"rows": f"{len(matrix):,}", "vectors": name, "prefix": str(width or "none")}
    held = prefix.build(matrix, axes, width) if width else None
    built_s = time.perf_counter() - start
    exact_ms, bounded_ms, left, same = [], [], [], 0
    top_k(matrix, queries[:1], K)
    for number, query in enumerate(queries[:, None]):
        runs = [lambda q=query: top_k(matrix, q, K)]
        if held:
            runs.append(lambda q=query: prefix.search(matrix, q, K, held))
        answers: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for which in sorted(range(len(runs)), reverse=number % 2 == 1):
            start = time.perf_counter()
            answers[which] = runs[which]()
            (bounded_ms if which else exact_ms).append((time.perf_counter() - start) * 1e3)
        if held:
            same += all(np.array_equal(a, b) for a, b in zip(answers[0], answers[1], strict=True))
            rest = prefix._left_over(matrix, query[0], K, held, None)
            left.append(1.0 if rest is None else len(rest) / len(matrix))
    ratios = [a / b for a, b in zip(exact_ms, bounded_ms, strict=False)]
    return {
        **row,
        "exact": f"{statistics.median(exact_ms):.1f} ms",
        "bounded": f"{statistics.median(bounded_ms):.1f} ms" if held else "–",
        "slowest": f"{max(bounded_ms):.1f} ms" if held else "–",
        "faster": f"{statistics.median(ratios):.2f} times" if held else "–",
        "left": f"{statistics.median(left):.2%}" if held else "–",
        "same": f"{same} of {len(queries)}" if held else "–",
        "built in": f"{built_s:.1f} s",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 k rows, 21 queries")
    parser.add_argument("--features", type=Path, metavar="FILE", help=".npy with real features, shape (n, D)")
    add_csv_option(parser)
    options = parser.parse_args()
    report = Report.of("search_bounds", options)
    rng = np.random.default_rng(0)
    num_queries = 21 if options.quick else 101
    like = ModelLike(rng)
    kinds = [("model", like, like(rng, num_queries)), ("normal", normal, normal(rng, num_queries))]
    if options.features:
        grown = Grown(np.load(options.features))
        kinds.append(("real", grown, grown.queries[:num_queries]))
    rows = []
    for count in (100_000,) if options.quick else (100_000, 1_000_000):
        for name, make, queries in kinds:
            with mapped(make, rng, count, queries.shape[1]) as matrix:
                rows.append(measure(name, matrix, queries))
    report.table(f"search of {WIDTH} numbers a row, k = {K}, one query, one thread", rows)


if __name__ == "__main__":
    main()
