"""Take a whole space out of a gallery."""

from vitseek.gallery.models import WORDS_NOTE
from vitseek.gallery.spaces import CALIBRATED, Space
from vitseek.gallery.stores.catalog import Catalog


def remove_space(catalog: Catalog, space: Space, *, default: Space | None) -> None:
    """Delete a space, its vectors and what is noted of it, and name another default, all at once or not at all."""
    with catalog.database.writing() as connection:
        connection.execute("DELETE FROM vectors WHERE space_id = ?", (space.id,))
        connection.execute("DELETE FROM spaces WHERE id = ?", (space.id,))
        connection.execute(
            "DELETE FROM calibrations WHERE NOT EXISTS (SELECT 1 FROM spaces WHERE precision = ? || digest)",
            (CALIBRATED,),
        )
        connection.execute("DELETE FROM meta WHERE key = ?", (f"{WORDS_NOTE}{space.id}",))
        if default is not None:
            connection.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('default_space', ?)", (str(default.id),)
            )
        catalog.bump()
