"""Find the nearest images of one or several queries, in one space or in two."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import TextUnsupportedError, UsageError
from vitseek.gallery.matrix import Matrix, MatrixCache
from vitseek.gallery.models import Models, empty
from vitseek.gallery.queries import Addresses, Report, Resolved, fetch_addresses, resolve
from vitseek.gallery.spaces import Space
from vitseek.gallery.stores.catalog import Catalog
from vitseek.search.fusion import Fusion, Side, combine, fuse
from vitseek.search.query import Expression, remarks
from vitseek.search.results import Match

Hits = list[tuple[int, float]]
Ids = NDArray[np.int64]


class SearchKeywords(TypedDict, total=False):
    """What :meth:`vitseek.gallery.gallery.Gallery.search` takes besides the query."""

    k: int
    where: str | None
    exclude_query: bool
    space: str | int | None
    also: str | int | None
    balance: float
    fusion: Fusion
    addresses: Addresses
    files: bool
    report: Report | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How to search, checked; ``offline`` forbids to fetch addresses."""

    k: int = 10
    where: str | None = None
    exclude_query: bool = False
    space: str | int | None = None
    also: str | int | None = None
    balance: float = 0.5
    fusion: Fusion = "scores"
    addresses: Addresses = "public"
    files: bool = True
    report: Report | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, (int, np.integer)) or self.k < 1:
            raise UsageError(f"k, the number of matches, must be a whole number of at least 1; it is {self.k!r}")
        if not isinstance(self.balance, (int, float, np.floating)) or not 0 <= self.balance <= 1:
            raise UsageError(
                "balance, the weight of the second space, lies between 0 (only the first) and 1 (only the second); "
                f"it is {self.balance!r}"
            )
        if self.fusion not in get_args(Fusion):
            raise UsageError(f"fusion is one of {', '.join(get_args(Fusion))}, not {self.fusion!r}")
        if self.addresses not in get_args(Addresses):
            raise UsageError(f"addresses is one of {', '.join(get_args(Addresses))}, not {self.addresses!r}")


