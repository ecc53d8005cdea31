"""The zoo's rows hold together, and names are found."""

import hashlib
import json
import re

import pytest

from vitseek.errors import UnknownModelError
from vitseek.models.architectures import config_from_dict
from vitseek.models.config import ViTConfig
from vitseek.models.text import TextConfig
from vitseek.models.tokens import POOLINGS, pooled_dim
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
    *("clip-vit-b32", "clip-vit-b16", "clip-vit-l14", "clip-vit-l14-336"),
    *("openclip-vit-b32", "openclip-vit-b16", "openclip-vit-l14"),
    *(f"siglip{second}-{size}" for second in ("", "2") for size in ("base", "large", "so400m")),
    *("siglip2-base-naflex", "siglip2-so400m-naflex"),
    *(f"dinov3-{size}" for size in ("small", "small-plus", "base", "large", "huge-plus")),
    *("mae-base", "mae-large", "mae-huge"),
    *("ijepa-huge", "ijepa-huge-22k", "ijepa-huge-448", "ijepa-giant-22k"),
    "msn-large-7",
    *("swin-tiny", "swin-small"),
    *(f"swin-{size}{kind}" for size in ("base", "large") for kind in ("", "-384", "-22k")),
]
READ_WORDS = {name for name in PROMISED if name.startswith(("clip", "openclip", "siglip"))}
LICENCES = {"Apache-2.0", "MIT", "DINOv3 License", "CC-BY-NC-4.0"}
# Counted by their papers and model cards, in millions.
PUBLISHED = {
    "dinov2-small": 22.1, "dinov2-base": 86.6, "dinov2-large": 304, "dinov2-giant": 1136, "dino-vits16": 21.7,
    "dino-vitb8": 85.8, "vit-tiny": 5.7, "vit-small": 22.1, "vit-base": 86.6, "vit-large": 304.3, "deit-tiny": 5.7,
    "deit-tiny-distilled": 5.9, "deit-small-distilled": 22.4, "deit-base-distilled": 87.3,
    "clip-vit-b32": 151.3, "clip-vit-b16": 149.6, "clip-vit-l14": 427.6, "clip-vit-l14-336": 427.9,
    "siglip-base": 203.2, "siglip-large": 652.2, "siglip-so400m": 878.0, "siglip2-base": 375.2, "siglip2-large": 881.5,
    "siglip2-so400m": 1136.0, "dinov3-small": 21.6, "dinov3-small-plus": 28.7, "dinov3-base": 85.7,
    "dinov3-large": 303, "dinov3-huge-plus": 840.6, "mae-base": 85.8, "mae-large": 303.3, "mae-huge": 630.8,
    "swin-tiny": 28.3, "swin-small": 49.6, "swin-base": 87.8, "swin-large-384": 196.7, "swin-base-22k": 109,
    "swin-large-22k": 229,
}  # fmt: skip


def test_every_promised_model_is_there() -> None:
    assert set(PROMISED) <= set(ZOO)
    assert len(set(PROMISED)) == len(PROMISED)


def test_the_rows_that_read_words_say_so_and_have_a_tokenizer() -> None:
    assert {row.name for row in ZOO.values() if row.text} >= READ_WORDS
    for row in ZOO.values():
        assert (row.text is None) == (row.tokenizer is None), row.name


@pytest.mark.parametrize("row", [row for row in ZOO.values() if row.text], ids=lambda row: row.name)
def test_both_towers_of_a_row_end_in_the_same_space(row: ZooRow) -> None:
    assert row.pooling == "embedding"
    assert row.text is not None
    assert pooled_dim(row.config, row.pooling) == row.text.output_dim
    assert TextConfig.from_dict(row.text.to_dict()) == row.text
    assert row.tokenizer is not None
    assert row.tokenizer.file == ("vocab.txt" if row.family == "Chinese-CLIP" else "tokenizer.json")


def test_gated_rows_name_the_licence_that_must_be_accepted() -> None:
    gated = {row.name: row for row in ZOO.values() if isinstance(row.source, HubSource) and row.source.gated}
    assert set(gated) == {name for name in PROMISED if name.startswith("dinov3")}
    assert all(row.source.gated == row.licence for row in gated.values())


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("ViT-B-32/openai", "clip-vit-b32"),
        ("openai/clip-vit-large-patch14", "clip-vit-l14"),
        ("vit-b-32/LAION2B_s34b_b79k", "openclip-vit-b32"),
        ("laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "openclip-vit-l14"),
        ("ViT-SO400M-14-SigLIP-384/webli", "siglip-so400m"),
        ("google/siglip2-base-patch16-naflex", "siglip2-base-naflex"),
        ("facebook/dinov3-vitb16-pretrain-lvd1689m", "dinov3-base"),
    ],
)
def test_a_model_is_found_by_what_others_call_it(alias: str, name: str) -> None:
    assert find(alias) is ZOO[name]


def test_no_two_rows_answer_to_one_name() -> None:
    names = [name.lower() for row in ZOO.values() for name in (row.name, *row.aliases)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", ZOO.values(), ids=ZOO)
def test_a_row_holds_together(row: ZooRow) -> None:
    assert row.naming in NAMINGS or (row.naming is None and row.family == "Swin")
    assert row.pooling in POOLINGS
    assert row.licence in LICENCES
    assert row.preprocessing.policy == "official"
    # Swin's pictures may have any size; multiples of a token of the last stage need no padding there.
    token_px = 32 if row.family == "Swin" else row.config.patch_size
    assert row.preprocessing.patch_size_px == token_px
    assert row.preprocessing.size_px % token_px == 0
    assert config_from_dict(row.config.to_dict()) == row.config
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
    count = row.parameters
    assert isinstance(row.config, ViTConfig)
    if row.config.pos_embed == "rope":  # DINOv3's files lack the key's bias, and have a mask token
        count -= row.config.embed_dim * (row.config.depth - 1)
    rest = row.size_bytes - 4 * count
    blocks = row.config.depth + (row.text.depth if row.text else 0)
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
