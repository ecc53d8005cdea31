"""Chinese-CLIP: pictures found by Chinese words; CLIP's image towers beside a Chinese BERT.

The weights are the safetensors conversions that the authors' repositories hold at these revisions. Two public projects
that pin the base model agree on its checksum; the revisions of the large ones come from one of them.
"""

from collections.abc import Iterator

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.models.text import TextConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.sources import HubSource
from vitseek.zoo.row import ZooRow

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # preprocessor_config.json of OFA-Sys/chinese-clip-*
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
PAPER = "https://arxiv.org/abs/2211.01335"
# RoBERTa-wwm-base, its vocabulary, and the numbers of [CLS], [SEP] and [PAD] in it.
ROBERTA = TextConfig(
    vocab_size=21_128,
    context_length=512,
    width=768,
    depth=12,
    num_heads=12,
    causal=False,
    norm_first=False,
    embed_norm=True,
    token_types=2,
    pooling="first",
    embedding_dim=512,
    norm_eps=1e-12,
    bos_token_id=101,
    eos_token_id=102,
    pad_token_id=0,
)


def rows() -> Iterator[ZooRow]:
    yield _row(
        "chinese-clip-vit-b16",
        "B/16",
        "vit_base",
        HubSource(
            repo="OFA-Sys/chinese-clip-vit-base-patch16",
            revision="f4a64596bbcf9a2a94591b74b9dc39b2e4e77e3e",
            sha256="29cc0b2bcf6ff777f2e15742be92b110e4acbdb2068356e862c4637a4b15fe4f",
        ),
        patch_size=16,
        embedding_dim=512,
    )
    yield _row(
        "chinese-clip-vit-l14",
        "L/14",
        "vit_large",
        HubSource(repo="OFA-Sys/chinese-clip-vit-large-patch14", revision="e84ea94303a56200300792613c510894a4c6f9f5"),
        patch_size=14,
        embedding_dim=768,
    )
    yield _row(
        "chinese-clip-vit-l14-336",
        "L/14@336",
        "vit_large",
        HubSource(
            repo="OFA-Sys/chinese-clip-vit-large-patch14-336px", revision="7543eecd94b8736b8ccc315153553905f31e6749"
        ),
        patch_size=14,
        size_px=336,
        embedding_dim=768,
    )


def _row(
    name: str, title: str, variant: str, source: HubSource, *, patch_size: int, embedding_dim: int, size_px: int = 224
) -> ZooRow:
    return ZooRow(
        name=name,
        title=f"Chinese-CLIP ViT-{title}",
        family="Chinese-CLIP",
        config=ViTConfig(
            **VARIANTS[variant],
            patch_size=patch_size,
            img_size=(size_px, size_px),
            patch_bias=False,
            pre_norm=True,
            norm_eps=1e-5,
            mlp_layer="quick-gelu",
            embedding_dim=embedding_dim,
        ),
        preprocessing=ImagePreprocessing(
            size_px=size_px,
            resize="exact",
            resize_px=size_px,
            interpolation="bicubic",
            mean=CLIP_MEAN,
            std=CLIP_STD,
            patch_size_px=patch_size,
        ),
        pooling="embedding",
        text=TextConfig.from_dict({**ROBERTA.to_dict(), "embedding_dim": embedding_dim}),
        tokenizer=HubSource(repo=source.repo, revision=source.revision, file="vocab.txt", extra_files=()),
        source=source,
        naming="transformers-chinese-clip",
        paper=PAPER,
        aliases=(source.repo,),
    )
