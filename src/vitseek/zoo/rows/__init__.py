"""The rows of the zoo, one file a family.

Revisions and checksums were collected from public lock files that agree with each other; a row without a checksum
trusts the hub's own and remembers what it saw first. docs/weights.md says which rows are which.
"""

from collections.abc import Iterator

from vitseek.zoo.row import ZooRow
from vitseek.zoo.rows import chinese_clip, clip, deit, dino, dinov2, dinov3, ijepa, mae, msn, siglip, swin, vit, vitseek

# In this order they are listed.
FILES = (vitseek, clip, siglip, chinese_clip, dinov3, dinov2, dino, mae, ijepa, msn, swin, vit, deit)


def rows() -> Iterator[ZooRow]:
    """All rows, the embedded model first."""
    for file in FILES:
        yield from file.rows()
