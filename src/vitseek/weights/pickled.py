"""Refuse pickles: reading one runs whatever code its author put into it."""

import zipfile
from pathlib import Path

from vitseek.errors import PickledWeightsError

SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"})
PROTOCOLS = frozenset(range(2, 6))  # a pickle starts with 0x80 and its protocol number

WAY_OUT = """\
Convert it once, in an environment that has torch and where you trust the file:
    import torch; from safetensors.torch import save_file
    save_file({{k: v.contiguous().clone() for k, v in torch.load({name!r}, weights_only=True).items()}}, {new!r})
Most models on the hub also come as model.safetensors."""


def refuse_pickles(file: Path) -> None:
    """Raise `PickledWeightsError` if a file is a pickle, by its suffix or by its content.

    Nothing is unpickled: the suffix, the first two bytes and the names in a zip archive are looked at.
    """
    found = _reason(file)
    if found:
        raise PickledWeightsError(
            f"{file} {found}, and reading a pickle can run any code in it; vitseek never does.\n"
            + WAY_OUT.format(name=file.name, new=_other_name(file))
        )


def _other_name(file: Path) -> str:
    new = file.with_suffix(".safetensors").name
    return new if new != file.name else f"{file.stem}-converted.safetensors"


def _reason(file: Path) -> str | None:
    if file.suffix.lower() in SUFFIXES:
        return f"is a pickled checkpoint ({file.suffix})"
    with file.open("rb") as stream:
        start = stream.read(4)
    if len(start) > 1 and start[0] == 0x80 and start[1] in PROTOCOLS:
        return "is a pickle under another name"
    if start.startswith(b"PK") and _holds_pickle(file):
        return "is a torch archive (a zip with data.pkl in it)"
    return None


def _holds_pickle(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.rpartition("/")[2].endswith(".pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False  # the npz reader says what is wrong with it
