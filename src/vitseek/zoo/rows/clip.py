"""CLIP: OpenAI's models, and OpenCLIP's trained on LAION-2B.

OpenAI's own repositories of B/32, B/16 and L/14@336 hold pickles only; timm's copies hold OpenCLIP's names as
safetensors, and the tokenizer is taken from OpenAI's repository.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.models.text import TextConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.sources import HubSource
from vitseek.zoo.pictures import HALF
from vitseek.zoo.row import ZooRow

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)  # openai/CLIP clip.py
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
NORM_EPS = 1e-5
VOCABULARY, CONTEXT = 49_408, 77
OPENAI_PAPER, OPENCLIP_PAPER = "https://arxiv.org/abs/2103.00020", "https://arxiv.org/abs/2212.07143"
OPEN_CLIP_FILE = "open_clip_model.safetensors"
OPEN_CLIP_CONFIG = ("open_clip_config.json",)
# One vocabulary for all: openai/clip-vit-base-patch32.
TOKENIZER = HubSource(
    repo="openai/clip-vit-base-patch32",
    revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    file="tokenizer.json",
    extra_files=(),
)


@dataclass(frozen=True)
class _Size:
    """A size of the family, and what it is called."""

    title: str
    variant: str
    patch_size: int
    size_px: int
    embedding_dim: int
    text_width: int


B32 = _Size("B/32", "vit_base", 32, 224, 512, 512)
B16 = _Size("B/16", "vit_base", 16, 224, 512, 512)
L14 = _Size("L/14", "vit_large", 14, 224, 768, 768)
L14_336 = _Size("L/14@336", "vit_large", 14, 336, 768, 768)


def rows() -> Iterator[ZooRow]:
    yield _openai(
        "clip-vit-b32",
        B32,
        "openai/clip-vit-base-patch32",
        HubSource(
            repo="timm/vit_base_patch32_clip_224.openai",
            revision="a6f597a30f7b82c51704746581f9a4e41421e878",
            sha256="e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
            file=OPEN_CLIP_FILE,
            extra_files=OPEN_CLIP_CONFIG,
        ),
        exact_bytes=605_143_284,
    )
    yield _openai(
        "clip-vit-b16",
        B16,
        "openai/clip-vit-base-patch16",
        HubSource(repo="timm/vit_base_patch16_clip_224.openai", file=OPEN_CLIP_FILE, extra_files=OPEN_CLIP_CONFIG),
    )
    yield _openai(
        "clip-vit-l14",
        L14,
        "openai/clip-vit-large-patch14",
        HubSource(
            repo="openai/clip-vit-large-patch14",
            revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
            sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
        ),
        naming="transformers-clip",
        exact_bytes=1_710_540_580,
    )
    yield _openai(
        "clip-vit-l14-336",
        L14_336,
        "openai/clip-vit-large-patch14-336",
        HubSource(
            repo="timm/vit_large_patch14_clip_336.openai",
            revision="81e38efc4637de5023b10e75a7f9bd1c6fa6b010",
            sha256="fbc415c3d0d7b79faed8f5ccfb740c32b7c4f5ffe7283b851f89c6231c01a8e0",
            file=OPEN_CLIP_FILE,
            extra_files=OPEN_CLIP_CONFIG,
        ),
        exact_bytes=1_711_828_444,
    )
    yield _open_clip(
        "openclip-vit-b32",
        B32,
        "laion2b_s34b_b79k",
        HubSource(
            repo="laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
            revision="1a25a446712ba5ee05982a381eed697ef9b435cf",
            sha256="ac4f8c4b88af6d963118cbf40ad93176d092abbedfcb752601ae1866352656e6",
            file=OPEN_CLIP_FILE,
            extra_files=OPEN_CLIP_CONFIG,
        ),
        exact_bytes=605_143_316,
    )
    yield _open_clip(
        "openclip-vit-b16",
        B16,
        "laion2b_s34b_b88k",
        HubSource(
            repo="laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
            revision="7288da5a0d6f0b51c4a2b27c624837a9236d0112",
            file=OPEN_CLIP_FILE,
            extra_files=OPEN_CLIP_CONFIG,
        ),
    )
    yield _open_clip(
        "openclip-vit-l14",
        L14,
        "laion2b_s32b_b82k",
        HubSource(
            repo="laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
            revision="1627032197142fbe2a7cfec626f4ced3ae60d07a",
            sha256="7d129ed747e0ed53e82dfcc140382b51be66b56e6a9bdc3258afd2846e3bb019",
            file="open_clip_pytorch_model.safetensors",
            extra_files=OPEN_CLIP_CONFIG,
        ),
        exact_bytes=1_710_517_748,
    )


def _openai(
    name: str,
    size: _Size,
    called: str,
    source: HubSource,
    *,
    naming: str = "open_clip",
    exact_bytes: int | None = None,
) -> ZooRow:
    model = size.title.replace("/", "-").replace("@", "-")
    return ZooRow(
        name=name,
        title=f"CLIP ViT-{size.title}, OpenAI",
        family="CLIP",
        config=_config(size, quick=True, pos_resize="bicubic"),
        preprocessing=_pictures(size, torchvision=False),
        pooling="embedding",
        text=_text(size, quick=True),
        tokenizer=TOKENIZER,
        source=source,
        naming=naming,
        licence="MIT",
        paper=OPENAI_PAPER,
        aliases=(called, f"ViT-{model}/openai", f"ViT-{model}-quickgelu/openai"),
        exact_bytes=exact_bytes,
    )


def _open_clip(name: str, size: _Size, trained: str, source: HubSource, *, exact_bytes: int | None = None) -> ZooRow:
    return ZooRow(
        name=name,
        title=f"OpenCLIP ViT-{size.title}, LAION-2B",
        family="CLIP",
        config=_config(size, quick=False, pos_resize="bicubic-antialias"),
        # open_clip/pretrained.py: L/14 was trained with Inception's mean and std.
        preprocessing=_pictures(size, torchvision=True, inception=size is L14),
        pooling="embedding",
        text=_text(size, quick=False),
        tokenizer=TOKENIZER,
        source=source,
        naming="open_clip",
        licence="MIT",
        paper=OPENCLIP_PAPER,
        aliases=(source.repo, f"ViT-{size.title.replace('/', '-')}/{trained}"),
        exact_bytes=exact_bytes,
    )


def _config(size: _Size, *, quick: bool, pos_resize: str) -> ViTConfig:
    return ViTConfig(
        **VARIANTS[size.variant],
        patch_size=size.patch_size,
        img_size=(size.size_px, size.size_px),
        patch_bias=False,
        pre_norm=True,
        pos_resize="bicubic" if pos_resize == "bicubic" else "bicubic-antialias",
        norm_eps=NORM_EPS,
        mlp_layer="quick-gelu" if quick else "gelu",
        embedding_dim=size.embedding_dim,
    )


def _text(size: _Size, *, quick: bool) -> TextConfig:
    return TextConfig(
        vocab_size=VOCABULARY,
        context_length=CONTEXT,
        width=size.text_width,
        depth=12,
        num_heads=size.text_width // 64,
        mlp_layer="quick-gelu" if quick else "gelu",
        pooling="eos",
        embedding_dim=size.embedding_dim,
        norm_eps=NORM_EPS,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=VOCABULARY - 1,
    )


def _pictures(size: _Size, *, torchvision: bool, inception: bool = False) -> ImagePreprocessing:
    """Short side and crop of one size, bicubic: preprocessor_config.json of openai/*, transform.py of open_clip."""
    return ImagePreprocessing(
        size_px=size.size_px,
        resize="shortest-edge",
        resize_px=size.size_px,
        interpolation="bicubic",
        mean=HALF if inception else OPENAI_MEAN,
        std=HALF if inception else OPENAI_STD,
        patch_size_px=size.patch_size,
        crop_rounding="half-even" if torchvision else "floor",
    )
