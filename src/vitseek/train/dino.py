"""Self-distillation without labels: a student learns from several crops what its own average sees in two.

Paper: "Emerging Properties in Self-Supervised Vision Transformers" (Caron et al., 2021). The teacher is an exponential
moving average of the student and sees the two global crops alone; the student sees all crops and predicts the teacher's
distribution over prototypes across crops. Centring (against one dominant prototype) and sharpening (against the uniform
distribution) keep it from collapsing. Schedules: cosine for the teacher's momentum and the weight decay, linear for its
temperature.

Command:

    vitseek train dino --data photos --image-size 96 --epochs 100

Where the folder has classes, they are used for the k-NN accuracy of the teacher's features, never for learning.
Cost and result: 6 blocks of width 96 at 48 px on 900 photos (Corel), 30 epochs: 372 s of one busy CPU core; the loss
falls from 5.93 to 5.63, the 5-NN accuracy is 0.62 (random weights: 0.60). docs/training.md has the command.
"""

import dataclasses
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from vitseek.errors import UsageError
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.train import augment
from vitseek.train.bridge import HALF, configured, to_runtime
from vitseek.train.data import Augmented, Batch, Pictures, Sample, Still, preprocessing_for
from vitseek.train.groups import parameter_groups
from vitseek.train.images import data_of, decoded
from vitseek.train.knn import features, knn_accuracy
from vitseek.train.options import DinoOptions
from vitseek.train.schedule import cosine, linear
from vitseek.train.sources import NO_LABEL, ImageList, hold_out_indices, read_images, read_labelled
from vitseek.train.task import Card, Clock, Reporter, Task
from vitseek.train.team import Team
from vitseek.train.vit import INIT_STD, VisionTransformer, VitConfig

WIDEST = 2048  # widest hidden layer of the head, of the paper
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}  # of the paper, as what follows
JITTERED, GREYED, SOLARIZED = 0.8, 0.2, 0.2
BLURRED = (1.0, 0.1, 0.5)  # first global crop, second, local ones
SIZE_OF_SIGMA = 224  # px; the blur shrinks with the image
BANK = 4000  # images, at most, that neighbours are looked for in


class Head(nn.Module):
    """Three layers to a unit vector, then its cosines with the prototypes."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=INIT_STD)
            else:
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, D) -> (B, prototypes)."""
        code = functional.normalize(self.layers(tokens), dim=1)
        return functional.linear(code, functional.normalize(self.prototypes, dim=1))


