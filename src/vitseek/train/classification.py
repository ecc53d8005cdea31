"""What the three classifiers share: labelled images, their random views, a mixed loss, accuracy."""

import dataclasses

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from vitseek.preprocess.image import ImagePreprocessing
from vitseek.train import augment
from vitseek.train.data import Augmented, Batch, Sample, Still
from vitseek.train.images import data_of, decoded
from vitseek.train.options import LabelledOptions, RunOptions
from vitseek.train.sources import check_every_class_has_images, hold_out_indices, read_labelled
from vitseek.train.task import Clock, Reporter
from vitseek.train.team import Team

JITTER = 0.3  # brightness, contrast and saturation where there is no RandAugment; DeiT's value
MIXING, EVALUATION_BATCH = 1, 64  # purpose of a step's generator; images a batch when nothing is learned


@dataclasses.dataclass
class Labelled:
    """Training samples, validation images and the classes of both."""

    data: Augmented
    validation: Still
    classes: tuple[str, ...]
    fingerprint: str
    mix: augment.Mix


def labelled(
    options: RunOptions, rules: LabelledOptions, preprocessing: ImagePreprocessing, team: Team, reporter: Reporter
) -> Labelled:
    """Read training and validation images.

    Raises
    ------
    TrainingError
        See :mod:`vitseek.train.sources`.
    """
    source = data_of(options, team, reporter)
    size = preprocessing.size_px
    train, pictures = decoded(
        read_labelled(source), source, options, team, reporter, size_px=size, min_scale=rules.min_scale
    )
    if rules.validation is None:
        kept, away = hold_out_indices(train, rules.holdout, options.seed)
        held, train, pictures = train.subset(away), train.subset(kept), pictures.subset(kept)
    else:
        found = read_labelled(rules.validation, classes=train.classes)
        held, _ = decoded(found, rules.validation, options, team, reporter, size_px=1, min_scale=1.0)
        check_every_class_has_images(held, rules.validation)
    if team.leads:
        reporter.note(f"{len(train)} training and {len(held)} validation images of {len(train.classes)} classes")
    data = Augmented(pictures, View(rules, preprocessing), seed=options.seed, labels=train.labels)
    mix = augment.Mix(rules.mixup, rules.cutmix, len(train.classes), rules.label_smoothing)
    return Labelled(data, Still(held, preprocessing), train.classes, train.fingerprint(), mix)


@dataclasses.dataclass(frozen=True)
class View:
    """A random crop of an image, flipped, recoloured and partly erased, as pixels."""

    rules: LabelledOptions
    preprocessing: ImagePreprocessing

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Sample:
        """Return ``{"pixels": (3, height, width)}``."""
        rules, how = self.rules, self.preprocessing
        image = augment.random_resized_crop(image, how.size_px, rng, scale=(rules.min_scale, 1.0))
        image = augment.random_flip(image, rng)
        if rules.randaugment:
            image = augment.rand_augment(image, rng, operations=rules.randaugment, magnitude=rules.magnitude)
        else:
            image = augment.color_jitter(image, rng, brightness=JITTER, contrast=JITTER, saturation=JITTER, hue=0.0)
        pixels = augment.to_tensor(image, how.mean, how.std)
        return {"pixels": augment.random_erasing(pixels, rng, rules.erasing)}


def mixed(batch: Batch, mix: augment.Mix, clock: Clock) -> tuple[Tensor, Tensor]:
    """Pixels and probabilities of a batch after mixup or CutMix."""
    return mix(batch["pixels"], batch["label"], clock.rng(MIXING))


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy against probabilities (B, classes), in float32."""
    return functional.cross_entropy(logits.float(), targets)


def accuracy(module: nn.Module, validation: Still, team: Team) -> dict[str, float]:
    """Loss and top-1 accuracy on held-out images, top-5 with enough classes; processes share the batches."""
    totals = torch.zeros(4, dtype=torch.float64, device=team.device if team.device.type != "mps" else "cpu")
    classes = 0
    for number, (pixels, labels) in enumerate(validation.batches(EVALUATION_BATCH, team.device)):
        if number % team.size != team.rank:
            continue
        logits = module(pixels).float()
        classes = logits.shape[1]
        ranked = logits.topk(min(5, classes), dim=1).indices == labels[:, None]
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        counts = (loss, ranked[:, 0].sum(), ranked.any(dim=1).sum(), torch.tensor(len(labels)))
        totals += torch.stack([count.to(totals) for count in counts])
    loss, first, five, count = team.sum(totals).tolist()
    scores = {"val_loss": loss / count, "val_accuracy": first / count}
    return scores | ({"val_top5_accuracy": five / count} if classes > 5 else {})
