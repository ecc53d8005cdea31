# ruff: noqa: RUF009  # option() makes a dataclass field; it is called once a field, as it should be
"""The options of every recipe: what ``vitseek train RECIPE --help`` shows and what a checkpoint remembers.

Plain dataclasses without torch, so that the command line and the documentation can be made on a machine that has none.
A recipe's file says what the options mean together; here is one line for each.
"""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal

from vitseek.errors import UsageError

Precision = Literal["auto", "no", "bf16", "fp16"]
Positions = Literal["learned", "sincos"]
Variant = Literal["tiny", "small", "base", "large", "huge"]
Targets = Literal["blocks", "hints", "final"]
Optimizer = Literal["muon", "adamw"]


def option(default: Any, text: str, *, smoke: Any = dataclasses.MISSING) -> Any:
    """A field with its line of help and, where it differs, the value that ``--smoke`` gives it."""
    metadata = {"help": text} if smoke is dataclasses.MISSING else {"help": text, "smoke": smoke}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(kw_only=True)
class RunOptions:
    """What every recipe takes: where the images are, how long, how fast, how safe."""

    data: Path | None = option(None, "Training images: a folder, or a CSV file.")
    out: Path = option(Path("runs/model"), "Folder of this run: checkpoints, metrics, pictures.")
    image_size: int = option(224, "Side in pixels that the model sees.", smoke=32)
    epochs: int = option(100, "Passes over the training images.", smoke=8)
    batch_size: int = option(64, "Images a step, over all processes and accumulated parts.", smoke=12)
    accumulate: int = option(1, "Parts that a step's batch is computed in, to save memory.")
    lr: float = option(1e-3, "Highest learning rate, after warm-up.", smoke=2e-3)
    min_lr: float = option(1e-6, "Learning rate at the end of the cosine.")
    warmup_epochs: float = option(5.0, "Epochs of linear warm-up; unless given, a fifth of the run at most.", smoke=0.5)
    weight_decay: float = option(0.05, "AdamW's decay; norms, biases, tokens and positions have none.")
    clip_grad: float = option(1.0, "Longest gradient norm; 0 for no limit.")
    precision: Precision = option("auto", "Mixed precision; auto is bf16 where a GPU has it, else float32.")
    seed: int = option(0, "Decides weights, order and augmentation.")
    workers: int = option(0, "Processes that prepare images beside each training process.")
    cache_mb: int = option(2048, "Memory for decoded images; what does not fit is decoded again every epoch.")
    evaluate_every: int = option(1, "Epochs from one evaluation to the next; the last is always evaluated.")
    save_minutes: float = option(10.0, "Save a checkpoint this often within an epoch, too.")
    device: Literal["auto", "cpu"] = option("auto", "Use the GPU if there is one, or the CPU.")

    @property
    def smoke_pictures(self) -> bool:
        """Whether this run draws its own pictures: no data was given."""
        return self.data is None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields, for a checkpoint."""
        return {
            field.name: str(value) if isinstance(value := getattr(self, field.name), Path) else value
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> typing.Self:
        """Read what :meth:`to_dict` wrote; unknown fields are refused.

        Raises
        ------
        UsageError
            If a field is unknown: the file is of another recipe or version.
        """
        hints = typing.get_type_hints(cls)
        if unknown := sorted(document.keys() - hints.keys()):
            raise UsageError(
                f"{cls.__name__} has no option {', '.join(unknown)}; the options are of another recipe or version"
            )
        values: dict[str, Any] = {
            name: Path(value) if isinstance(value, str) and _takes_path(hints[name]) else value
            for name, value in document.items()
        }
        return cls(**values)

    @classmethod
    def smoke(cls, **given: Any) -> typing.Self:
        """Options of a run of under a minute; ``given`` wins."""
        values = {field.name: field.metadata["smoke"] for field in dataclasses.fields(cls) if "smoke" in field.metadata}
        return cls(**{**values, **given})

    def check(self) -> None:
        """Refuse numbers that cannot work.

        Raises
        ------
        UsageError
            Naming the option, its value and what it may be.
        """
        for name in (
            "image_size",
            "epochs",
            "batch_size",
            "accumulate",
            "evaluate_every",
            "lr",
            "cache_mb",
            "save_minutes",
        ):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise UsageError(f"{flag(name)} must be above 0, not {getattr(self, name)}")
        for name in ("min_lr", "warmup_epochs", "weight_decay", "clip_grad", "workers"):
            if getattr(self, name) < 0:
                raise UsageError(f"{flag(name)} must be 0 or more, not {getattr(self, name)}")
        if self.warmup_epochs > self.epochs:
            raise UsageError(
                f"--warmup-epochs {self.warmup_epochs:g} is longer than the run of --epochs {self.epochs}; lower it"
            )
        for field in dataclasses.fields(self):
            allowed = typing.get_args(hint) if typing.get_origin(hint := self._hint(field.name)) is Literal else ()
            if allowed and getattr(self, field.name) not in allowed:
                raise UsageError(
                    f"{flag(field.name)} must be one of {', '.join(map(str, allowed))}, "
                    f"not {getattr(self, field.name)!r}"
                )

    @classmethod
    def _hint(cls, name: str) -> Any:
        return typing.get_type_hints(cls)[name]


@dataclasses.dataclass(kw_only=True)
class ModelOptions(RunOptions):
    """The shape of a Vision Transformer from scratch: a named variant, each number of which can be changed."""

    model: Variant = option("tiny", "Named variant; the next four options change its numbers.")
    width: int | None = option(None, "Embedding width.", smoke=48)
    depth: int | None = option(None, "Blocks.", smoke=3)
    heads: int | None = option(None, "Attention heads.", smoke=3)
    patch_size: int | None = option(None, "Side of a patch in pixels.", smoke=8)
    positions: Positions = option("learned", "Position embedding: learned, or fixed two-dimensional sine-cosine.")
    registers: int = option(0, "Register tokens.")
    layer_scale: float | None = option(None, "Start of LayerScale; none by default.")
    drop_path: float = option(0.0, "Stochastic depth of the last block.")


@dataclasses.dataclass(kw_only=True)
class LabelledOptions:
    """Where labels come from and how a classifier is regularised."""

    validation: Path | None = option(None, "Validation images, laid out as --data; else a part of it is held out.")
    holdout: float = option(
        0.1, "Part of every class that is held out for validation if there is no --validation.", smoke=0.25
    )
    label_smoothing: float = option(0.1, "Probability that is spread over all classes.")
    mixup: float = option(0.8, "Beta parameter of mixup; 0 for none.", smoke=0.0)
    cutmix: float = option(1.0, "Beta parameter of CutMix; 0 for none.", smoke=0.0)
    randaugment: int = option(2, "RandAugment: operations an image; 0 for none.", smoke=0)
    magnitude: int = option(9, "RandAugment: strength, 0 to 10.")
    erasing: float = option(0.25, "Probability that a rectangle of an image is replaced by noise.", smoke=0.0)
    min_scale: float = option(0.08, "Smallest part of the image's area that a random crop keeps.", smoke=0.5)


@dataclasses.dataclass(kw_only=True)
class SupervisedOptions(LabelledOptions, ModelOptions):
    """A classifier from random weights."""

    out: Path = option(Path("runs/supervised"), "Folder of this run: checkpoints, metrics, pictures.")
    drop_path: float = option(0.1, "Stochastic depth of the last block.", smoke=0.0)


@dataclasses.dataclass(kw_only=True)
class FinetuneOptions(LabelledOptions, RunOptions):
    """A new head, and if wished the trunk, from pretrained weights."""

    out: Path = option(Path("runs/finetune"), "Folder of this run: checkpoints, metrics, pictures.")
    start: str = option("vitseek-tiny", "Pretrained: a name of `vitseek models`, a file, a folder or a run.")
    image_size: int | None = option(None, "Side in pixels that the model sees; none: the start's own.", smoke=96)  # type: ignore[assignment]
    epochs: int = option(10, "Passes over the training images.", smoke=4)
    lr: float = option(5e-4, "Highest learning rate, after warm-up; the last layer's.")
    warmup_epochs: float = option(1.0, "Epochs of linear warm-up.", smoke=0.5)
    layer_decay: float = option(0.75, "Each layer towards the input learns this much slower; 1 for none.")
    freeze: bool = option(False, "Train the head alone.")
    drop_path: float = option(0.1, "Stochastic depth of the last block.", smoke=0.0)
    mixup: float = option(0.0, "Beta parameter of mixup; 0 for none.")
    cutmix: float = option(0.0, "Beta parameter of CutMix; 0 for none.")
    min_scale: float = option(0.35, "Smallest part of the image's area that a random crop keeps.", smoke=0.5)


@dataclasses.dataclass(kw_only=True)
class DeitOptions(LabelledOptions, ModelOptions):
    """A classifier from random weights with a teacher that says a hard label for every crop."""

    out: Path = option(Path("runs/deit"), "Folder of this run: checkpoints, metrics, pictures.")
    teacher: str | None = option(
        None, "Classifier of the same classes: a file, a folder, a name; --smoke trains one first."
    )
    alpha: float = option(0.5, "Weight of the teacher's label against the true one.")
    drop_path: float = option(0.1, "Stochastic depth of the last block.", smoke=0.0)


@dataclasses.dataclass(kw_only=True)
class DistillOptions(RunOptions):
    """A Vision Transformer from random weights that learns a teacher's features, without labels."""

    out: Path = option(Path("runs/distill"), "Folder of this run: checkpoints, metrics, pictures.")
    teacher: str = option("vitseek-tiny", "Model to learn from: a name of `vitseek models`, a file or a folder.")
    targets: Targets = option("blocks", "Each half block from the teacher's input; all hidden states; the end alone.")
    start: Path | None = option(None, "Run of this recipe to go on from, for the next stage; none: random weights.")
    image_size: int = option(192, "Side in pixels that the model sees.", smoke=32)
    small_size: int | None = option(None, "Side in pixels in the first part of the run; none: --image-size all along.")
    small_share: float = option(0.6, "Part of the run at --small-size.")
    mix: str | None = option(
        None, "Shares of sub-folders of --data, as photos=0.7,products=0.3; none: every image once."
    )
    epoch_images: int | None = option(None, "Images drawn an epoch; none: as many as there are.")
    cache_views: int = option(0, "Compute the teacher's answers to so many fixed views of an image once (final alone).")
    optimizer: Optimizer = option("muon", "Muon for the blocks' matrices and AdamW for the rest, or AdamW alone.")
    rest_lr_scale: float = option(0.3, "Learning rate of what is no matrix of a block, as a part of --lr.")
    hint_weight: float = option(1.0, "Weight of the hidden states against the final features (hints).")
    ema: float = option(0.995, "Momentum of the average of the weights, which is what is kept.", smoke=0.9)
    gallery: Path | None = option(None, "Labelled images, CLASS/*.jpg, for 5-NN accuracy and mAP after every epoch.")
    queries: Path | None = option(None, "Labelled images that look into --gallery; none: each image of it in turn.")
    gallery_limit: int | None = option(None, "First images of a class, by name, that --gallery uses; none: all.")
    min_scale: float = option(0.35, "Smallest part of the image's area that a random crop keeps.")
    epochs: int = option(10, "Passes over the training images.", smoke=2)
    lr: float = option(1e-2, "Highest learning rate, after warm-up.", smoke=5e-3)
    warmup_epochs: float = option(0.2, "Epochs of linear warm-up.", smoke=0.1)
    weight_decay: float = option(0.0, "Decay of matrices; norms, biases, tokens and positions have none.")
    clip_grad: float = option(5.0, "Longest gradient norm; 0 for no limit.")
    batch_size: int = option(16, "Images a step, over all processes and accumulated parts.", smoke=8)


