"""Read named arrays from a weights file: mapped, not copied, and never unpickled.

`read_arrays` takes a ``.safetensors`` file, a folder with one (or with shards and their index), or an
``.npz`` archive, checks the whole layout first, and hands out arrays one by one. float16 and bfloat16
become float32; everything else keeps its dtype.
"""

import json
import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from vitseek.errors import CorruptWeightsError, UsageError, WeightsError
from vitseek.weights.arrays import ArrayFile, Stored
from vitseek.weights.npz import read_npz
from vitseek.weights.pickled import refuse_pickles
from vitseek.weights.safetensors import read_safetensors

INDEX_SUFFIX = ".safetensors.index.json"
LIMIT_INDEX_BYTES = 50_000_000  # the index of a model with a million tensors is smaller


def read_arrays(path: str | os.PathLike[str]) -> ArrayFile:
    """Open a weights file or a folder that holds one.

    Parameters
    ----------
    path
        A ``.safetensors`` or ``.npz`` file, a ``.safetensors.index.json``, or a folder.

    Returns
    -------
    A mapping from the names in the file to arrays. The arrays are read-only views of the mapped file
    wherever its layout allows; the mapping lives as long as an array does.

    Raises
    ------
    PickledWeightsError
        If the file holds pickled objects; nothing is unpickled to find out.
    CorruptWeightsError
        If the file is cut off or contradicts itself.
    WeightsError
        If there is no such file, or it is of another kind.
    """
    file = locate(Path(path))
    try:
        return _read(file)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}.") from error


def _read(file: Path) -> ArrayFile:
    if file.name.endswith(INDEX_SUFFIX):
        return _read_shards(file)
    refuse_pickles(file)
    stored = read_safetensors(file) if _kind(file) == "safetensors" else read_npz(file)
    return ArrayFile((file,), stored)


def locate(path: Path) -> Path:
    """Find the weights file that a path means: itself, or the only candidate in a folder."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise WeightsError(
            f"no weights at {path}: there is no such file or folder. Give a .safetensors or .npz file, "
            "a folder that holds one, or a name from `vitseek models`."
        )
    for name in ("model.safetensors", "model" + INDEX_SUFFIX):
        if (path / name).is_file():
            return path / name
    for pattern in ("*.safetensors", "*.npz"):
        found = sorted(file for file in path.glob(pattern) if file.is_file())
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found)
            raise UsageError(f"{path} holds several weights files ({names}); name the one you mean.")
    for file in sorted(path.iterdir()):
        if file.is_file():
            refuse_pickles(file)
    raise WeightsError(f"no weights in {path}: it holds neither a .safetensors nor an .npz file.")


def _kind(file: Path) -> str:
    """Tell the format by content; the suffix decides only where the content cannot."""
    with file.open("rb") as stream:
        start = stream.read(9)
    if not start:
        raise CorruptWeightsError(f"{file} is empty (0 bytes); download or copy it again.")
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "npz"
    if file.suffix == ".npz":
        raise CorruptWeightsError(f"{file} is not an npz archive (no zip signature); download or copy it again.")
    if file.suffix == ".safetensors" or start[8:9] == b"{":
        return "safetensors"
    raise WeightsError(
        f"{file} is neither safetensors nor npz. vitseek reads those two; convert the file first, "
        "for example with safetensors.numpy.save_file(arrays, 'model.safetensors')."
    )


def _read_shards(index: Path) -> ArrayFile:
    """Join the shards that an index file names."""
    weight_map = _weight_map(index)
    stored: dict[str, Stored] = {}
    files = []
    for shard in sorted(set(weight_map.values())):
        file = index.parent / shard
        if not file.is_file():
            raise CorruptWeightsError(f"{index} names the shard {shard}, which is not beside it; download it again.")
        refuse_pickles(file)
        here = read_safetensors(file)
        wanted = {name for name, where in weight_map.items() if where == shard}
        if wanted != here.keys():
            differing = ", ".join(sorted(wanted ^ here.keys())[:5])
            raise CorruptWeightsError(
                f"{index} and its shard {shard} disagree about the tensors in it ({differing}); "
                "they belong to different downloads: fetch the folder again."
            )
        stored.update(here)
        files.append(file)
    return ArrayFile((index, *files), stored)


def _weight_map(index: Path) -> dict[str, str]:
    if index.stat().st_size > LIMIT_INDEX_BYTES:
        raise CorruptWeightsError(f"{index} is larger than {LIMIT_INDEX_BYTES} bytes; that is no index of shards.")
    try:
        document = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CorruptWeightsError(f"{index} is not JSON ({error}); download it again.") from error
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptWeightsError(f"{index} has no 'weight_map' from tensors to shards; download it again.")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _stays_inside(shard):
            raise CorruptWeightsError(
                f"{index} puts {name!r} into {shard!r}, which is not a .safetensors file inside {index.parent}; "
                "do not use this download."
            )
    return weight_map


def _stays_inside(shard: str) -> bool:
    # By name, not by resolving: the hub's own cache keeps its files behind links that lead out of the folder.
    posix, windows = PurePosixPath(shard), PureWindowsPath(shard)
    foreign = posix.is_absolute() or windows.is_absolute() or bool(windows.drive)
    return not foreign and ".." not in windows.parts and posix.suffix == ".safetensors" and "\0" not in shard
