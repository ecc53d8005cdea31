"""The pretrained models that vitseek knows by name: one row each."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from vitseek.errors import UnknownModelError
from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.sources import Embedded, HubSource

DEFAULT_MODEL = "vitseek-tiny"

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class ZooRow:
    """A pretrained model: what it is, how it wants its pictures, and where its weights are.

    Parameters
    ----------
    naming
        The key table of its file; one of ``weights.maps.NAMINGS``.
    size_bytes
        Of the weights file.
    """

    name: str
    title: str
    family: str
    config: ViTConfig
    preprocessing: ImagePreprocessing
    source: Embedded | HubSource
    naming: str
    size_bytes: int | None
    pooling: str = "cls"
    licence: str = "Apache-2.0"
    paper: str = ""


def find(name: str) -> ZooRow:
    """The row of a model.

    Raises
    ------
    UnknownModelError
        If there is none; the message lists names that look alike.
    """
    row = ZOO.get(name) or ZOO.get(name.lower())
    if row is None:
        alike = difflib.get_close_matches(name.lower(), ZOO, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(alike)}?" if alike else f"There are {', '.join(ZOO)}."
        raise UnknownModelError(f"no model called {name!r}, and no file or folder of that name. {hint}")
    return row


DINOV2_PAPER = "https://arxiv.org/abs/2304.07193"
REGISTERS_PAPER = "https://arxiv.org/abs/2309.16588"
DINO_PAPER = "https://arxiv.org/abs/2104.14294"
AUGREG_PAPER = "https://arxiv.org/abs/2106.10270"
VIT_PAPER = "https://arxiv.org/abs/2010.11929"
DEIT_PAPER = "https://arxiv.org/abs/2012.12877"


def _dinov2() -> Iterator[ZooRow]:
    sizes = {"small": 88_249_720, "base": 346_345_912, "large": 1_217_522_888, "giant": 4_545_818_680}
    for size, size_bytes in sizes.items():
        config = ViTConfig(**VARIANTS[f"vit_{size}"], patch_size=14, img_size=(518, 518), layer_scale=True)
        row = ZooRow(
            name=f"dinov2-{size}",
            title=f"DINOv2 ViT-{size[0].upper()}/14",
            family="DINOv2",
            config=config,
            preprocessing=ImagePreprocessing(patch_size_px=14),
            source=HubSource(repo=f"facebook/dinov2-{size}"),
            naming="transformers-dinov2",
            size_bytes=size_bytes,
            paper=DINOV2_PAPER,
        )
        yield row
        yield replace(
            row,
            name=f"dinov2-{size}-reg",
            title=row.title + " with registers",
            config=replace(config, num_registers=4, pos_resize="bicubic-antialias"),
            source=HubSource(repo=f"facebook/dinov2-with-registers-{size}"),
            size_bytes=None,
            paper=REGISTERS_PAPER,
        )


ROWS: list[ZooRow] = [*_dinov2()]
ZOO: Mapping[str, ZooRow] = MappingProxyType({row.name: row for row in ROWS})
