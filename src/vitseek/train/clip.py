"""Image and text towers that meet in one space: a caption lies near its image.

Paper: "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al., 2021). In a batch, each
image must find its caption among all captions and the other way round: the symmetric cross-entropy of the cosines,
divided by a learned temperature. With several processes the batch of all of them counts.

Command:

    vitseek train clip --data captions.csv --start vitseek-tiny --image-lr-scale 0.1 --epochs 30

``captions.csv`` has the columns ``image,caption``, one or several rows an image. The tokenizer's merges are learned
from the training captions, or read with ``--merges``. A start from pretrained image features is worth much: the paper
used 400 million pairs.

Cost and result: ViT-Ti at 96 px on 900 photos with 4,500 captions (Flickr8k), 12 epochs: about 25 minutes on two busy
CPU cores; recall@10 on 100 held-out photos 0.46 from image to text and 0.47 from text to image (by chance 0.10).
docs/training.md has the command.
"""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from vitseek.errors import UsageError
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.train import augment, bpe
from vitseek.train.bridge import HALF, configured, load_start, to_runtime
from vitseek.train.data import Augmented, Batch, Sample, Still, preprocessing_for
from vitseek.train.groups import parameter_groups
from vitseek.train.images import data_of, decoded
from vitseek.train.options import ClipOptions
from vitseek.train.sources import ImageList, hold_out_indices, read_captions
from vitseek.train.task import Card, Clock, Reporter, Task
from vitseek.train.team import Team
from vitseek.train.text import TextConfig, TextTower
from vitseek.train.vit import VisionTransformer

HIGHEST_SCALE = math.log(100)  # of the paper: a temperature of 0.01
RECALLS = (1, 5, 10)
TOKENIZER = "tokenizer.json"


class Clip(nn.Module):
    """Two towers, two projections, one temperature."""

    def __init__(self, image: VisionTransformer, text: TextTower, projection: int, temperature: float) -> None:
        super().__init__()
        self.image, self.text = image, text
        self.image_projection = nn.Linear(image.config.embed_dim, projection, bias=False)
        self.text_projection = nn.Linear(text.config.width, projection, bias=False)
        for layer in (self.image_projection, self.text_projection):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, pixels: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit features of images and texts, (B, projection) each, and the inverse temperature."""
        return self.see(pixels), self.read(numbers), self.logit_scale.clamp(max=HIGHEST_SCALE).exp()

    def see(self, pixels: Tensor) -> Tensor:
        """Unit features of images."""
        return functional.normalize(self.image_projection(self.image.features(pixels)).float(), dim=1)

    def read(self, numbers: Tensor) -> Tensor:
        """Unit features of texts."""
        return functional.normalize(self.text_projection(self.text(numbers)).float(), dim=1)


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy of (B, B) scaled cosines against the diagonal."""
    logits = scale * images @ texts.T
    truth = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth)) / 2


def recalls(images: Tensor, texts: Tensor, image_of_text: Tensor) -> dict[str, float]:
    """Part of the queries with a right answer among the first k, both ways.

    Parameters
    ----------
    images, texts : shapes (n, D) and (m, D), unit rows
    image_of_text : shape (m,)
        Row of the image that a text belongs to; an image may have several texts, any of which is right.
    """
    scores = texts @ images.T  # (m, n)
    scores_of_image: dict[str, float] = {}
    right = image_of_text[:, None] == torch.arange(len(images), device=images.device)[None]  # (m, n)
    for name, matrix, truth in (("image_to_text", scores.T, right.T), ("text_to_image", scores, right)):
        order = matrix.argsort(dim=1, descending=True, stable=True)
        hits = truth.gather(1, order)
        for k in RECALLS:
            scores_of_image[f"{name}_recall@{k}"] = float(hits[:, :k].any(dim=1).float().mean())
    return scores_of_image