class Searcher:
    """Joins query, filter, matrix and catalog; safe from several threads."""

    def __init__(self, catalog: Catalog, matrices: MatrixCache, models: Models) -> None:
        self._catalog = catalog
        self._matrices = matrices
        self._models = models

    def search(self, queries: Sequence[Expression], options: SearchOptions) -> list[list[Match]]:
        """See :meth:`vitseek.gallery.gallery.Gallery.search`."""
        clause = _clause(options.where)
        say = _once(options.report)
        default = self._models.space(options.space)
        if not queries:
            self._matrix(default)  # an empty gallery is an error also without a query
            return []
        for query in queries:
            if not options.files and any(term.kind == "file" for term in query.terms):
                raise UsageError("files cannot be named here; send the picture itself")
            for remark in remarks(query, is_file=os.path.isfile if options.files else lambda name: False):
                say(remark)
        plans = [self.plan(query, options, say) for query in queries]
        queries = [fetch_addresses(query, options.addresses, offline=options.offline) for query in queries]
        among = None if clause is None else self._catalog.ids(clause[0], clause[1])
        hits: list[Hits] = [[] for _ in queries]
        for spaces in dict.fromkeys(plans):
            places = [place for place, plan in enumerate(plans) if plan == spaces]
            group = [queries[place] for place in places]
            if len(spaces) == 1:
                found = self._in_one(group, spaces[0], options, among, say)
            else:
                found = [self._in_two(query, spaces, options, among, say) for query in group]
            for place, one in zip(places, found, strict=True):
                hits[place] = one
        return [self._matches(one) for one in hits]

    # -- where to search

    def plan(self, query: Expression, options: SearchOptions, report: Report) -> tuple[Space, ...]:
        """The space that a query is searched in, or the two.

        Raises
        ------
        TextUnsupportedError
            If it has words, and no space that may be used understands them.
        """
        if options.also is None:
            return (self.space_of(query, options.space, report),)
        first, second = self._models.space(options.space), self._models.named(options.also)
        if first.id == second.id:
            raise UsageError(
                f"two different spaces are joined, but both are {first.name!r}. `vitseek spaces` lists what there is"
            )
        spaces = ((first, second), (first,), (second,))[0 if 0 < options.balance < 1 else 1 + (options.balance > 0)]
        able = tuple(space for space in spaces if self._part(query, space) is not None)
        if not able:
            raise self._no_words(query, spaces[0])
        for space in spaces:
            part = self._part(query, space)
            if part is None:
                report(f"space {space.name!r} knows pictures only: the words are searched in {able[0].name!r} alone")
            elif part != query:
                report(f"space {space.name!r} knows pictures only: there, the words take no part")
        return able

    def space_of(self, query: Expression, wanted: str | int | None, report: Report | None = None) -> Space:
        """The one space that a query is searched in: words are searched where they are understood."""
        chosen = self._models.space(wanted)
        if not query.has_words or self._models.understands_words(chosen):
            return chosen
        able = self._models.words_space() if wanted is None else None
        if able is None:
            raise self._no_words(query, chosen)
        if report is not None:
            report(f"words are searched in space {able.name!r}; the default one, {chosen.name!r}, knows pictures only")
        return able

    def _no_words(self, query: Expression, space: Space) -> TextUnsupportedError:
        bare = next((term.value for term in query.active if term.bare), "")
        return self._models.no_words(space, typed=bare)

    def _part(self, query: Expression, space: Space) -> Expression | None:
        """The terms of a query that a space can compare; None if it can none."""
        if not query.has_words or self._models.understands_words(space):
            return query
        terms = tuple(term for term in query.active if term.kind != "text")
        return Expression(terms) if terms else None

    # -- one space, or two

    def _in_one(
        self, queries: Sequence[Expression], space: Space, options: SearchOptions, among: Ids | None, report: Report
    ) -> list[Hits]:
        matrix = self._matrix(space)
        self._say_what_is_not_found(space, matrix, report)
        resolved = self._resolved(queries, space, report)
        rows = None if among is None else matrix.rows_of(among)
        spare = max(len(one.own_ids) for one in resolved) if options.exclude_query else 0
        vectors = np.stack([combine(one.vectors, one.weights, matrix.rows) for one in resolved])
        scores, found = matrix.nearest(vectors, int(options.k) + spare, rows=rows)
        answers = []
        for one, row_scores, row_numbers in zip(resolved, scores, found, strict=True):
            hits = list(zip(matrix.ids[row_numbers].tolist(), row_scores.tolist(), strict=True))
            answers.append(_kept(hits, one.own_ids, options))
        return answers

    def _in_two(
        self, query: Expression, spaces: Sequence[Space], options: SearchOptions, among: Ids | None, report: Report
    ) -> Hits:
        sides: list[Side] = []
        own: set[int] = set()
        for space, weight in zip(spaces, (1 - options.balance, options.balance), strict=True):
            matrix = self._matrix(space)
            [one] = self._resolved([self._part(query, space) or query], space, report)
            own.update(one.own_ids)
            sides.append(Side(matrix.ids, matrix.rows, combine(one.vectors, one.weights, matrix.rows), weight))
        self._say_what_lacks(spaces, sides, report)
        spare = len(own) if options.exclude_query else 0
        ids, scores = fuse(sides, int(options.k) + spare, fusion=options.fusion, among=among)
        return _kept(list(zip(ids.tolist(), scores.tolist(), strict=True)), tuple(own), options)

    def _say_what_is_not_found(self, space: Space, matrix: Matrix, report: Report) -> None:
        everything = int(self._catalog.database.value("SELECT count(*) FROM catalog"))
        if lacking := everything - len(matrix.ids):
            have, are = ("image has", "is") if lacking == 1 else ("images have", "are")
            report(f"{lacking:,} {have} no vector in space {space.name!r} and {are} not found{_fill(space)}")

    def _say_what_lacks(self, spaces: Sequence[Space], sides: Sequence[Side], report: Report) -> None:
        everything = len(np.unique(np.concatenate([side.ids for side in sides])))
        for space, side in zip(spaces, sides, strict=True):
            if lacking := everything - len(side.ids):
                have = "image has" if lacking == 1 else "images have"
                report(f"{lacking:,} {have} no vector in space {space.name!r}: average is assumed there{_fill(space)}")

    def _matrix(self, space: Space) -> Matrix:
        matrix = self._matrices.get(space)
        if len(matrix.ids) == 0:
            raise empty(self._catalog.folder)
        return matrix

    def _resolved(self, queries: Sequence[Expression], space: Space, report: Report) -> list[Resolved]:
        return resolve(queries, self._catalog, space, lambda: self._models.of(space), report)

    def _matches(self, hits: Hits) -> list[Match]:
        records = {record.id: record for record in self._catalog.images([number for number, _ in hits])}
        return [
            Match(
                id=number,
                path=record.path,
                score=score,
                labels=record.labels,
                predictions=record.predictions,
                width=record.width,
                height=record.height,
                bytes=record.bytes,
                modified=record.modified,
            )
            for number, score in hits
            if (record := records.get(number)) is not None  # deleted by another process a moment ago
        ]


def _clause(where: str | None) -> tuple[str, list[Any]] | None:
    if not where:
        return None
    from vitseek.search.where import parse

    return parse(where).to_sql()


def _fill(space: Space) -> str:
    return f"; fill it with: vitseek index --model {shlex.quote(space.source)}" if space.source else ""


def _kept(hits: Hits, own: tuple[int, ...], options: SearchOptions) -> Hits:
    if options.exclude_query:
        hits = [hit for hit in hits if hit[0] not in own]
    return hits[: int(options.k)]


def _once(report: Report | None) -> Report:
    """Say every sentence once, however many queries it holds for."""
    said: set[str] = set()

    def say(sentence: str) -> None:
        if report is not None and sentence not in said:
            said.add(sentence)
            report(sentence)

    return say
