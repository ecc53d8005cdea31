"""A classifier with a distillation token and a teacher's hard labels.

Paper: "Training data-efficient image transformers & distillation through attention" (Touvron et al., 2021). Beside the
class token, a distillation token learns the class that a trained classifier sees in the very same crop, mixed pixels
included. At test time the two heads are averaged.

Command:

    vitseek train deit --data photos/train --validation photos/validation --teacher runs/finetune --model tiny

The teacher is any checkpoint with a head of the same classes: a run's folder, a file, or a name of `vitseek models`.
Cost and result: 6 blocks of width 96 at 48 px on 900 photos of 10 classes (Corel), taught by a ViT-Ti with a new head,
10 epochs: 88 s of one busy CPU core; 0.60 of 100 held-out photos right. docs/training.md has the command.
"""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitseek.errors import TrainingError, UsageError
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.train.bridge import HALF, Start, configured, load_start, to_runtime
from vitseek.train.classification import accuracy, labelled, mixed, soft_cross_entropy
from vitseek.train.data import Batch, preprocessing_for
from vitseek.train.options import DeitOptions, SupervisedOptions
from vitseek.train.task import Card, Clock, Reporter, Silence, Task
from vitseek.train.team import Team
from vitseek.train.vit import VisionTransformer

SMOKE_TEACHER = {"epochs": 4, "lr": 2e-3, "mixup": 0.0, "cutmix": 0.0, "randaugment": 0, "erasing": 0.0}


class Student(nn.Module):
    """The Vision Transformer; while it learns, both heads' answers come out, afterwards their mean."""

    def __init__(self, trunk: VisionTransformer) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """Return logits of the class and of the distillation token, each (B, classes); their mean in evaluation."""
        logits, distilled = self.trunk.logits(self.trunk.tokens(pixels))
        assert distilled is not None
        return (logits, distilled) if self.training else (logits + distilled) / 2


class Teacher:
    """A trained classifier that names the class of a batch, whatever normalisation and size it was trained with."""

    def __init__(
        self, start: Start, classes: tuple[str, ...], student: ImagePreprocessing, device: torch.device
    ) -> None:
        self.order = _order(start, classes)
        self.module = start.module().to(device).eval().requires_grad_(False)
        self.size_px = start.preprocessing.size_px
        self.device = device
        own_mean, own_std, mean, std = (
            torch.tensor(v, device=device).reshape(3, 1, 1)
            for v in (start.preprocessing.mean, start.preprocessing.std, student.mean, student.std)
        )
        self.scale, self.shift = std / own_std, (mean - own_mean) / own_std

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the class that the teacher sees in each image, (B,)."""
        pixels = pixels * self.scale + self.shift
        if pixels.shape[-1] != self.size_px:
            pixels = functional.interpolate(pixels, size=self.size_px, mode="bicubic", antialias=True)
        return self.module(pixels)[:, self.order.to(self.device)].argmax(dim=1)


def build(options: DeitOptions, team: Team, reporter: Reporter) -> Task:
    """Prepare a run; see :class:`vitseek.train.task.Task`."""
    if options.registers:
        raise UsageError("deit has a distillation token and no registers: leave --registers at 0")
    if options.teacher is None and not options.smoke_pictures:
        raise UsageError("deit needs --teacher: a classifier of the same classes, for example a run of finetune")
    config = configured(options)
    preprocessing = preprocessing_for(options.image_size, HALF, HALF, config.patch_size)
    images = labelled(options, options, preprocessing, team, reporter)
    start = load_start(options.teacher or str(_smoke_teacher(options, team, reporter)))
    teacher = Teacher(start, images.classes, preprocessing, team.device)
    config = configured(options, num_classes=len(images.classes), distilled=True)
    torch.manual_seed(options.seed)
    module = Student(VisionTransformer(config))

    def step(model: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        pixels, targets = mixed(batch, images.mix, clock)
        logits, distilled = model(pixels)
        true = soft_cross_entropy(logits, targets)
        taught = functional.cross_entropy(distilled.float(), teacher(pixels))
        return {"loss": (1 - options.alpha) * true + options.alpha * taught, "true_loss": true, "taught_loss": taught}

    return Task(
        recipe="deit",
        options=options,
        module=module,
        card=Card(to_runtime(config).to_dict(), preprocessing.to_dict(), labels=images.classes, prefix="trunk."),
        data=images.data,
        fingerprint=images.fingerprint,
        step=step,
        evaluate=lambda bare: accuracy(bare, images.validation, team),
        best="val_accuracy",
    )


def _order(start: Start, classes: tuple[str, ...]) -> Tensor:
    """Where the teacher has each class of the data.

    Raises
    ------
    TrainingError
        If the teacher has no head, another number of classes, or classes of other names.
    """
    if start.config.num_classes != len(classes):
        have = f"{start.config.num_classes} classes" if start.config.num_classes else "no classification head"
        raise TrainingError(
            f"the teacher {start.name} has {have}, and the images have {len(classes)} classes "
            f"({', '.join(classes[:5])} …): train a teacher on the same images first: vitseek train finetune"
        )
    if not start.labels:
        return torch.arange(len(classes))
    if strange := sorted(set(classes) - set(start.labels)):
        raise TrainingError(f"the teacher {start.name} does not know the class {', '.join(strange)}")
    return torch.tensor([start.labels.index(name) for name in classes])


def _smoke_teacher(options: DeitOptions, team: Team, reporter: Reporter) -> Path:
    """Train a small classifier on the drawn pictures, once."""
    from vitseek.train import supervised
    from vitseek.train.loop import fit

    out = options.out / "teacher"
    if not (out / "last.pt").exists():
        own, theirs = ({f.name for f in dataclasses.fields(kind)} for kind in (SupervisedOptions, DeitOptions))
        given = {name: getattr(options, name) for name in own & theirs}
        chosen = SupervisedOptions(
            **{**given, **SMOKE_TEACHER, "data": options.out / "pictures", "out": out, "warmup_epochs": 0.5}
        )
        outcome = fit(supervised.build(chosen, team, Silence()), team, Silence())
        if team.leads:
            reporter.note(f"teacher trained on the drawn pictures: val_accuracy {outcome.scores['val_accuracy']:.3f}")
    return out
