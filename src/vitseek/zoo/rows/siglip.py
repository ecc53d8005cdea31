"""SigLIP and SigLIP 2, the latter also at native resolution (NaFlex)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.models.text import TextConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.sources import HubSource
from vitseek.zoo.pictures import HALF
from vitseek.zoo.row import ZooRow

FIRST, SECOND = "https://arxiv.org/abs/2303.15343", "https://arxiv.org/abs/2502.14786"
PIECES, GEMMA = 32_000, 256_000  # vocabularies of SigLIP (sentencepiece) and SigLIP 2
CONTEXT = 64
NAFLEX_PATCHES = 256
VIT = {
    "base": dict(VARIANTS["vit_base"]),
    "large": dict(VARIANTS["vit_large"]),
    "so400m": {"embed_dim": 1152, "depth": 27, "num_heads": 16, "hidden_dim": 4304},
}


@dataclass(frozen=True)
class _Pin:
    revision: str | None = None
    sha256: str | None = None
    exact_bytes: int | None = None


# repository: size, patch, pictures in px (0: native resolution), what is known of its file
REPOSITORIES: dict[str, tuple[str, int, int, _Pin]] = {
    "siglip-base-patch16-224": ("base", 16, 224, _Pin(
        "7fd15f0689c79d79e38b1c2e2e2370a7bf2761ed",
        "2c63cb7d1f2e95ba501893cbb8faeb4ea9a3af295498d35097126228659c2af8",
        812_672_320,
    )),
    "siglip-large-patch16-256": ("large", 16, 256, _Pin()),
    "siglip-so400m-patch14-384": ("so400m", 14, 384, _Pin(
        "9fdffc58afc957d1a03a25b10dba0329ab15c2a3",
        "ea2abad2b7f8a9c1aa5e49a244d5d57ffa71c56f720c94bc5d240ef4d6e1d94a",
        3_511_950_624,
    )),
    "siglip2-base-patch16-224": ("base", 16, 224, _Pin(
        "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
        "612923381c76ec5a9bed335d1c48827e3f2e506ac31b044b63b2031fadee6a0b",
        1_500_800_904,
    )),
    "siglip2-large-patch16-256": ("large", 16, 256, _Pin()),
    "siglip2-so400m-patch14-384": ("so400m", 14, 384, _Pin(
        "e8e487298228002f3d8a82e0cd5c8ea9c567f57f",
        "9f4f4a49f908ef0c979bce8ff5a5c0e88882dc6c5dc4304387cbbd152558e2c2",
        4_544_143_072,
    )),
    "siglip2-base-patch16-naflex": ("base", 16, 0, _Pin()),
    "siglip2-so400m-patch16-naflex": ("so400m", 16, 0, _Pin()),
}  # fmt: skip


def rows() -> Iterator[ZooRow]:
    for repository, (size, patch, size_px, pin) in REPOSITORIES.items():
        second, native = repository.startswith("siglip2"), size_px == 0
        repo = f"google/{repository}"
        source = HubSource(repo=repo, revision=pin.revision, sha256=pin.sha256)
        yield ZooRow(
            name=f"siglip{'2' if second else ''}-{size}{'-naflex' if native else ''}",
            title=f"SigLIP {'2 ' if second else ''}{_called(size)}/{patch}, "
            f"{'native resolution' if native else f'{size_px} px'}",
            family="SigLIP 2" if second else "SigLIP",
            config=_config(size, patch, size_px),
            preprocessing=_pictures(patch, size_px, second=second),
            pooling="embedding",
            text=_text(size, second=second),
            tokenizer=replace(source, sha256=None, file="tokenizer.json", extra_files=()),
            source=source,
            naming="transformers-siglip2" if native else "transformers-siglip",
            paper=SECOND if second else FIRST,
            aliases=(repo, *_open_clip_names(size, patch, size_px, second=second)),
            exact_bytes=pin.exact_bytes,
        )


def _called(size: str) -> str:
    return "so400m" if size == "so400m" else f"ViT-{size[0].upper()}"


def _open_clip_names(size: str, patch: int, size_px: int, *, second: bool) -> tuple[str, ...]:
    """OpenCLIP's names of the same weights; it has no native resolution."""
    if not size_px:
        return ()
    model = f"ViT-{'SO400M' if size == 'so400m' else size[0].upper()}-{patch}-SigLIP{'2' if second else ''}"
    # OpenCLIP counts the pixels that fill patches.
    shown = "" if size_px == 224 else f"-{size_px if patch == 16 or not second else size_px // patch * patch}"
    return (f"{model}{shown}/webli",)


def _config(size: str, patch: int, size_px: int) -> ViTConfig:
    side = size_px // patch * patch or int(NAFLEX_PATCHES**0.5) * patch
    return ViTConfig(
        **VIT[size],
        patch_size=patch,
        img_size=(side, side),
        class_token=False,
        pos_resize="bicubic" if size_px else "bilinear-antialias",
        mlp_layer="gelu-tanh",
        attention_pool=True,
    )


def _text(size: str, *, second: bool) -> TextConfig:
    sizes = VIT[size]
    return TextConfig(
        vocab_size=GEMMA if second else PIECES,
        context_length=CONTEXT,
        width=sizes["embed_dim"],
        depth=sizes["depth"],
        num_heads=sizes["num_heads"],
        hidden_dim=sizes.get("hidden_dim"),
        mlp_layer="gelu-tanh",
        causal=False,
        pooling="last",
        embedding_dim=sizes["embed_dim"],
        projection_bias=True,
        norm_eps=1e-6,
        eos_token_id=1,
        pad_token_id=0 if second else 1,
        attend_padding=True,
        cleaning="lower" if second else "canonical",
    )


def _pictures(patch: int, size_px: int, *, second: bool) -> ImagePreprocessing:
    """google/siglip*: preprocessor_config.json. The first resizes bicubically, the second bilinearly."""
    if not size_px:
        return ImagePreprocessing(
            size_px=int(NAFLEX_PATCHES**0.5) * patch,
            resize="max-patches",
            max_patches=NAFLEX_PATCHES,
            interpolation="bilinear",
            mean=HALF,
            std=HALF,
            patch_size_px=patch,
        )
    whole = size_px // patch * patch
    return ImagePreprocessing(
        size_px=whole,
        resize="exact",
        resize_px=size_px,
        interpolation="bilinear" if second else "bicubic",
        mean=HALF,
        std=HALF,
        patch_size_px=patch,
        crop_rounding="floor" if whole == size_px else "corner",
    )