@dataclasses.dataclass(kw_only=True)
class MaeOptions(ModelOptions):
    """A masked autoencoder."""

    out: Path = option(Path("runs/mae"), "Folder of this run: checkpoints, metrics, pictures.")
    positions: Positions = option("sincos", "Position embedding: fixed two-dimensional sine-cosine, or learned.")
    mask_ratio: float = option(0.75, "Part of the patches that the encoder does not see.")
    decoder_width: int | None = option(None, "Width of the decoder; none: two thirds of the encoder's.")
    decoder_depth: int = option(4, "Blocks of the decoder.", smoke=1)
    decoder_heads: int | None = option(None, "Heads of the decoder; none: as the encoder.")
    normalise_patches: bool = option(True, "Predict pixels normalised within their patch.")
    min_scale: float = option(0.2, "Smallest part of the image's area that a random crop keeps.")
    lr: float = option(1.5e-3, "Highest learning rate, after warm-up.", smoke=4e-3)
    epochs: int = option(200, "Passes over the training images.", smoke=8)


@dataclasses.dataclass(kw_only=True)
class DinoOptions(ModelOptions):
    """Self-distillation without labels."""

    out: Path = option(Path("runs/dino"), "Folder of this run: checkpoints, metrics, pictures.")
    validation: Path | None = option(None, "Labelled images for the k-NN accuracy; else a part of --data is held out.")
    holdout: float = option(
        0.1, "Part of every class that is held out for k-NN if there is no --validation.", smoke=0.25
    )
    neighbours: int = option(5, "k of the k-NN accuracy.")
    local_size: int | None = option(None, "Side of a local crop; none: three sevenths of --image-size.")
    local_crops: int = option(6, "Local crops an image.", smoke=2)
    global_scale: float = option(0.4, "Global crops keep this much of the area or more, local crops less.")
    local_scale: float = option(0.05, "Smallest part of the area that a local crop keeps.")
    prototypes: int = option(4096, "Outputs of the head (65,536 in the paper, for ImageNet).", smoke=64)
    head_hidden: int | None = option(None, "Hidden width of the head; none: four times the model's, 2,048 at most.")
    head_bottleneck: int = option(256, "Width before the head's last layer.", smoke=64)
    student_temperature: float = option(0.1, "Temperature of the student.")
    teacher_temperature: float = option(0.04, "Temperature of the teacher after its warm-up.")
    warmup_teacher_temperature: float = option(0.04, "Temperature of the teacher at the start.")
    warmup_teacher_epochs: float = option(10.0, "Epochs in which the teacher's temperature moves.", smoke=1.0)
    teacher_momentum: float = option(0.996, "Share of old weights that the teacher keeps; rises to 1.", smoke=0.9)
    center_momentum: float = option(0.9, "Share of the old centre that is kept at each step.")
    freeze_last_epochs: float = option(1.0, "Epochs in which the head's last layer does not learn.", smoke=0.25)
    weight_decay: float = option(0.04, "AdamW's decay at the start.")
    weight_decay_end: float = option(0.4, "AdamW's decay at the end.")
    clip_grad: float = option(3.0, "Longest gradient norm; 0 for no limit.")
    lr: float = option(5e-4, "Highest learning rate, after warm-up.")
    drop_path: float = option(0.1, "Stochastic depth of the last block (student only).")


