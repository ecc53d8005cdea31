"""How long an answer takes: from the shell, in an open gallery, and among many vectors, beside other libraries.

    python -m benchmarks.search [--quick] [--rows 10000 100000 1000000] [--widths 384 768] [--cores 1 2]
    python -m benchmarks.search --only vectors --rows 1000000 --widths 768 --hnsw-rows 1000000

"answers": a gallery of 240 pictures with the embedded model, asked for what is like one of its pictures, and like a new
one. Cold is ``vitseek search`` as a process, from the shell to its end; warm is :meth:`vitseek.Gallery.search` of a
gallery that is open.

"vectors": the ten nearest by the ways to search of :mod:`benchmarks.searchers`, among rows with the clusters and the
spectrum of a model's features, in float32, each way in a process of its own, in turn: one query at a time, and 64 at
once, on one core and on two. Rows come from a mapped file where the library can read it there. "recall" is the share of
the ten that exact search finds, over the 64 queries; what calls itself exact must have all of them, and is not timed
otherwise. Ratios are against ``matrix @ query`` and argpartition: above 1 is faster. "made in" is loading, or building
what is not kept on the disk; "built in" is the graph, once, on all cores. "peak" counts mapped rows that were read,
"own" does not.

Graphs of more than --hnsw-rows rows are left out: building takes minutes to hours on two cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import command
from benchmarks.cold_start import make_gallery
from benchmarks.contest import Contestant, Limits, Outcome, Outputs, WorkerFailed, call, contest, missing
from benchmarks.report import Report, add_csv_option, cores
from benchmarks.searchers import K
from benchmarks.worker import Prepared

ANSWERED_IMAGES = 240  # of the gallery that is asked cold and warm
QUERIES = 64
SINGLES = {10_000: 64, 100_000: 16}  # single queries in a turn; 4 above
NEARLY_ALL = 0.99  # of what exact search finds: two rows may be closer to each other than float32 can tell
HNSW_ROWS = 100_000
TURN_S = 0.1
PRODUCT = "matrix @ query"


@dataclass(frozen=True)
class Way:
    """A way to search, and what it needs."""

    name: str
    make: str  # a function of benchmarks.searchers
    kind: str  # "exact", or "graph"
    build: str = ""  # the function that builds its graph
    needs: tuple[str, ...] = ()
    copies: bool = False  # holds the rows in memory of its own


EXACT = Way("vitseek exact", "vitseek_exact", "exact")
# To add a way, add a line.
WAYS = (
    EXACT,
    Way("vitseek bounded", "vitseek_bounded", "exact"),
    Way(PRODUCT, "numpy_product", "exact"),
    Way("FAISS flat", "faiss_flat", "exact", needs=("faiss",), copies=True),
    Way("usearch exact", "usearch_exact", "exact", needs=("usearch",)),
    Way("FAISS HNSW", "faiss_hnsw", "graph", "build_faiss_hnsw", ("faiss",), copies=True),
    Way("hnswlib", "hnswlib", "graph", "build_hnswlib", ("hnswlib",), copies=True),
    Way("usearch HNSW", "usearch_hnsw", "graph", "build_usearch_hnsw", ("usearch",), copies=True),
)


def recall(found: np.ndarray, wanted: np.ndarray) -> float:
    """The share of the wanted rows that are among the found ones, over all queries; both (q, K)."""
    return float(np.mean([len(set(own) & set(right)) / len(right) for own, right in zip(found, wanted, strict=True)]))


def wrong(outputs: Outputs) -> dict[str, str]:
    """Which exact ways miss rows."""
    if EXACT.name not in outputs:
        return dict.fromkeys(outputs, f"nothing to compare with: {EXACT.name} has no output")
    wanted = outputs[EXACT.name]["all"]
    kinds = {way.name: way.kind for way in WAYS}
    shares = {name: recall(own["all"], wanted) for name, own in outputs.items()}
    return {
        name: f"finds something else: {share:.1%} of the rows of exact search"
        for name, share in shares.items()
        if kinds[name] == "exact" and share < NEARLY_ALL
    }


class Graphs:
    """The graphs over some vectors, each built once, or the reason why not."""

    def __init__(self, matrix: str, folder: str, rows: int, most_rows: int, limit_s: float) -> None:
        self._matrix, self._folder, self._limit_s = matrix, folder, limit_s
        self._too_many = rows > most_rows
        self._most_rows = most_rows
        self._built: dict[str, tuple[str, float] | WorkerFailed] = {}

    def obtain(self, way: Way) -> tuple[str, float]:
        """The file of a graph, and the seconds that building it took.

        Raises
        ------
        WorkerFailed
            If it could not be built; the message is the reason.
        """
        if self._too_many:
            raise WorkerFailed(f"more than {self._most_rows:,} rows: building takes too long (--hnsw-rows)")
        if way.build not in self._built:
            arguments = {"matrix": self._matrix, "folder": self._folder}
            try:
                self._built[way.build] = call(f"benchmarks.searchers:{way.build}", arguments, limit_s=self._limit_s)
            except WorkerFailed as failure:
                self._built[way.build] = failure
        built = self._built[way.build]
        if isinstance(built, WorkerFailed):
            raise built
        return built


def contestant(way: Way, files: Mapping[str, str], graphs: Graphs, rows: int, width: int, own: int) -> Contestant:
    arguments: dict[str, object] = {**files, "singles": SINGLES.get(rows, 4)}
    reason = missing(way.needs)
    if way.build and not reason:
        try:
            arguments["file"], _ = graphs.obtain(way)
        except WorkerFailed as failure:
            reason = str(failure)
    return Contestant(
        name=way.name,
        make=f"benchmarks.searchers:{way.make}",
        arguments=arguments,
        needs=way.needs,
        cores=own,
        needs_bytes=(2 if way.copies else 1) * rows * width * 4 + (1 << 29),
        skipped=reason,
    )


def row(
    way: Way, outcomes: Mapping[str, Outcome], *, rows: int, width: int, own_cores: int, built_s: float | None
) -> dict[str, str]:
    """What the table says of a way to search."""
    outcome, reference, wanted = outcomes[way.name], outcomes[PRODUCT], outcomes[EXACT.name].outputs.get("all")
    cells = dict.fromkeys(
        ("one query", "slowest", "fastest", "ratio", f"{QUERIES} queries", "slowest of them", "ratio of them", "recall",
         "made in", "built in", "peak", "own"), "–",
    )  # fmt: skip
    if not outcome.skipped:
        singles = SINGLES.get(rows, 4)
        one, many = outcome.wall_s["one"], outcome.wall_s["all"]
        cells |= {
            "one query": f"{statistics.median(one) / singles * 1e3:.2f} ms",
            "slowest": f"{max(one) / singles * 1e3:.2f} ms",
            "fastest": f"{min(one) / singles * 1e3:.2f} ms",
            f"{QUERIES} queries": f"{statistics.median(many) * 1e3:.1f} ms",
            "slowest of them": f"{max(many) * 1e3:.1f} ms",
            "made in": f"{outcome.load_s:.1f} s",
            "peak": f"{outcome.peak_bytes / 2**20:.0f} MiB",
            "own": f"{outcome.own_bytes / 2**20:.0f} MiB",
        }
        if built_s is not None:
            cells["built in"] = f"{built_s:.1f} s"
        if not reference.skipped:
            cells |= {
                "ratio": f"{outcome.times_faster(reference, 'one'):.2f}",
                "ratio of them": f"{outcome.times_faster(reference, 'all'):.2f}",
            }
        if wanted is not None:
            cells["recall"] = f"{recall(outcome.outputs['all'], wanted):.4f}"
    return {
        "rows": f"{rows:,}", "width": f"{width}", "cores": f"{own_cores}", "search": way.name, **cells,
        "skipped": outcome.skipped,
    }  # fmt: skip


def vectors(rows: int, width: int, counts: list[int], rounds: int, hnsw_rows: int, report: Report) -> bool:
    """Time all ways among so many rows; False if an exact one found something else."""
    table, versions, right = [], {}, True
    with tempfile.TemporaryDirectory(prefix="vitseek-vectors-") as folder:
        arguments = {"folder": folder, "rows": rows, "width": width, "queries": QUERIES}
        files = call("benchmarks.searchers:write_vectors", arguments)
        graphs = Graphs(files["matrix"], folder, rows, hnsw_rows, limit_s=3600)
        for own in counts:
            outcomes = contest(
                [contestant(way, files, graphs, rows, width, own) for way in WAYS],
                rounds=rounds,
                check=wrong,
                limits=Limits(start_s=900, run_s=300),
                turn_s=TURN_S,
            )
            for way in WAYS:
                timed = way.build and not outcomes[way.name].skipped
                built_s = graphs.obtain(way)[1] if timed else None
                table.append(row(way, outcomes, rows=rows, width=width, own_cores=own, built_s=built_s))
            versions |= {name: version for one in outcomes.values() for name, version in one.versions.items()}
            right &= not any("finds something else" in one.skipped for one in outcomes.values())
    title = f"the {K} nearest of {rows:,} × {width} float32, {rounds} rounds"
    report.table(title, table, versions=versions)
    return right


def cold(words: list[str]) -> Prepared:
    """A worker that runs a command; its peak is measured once, before."""
    _, _, peak = command.run_with_peak(words)
    return Prepared({"": lambda: {"wall_s": command.run(words)[0], "peak_bytes": float(peak)}})


def python_alone() -> Prepared:
    """What every cold start has in it."""
    program = ("-c", "import numpy")
    return Prepared({"": lambda: {"wall_s": command.run([], program=program)[0]}})


def warm(gallery: str, pictures: list[str]) -> Prepared:
    """A worker that holds an open gallery."""
    from vitseek.gallery.gallery import Gallery

    opened = Gallery(gallery)
    names = ("a picture of the gallery", "a new picture")
    return Prepared(
        {
            name: lambda picture=picture: np.array([match.score for match in opened.search(Path(picture))])
            for name, picture in zip(names, pictures, strict=True)
        }
    )


def answers(rounds: int, report: Report) -> None:
    """From a picture to the answer: cold and warm."""
    with tempfile.TemporaryDirectory(prefix="vitseek-answers-") as place:
        os.environ["VITSEEK_STATE"] = str(Path(place) / "state")
        gallery = Path(place) / "pictures"
        _, query = make_gallery(gallery, Path(place) / "small.safetensors", ANSWERED_IMAGES)
        pictures = {"a picture of the gallery": str(gallery / "00007.png"), "a new picture": str(query)}
        commands = {name: ["search", "--gallery", str(gallery), picture] for name, picture in pictures.items()}
        outcomes = contest(
            [
                *(
                    Contestant(name=name, make="benchmarks.search:cold", arguments={"words": words})
                    for name, words in commands.items()
                ),
                Contestant(name="python -c 'import numpy'", make="benchmarks.search:python_alone"),
                Contestant(
                    name="warm",
                    make="benchmarks.search:warm",
                    arguments={"gallery": str(gallery), "pictures": list(pictures.values())},
                ),
            ],
            rounds=rounds,
            limits=Limits(start_s=120, run_s=60),
            rest_s=0.05,
        )
    rows = []
    for name, outcome in outcomes.items():
        if outcome.skipped:
            rows.append(answer(name, "", [], 0, outcome.skipped))
        elif name == "warm":
            rows += [answer(key, "warm", times, outcome.peak_bytes) for key, times in outcome.wall_s.items()]
        else:
            facts = outcome.facts[""]
            rows.append(answer(name, "cold", [one["wall_s"] for one in facts], facts[0].get("peak_bytes", 0)))
    report.table(f"from a picture to the answer, {rounds} rounds", rows)


def answer(name: str, start: str, seconds: list[float], peak_bytes: float, skipped: str = "") -> dict[str, str]:
    """A row of the first table."""
    times = {"median": statistics.median, "fastest": min, "slowest": max}
    return {
        "asked for": name,
        "start": start,
        **{key: f"{pick(seconds) * 1e3:.1f} ms" if seconds else "–" for key, pick in times.items()},
        "peak": f"{peak_bytes / 2**20:.0f} MiB" if peak_bytes else "–",
        "skipped": skipped,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 k and 100 k × 384, graphs of 10 k, 3 rounds")
    parser.add_argument("--only", choices=("answers", "vectors"))
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--widths", type=int, nargs="+")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, help="7 by default")
    parser.add_argument("--hnsw-rows", type=int, help=f"no graphs over more rows; {HNSW_ROWS:,} by default")
    add_csv_option(parser)
    options = parser.parse_args()
    report = Report.of("search", options)
    rounds = options.rounds or (3 if options.quick else 7)
    right = True
    if options.only != "vectors":
        answers(rounds, report)
    if options.only != "answers":
        hnsw_rows = options.hnsw_rows or (10_000 if options.quick else HNSW_ROWS)
        counts = [count for count in options.cores if count <= cores()]
        for rows in options.rows or ([10_000, 100_000] if options.quick else [10_000, 100_000, 1_000_000]):
            for width in options.widths or ([384] if options.quick else [384, 768]):
                right &= vectors(rows, width, counts, rounds, hnsw_rows, report)
    print(f"\nkept in {report.file}")
    if not right:
        raise SystemExit("an exact search finds something else; see its row")


if __name__ == "__main__":
    main()