def build(options: ClipOptions, team: Team, reporter: Reporter) -> Task:
    """Prepare a run; see :class:`vitseek.train.task.Task`."""
    source = data_of(options, team, reporter)
    captions = source / "captions.csv" if options.smoke_pictures else source
    found = read_captions(captions, options.images)
    name = options.start
    start = team.in_turn(lambda: load_start(name)) if name else None
    if start:
        preprocessing, patch = start.preprocessing, start.config.patch_size
        if options.image_size != preprocessing.size_px:
            preprocessing = preprocessing_for(options.image_size, preprocessing.mean, preprocessing.std, patch)
    else:
        preprocessing = preprocessing_for(options.image_size, HALF, HALF, configured(options).patch_size)
    every, pictures = decoded(
        found, captions, options, team, reporter, size_px=options.image_size, min_scale=options.min_scale
    )
    kept, away = hold_out_indices(every, options.holdout, options.seed)
    train, held = every.subset(kept), every.subset(away)
    tokenizer = _tokenizer(options, train, team, reporter)
    torch.manual_seed(options.seed)
    image = (
        start.module(image_size=options.image_size, num_classes=0, drop_path=options.drop_path)
        if start
        else VisionTransformer(configured(options))
    )
    try:
        text = TextTower(
            TextConfig(
                vocabulary=len(tokenizer), context=options.context, width=options.text_width,
                depth=options.text_depth, num_heads=options.text_heads,
            )
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(f"the text tower does not hold together: {error}") from error
    module = Clip(image, text, options.projection, options.temperature)
    rows = [tokenizer(texts, options.context) for texts in train.captions]
    measured = _Measured(held, tokenizer, preprocessing, options.context)
    if team.leads:
        pairs = sum(map(len, train.captions))
        reporter.note(
            f"{len(train)} training images with {pairs} captions, {len(held)} held out with "
            f"{len(measured.numbers)}; {len(tokenizer)} tokens"
        )

    def view(picture: Image.Image, rng: np.random.Generator) -> Sample:
        picture = augment.random_resized_crop(
            picture, options.image_size, rng, scale=(options.min_scale, 1.0)
        )  # no flips: captions tell left from right
        return {"pixels": augment.to_tensor(picture, preprocessing.mean, preprocessing.std)}

    def caption(index: int, rng: np.random.Generator) -> Sample:
        return {"numbers": torch.tensor(rows[index][rng.integers(len(rows[index]))])}

    def step(model: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        images, texts, scale = model(batch["pixels"], batch["numbers"])
        return {"loss": contrastive_loss(team.gather(images), team.gather(texts), scale), "temperature": 1 / scale}

    def rate(name: str) -> float:
        return options.image_lr_scale if name.startswith("image.") else 1.0

    config = to_runtime(image.config)
    return Task(
        recipe="clip",
        options=options,
        module=module,
        card=Card(
            config.to_dict(), preprocessing.to_dict(), prefix="image.", parts={"towers": ""},
            notes={
                "projection": options.projection,
                "text": {**vars(text.config), "norm_eps": 1e-5, "pooling": "end token"},
                "files": [TOKENIZER],
            },
        ),
        data=Augmented(pictures.subset(kept), view, seed=options.seed, more=caption),
        fingerprint=train.fingerprint(),
        step=step,
        evaluate=lambda bare: measured(bare, team),
        groups=parameter_groups(module, options.weight_decay, lr_scale=rate),
        best="text_to_image_recall@10",
        betas=(0.9, 0.98),  # of the paper, for Vision Transformers
    )  # fmt: skip


class _Measured:
    """Held-out images with all their captions."""

    def __init__(
        self, held: ImageList, tokenizer: bpe.Tokenizer, preprocessing: ImagePreprocessing, context: int
    ) -> None:
        self.still = Still(held, preprocessing)
        texts = [(number, text) for number, captions in enumerate(held.captions) for text in captions]
        self.image_of_text = torch.tensor([number for number, _ in texts])
        self.numbers = torch.tensor(tokenizer([text for _, text in texts], context))

    def __call__(self, bare: nn.Module, team: Team) -> dict[str, float]:
        assert isinstance(bare, Clip)
        images = torch.cat([bare.see(pixels) for pixels, _ in self.still.batches(64, team.device)])
        texts = torch.cat([bare.read(part.to(team.device)) for part in self.numbers.split(256)])
        return recalls(images, texts, self.image_of_text.to(team.device))


def _tokenizer(options: ClipOptions, train: ImageList, team: Team, reporter: Reporter) -> bpe.Tokenizer:
    """The run's tokenizer: the one in its folder, the one that was given, or one learned from the captions."""
    path = options.out / TOKENIZER

    def settle() -> bpe.Tokenizer:
        if (options.out / "last.pt").is_file() and path.is_file():
            return bpe.read(path)  # of the run that is resumed
        if options.merges is not None:
            tokenizer = bpe.read(options.merges)
        elif team.leads:
            tokenizer = bpe.learn((text for texts in train.captions for text in texts), options.vocabulary)
        else:
            return bpe.read(path)
        if team.leads:
            Path(options.out).mkdir(parents=True, exist_ok=True)
            tokenizer.save(path)
        return tokenizer

    tokenizer: bpe.Tokenizer = team.in_turn(settle)
    return tokenizer