class Dino(nn.Module):
    """Student and teacher, each a trunk with a head, and the centre of the teacher's answers."""

    center: Tensor

    def __init__(self, student: VitConfig, teacher: VitConfig, options: DinoOptions) -> None:
        super().__init__()
        hidden = options.head_hidden or min(4 * student.embed_dim, WIDEST)

        def head() -> Head:
            return Head(student.embed_dim, hidden, options.head_bottleneck, options.prototypes)

        self.student, self.student_head = VisionTransformer(student), head()
        self.teacher, self.teacher_head = VisionTransformer(teacher), head()
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher_head.load_state_dict(self.student_head.state_dict())
        self.teacher.requires_grad_(False)
        self.teacher_head.requires_grad_(False)
        self.register_buffer("center", torch.zeros(options.prototypes))

    def forward(self, global_crops: Tensor, local_crops: Tensor) -> Tensor:
        """The student's answers to all crops, crop by crop: (2 + local, B, prototypes) from (B, crops, 3, h, w)."""
        tokens = [
            self.student.features(_crop_by_crop(crops)) for crops in (global_crops, local_crops) if crops.shape[1]
        ]
        answers: Tensor = self.student_head(torch.cat(tokens))
        return answers.reshape(global_crops.shape[1] + local_crops.shape[1], len(global_crops), -1)

    @torch.no_grad()
    def teach(self, global_crops: Tensor) -> Tensor:
        """The teacher's answers to the global crops: (2, B, prototypes)."""
        answers: Tensor = self.teacher_head(self.teacher.features(_crop_by_crop(global_crops)))
        return answers.reshape(global_crops.shape[1], len(global_crops), -1)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the teacher towards the student."""
        for teacher, student in ((self.teacher, self.student), (self.teacher_head, self.student_head)):
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.lerp_(new.to(old.dtype), 1 - momentum)


def dino_loss(student: Tensor, teacher: Tensor, center: Tensor, student_temp: float, teacher_temp: float) -> Tensor:
    """Cross-entropy from the teacher's view of one global crop to the student's of every other crop.

    Parameters
    ----------
    student : shape (2 + local, B, prototypes)
    teacher : shape (2, B, prototypes)
        Centred and sharpened here.
    """
    targets = ((teacher.float() - center) / teacher_temp).softmax(dim=-1).detach()
    logs = (student.float() / student_temp).log_softmax(dim=-1)
    losses = [
        -(target * logs[crop]).sum(dim=-1).mean()
        for number, target in enumerate(targets)
        for crop in range(len(logs))
        if crop != number
    ]
    return torch.stack(losses).mean()


def build(options: DinoOptions, team: Team, reporter: Reporter) -> Task:
    """Prepare a run; see :class:`vitseek.train.task.Task`."""
    config = configured(options)
    patch = config.patch_size
    local_px = options.local_size or max(patch, round(options.image_size * 3 / 7 / patch) * patch)  # 96 of 224 px
    if local_px % patch:
        raise UsageError(f"--local-size {local_px} px is not a whole number of {patch} px patches")
    torch.manual_seed(options.seed)
    module = Dino(config, configured(options, drop_path=0.0), options)
    preprocessing = preprocessing_for(options.image_size, HALF, HALF, patch)
    images = _images(options, preprocessing, team, reporter)

    def step(model: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        answers = module.teach(batch["global"])
        temperature = linear(
            clock.epochs, options.warmup_teacher_epochs, options.warmup_teacher_temperature, options.teacher_temperature
        )
        student = model(batch["global"], batch["local"])
        loss = dino_loss(student, answers, module.center, options.student_temperature, temperature)
        mean = team.mean(answers.float().mean(dim=(0, 1)))
        sharp = ((answers.float() - module.center) / temperature).softmax(dim=-1)
        entropy = -(sharp * sharp.clamp_min(1e-12).log()).sum(dim=-1).mean() / math.log(options.prototypes)
        module.center.lerp_(mean, 1 - options.center_momentum)
        return {"loss": loss, "teacher_entropy": entropy}  # 0: one prototype each; 1: all alike, a collapse

    def before_update(bare: nn.Module, clock: Clock) -> None:
        if clock.epochs < options.freeze_last_epochs:
            module.student_head.prototypes.grad = None

    def after_update(bare: nn.Module, clock: Clock) -> None:
        module.follow(cosine(clock.step, clock.total_steps, options.teacher_momentum, 1.0))

    def evaluate(bare: nn.Module) -> dict[str, float]:
        if images.bank is None or images.queries is None:
            return {}
        bank = features(module.teacher.features, images.bank, team.device)
        queries = features(module.teacher.features, images.queries, team.device)
        accuracy = knn_accuracy(bank, images.bank.labels, queries, images.queries.labels, options.neighbours)
        return {"knn_accuracy": accuracy}

    return Task(
        recipe="dino",
        options=options,
        module=module,
        card=Card(to_runtime(module.teacher.config).to_dict(), preprocessing.to_dict(), prefix="teacher."),
        data=Augmented(images.pictures, View(options, local_px), seed=options.seed),
        fingerprint=images.train.fingerprint(),
        step=step,
        evaluate=evaluate,
        groups=parameter_groups(module, options.weight_decay),
        before_update=before_update,
        after_update=after_update,
        weight_decay=lambda clock: cosine(
            clock.step, clock.total_steps, options.weight_decay, options.weight_decay_end
        ),
    )


@dataclasses.dataclass(frozen=True)
class View:
    """Two global crops and several local ones of an image, each recoloured on its own."""

    options: DinoOptions
    local_px: int

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Sample:
        """Return ``{"global": (2, 3, size, size), "local": (local, 3, local_px, local_px)}``."""
        options, size = self.options, self.options.image_size
        wide, narrow = (options.global_scale, 1.0), (options.local_scale, options.global_scale)
        crops = [self._crop(image, rng, size, wide, BLURRED[n], SOLARIZED if n == 1 else 0.0) for n in range(2)]
        local = [self._crop(image, rng, self.local_px, narrow, BLURRED[2], 0.0) for _ in range(options.local_crops)]
        none = torch.empty(0, 3, self.local_px, self.local_px)
        return {"global": torch.stack(crops), "local": torch.stack(local) if local else none}

    @staticmethod
    def _crop(
        image: Image.Image,
        rng: np.random.Generator,
        size_px: int,
        scale: tuple[float, float],
        blurred: float,
        solarized: float,
    ) -> Tensor:
        image = augment.random_flip(augment.random_resized_crop(image, size_px, rng, scale=scale), rng)
        if rng.random() < JITTERED:
            image = augment.color_jitter(image, rng, **JITTER)
        image = augment.random_grayscale(image, rng, GREYED)
        most = max(0.2, 2.0 * size_px / SIZE_OF_SIGMA)
        image = augment.random_blur(image, rng, blurred, (0.1, most))
        return augment.to_tensor(augment.random_solarize(image, rng, solarized), HALF, HALF)


@dataclasses.dataclass
class _Images:
    """What DINO learns from, and the labelled images that its features are measured on."""

    train: ImageList
    pictures: Pictures
    bank: Still | None = None
    queries: Still | None = None


def _images(options: DinoOptions, preprocessing: ImagePreprocessing, team: Team, reporter: Reporter) -> _Images:
    source = data_of(options, team, reporter)
    scale = options.local_scale if options.local_crops else options.global_scale
    train, pictures = decoded(
        read_images(source), source, options, team, reporter, size_px=options.image_size, min_scale=max(scale, 0.25)
    )
    if not train.labelled:
        if team.leads:
            reporter.note(f"{len(train)} training images; no classes, so no k-NN accuracy")
        return _Images(train, pictures)
    known = [i for i, label in enumerate(train.labels) if label != NO_LABEL]
    if options.validation is not None:
        found = read_labelled(options.validation, classes=train.classes)
        held, _ = decoded(found, options.validation, options, team, reporter, size_px=1, min_scale=1.0)
    else:
        kept, queries = hold_out_indices(train, options.holdout, options.seed)
        held, train, pictures = train.subset(queries), train.subset(kept), pictures.subset(kept)
        known = [i for i, label in enumerate(train.labels) if label != NO_LABEL]
    bank = np.random.default_rng(options.seed).permutation(known)[:BANK]
    if team.leads:
        reporter.note(f"{len(train)} training images; k-NN of {len(held)} held-out ones among {len(bank)}")
    still = Still(train.subset(sorted(bank.tolist())), preprocessing)
    return _Images(train, pictures, still, Still(held, preprocessing))


def _crop_by_crop(crops: Tensor) -> Tensor:
    """(B, crops, 3, height, width) -> (crops * B, 3, height, width)."""
    return crops.transpose(0, 1).flatten(0, 1)
