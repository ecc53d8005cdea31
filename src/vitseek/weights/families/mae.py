"""MAE: the encoder of facebookresearch/mae's and transformers' checkpoints; the decoder was for pre-training only."""

from pathlib import Path

from vitseek.weights.description import Document, Sidecar
from vitseek.weights.families import timm, vit
from vitseek.weights.family import Family, encoder, transformers_note
from vitseek.weights.naming import Naming
from vitseek.weights.pictures import transformers_pictures

NORM_EPS = 1e-12  # transformers' ViTMAEConfig; facebookresearch has 1e-6
POOLING = "patch-mean"  # as facebookresearch/mae fine-tunes (--global_pool); the class token was in no loss
_DECODER = "the decoder is for pre-training only"

# timm's table plus names to leave out: an encoder alone is read by timm's own table, with the same result.
FACEBOOK = Naming(
    name="mae",
    title="facebookresearch/mae, with the decoder",
    table=timm.TABLE,
    ignored={"decoder_**": _DECODER, "mask_token": vit.MASK},
)
TRANSFORMERS = Naming(
    name="transformers-mae",
    title="transformers ViTMAE",
    table=vit.VIT.table,
    prefixes=("vit.", ""),
    ignored={"decoder.**": _DECODER},
    norm_eps=NORM_EPS,
)
TRANSFORMERS_5 = Naming(
    name="transformers-mae-5",
    title="transformers ViTMAE, names of release 5",
    table=vit.VIT_5.table,
    prefixes=TRANSFORMERS.prefixes,
    ignored=TRANSFORMERS.ignored,
    norm_eps=NORM_EPS,
)


def _read(file: Path, document: Document) -> Sidecar:
    return Sidecar(
        file=file,
        known=encoder(file, document, norm_eps=NORM_EPS),
        preprocessing=transformers_pictures(file, document.get("patch_size", 16)),
        pooling=POOLING,
        notes=[transformers_note(file, document)],
    )


FAMILY = Family(name="MAE", namings=(FACEBOOK, TRANSFORMERS, TRANSFORMERS_5), transformers={"vit_mae": _read})
