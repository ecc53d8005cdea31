"""How long exact search takes, and how it compares with the bare product `matrix @ query` in the same run.

    python -m benchmarks.search_latency            # 10 k and 100 k rows of 384 numbers, one and several queries
    python -m benchmarks.search_latency --quick    # 10 k rows, fewer repetitions
    python -m benchmarks.search_latency --sweep    # the block sizes and thresholds of search/exact.py

Unit vectors from a normal distribution, float32, memory-mapped as a gallery has them, k = 10. Medians; the ratio is
the median of pairwise ratios, each pair measured back to back, so that a busy machine moves both.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.report import Report, add_csv_option
from vitseek.search import exact
from vitseek.search.exact import top_k

WIDTH = 384
K = 10
TARGETS_MS = {10_000: 2.0, 100_000: 20.0}


def unit_rows(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.standard_normal((count, WIDTH), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


@contextmanager
def mapped(rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows from a file, as the gallery's matrix cache is read."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "matrix"
        rows.tofile(file)
        yield np.memmap(file, np.float32, "r", shape=rows.shape).view(np.ndarray)


def compare(ours: Callable[[], object], other: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Median milliseconds of both, and the median of their pairwise ratios."""
    ours()
    other()
    pairs = []
    for number in range(repeats):
        # The order changes, so that neither always finds the caches as the other left them.
        if number % 2:
            b, a = milliseconds(other), milliseconds(ours)
        else:
            a, b = milliseconds(ours), milliseconds(other)
        pairs.append((a, b))
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def measure(sizes: list[int], repeats: int) -> list[dict[str, str]]:
    rng = np.random.default_rng(0)
    rows = []
    for count in sizes:
        with mapped(unit_rows(rng, count)) as matrix:
            for num_queries in (1, 8, 64):
                queries = unit_rows(rng, num_queries)
                ours, bare, ratio = compare(
                    lambda q=queries, m=matrix: top_k(m, q, K),
                    (lambda q=queries[0], m=matrix: m @ q)
                    if num_queries == 1
                    else (lambda q=queries, m=matrix: m @ q.T),
                    repeats,
                )
                target = f"< {TARGETS_MS[count]:g} ms" if num_queries == 1 and count in TARGETS_MS else ""
                rows.append(
                    row(count, f"{num_queries} queries" if num_queries > 1 else "1 query", ours, bare, ratio, target)
                )
            query = unit_rows(rng, 1)
            for share in (0.01, 0.1, 0.5):
                wanted = np.sort(rng.choice(count, int(count * share), replace=False))
                ours, bare, ratio = compare(
                    lambda q=query, m=matrix, w=wanted: top_k(m, q, K, rows=w),
                    lambda q=query[0], m=matrix: m @ q,
                    repeats,
                )
                rows.append(row(count, f"1 query, filter keeps {share:.0%}", ours, bare, ratio, ""))
    return rows


def row(count: int, what: str, ours: float, bare: float, ratio: float, target: str) -> dict[str, str]:
    return {
        "rows": f"{count:,}",
        "": what,
        "top_k": f"{ours:.2f} ms",
        "matrix @ query": f"{bare:.2f} ms",
        "ratio": f"{ratio:.2f}",
        "target": target,
    }


@contextmanager
def setting(name: str, value: float) -> Iterator[None]:
    """One constant of search/exact.py changed."""
    before = getattr(exact, name)
    setattr(exact, name, value)
    try:
        yield
    finally:
        setattr(exact, name, before)


def sweep(count: int, repeats: int, report: Report) -> None:
    """What the constants of search/exact.py were chosen from."""
    rng = np.random.default_rng(0)
    with mapped(unit_rows(rng, count)) as matrix:
        rows = []
        for num_queries in (2, 4, 8, 12, 16, 32):
            queries = unit_rows(rng, num_queries)
            cells = {"queries": str(num_queries)}
            for name, few in (("vecdot", 1000), ("sgemm", 0)):
                for tile in (1 << 18, 1 << 20, 1 << 22):
                    with setting("FEW_QUERIES", few), setting("TILE_BYTES", tile):
                        cells[f"{name}, {tile >> 10} KiB tiles"] = median_ms(
                            lambda q=queries: top_k(matrix, q, K), repeats
                        )
            rows.append(cells)
        report.table(f"{count:,} rows: TILE_BYTES and FEW_QUERIES", rows)
        query, rows = unit_rows(rng, 1), []
        for share in (0.01, 0.05, 0.1, 0.125, 0.2, 0.3, 0.5):
            wanted = np.sort(rng.choice(count, int(count * share), replace=False))
            cells = {"filter keeps": f"{share:.1%}"}
            for name, threshold in (("copy the rows", 2.0), ("score the stretch", 0.0)):
                with setting("GATHER_BELOW", threshold):
                    cells[name] = median_ms(lambda w=wanted: top_k(matrix, query, K, rows=w), repeats)
            rows.append(cells)
        report.table(f"{count:,} rows, 1 query: GATHER_BELOW", rows)


def median_ms(function: Callable[[], object], repeats: int) -> str:
    function()
    return f"{statistics.median(milliseconds(function) for _ in range(repeats)):.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 k rows, fewer repetitions")
    parser.add_argument("--sweep", action="store_true", help="measure the constants of search/exact.py instead")
    add_csv_option(parser)
    options = parser.parse_args()
    report = Report.of("search_latency", options)
    repeats = 15 if options.quick else 51
    if options.sweep:
        sweep(10_000 if options.quick else 100_000, 7 if options.quick else 21, report)
    else:
        rows = measure([10_000] if options.quick else [10_000, 100_000], repeats)
        report.table(f"exact search, {WIDTH} numbers a row, k = {K}, median of {repeats}", rows)


if __name__ == "__main__":
    main()
