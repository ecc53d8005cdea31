"""The zoo's rows hold together, and names are found."""

import hashlib
import json
import re

import pytest

from vitseek.errors import UnknownModelError
from vitseek.models.config import ViTConfig
from vitseek.models.tokens import POOLINGS
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.families import NAMINGS
from vitseek.weights.sources import DATA
from vitseek.zoo import DEFAULT_MODEL, ZOO, Embedded, HubSource, ZooRow, find

PROMISED = [
    DEFAULT_MODEL,
    *(f"dinov2-{size}{registers}" for size in ("small", "base", "large", "giant") for registers in ("", "-reg")),
    *("dino-vits16", "dino-vits8", "dino-vitb16", "dino-vitb8"),
    *("vit-tiny", "vit-small", "vit-base", "vit-large", "vit-base-patch16-224"),
    *(f"deit-{size}{distilled}" for size in ("tiny", "small", "base") for distilled in ("", "-distilled")),
]
# Counted by their papers and model cards, in millions.
PUBLISHED = {
    "dinov2-small": 22.1, "dinov2-base": 86.6, "dinov2-large": 304, "dinov2-giant": 1136, "dino-vits16": 21.7,
    "dino-vitb8": 85.8, "vit-tiny": 5.7, "vit-small": 22.1, "vit-base": 86.6, "vit-large": 304.3, "deit-tiny": 5.7,
    "deit-tiny-distilled": 5.9, "deit-small-distilled": 22.4, "deit-base-distilled": 87.3,
}  # fmt: skip


def test_every_promised_model_is_there() -> None:
    assert sorted(ZOO) == sorted(PROMISED)


@pytest.mark.parametrize("row", ZOO.values(), ids=ZOO)
def test_a_row_holds_together(row: ZooRow) -> None:
    assert row.naming in NAMINGS
    assert row.pooling in POOLINGS
    assert row.licence == "Apache-2.0"
    assert row.preprocessing.policy == "official"
    assert row.preprocessing.patch_size_px == row.config.patch_size
    assert row.preprocessing.size_px % row.config.patch_size == 0
    assert ViTConfig.from_dict(row.config.to_dict()) == row.config
    assert ImagePreprocessing.from_dict(row.preprocessing.to_dict()) == row.preprocessing
    if isinstance(row.source, HubSource):
        assert row.source.file.endswith(".safetensors")
        assert re.fullmatch(r"[\w-]+/[\w.-]+", row.source.repo)
        assert row.source.revision is None or re.fullmatch("[0-9a-f]{40}", row.source.revision)
        assert row.source.sha256 is None or re.fullmatch("[0-9a-f]{64}", row.source.sha256)
        assert row.paper.startswith("https://arxiv.org/abs/")


@pytest.mark.parametrize(("name", "millions"), PUBLISHED.items(), ids=PUBLISHED)
def test_a_row_has_the_published_number_of_parameters(name: str, millions: float) -> None:
    assert ZOO[name].parameters / 1e6 == pytest.approx(millions, rel=0.005)


WEIGHED = [row for row in ZOO.values() if row.exact_bytes and isinstance(row.source, HubSource)]


@pytest.mark.parametrize("row", WEIGHED, ids=lambda row: row.name)
def test_the_size_to_the_byte_leaves_room_for_the_header_only(row: ZooRow) -> None:
    rest = row.size_bytes - 4 * row.parameters
    blocks = row.config.depth
    assert 1000 * blocks < rest < 4000 * blocks


def test_no_two_rows_share_a_source() -> None:
    assert len({row.source for row in ZOO.values()}) == len(ZOO)
    pins = [row.source.sha256 for row in ZOO.values() if row.source.sha256]
    assert len(set(pins)) == len(pins)


def test_a_name_is_found_however_it_is_capitalised() -> None:
    assert find("DINOv2-Base") is ZOO["dinov2-base"]


def test_an_unknown_name_lists_near_matches() -> None:
    with pytest.raises(UnknownModelError, match=r"no model called 'dinov2-bse'.*Did you mean dinov2-base or"):
        find("dinov2-bse")
    with pytest.raises(UnknownModelError, match="`vitseek models` lists them"):
        find("zzzzzz")


def test_the_embedded_model_is_what_its_description_says() -> None:
    row = ZOO[DEFAULT_MODEL]
    assert isinstance(row.source, Embedded)
    weights = DATA / row.source.file
    if not weights.is_file():
        pytest.skip(f"no embedded model yet: {weights} is missing")
    description = json.loads(weights.with_suffix(".json").read_bytes())
    assert row.source.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert row.config == ViTConfig.from_dict(description["config"])
    assert row.size_bytes == weights.stat().st_size
