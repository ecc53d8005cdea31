"""What state a gallery is in, and whether its index holds together."""

import json
import os
from collections.abc import Callable

from vitseek.errors import VitseekError
from vitseek.gallery.identity import display
from vitseek.gallery.lock import writer
from vitseek.gallery.matrix import MatrixCache
from vitseek.gallery.place import Layout
from vitseek.gallery.records import GalleryStatus, PredictionStatus, Problem, RootStatus, SpaceStatus
from vitseek.gallery.spaces import Space
from vitseek.gallery.stores.catalog import Catalog, Root
from vitseek.gallery.stores.migrate import SCHEMA
from vitseek.gallery.stores.predictions import Predictions

FIRST_PROBLEMS = 20  # all of them: Gallery.unreadable()


def status(
    catalog: Catalog, layout: Layout, matrices: MatrixCache, understands_words: Callable[[Space], bool]
) -> GalleryStatus:
    """Counts and facts; costs a few queries and, where spaces are known to the gallery, no model."""
    default = catalog.default_space()
    unreadable = catalog.ids_with_status("unreadable")
    last = catalog.database.row("SELECT started, finished FROM runs ORDER BY id DESC LIMIT 1")
    busy = writer(layout.lock)
    predictions = Predictions(catalog.database)
    return GalleryStatus(
        path=layout.folder,
        images=int(catalog.database.value("SELECT count(*) FROM catalog")),
        unreadable=len(unreadable),
        removed=len(catalog.ids_with_status("removed")),
        labels=catalog.label_counts(),
        problems=[Problem(r.path, r.reason or "") for r in catalog.images(unreadable[:FIRST_PROBLEMS].tolist())],
        roots=[_root(catalog, root) for root in catalog.roots()],
        spaces=[_space(catalog, matrices, space, default, understands_words) for space in catalog.spaces()],
        disk_bytes=sum(file.stat().st_size for file in layout.index.rglob("*") if file.is_file()),
        schema=SCHEMA,
        last_run={"started": last["started"], "finished": last["finished"]} if last else None,
        writer=str(busy) if busy else None,
        labels_by_source=predictions.label_counts(),
        predictions=[
            PredictionStatus(run.source, run.model, json.loads(run.details), run.started, run.finished)
            for run in predictions.runs()
        ],
    )


def _root(catalog: Catalog, root: Root) -> RootStatus:
    images = catalog.database.value("SELECT count(*) FROM images WHERE root_id = ? AND status = 'ok'", (root.id,))
    return RootStatus(root.path, int(images), root.path.is_dir())


def _space(
    catalog: Catalog, matrices: MatrixCache, space: Space, default: Space | None, understands: Callable[[Space], bool]
) -> SpaceStatus:
    try:
        words = understands(space)
    except VitseekError:  # only the model could tell, and it cannot be had
        words = False
    return SpaceStatus(
        id=space.id,
        name=space.name,
        model=space.key.model,
        weights_sha256=space.key.weights_sha256,
        preprocessing=space.key.preprocessing,
        pooling=space.key.pooling,
        dim=space.key.dim,
        source=space.source,
        images=catalog.count_in_space(space.id),
        default=default is not None and default.id == space.id,
        cache=matrices.state(space),
        words=words,
    )


def check(catalog: Catalog, matrices: MatrixCache) -> list[str]:
    """Read everything and say what does not hold together; an empty list is good news."""
    database = catalog.database
    found = [f"database: {row[0]}" for row in database.rows("PRAGMA integrity_check") if row[0] != "ok"]
    found += [f"database: a row of {row[0]} refers to nothing" for row in database.rows("PRAGMA foreign_key_check")]
    for space in catalog.spaces():
        odd = database.value(
            "SELECT count(*) FROM vectors WHERE space_id = ? AND length(vector) <> ?", (space.id, 4 * space.key.dim)
        )
        if odd:
            found.append(f"space {space.name!r}: {odd} vectors are not {space.key.dim} numbers long")
        if matrices.state(space, thorough=True) == "damaged":
            found.append(f"space {space.name!r}: its cache file is damaged (the next search makes it again)")
    for row in database.rows(
        "SELECT i.path FROM images AS i WHERE i.status = 'ok' AND "
        "NOT EXISTS (SELECT 1 FROM vectors AS v WHERE v.content_id = i.content_id) LIMIT 20"
    ):
        found.append(f"image {display(os.fsencode(row[0]))} has no vector in any space; vitseek index makes it")
    return found
