"""A Vision Transformer that learns a teacher's features from images without labels, starting from random weights.

Papers: "FitNets: Hints for Thin Deep Nets" (Romero et al., 2015) for hidden states as targets and for training in
stages; "Blockwisely Supervised Neural Architecture Search with Knowledge Distillation" (Li et al., 2020) for blocks
that learn side by side, each from the teacher's input to the teacher's output; "TinyBERT" (Jiao et al., 2020) for
hidden states of a transformer; Muon (Jordan et al., 2024) for the matrices. Smooth L1 on targets scaled by their own
spread, because a few channels of a Vision Transformer are far larger than the others.

Three kinds of ``--targets``:

``blocks``
    Every half block (attention, MLP) of the student learns to map the teacher's hidden state to the teacher's next one.
    All of them learn at once and none waits for those before it: the fastest start by far.
``hints``
    The student runs from pixels to features, and its hidden states and final tokens are compared with the teacher's.
    The second stage: blocks learn to live with the errors of those before them.
``final``
    The final class and patch tokens alone, by cosine and smooth L1. The plain variant; the teacher's answers to a few
    fixed views of every image can be computed once (``--cache-views``).

Command (of the embedded model ``vitseek-tiny``; its card in ``vitseek/data/README.md`` has what it cost and reached,
and docs/training/vitseek-tiny.md compares the targets):

    vitseek train distill --data photos --teacher vit_tiny.safetensors --targets blocks --out runs/blocks
    vitseek train distill --data photos --teacher vit_tiny.safetensors --targets hints --start runs/blocks --lr 5e-4
    vitseek export runs/distill -o vitseek-tiny.safetensors --dtype float16

The student has the teacher's shape, but never its weights.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vitseek.errors import TrainingError, UsageError
from vitseek.evaluate.retrieval import evaluate_leave_one_out, evaluate_split
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.train.bridge import from_runtime, load_start, to_runtime
from vitseek.train.data import Batch, Pictures, Still
from vitseek.train.groups import Group
from vitseek.train.hints import Answers, Distiller
from vitseek.train.images import data_of, decoded
from vitseek.train.muon import Muon
from vitseek.train.options import DistillOptions
from vitseek.train.sources import ImageList, read_images, read_labelled
from vitseek.train.task import Card, Clock, Reporter, Task
from vitseek.train.team import Team
from vitseek.train.views import Drawn, View, compute_targets, shares_of
from vitseek.train.vit import VisionTransformer, VitConfig

BETAS = (0.9, 0.98)  # AdamW's, for what is no matrix
EVERY, EARLY = 8, 20  # steps between two looks at the spread, and steps at the start that all look
HELD_OUT = 0.02, 256  # part of the images, and number at most, that the cosine is measured on
NATIVE_PART = 4  # of a batch at the small size, one in so many keeps the full grid of positions learning
BATCH = 32  # images at once where nothing is learned


class Teacher:
    """A frozen model that answers with its hidden states."""

    def __init__(self, module: VisionTransformer, team: Team) -> None:
        self.module = module.to(team.device).eval().requires_grad_(False)
        self.team = team

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Answers:
        """Everything on the way from pixels to final tokens."""
        with self.team.autocast():
            hidden = self.module.hidden(pixels)
        return Answers(hidden.normed, hidden)

    @torch.no_grad()
    def embed(self, pixels: Tensor) -> Tensor:
        """The input of the first block."""
        return self.module.embed(pixels)


def build(options: DistillOptions, team: Team, reporter: Reporter) -> Task:
    """Prepare a run; see :class:`vitseek.train.task.Task`.

    Raises
    ------
    UsageError
        If options contradict each other, or ``--start`` is a model of another shape than the teacher.
    """
    _check(options)
    start = load_start(options.teacher)
    config = from_runtime(start.config, image_size=options.image_size, num_classes=0)
    _check_sizes(options, config)
    teacher = Teacher(start.module(num_classes=0), team)
    torch.manual_seed(options.seed)
    module = Distiller(config, options)
    if options.start is not None:
        _go_on(module, options)
    known = start.preprocessing
    preprocessing = dataclasses.replace(
        known, size_px=options.image_size, resize_px=round(options.image_size * known.resize_px / known.size_px)
    )
    source = data_of(options, team, reporter)
    images, pictures = decoded(
        read_images(source), source, options, team, reporter, size_px=options.image_size, min_scale=options.min_scale
    )
    kept, held = _hold_out(len(images), options.seed)
    still = Still(images.subset(held), preprocessing)
    images, pictures = images.subset(kept), pictures.subset(kept)
    if team.leads:
        reporter.note(f"{len(images)} training images, {len(held)} held out; the teacher is {options.teacher}")
    view = View(options.image_size, options.min_scale, preprocessing.mean, preprocessing.std)
    judge = _Judge(teacher, still, _retrieval(options, preprocessing), team.device)

    def step(model: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        pixels = batch["pixels"]
        native = None
        if options.small_size is not None and clock.step < options.small_share * clock.total_steps:
            if options.targets != "final":
                large = pixels[: max(1, len(pixels) // NATIVE_PART)]
                native = large, teacher.embed(large)
            pixels = functional.interpolate(pixels, size=options.small_size, mode="bicubic", antialias=True)
        answers = Answers(batch["target"].float()) if "target" in batch else teacher(pixels)
        if clock.step % EVERY == 0 or clock.step < EARLY:
            module.spread.follow(answers, team)
        figures: dict[str, Tensor] = model(pixels, answers, native)
        return figures

    return Task(
        recipe="distill",
        options=options,
        module=module,
        card=Card(
            to_runtime(config).to_dict(),
            preprocessing.to_dict(),
            prefix="average.",
            notes={"teacher": Path(options.teacher).name, "targets": options.targets},
        ),
        data=_data(options, images, pictures, view, teacher, team, reporter),
        fingerprint=images.fingerprint(),
        step=step,
        evaluate=lambda bare: judge(module.average),
        groups=_groups(module.student, options),
        after_update=lambda bare, clock: module.follow(options.ema, clock.step),
        best="cosine",
        betas=BETAS,
        optimizer=(lambda groups, lr: Muon(groups, lr=lr, betas=BETAS)) if options.optimizer == "muon" else None,
    )


class _Judge:
    """How near the average is to the teacher on held-out images, and how well it retrieves where labels are given."""

    def __init__(
        self, teacher: Teacher, still: Still, retrieval: tuple[Still, Still | None] | None, device: torch.device
    ) -> None:
        self.teacher, self.still, self.retrieval, self.device = teacher, still, retrieval, device
        self._wanted: Tensor | None = None

    def __call__(self, model: VisionTransformer) -> dict[str, float]:
        if self._wanted is None:
            self._wanted = self._features(self.teacher.module, self.still)
        own, mean = self._features(model, self.still), self._wanted.mean(dim=0)
        scores = {"cosine": float(functional.cosine_similarity(own - mean, self._wanted - mean).mean())}
        if self.retrieval is None:
            return scores
        gallery, queries = self.retrieval
        rows = self._features(model, gallery).cpu().numpy()
        if queries is None:
            figures = evaluate_leave_one_out(rows, gallery.labels.numpy())
        else:
            asked = self._features(model, queries).cpu().numpy()
            figures = evaluate_split(rows, gallery.labels.numpy(), asked, queries.labels.numpy())
        return {
            **scores,
            "knn_accuracy": figures.knn_accuracy,
            "mean_average_precision": figures.mean_average_precision,
        }

    @torch.no_grad()
    def _features(self, model: VisionTransformer, images: Still) -> Tensor:
        return torch.cat([model.features(pixels).float() for pixels, _ in images.batches(BATCH, self.device)])


def _check(options: DistillOptions) -> None:
    if options.cache_views and options.targets != "final":
        raise UsageError(
            f"--cache-views keeps the teacher's final tokens, and --targets {options.targets} needs its hidden states, "
            "which are 25 times as large: leave --cache-views at 0, or take --targets final"
        )
    if options.cache_views and options.small_size is not None:
        raise UsageError("--cache-views keeps answers at one size: leave out --small-size")
    if options.queries is not None and options.gallery is None:
        raise UsageError("--queries look into a gallery: give --gallery, too")
    if not 0.0 < options.ema < 1.0:
        raise UsageError(f"--ema is a momentum between 0 and 1, not {options.ema:g}")


def _check_sizes(options: DistillOptions, config: VitConfig) -> None:
    small, patch = options.small_size, config.patch_size
    if small is not None and (small % patch or not 0 < small <= options.image_size):
        raise UsageError(
            f"--small-size must be whole patches of {patch} px and at most --image-size {options.image_size}, "
            f"not {small}"
        )


def _go_on(module: Distiller, options: DistillOptions) -> None:
    """Take over the average of an earlier stage."""
    before = load_start(str(options.start))
    earlier = from_runtime(before.config, image_size=options.image_size, num_classes=0)
    if earlier != module.student.config:
        raise UsageError(f"--start {options.start} has another shape than the teacher: {earlier}")
    state = before.module(image_size=options.image_size, num_classes=0).state_dict()
    module.student.load_state_dict(state)
    module.average.load_state_dict(state)


def _groups(student: VisionTransformer, options: DistillOptions) -> list[Group]:
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            (matrices if name.startswith("blocks.") and parameter.ndim == 2 else rest).append(parameter)
    muon = {"muon": True} if options.optimizer == "muon" else {}
    decay = options.weight_decay
    return [
        {"params": matrices, "lr_scale": 1.0, "weight_decay": decay, "decays": decay > 0, **muon},
        {"params": rest, "lr_scale": options.rest_lr_scale, "weight_decay": 0.0, "decays": False},
    ]


def _data(
    options: DistillOptions,
    images: ImageList,
    pictures: Pictures,
    view: View,
    teacher: Teacher,
    team: Team,
    reporter: Reporter,
) -> Drawn:
    cache = None
    if options.cache_views:
        key = f"{images.fingerprint()} {options.teacher} {view} {options.seed}"
        cache = team.in_turn(
            lambda: compute_targets(
                options.out / "teacher.npy",
                key,
                pictures,
                view,
                lambda pixels: teacher(pixels.to(team.device)).normed,
                views=options.cache_views,
                seed=options.seed,
                told=lambda done, total: reporter.progress("teacher", done, total) if team.leads else None,
            )
        )
    return Drawn(
        pictures,
        view,
        seed=options.seed,
        shares=shares_of(options.mix, images) if options.mix else None,
        count=options.epoch_images,
        cache=cache,
    )


def _hold_out(count: int, seed: int) -> tuple[list[int], list[int]]:
    part, most = HELD_OUT
    held = min(most, max(2, round(part * count)))
    if count < 2 * held:
        raise TrainingError(f"{count} images are too few to learn from and to hold {held} out")
    order = np.random.default_rng(seed).permutation(count).tolist()
    return sorted(order[held:]), sorted(order[:held])


def _retrieval(options: DistillOptions, preprocessing: ImagePreprocessing) -> tuple[Still, Still | None] | None:
    if options.gallery is None:
        return None
    gallery = read_labelled(options.gallery)
    if options.gallery_limit is not None:
        seen: dict[int, int] = {}
        chosen = []
        for index, label in enumerate(gallery.labels):
            seen[label] = seen.get(label, 0) + 1
            if seen[label] <= options.gallery_limit:
                chosen.append(index)
        gallery = gallery.subset(chosen)
    if options.queries is None:
        return Still(gallery, preprocessing), None
    return Still(gallery, preprocessing), Still(read_labelled(options.queries, classes=gallery.classes), preprocessing)
