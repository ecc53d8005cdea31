"""A classifier from pretrained weights.

Papers: layer-wise learning rates from BEiT (Bao et al., 2022) and MAE (He et al., 2022); a frozen trunk is the linear
probe of "Revisiting Self-Supervised Visual Representation Learning" (Kolesnikov et al., 2019), here with augmentation.

Command:

    vitseek train finetune --data photos/train --validation photos/validation --start vitseek-tiny
    vitseek train finetune --data photos/train --start dinov2-small --freeze --lr 1e-3

``--start`` is a name of `vitseek models`, a weights file or folder, or the folder of another run (MAE, DINO …).
Cost and result: ViT-Ti at 96 px, trunk frozen, 3 epochs of 900 photos of 10 classes (Corel): 26 s of one busy CPU core;
0.89 of 100 held-out photos right. All layers, 5 epochs of 341 clothing photos: 51 s; 0.59 of 372 test photos.
docs/training.md has the commands.
"""

import torch
from torch import Tensor, nn

from vitseek.train.bridge import load_start, to_runtime
from vitseek.train.classification import accuracy, labelled, mixed, soft_cross_entropy
from vitseek.train.data import Batch, preprocessing_for
from vitseek.train.groups import layer_decay, parameter_groups
from vitseek.train.options import FinetuneOptions
from vitseek.train.task import Card, Clock, Reporter, Task
from vitseek.train.team import Team
from vitseek.train.vit import VisionTransformer


def build(options: FinetuneOptions, team: Team, reporter: Reporter) -> Task:
    """Prepare a run; see :class:`vitseek.train.task.Task`."""
    start = team.in_turn(lambda: load_start(options.start))
    preprocessing = start.preprocessing
    if options.image_size and options.image_size != preprocessing.size_px:
        own = preprocessing
        preprocessing = preprocessing_for(options.image_size, own.mean, own.std, start.config.patch_size)
    images = labelled(options, options, preprocessing, team, reporter)
    torch.manual_seed(options.seed)
    module = start.module(
        image_size=preprocessing.size_px,
        num_classes=len(images.classes),
        drop_path=0.0 if options.freeze else options.drop_path,
    )
    if options.freeze:
        freeze_trunk(module)
    if team.leads:
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        reporter.note(f"start: {start.name}, {preprocessing.size_px} px; {trained:,} parameters learn")

    def step(model: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        pixels, targets = mixed(batch, images.mix, clock)
        return {"loss": soft_cross_entropy(model(pixels), targets)}

    depth = module.config.depth
    return Task(
        recipe="finetune",
        options=options,
        module=module,
        card=Card(to_runtime(module.config).to_dict(), preprocessing.to_dict(), labels=images.classes),
        data=images.data,
        fingerprint=images.fingerprint,
        step=step,
        evaluate=lambda bare: accuracy(bare, images.validation, team),
        groups=parameter_groups(module, options.weight_decay, lr_scale=layer_decay(options.layer_decay, depth)),
        best="val_accuracy",
    )


def freeze_trunk(module: VisionTransformer) -> None:
    """Let the heads alone learn."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith("head"))
