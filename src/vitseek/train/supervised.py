"""A classifier from random weights.

Paper: "An Image is Worth 16x16 Words" (Dosovitskiy et al., 2021), with the training of DeiT (Touvron et al., 2021):
RandAugment, random erasing, mixup and CutMix, label smoothing, stochastic depth, AdamW, warm-up and cosine.

Command:

    vitseek train supervised --data photos/train --validation photos/validation --model small --epochs 300

Cost and result: 6 blocks of width 96 at 48 px on 900 photos of 10 classes (Corel), 20 epochs: 67 s of one busy CPU
core; 0.65 of 100 held-out photos right. docs/training.md has the command. From random weights a Vision Transformer
needs a million images or more; with fewer, start from pretrained weights (``finetune``).
"""

import torch
from torch import Tensor, nn

from vitseek.train.bridge import HALF, configured, to_runtime
from vitseek.train.classification import accuracy, labelled, mixed, soft_cross_entropy
from vitseek.train.data import Batch, preprocessing_for
from vitseek.train.options import SupervisedOptions
from vitseek.train.task import Card, Clock, Reporter, Task
from vitseek.train.team import Team
from vitseek.train.vit import VisionTransformer


def build(options: SupervisedOptions, team: Team, reporter: Reporter) -> Task:
    """Prepare a run; see :class:`vitseek.train.task.Task`."""
    config = configured(options)
    preprocessing = preprocessing_for(options.image_size, HALF, HALF, config.patch_size)
    images = labelled(options, options, preprocessing, team, reporter)
    config = configured(options, num_classes=len(images.classes))
    torch.manual_seed(options.seed)
    module = VisionTransformer(config)

    def step(model: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        pixels, targets = mixed(batch, images.mix, clock)
        return {"loss": soft_cross_entropy(model(pixels), targets)}

    return Task(
        recipe="supervised",
        options=options,
        module=module,
        card=Card(to_runtime(config).to_dict(), preprocessing.to_dict(), labels=images.classes),
        data=images.data,
        fingerprint=images.fingerprint,
        step=step,
        evaluate=lambda bare: accuracy(bare, images.validation, team),
        best="val_accuracy",
    )
