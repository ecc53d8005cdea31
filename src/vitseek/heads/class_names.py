"""Names for the outputs of a checkpoint's head."""

from functools import cache
from importlib.resources import files
from typing import NamedTuple

from vitseek.errors import UsageError

IMAGENET_1K_CLASSES = 1000
ENOUGH = 0.9  # of the names are the same: spellings differ a little between lists


class ImageNetClass(NamedTuple):
    """A class of ImageNet-1k: its WordNet id and a short name, such as ("n02123394", "Persian cat")."""

    wordnet_id: str
    name: str


@cache
def imagenet_1k() -> tuple[ImageNetClass, ...]:
    """The classes of ImageNet-1k in the order of a checkpoint's outputs, which is that of their WordNet ids."""
    text = files("vitseek.heads").joinpath("imagenet_1k.tsv").read_text("utf-8")
    return tuple(ImageNetClass(*line.split("\t")) for line in text.splitlines() if not line.startswith("#"))


def class_names(num_classes: int, *, known: list[str] | None = None) -> tuple[list[str] | None, str]:
    """The names of a head's outputs, or None, and where they come from in words.

    Parameters
    ----------
    known
        Names that came with the checkpoint; they go before ours, unless they are ImageNet's in a longer form.
    """
    if known is not None:
        if len(known) != num_classes:
            raise UsageError(f"there are {len(known):,} class names for a head with {num_classes:,} outputs")
        if not _are_imagenets(known):
            return distinct(known), "names from the checkpoint's own description"
    if num_classes == IMAGENET_1K_CLASSES:
        return [one.name for one in imagenet_1k()], "names of ImageNet-1k, as the head has its 1,000 outputs"
    return None, f"no names are known for a head with {num_classes:,} outputs"


def _are_imagenets(known: list[str]) -> bool:
    """Whether names that came with a checkpoint are ImageNet's, perhaps with all synonyms: "tench, Tinca tinca"."""
    if len(known) != IMAGENET_1K_CLASSES:
        return False
    same = sum(
        name.split(",")[0].replace("_", " ").casefold() == one.name.split(" (")[0].casefold()
        for name, one in zip(known, imagenet_1k(), strict=True)
    )
    return same > IMAGENET_1K_CLASSES * ENOUGH


def distinct(names: list[str]) -> list[str]:
    """Names that differ, also by case: later ones of the same name get their number, "crane (517)"."""
    seen: set[str] = set()
    result = []
    for number, name in enumerate(names):
        tidy = " ".join(name.split()) or f"class {number}"
        result.append(tidy if tidy.casefold() not in seen else f"{tidy} ({number})")
        seen.add(result[-1].casefold())
    return result
