"""Image and text towers that meet in one space: a caption lies near its image.

Paper: "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al., 2021). In a batch, each
image must find its caption among all captions and the other way round: the symmetric cross-entropy of the cosines,
divided by a learned temperature. With several processes the batch of all of them counts.

Command:

    vitseek train clip --data captions.csv --start vitseek-tiny --image-size 192 --image-lr-scale 0 --batch-size 300

``captions.csv`` has the columns ``image,caption``, one or several rows an image. The tokenizer's merges are learned
from the training captions, or read with ``--merges``. A start from pretrained image features is worth much: the paper
used 400 million pairs. With ``--image-lr-scale 0`` the image tower is locked, "LiT: Zero-Shot Transfer with
Locked-image text Tuning" (Zhai et al., 2022): its features of a few crops of every image are computed once.

Cost and result: ViT-Ti at 224 px, locked, on 900 photos with 4,500 captions (Flickr8k), 60 epochs: 8.5 minutes on two
busy CPU cores; recall@10 on 100 held-out photos 0.81 from image to text and 0.76 from text to image (by chance 0.10).
docs/training.md has the command, and what else was tried.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from vitseek.errors import ConfigError, UsageError
from vitseek.models.text import TextConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.train import augment
from vitseek.train import tokenizer as tokenizers
from vitseek.train.bridge import HALF, configured, load_start, to_runtime
from vitseek.train.data import Augmented, Batch, Key, Pictures, Sample, Still, View, preprocessing_for
from vitseek.train.groups import parameter_groups
from vitseek.train.images import data_of, decoded
from vitseek.train.options import ClipOptions
from vitseek.train.sources import ImageList, hold_out_indices, read_captions
from vitseek.train.task import Card, Clock, Reporter, Task
from vitseek.train.team import Team
from vitseek.train.text import TextTower
from vitseek.train.vit import VisionTransformer

HIGHEST_SCALE = math.log(100)  # of the paper: a temperature of 0.01
RECALLS = (1, 5, 10)
BEST = "mean_recall"  # of all six: one of them alone is soon 1 on few photos, and the first epoch there would be kept
TOKENIZER = "tokenizer.json"
LOCKED_BATCH = 32  # images a pass of a locked tower


class Clip(nn.Module):
    """Two towers, two projections, one temperature; outside ``image.`` the names are the runtime's."""

    def __init__(self, image: VisionTransformer, text: TextTower, temperature: float) -> None:
        super().__init__()
        self.image, self.text = image, text
        width = image.config.embed_dim
        self.projection = nn.Linear(width, text.config.embedding_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, images: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit embeddings of images and texts, (B, E) each, and the inverse temperature.

        Parameters
        ----------
        images : shape (B, 3, height, width), or (B, D)
            Pixels; or the trunk's features of them, where it is locked and they were computed before.
        numbers : shape (B, N)
            Token numbers.
        """
        return self.see(images), self.read(numbers), self.logit_scale.exp()

    def see(self, images: Tensor) -> Tensor:
        """Unit embeddings of images, or of the trunk's features of them."""
        features = images if images.ndim == 2 else self.image.features(images)
        return functional.normalize(self.projection(features).float(), dim=1)

    def read(self, numbers: Tensor) -> Tensor:
        """Unit embeddings of texts."""
        return functional.normalize(self.text(numbers).float(), dim=1)


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy of (B, B) scaled cosines against the diagonal."""
    logits = scale * images @ texts.T
    truth = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth)) / 2


def recalls(images: Tensor, texts: Tensor, image_of_text: Tensor) -> dict[str, float]:
    """Part of the queries with a right answer among the first k, both ways, and the mean of all these.

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
    return {**scores_of_image, BEST: sum(scores_of_image.values()) / len(scores_of_image)}


def build(options: ClipOptions, team: Team, reporter: Reporter) -> Task:
    """Prepare a run; see :class:`vitseek.train.task.Task`."""
    source = data_of(options, team, reporter)
    captions = source / "captions.csv" if options.smoke_pictures else source
    found = read_captions(captions, options.images)
    name = options.start
    start = team.in_turn(lambda: load_start(name)) if name else None
    if start and start.reads_text and team.leads:
        reporter.note(f"the image tower starts from {name}; its text tower is left behind, and a new one learned")
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
    end = tokenizers.end_of(tokenizer)
    try:
        text = TextTower(
            TextConfig(
                vocab_size=tokenizer.get_vocab_size(), context_length=options.context, width=options.text_width,
                depth=options.text_depth, num_heads=options.text_heads, embedding_dim=options.projection,
                bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
            ),
            dropout=options.text_dropout,
        )  # fmt: skip
    except (ConfigError, ValueError) as error:
        raise UsageError(f"the text tower does not hold together: {error}") from error
    module = Clip(image, text, options.temperature)
    rows = [tokenizers.rows(tokenizer, texts, options.context) for texts in train.captions]
    measured = _Measured(held, tokenizer, preprocessing, options.context, locked=options.locked)
    if team.leads:
        pairs = sum(map(len, train.captions))
        reporter.note(
            f"{len(train)} training images with {pairs} captions, {len(held)} held out with "
            f"{len(measured.numbers)}; {tokenizer.get_vocab_size()} tokens"
        )

    def view(picture: Image.Image, rng: np.random.Generator) -> Sample:
        picture = augment.random_resized_crop(
            picture, options.image_size, rng, scale=(options.min_scale, 1.0)
        )  # no flips: captions tell left from right
        return {"pixels": augment.to_tensor(picture, preprocessing.mean, preprocessing.std)}

    def caption(index: int, rng: np.random.Generator) -> Sample:
        return {"numbers": torch.tensor(rows[index][rng.integers(len(rows[index]))])}

    data: Dataset[Sample]
    if options.locked:
        image.requires_grad_(False).eval()
        seen = _features(image, pictures.subset(kept), view, options, team, reporter)
        data = Remembered(seen, caption, seed=options.seed)
    else:
        data = Augmented(pictures.subset(kept), view, seed=options.seed, more=caption)

    def step(model: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        images, texts, scale = model(batch["pixels"], batch["numbers"])
        return {"loss": contrastive_loss(team.gather(images), team.gather(texts), scale), "temperature": 1 / scale}

    def cool(bare: nn.Module, clock: Clock) -> None:
        assert isinstance(bare, Clip)
        with torch.no_grad():
            bare.logit_scale.clamp_(max=HIGHEST_SCALE)

    def rate(name: str) -> float:
        return options.image_lr_scale if name.startswith("image.") else 1.0

    config = dataclasses.replace(to_runtime(image.config), embedding_dim=options.projection)
    return Task(
        recipe="clip",
        options=options,
        module=module,
        card=Card(
            config.to_dict(), preprocessing.to_dict(), pooling="embedding", prefix="image.",
            text=text.config.to_dict(), tokenizer=TOKENIZER,
        ),
        data=data,
        fingerprint=train.fingerprint(),
        step=step,
        evaluate=lambda bare: measured(bare, team),
        after_update=cool,
        groups=parameter_groups(module, options.weight_decay, lr_scale=rate),
        best=BEST,
        betas=(0.9, 0.98),  # of the paper, for Vision Transformers
    )  # fmt: skip


class Remembered(Dataset[Sample]):
    """What a locked trunk saw in several crops of every image: item ``(epoch, index)`` is one of them, always the same.

    Parameters
    ----------
    features : shape (views, images, D)
    more
        What goes with an image, drawn anew each time: its caption.
    """

    def __init__(self, features: Tensor, more: Callable[[int, np.random.Generator], Sample], *, seed: int) -> None:
        self.features, self.more, self.seed = features, more, seed

    def __len__(self) -> int:
        return self.features.shape[1]

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        return {"pixels": self.features[rng.integers(len(self.features)), index], **self.more(index, rng)}


@torch.no_grad()
def _features(
    image: VisionTransformer, pictures: Pictures, view: View, options: ClipOptions, team: Team, reporter: Reporter
) -> Tensor:
    """The trunk's features of ``--views`` crops of every image, (views, images, D); each process computes them all."""
    crops = Augmented(pictures, view, seed=options.seed)
    image.to(team.device)
    seen = torch.empty(options.views, len(pictures), image.config.embed_dim)
    for number in range(options.views):
        for start in range(0, len(pictures), LOCKED_BATCH):
            chosen = range(start, min(start + LOCKED_BATCH, len(pictures)))
            pixels = torch.stack([crops[number, index]["pixels"] for index in chosen])
            seen[number, start : chosen.stop] = image.features(pixels.to(team.device)).cpu()
            if team.leads:
                done = number * len(pictures) + chosen.stop
                reporter.progress("features of the locked tower", done, options.views * len(pictures))
    return seen


class _Measured:
    """Held-out images with all their captions; what a locked trunk sees in them is computed once."""

    def __init__(
        self, held: ImageList, tokenizer: Tokenizer, preprocessing: ImagePreprocessing, context: int, *, locked: bool
    ) -> None:
        self.still = Still(held, preprocessing)
        texts = [(number, text) for number, captions in enumerate(held.captions) for text in captions]
        self.image_of_text = torch.tensor([number for number, _ in texts])
        self.numbers = torch.tensor(tokenizers.rows(tokenizer, [text for _, text in texts], context))
        self.locked = locked
        self._seen: list[Tensor] = []

    def __call__(self, bare: nn.Module, team: Team) -> dict[str, float]:
        assert isinstance(bare, Clip)
        seen = self._seen or [bare.image.features(pixels) for pixels, _ in self.still.batches(64, team.device)]
        if self.locked:
            self._seen = seen
        images = torch.cat([bare.see(features) for features in seen])
        texts = torch.cat([bare.read(part.to(team.device)) for part in self.numbers.split(256)])
        return recalls(images, texts, self.image_of_text.to(team.device))


def _tokenizer(options: ClipOptions, train: ImageList, team: Team, reporter: Reporter) -> Tokenizer:
    """The run's tokenizer: the one in its folder, the one that was given, or one learned from the captions."""
    path = options.out / TOKENIZER

    def settle() -> Tokenizer:
        if (options.out / "last.pt").is_file() and path.is_file():
            return tokenizers.read(path)  # of the run that is resumed
        if options.merges is not None:
            tokenizer = tokenizers.read(options.merges)
        elif team.leads:
            tokenizer = tokenizers.learn((text for texts in train.captions for text in texts), options.vocabulary)
        else:
            return tokenizers.read(path)
        if team.leads:
            Path(options.out).mkdir(parents=True, exist_ok=True)
            tokenizer.save(str(path))
        return tokenizer

    tokenizer: Tokenizer = team.in_turn(settle)
    return tokenizer
