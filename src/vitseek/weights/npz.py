"""The npz format: a zip archive of `.npy` members.

Members stored without compression are mapped in place; compressed ones are inflated when they are asked for.
Every member's header is read before any data, so that an archive with an object array (a pickle) or with a
size that no model has is refused before anything is unpickled or inflated.
"""

import lzma
import math
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from vitseek.errors import CorruptWeightsError, PickledWeightsError
from vitseek.weights.arrays import AnyArray, Stored, as_float32

LIMIT_ARCHIVE_BYTES = 64 * 2**30  # declared size of all members; DINOv2-giant has 4.5 GB
LIMIT_RATIO = 50  # float32 weights deflate to about 93 %; a bomb reaches 1,000 to 1
RATIO_FREE_BYTES = 64 * 2**20  # small archives of zeros are harmless
LIMIT_HEADER_BYTES = 10_000  # NumPy's own limit for a header that is parsed safely
LOCAL_HEADER_BYTES = 30
ENCRYPTED = 0x1

# What zipfile, its decompressors and NumPy's header parser raise on damaged input.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError, SyntaxError)
AGAIN = "download or copy it again."


def read_npz(file: Path) -> dict[str, Stored]:
    """Check every member of an npz archive and map or describe its array.

    Raises
    ------
    PickledWeightsError
        If a member holds Python objects.
    CorruptWeightsError
        If the archive is damaged, or declares more data than a model has.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_sizes(file, members)
            headers = {member.filename: _read_header(file, archive, member) for member in members}
    except DAMAGE as error:
        raise CorruptWeightsError(f"{file} is a damaged zip archive ({error}); {AGAIN}") from error
    data: AnyArray = np.memmap(file, dtype=np.uint8, mode="r").view(np.ndarray)
    stored = {}
    for member in members:
        header = headers[member.filename]
        if member.compress_type == zipfile.ZIP_STORED:
            read = partial(_view, file, data, member, header)
        else:
            read = partial(_inflate, file, member.filename, header)
        stored[member.filename.removesuffix(".npy")] = Stored(header.shape, header.dtype.name, read)
    return stored


@dataclass(frozen=True)
class Header:
    """What a `.npy` member says about its array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    header_bytes: int  # magic, length and header: the data starts after them

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _check_sizes(file: Path, members: list[zipfile.ZipInfo]) -> None:
    if not members:
        raise CorruptWeightsError(f"{file} is an empty archive; {AGAIN}")
    names = [member.filename for member in members]
    for member in members:
        if not member.filename.endswith(".npy") or names.count(member.filename) > 1:
            raise CorruptWeightsError(
                f"{file} is no npz archive of weights: its member {member.filename!r} "
                + ("is no .npy file." if not member.filename.endswith(".npy") else "occurs twice.")
            )
        if member.flag_bits & ENCRYPTED:
            raise CorruptWeightsError(f"{file} is encrypted ({member.filename!r}); unpack and save it again.")
    declared = sum(member.file_size for member in members)
    there = file.stat().st_size
    if declared > LIMIT_ARCHIVE_BYTES or declared > max(RATIO_FREE_BYTES, LIMIT_RATIO * there):
        raise CorruptWeightsError(
            f"{file} has {there:,} bytes and claims to unpack to {declared:,}: a decompression bomb, not weights. "
            "Nothing was unpacked. If you trust it, save it again with numpy.savez (uncompressed)."
        )


def _read_header(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
    try:
        with archive.open(member) as stream:
            version = npy.read_magic(stream)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"npy version {version[0]}.{version[1]}")
            shape, fortran_order, dtype = read(stream, max_header_size=LIMIT_HEADER_BYTES)
            header_bytes = stream.tell()
    except DAMAGE as error:
        raise CorruptWeightsError(f"{file} holds a damaged array {member.filename!r} ({error}); {AGAIN}") from error
    if dtype.hasobject:
        raise PickledWeightsError(
            f"{file} holds pickled Python objects ({member.filename!r} has dtype object), and reading a pickle can run "
            "any code in it; vitseek never does.\nSave it again as plain numbers where you trust it: "
            "numpy.savez('weights.npz', **{name: numpy.asarray(value, dtype='float32') for name, value in …})."
        )
    if dtype.names is not None or dtype.kind not in "fiub":
        raise CorruptWeightsError(f"{file} holds {member.filename!r} of dtype {dtype}, which is no array of numbers.")
    header = Header(tuple(int(size) for size in shape), dtype, fortran_order, header_bytes)
    if any(size < 0 for size in header.shape) or header.data_bytes != member.file_size - header_bytes:
        raise CorruptWeightsError(
            f"{file} contradicts itself: {member.filename!r} of shape {header.shape} and dtype {dtype} needs "
            f"{header.data_bytes:,} bytes, the archive holds {member.file_size - header_bytes:,}; {AGAIN}"
        )
    return header


def _view(file: Path, data: AnyArray, member: zipfile.ZipInfo, header: Header) -> AnyArray:
    local = data[member.header_offset : member.header_offset + LOCAL_HEADER_BYTES].tobytes()
    # The local header repeats the name and may carry other extra fields than the directory at the end.
    name_bytes, extra_bytes = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
    begin = member.header_offset + LOCAL_HEADER_BYTES + name_bytes + extra_bytes + header.header_bytes
    raw = data[begin : begin + header.data_bytes]
    if raw.size != header.data_bytes:
        raise CorruptWeightsError(f"{file} is cut off inside {member.filename!r}; {AGAIN}")
    if begin % header.dtype.alignment:
        # A zip archive puts its members at any byte, and BLAS wants aligned numbers: these are read instead.
        raw = np.fromfile(file, dtype=np.uint8, count=header.data_bytes, offset=begin)
        raw.flags.writeable = False
    return _shaped(raw, header)


def _inflate(file: Path, name: str, header: Header) -> AnyArray:
    try:
        with zipfile.ZipFile(file) as archive:
            raw = archive.read(name)[header.header_bytes :]
    except DAMAGE as error:
        raise CorruptWeightsError(f"{file} holds a damaged array {name!r} ({error}); {AGAIN}") from error
    if len(raw) != header.data_bytes:
        raise CorruptWeightsError(f"{file} is cut off inside {name!r}; {AGAIN}")
    return _shaped(np.frombuffer(raw, dtype=np.uint8), header)


def _shaped(raw: AnyArray, header: Header) -> AnyArray:
    flat = raw.view(header.dtype)
    array = flat.reshape(header.shape[::-1]).transpose() if header.fortran_order else flat.reshape(header.shape)
    array = np.ascontiguousarray(array, dtype=header.dtype.newbyteorder("="))
    array = array if array.flags.aligned else array.copy()
    return as_float32(array, header.dtype.name)
