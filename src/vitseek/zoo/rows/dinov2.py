"""DINOv2, with and without registers."""

from collections.abc import Iterator
from dataclasses import replace

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.weights.sources import HubSource
from vitseek.zoo.pictures import DINOV2_PICTURES
from vitseek.zoo.row import ZooRow

# repository suffix: revision, sha256, bytes
DINOV2 = {
    "small": (
        "ed25f3a31f01632728cabb09d1542f84ab7b0056",
        "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
        88_249_960,
    ),
    "base": (
        "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
        "d73036b56966966d07975d696bde331762f37297e2f095de8cea0040c3aa0841",
        346_345_912,
    ),
    "large": (
        "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
        "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23",
        1_217_522_888,
    ),
    "giant": (
        "611a9d42f2335e0f921f1e313ad3c1b7178d206d",
        "917d3c470db999d32a312f8542149be91c7cbac61ee8fb4b67ae3d82b79ce21f",
        4_546_005_432,
    ),
}
DINOV2_REGISTERS: dict[str, tuple[str, str | None, int | None]] = {
    "small": ("0d9846e56b43a21fa46d7f3f5070f0506a5795a9", None, None),
    "base": (
        "a1d738ccfa7ae170945f210395d99dde8adb1805",
        "7a6f7b3b9fa4b8732e707476a03cd6cdce210048582f21aafb7991c17d98e362",
        None,
    ),
    "large": ("e4c89a4e05589de9b3e188688a303d0f3c04d0f3", None, None),
    "giant": (
        "8d0d49f77fb8b5dd78842496ff14afe7dd4d85cb",
        "c03832d44691e99b62ae28c4dfa2f134853a3614b3756c94f525109cce5a5051",
        4_546_030_112,
    ),
}


def rows() -> Iterator[ZooRow]:
    for size, (revision, sha256, exact_bytes) in DINOV2.items():
        config = ViTConfig(**VARIANTS[f"vit_{size}"], patch_size=14, img_size=(518, 518), layer_scale=True)
        row = ZooRow(
            name=f"dinov2-{size}",
            title=f"DINOv2 ViT-{'g' if size == 'giant' else size[0].upper()}/14",
            family="DINOv2",
            config=config,
            preprocessing=DINOV2_PICTURES,
            source=HubSource(repo=f"facebook/dinov2-{size}", revision=revision, sha256=sha256),
            naming="transformers-dinov2",
            paper="https://arxiv.org/abs/2304.07193",
            exact_bytes=exact_bytes,
        )
        yield row
        reg_revision, reg_sha256, reg_bytes = DINOV2_REGISTERS[size]
        yield replace(
            row,
            name=f"dinov2-{size}-reg",
            title=f"{row.title} with 4 registers",
            config=replace(config, num_registers=4, pos_resize="bicubic-antialias"),
            source=HubSource(repo=f"facebook/dinov2-with-registers-{size}", revision=reg_revision, sha256=reg_sha256),
            paper="https://arxiv.org/abs/2309.16588",
            exact_bytes=reg_bytes,
        )
