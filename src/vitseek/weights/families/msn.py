"""MSN: transformers' ViTMSN.

Its names are its ViT's to the letter, and the config tells its epsilon. With a classifier, release 5 of transformers
leaves the prefix off the blocks alone: those names are read here.
"""

from pathlib import Path

from vitseek.weights.description import Document, Sidecar, labels_of
from vitseek.weights.families import vit
from vitseek.weights.family import Family, encoder, transformers_note
from vitseek.weights.naming import Naming
from vitseek.weights.pictures import transformers_pictures

NORM_EPS = 1e-6  # transformers' ViTMSNConfig, and facebookresearch/msn; ViTConfig has 1e-12

CLASSES_5 = Naming(
    name="transformers-msn-classes-5",
    title="transformers ViTMSN with classes, as release 5 saves it",
    table={ours: theirs if ours.startswith("blocks.") else f"vit.{theirs}" for ours, theirs in vit.TABLE.items()},
    heads={"head.*": "classifier.*"},
    norm_eps=NORM_EPS,
)


def _read(file: Path, document: Document) -> Sidecar:
    return Sidecar(
        file=file,
        known=encoder(file, document, norm_eps=NORM_EPS),
        preprocessing=transformers_pictures(file, document.get("patch_size", 16)),
        labels=labels_of(document.get("id2label")),
        notes=[transformers_note(file, document)],
    )


FAMILY = Family(name="MSN", namings=(CLASSES_5,), transformers={"vit_msn": _read})
