"""What the workers of `benchmarks.search` make: ways to find the ten nearest of many vectors, all on the same files.

``matrix`` and ``queries`` are .npy files of float32 rows of length one. "one" answers the first few queries one after
the other, "all" every query at once; both return row numbers, best first. Graphs (HNSW) are built once by
``build_…`` in a process of its own and loaded by the workers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.report import cores, installed
from benchmarks.search_bounds import BLOCK, ModelLike
from benchmarks.worker import Prepared, Unavailable

K = 10
LINKS, BUILD_EFFORT, SEARCH_EFFORT = 16, 100, 64  # HNSW's M (FAISS: 2 M at the bottom too), efConstruction, ef

Find = Callable[[np.ndarray], np.ndarray]  # queries (q, D) to row numbers (q, K)


def write_vectors(folder: str, rows: int, width: int, queries: int) -> dict[str, str]:
    """Vectors with clusters and the spectrum of a model's features, and queries of the same kind."""
    rng = np.random.default_rng(7)
    like = ModelLike(rng, width)
    files = {name: str(Path(folder) / f"{name}.npy") for name in ("matrix", "queries")}
    np.save(files["queries"], like(rng, queries))
    written = np.lib.format.open_memmap(files["matrix"], "w+", np.float32, (rows, width))
    for start in range(0, rows, BLOCK):
        stop = min(start + BLOCK, rows)
        written[start:stop] = like(rng, stop - start)
    written.flush()
    return files


def prepared(queries: str, singles: int, find: Find, packages: tuple[str, ...] = ()) -> Prepared:
    """One at a time and all at once."""
    asked = np.load(queries)

    def one() -> np.ndarray:
        return np.concatenate([find(asked[number : number + 1]) for number in range(singles)])

    return Prepared({"one": one, "all": lambda: find(asked)}, installed(packages))


def mapped(matrix: str) -> np.ndarray:
    """The rows as a gallery has them: from the file."""
    return np.load(matrix, mmap_mode="r").view(np.ndarray)


def threads_given() -> int:
    """Those of the worker: the contest says how many (benchmarks.contest.THREADS)."""
    return int(os.environ.get("OMP_NUM_THREADS", 0)) or cores()


def vitseek_exact(matrix: str, queries: str, singles: int) -> Prepared:
    from vitseek.search.exact import top_k

    rows = mapped(matrix)
    return prepared(queries, singles, lambda asked: top_k(rows, asked, K)[1])


def vitseek_bounded(matrix: str, queries: str, singles: int) -> Prepared:
    """Exact, by bounds from a rotated prefix, which a gallery makes while it indexes."""
    from vitseek.search import prefix

    rows = mapped(matrix)
    axes = prefix.principal_axes(rows)
    width = prefix.choose_width(rows, axes)
    if width is None:
        raise Unavailable("no prefix of these vectors is worthwhile, so a gallery searches them exactly")
    held = prefix.build(rows, axes, width)
    return prepared(queries, singles, lambda asked: prefix.search(rows, asked, K, held)[1])


def numpy_product(matrix: str, queries: str, singles: int) -> Prepared:
    """``matrix @ query`` and argpartition."""
    rows = mapped(matrix)

    def find(asked: np.ndarray) -> np.ndarray:
        scores = (rows @ asked[0])[None] if len(asked) == 1 else (rows @ asked.T).T
        best = np.argpartition(scores, -K, axis=1)[:, -K:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)

    return prepared(queries, singles, find)


def faiss_flat(matrix: str, queries: str, singles: int) -> Prepared:
    import faiss

    rows = mapped(matrix)
    index = faiss.IndexFlatIP(rows.shape[1])
    for start in range(0, len(rows), BLOCK):
        index.add(np.ascontiguousarray(rows[start : start + BLOCK]))
    return prepared(queries, singles, lambda asked: index.search(asked, K)[1], ("faiss-cpu",))


def usearch_exact(matrix: str, queries: str, singles: int) -> Prepared:
    from usearch.index import MetricKind, search

    rows, threads = mapped(matrix), threads_given()

    def find(asked: np.ndarray) -> np.ndarray:
        return np.asarray(search(rows, asked, K, MetricKind.IP, exact=True, threads=threads).keys).reshape(-1, K)

    return prepared(queries, singles, find, ("usearch",))


def build_faiss_hnsw(matrix: str, folder: str) -> tuple[str, float]:
    import faiss

    rows, start, file = mapped(matrix), time.perf_counter(), str(Path(folder) / "faiss-hnsw")
    index = faiss.IndexHNSWFlat(rows.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILD_EFFORT
    index.add(rows)
    faiss.write_index(index, file)
    return file, time.perf_counter() - start


def faiss_hnsw(matrix: str, queries: str, singles: int, file: str) -> Prepared:
    import faiss

    index = faiss.read_index(file)
    index.hnsw.efSearch = SEARCH_EFFORT
    return prepared(queries, singles, lambda asked: index.search(asked, K)[1], ("faiss-cpu",))


def build_hnswlib(matrix: str, folder: str) -> tuple[str, float]:
    import hnswlib

    rows, start, file = mapped(matrix), time.perf_counter(), str(Path(folder) / "hnswlib")
    index = hnswlib.Index("ip", rows.shape[1])
    index.init_index(len(rows), M=LINKS, ef_construction=BUILD_EFFORT)
    index.add_items(rows)
    index.save_index(file)
    return file, time.perf_counter() - start


def hnswlib(matrix: str, queries: str, singles: int, file: str) -> Prepared:
    import hnswlib

    asked = np.load(queries)
    index = hnswlib.Index("ip", asked.shape[1])
    index.load_index(file)
    index.set_ef(SEARCH_EFFORT)
    index.set_num_threads(threads_given())
    return prepared(queries, singles, lambda some: index.knn_query(some, K)[0].astype(np.int64), ("hnswlib",))


def build_usearch_hnsw(matrix: str, folder: str) -> tuple[str, float]:
    from usearch.index import Index

    rows, start, file = mapped(matrix), time.perf_counter(), str(Path(folder) / "usearch")
    index = Index(ndim=rows.shape[1], metric="ip", dtype="f32", connectivity=LINKS, expansion_add=BUILD_EFFORT)
    index.add(np.arange(len(rows)), rows)
    index.save(file)
    return file, time.perf_counter() - start


def usearch_hnsw(matrix: str, queries: str, singles: int, file: str) -> Prepared:
    from usearch.index import Index

    index, threads = Index.restore(file), threads_given()
    index.expansion_search = SEARCH_EFFORT

    def find(asked: np.ndarray) -> np.ndarray:
        return np.asarray(index.search(asked, K, threads=threads).keys).reshape(-1, K).astype(np.int64)

    return prepared(queries, singles, find, ("usearch",))