@dataclasses.dataclass(kw_only=True)
class ClipOptions(ModelOptions):
    """Image and text towers that agree on which caption belongs to which image."""

    data: Path | None = option(None, "CSV file with the columns image,caption (several rows an image).")
    images: Path | None = option(None, "Folder that the CSV's names are in; none: beside it, or in images/ there.")
    out: Path = option(Path("runs/clip"), "Folder of this run: checkpoints, metrics, pictures.")
    start: str | None = option(None, "Pretrained image tower: a name, a file, a folder or a run.")
    holdout: float = option(0.1, "Part of the images that is held out, with their captions, for recall@k.")
    projection: int = option(256, "Width of the space that both towers meet in.", smoke=32)
    text_width: int = option(256, "Width of the text tower.", smoke=48)
    text_depth: int = option(4, "Blocks of the text tower.", smoke=2)
    text_heads: int = option(4, "Heads of the text tower.", smoke=3)
    context: int = option(77, "Longest caption in tokens, start and end included.", smoke=24)
    vocabulary: int = option(4096, "Byte-pair tokens to learn from the captions (CLIP: 49,408).", smoke=600)
    merges: Path | None = option(None, "OpenAI's bpe_simple_vocab_16e6.txt(.gz) or a tokenizer.json instead.")
    temperature: float = option(0.07, "Temperature at the start; it is learned, not below 0.01.")
    text_dropout: float = option(0.0, "Part of the text tower's entries that is dropped while training.")
    image_lr_scale: float = option(1.0, "Learning rate of the image tower, as a part of --lr; 0 locks it (LiT).")
    views: int = option(8, "Crops of every image whose features a locked tower computes, once.", smoke=2)
    min_scale: float = option(0.5, "Smallest part of the image's area that a random crop keeps.")
    weight_decay: float = option(0.2, "AdamW's decay; norms, biases, tokens and positions have none.")
    epochs: int = option(30, "Passes over the training images.", smoke=16)
    lr: float = option(5e-4, "Highest learning rate, after warm-up.", smoke=2e-3)

    @property
    def locked(self) -> bool:
        """Whether the image tower stays as it is, so that its features need computing only once."""
        return self.image_lr_scale == 0

    def check(self) -> None:
        """Refuse numbers that cannot work; see :meth:`RunOptions.check`."""
        super().check()
        if self.image_lr_scale < 0:
            raise UsageError(f"--image-lr-scale must be 0 or more, not {self.image_lr_scale:g}")
        if not 0 <= self.text_dropout < 1:
            raise UsageError(f"--text-dropout is a part of 0 or more and less than 1, not {self.text_dropout:g}")
        if self.views < 1:
            raise UsageError(f"--views must be at least 1, not {self.views}")
        if self.locked and self.start is None:
            raise UsageError(
                "--image-lr-scale 0 locks the image tower, and a tower of random weights has nothing to keep: "
                "give --start"
            )


RECIPES: dict[str, tuple[type[RunOptions], str]] = {
    "supervised": (SupervisedOptions, "A classifier from random weights, on a folder of classes."),
    "finetune": (FinetuneOptions, "A classifier from pretrained weights: new head, layer-wise learning rates."),
    "deit": (DeitOptions, "A classifier with a distillation token and a teacher (DeiT)."),
    "distill": (DistillOptions, "A small model from random weights that learns a teacher's features."),
    "mae": (MaeOptions, "A masked autoencoder: learns from images without labels (MAE)."),
    "dino": (DinoOptions, "Self-distillation with several crops: learns without labels (DINO)."),
    "clip": (ClipOptions, "Image and text towers, from images with captions (CLIP)."),
}


def flag(name: str) -> str:
    """The command-line spelling of a field."""
    return "--" + name.replace("_", "-")


def _takes_path(hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_takes_path(part) for part in typing.get_args(hint))
    return hint is Path
