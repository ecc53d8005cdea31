"""The header of a cache file: JSON behind its own checksum, padded to one page, so that rows after it are aligned."""

import json
import zlib
from typing import Any

HEADER_BYTES = 4096


def seal(header: dict[str, Any]) -> bytes:
    """A header as :data:`HEADER_BYTES` bytes; ValueError if it does not fit."""
    text = json.dumps(header).encode()
    body = f"{zlib.crc32(text):08x} ".encode() + text
    if len(body) > HEADER_BYTES:
        raise ValueError(f"the header takes {len(body)} bytes, more than {HEADER_BYTES}")
    return body.ljust(HEADER_BYTES, b" ")


def unseal(sealed: bytes, *, magic: str) -> dict[str, Any]:
    """The header back; ValueError if it is damaged, or of another format than ``magic``."""
    text = sealed[9:].rstrip(b" ")
    if len(sealed) != HEADER_BYTES or int(sealed[:8], 16) != zlib.crc32(text):
        raise ValueError("the header is damaged")
    header: dict[str, Any] = json.loads(text)
    if header.get("magic") != magic:
        raise ValueError("another format")
    return header
