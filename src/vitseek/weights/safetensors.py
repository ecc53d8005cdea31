"""The safetensors format: eight bytes of length, a JSON header, one block of data.

The header is checked here rather than by the safetensors package, because only then can an error say which
tensor is wrong, and because the package hands NumPy a copy where a view of the mapped file will do. The rules
are the package's own: a bounded header, known dtypes, and offsets that cover the data without gap or overlap.

Source: https://huggingface.co/docs/safetensors (format) and the package's Rust reader (limits).
"""

import json
import math
import mmap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from vitseek.errors import CorruptWeightsError, WeightsError
from vitseek.weights.arrays import AnyArray, Stored, as_float32

LENGTH_BYTES = 8
LIMIT_HEADER_BYTES = 100_000_000  # the reference reader's limit
AGAIN = "download or copy it again."
LARGE_BYTES = 2**20
LIMIT_DIMENSIONS = 32  # NumPy 1 allowed 32; no parameter of any model has more than 6

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_safetensors(file: Path) -> dict[str, Stored]:
    """Check the header of a safetensors file and map its data.

    Raises
    ------
    CorruptWeightsError
        If the file is cut off, or its header lies about the data.
    WeightsError
        If a tensor has a dtype that NumPy cannot hold (float8).
    """
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        header = _read_header(file, stream.read(LENGTH_BYTES), size, stream.read)
        start = stream.tell()
        entries = _check_entries(file, header, size - start)
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    data: AnyArray = np.frombuffer(mapped, dtype=np.uint8)[start:]
    return {
        name: Stored(shape, dtype, partial(_view, mapped, data, dtype, shape, begin, end))
        for name, (dtype, shape, begin, end) in entries.items()
    }


def _read_header(file: Path, length: bytes, size: int, read: Callable[[int], bytes]) -> dict[str, Any]:
    if len(length) < LENGTH_BYTES:
        raise CorruptWeightsError(f"{file} has {size} bytes, too few for a safetensors file; {AGAIN}")
    header_bytes = int.from_bytes(length, "little")
    if header_bytes > LIMIT_HEADER_BYTES:
        raise CorruptWeightsError(
            f"{file} announces a header of {header_bytes:,} bytes (limit {LIMIT_HEADER_BYTES:,}): it is no "
            f"safetensors file, or a damaged one; {AGAIN}"
        )
    if header_bytes > size - LENGTH_BYTES:
        raise CorruptWeightsError(
            f"{file} is cut off: its header should have {header_bytes:,} bytes, {size - LENGTH_BYTES:,} are there; "
            f"{AGAIN}"
        )
    try:
        header = json.loads(read(header_bytes).decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise CorruptWeightsError(f"{file} has a header that cannot be read ({error}); {AGAIN}") from error
    if not isinstance(header, dict):
        raise CorruptWeightsError(f"{file} has a header that is no JSON object; {AGAIN}")
    header.pop("__metadata__", None)
    return header


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} occurs twice")
    return table


Entry = tuple[str, tuple[int, ...], int, int]  # dtype, shape, first byte, byte after the last


def _check_entries(file: Path, header: dict[str, Any], data_bytes: int) -> dict[str, Entry]:
    entries = {name: _check_entry(file, name, entry) for name, entry in header.items()}
    expected = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if end > data_bytes:
            raise CorruptWeightsError(
                f"{file} is cut off: {name!r} should end at byte {end:,} of the data, which has {data_bytes:,}; {AGAIN}"
            )
        if begin != expected:
            fault = "overlaps the tensor before it" if begin < expected else "leaves a gap before it"
            raise CorruptWeightsError(
                f"{file} has wrong offsets: {name!r} starts at byte {begin:,} and {fault} (expected {expected:,}); "
                f"{AGAIN}"
            )
        expected = end
    if expected != data_bytes:
        raise CorruptWeightsError(
            f"{file} has {data_bytes - expected:,} bytes that no tensor owns: two files were joined, or the header "
            f"is not this file's; {AGAIN}"
        )
    return entries


def _check_entry(file: Path, name: str, entry: Any) -> Entry:
    fields = entry if isinstance(entry, dict) else {}
    code, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not (isinstance(code, str) and _are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
        raise CorruptWeightsError(f"{file} describes {name!r} wrongly ({str(entry)[:200]}); {AGAIN}")
    if code not in DTYPES:
        raise WeightsError(
            f"{file} stores {name!r} as {code}, which vitseek does not read (it reads {', '.join(DTYPES)}); "
            "save the model in float32, float16 or bfloat16."
        )
    if len(shape) > LIMIT_DIMENSIONS:
        raise CorruptWeightsError(f"{file} gives {name!r} {len(shape)} dimensions; {AGAIN}")
    dtype = DTYPES[code]
    wanted = math.prod(shape) * _item_bytes(dtype)
    begin, end = offsets
    if end - begin != wanted:
        raise CorruptWeightsError(
            f"{file} contradicts itself: {name!r} of shape {tuple(shape)} and dtype {code} needs {wanted:,} bytes, "
            f"its offsets {begin}…{end} hold {end - begin:,}; {AGAIN}"
        )
    return dtype, tuple(shape), begin, end


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _item_bytes(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _view(mapped: mmap.mmap, data: AnyArray, dtype: str, shape: tuple[int, ...], begin: int, end: int) -> AnyArray:
    if end - begin >= LARGE_BYTES and hasattr(mapped, "madvise"):
        # What was looked at before leaves this process's memory, and comes back from the page cache if it is looked at
        # again: folding a model goes through the file once, and would else hold all of it beside the folded weights.
        mapped.madvise(mmap.MADV_DONTNEED)
    stored = np.dtype("<u2") if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<")
    array = data[begin:end].view(stored).reshape(shape)
    # Files of early writers pad the header to no multiple of the item size; BLAS would copy on every use.
    if not array.flags.aligned:
        array = array.copy()
    return as_float32(array, dtype)
