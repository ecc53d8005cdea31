"""I-JEPA: a plain Vision Transformer without a class token, under transformers' names.

Its authors' own files (pickled) and timm's have timm's names, which need no table of their own.
"""

from pathlib import Path

from vitseek.weights.description import Document, Sidecar, labels_of
from vitseek.weights.families import vit
from vitseek.weights.family import Family, encoder, transformers_note
from vitseek.weights.naming import Naming, Shapes, Table
from vitseek.weights.pictures import transformers_pictures

NORM_EPS = 1e-12  # transformers' IJepaConfig; the published models say 1e-6


def _without_class_token(table: Table) -> Table:
    return {ours: theirs for ours, theirs in table.items() if ours != "cls_token"}


def _has_no_class_token(shapes: Shapes) -> bool:
    return not any(name.endswith("cls_token") for name in shapes)


TRANSFORMERS = Naming(
    name="transformers-ijepa",
    title="transformers I-JEPA",
    table=_without_class_token(vit.TABLE),
    prefixes=("ijepa.", ""),
    heads={"head.*": "classifier.*"},
    told_by=_has_no_class_token,
    ignored=vit.IGNORED,
)
TRANSFORMERS_5 = Naming(
    name="transformers-ijepa-5",
    title="transformers I-JEPA, names of release 5",
    table=_without_class_token(vit.VIT_5.table),
    prefixes=TRANSFORMERS.prefixes,
    heads=TRANSFORMERS.heads,
    told_by=_has_no_class_token,
    ignored=vit.IGNORED,
)


def _read(file: Path, document: Document) -> Sidecar:
    return Sidecar(
        file=file,
        known=encoder(file, document, norm_eps=NORM_EPS),
        preprocessing=transformers_pictures(file, document.get("patch_size", 16)),
        labels=labels_of(document.get("id2label")),
        notes=[transformers_note(file, document)],
    )


FAMILY = Family(name="I-JEPA", namings=(TRANSFORMERS, TRANSFORMERS_5), transformers={"ijepa": _read})
