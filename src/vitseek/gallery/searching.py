"""Find the nearest images of one or several queries."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitseek.errors import UsageError
from vitseek.gallery.matrix import MatrixCache
from vitseek.gallery.models import Models, empty
from vitseek.gallery.queries import resolve
from vitseek.gallery.spaces import Space
from vitseek.gallery.stores.catalog import Catalog
from vitseek.search import where as filters
from vitseek.search.exact import top_k
from vitseek.search.results import Match


class Searcher:
    """Joins query, filter, matrix and catalog; safe from several threads."""

    def __init__(self, catalog: Catalog, matrices: MatrixCache, models: Models) -> None:
        self._catalog = catalog
        self._matrices = matrices
        self._models = models

    def search(
        self, queries: Sequence[Any], k: int, *, where: str | None, exclude_query: bool, space: Space
    ) -> list[list[Match]]:
        """See :meth:`vitseek.gallery.gallery.Gallery.search`."""
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise UsageError(f"k, the number of matches, must be a whole number of at least 1; it is {k!r}")
        clause = filters.parse(where).to_sql() if where else None
        matrix = self._matrices.get(space)
        if len(matrix.ids) == 0:
            raise empty(self._catalog.folder)
        if not queries:
            return []
        resolved = resolve(queries, self._catalog, space, lambda: self._models.of(space))
        rows = None if clause is None else matrix.rows_of(self._catalog.ids(clause[0], clause[1]))
        spare = max(len(one.own_ids) for one in resolved) if exclude_query else 0
        vectors = np.stack([one.vector for one in resolved])
        scores, found = top_k(matrix.rows, vectors, int(k) + spare, rows=rows)
        answers = []
        for one, row_scores, row_numbers in zip(resolved, scores, found, strict=True):
            hits = list(zip(matrix.ids[row_numbers].tolist(), row_scores.tolist(), strict=True))
            if exclude_query:
                hits = [hit for hit in hits if hit[0] not in one.own_ids]
            answers.append(self._matches(hits[: int(k)]))
        return answers

    def _matches(self, hits: list[tuple[int, float]]) -> list[Match]:
        records = {record.id: record for record in self._catalog.images([number for number, _ in hits])}
        return [
            Match(
                id=number,
                path=record.path,
                score=score,
                labels=record.labels,
                width=record.width,
                height=record.height,
                bytes=record.bytes,
                modified=record.modified,
            )
            for number, score in hits
            if (record := records.get(number)) is not None  # deleted by another process a moment ago
        ]
