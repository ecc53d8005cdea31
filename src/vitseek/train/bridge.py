"""Between the torch module and the runtime: configurations both ways, and pretrained weights into the module."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitseek import zoo
from vitseek.errors import TrainingError, UsageError
from vitseek.models.architectures import architecture_of
from vitseek.models.config import ViTConfig
from vitseek.models.vit import position_embedding
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.train import checkpoint as checkpoints
from vitseek.train.options import ModelOptions
from vitseek.train.task import Card
from vitseek.train.vit import VARIANTS, VisionTransformer, VitConfig
from vitseek.weights.hub import obtain
from vitseek.weights.loader import load_weights

HALF = (0.5, 0.5, 0.5)  # mean and std of ViT's authors; what a model from scratch uses


def configured(options: ModelOptions, **fields: Any) -> VitConfig:
    """The module's configuration from the options of a run; ``fields`` are what the recipe decides.

    Raises
    ------
    UsageError
        If the numbers do not fit together.
    """
    named: dict[str, Any] = {"embed_dim": options.width, "depth": options.depth, "num_heads": options.heads}
    named |= {"patch_size": options.patch_size, "init_values": options.layer_scale}
    given = {name: value for name, value in named.items() if value is not None}
    given |= {"image_size": options.image_size, "pos_embed": options.positions}
    given |= {"num_registers": options.registers, "drop_path": options.drop_path}
    try:
        return dataclasses.replace(VARIANTS[options.model], **{**given, **fields})
    except ValueError as error:
        raise UsageError(f"the model does not hold together: {error}") from error


def to_runtime(config: VitConfig) -> ViTConfig:
    """The runtime's description of a module."""
    return ViTConfig(
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        patch_size=config.patch_size,
        img_size=(config.image_size, config.image_size),
        hidden_dim=int(config.embed_dim * config.mlp_ratio),
        layer_scale=config.init_values is not None,
        num_registers=config.num_registers,
        distilled=config.distilled,
        num_classes=config.num_classes,
        norm_eps=config.layer_norm_eps,
    )


# What the module takes from elsewhere (its size, its head, the rule of resizing, a projection beside it), or holds as
# zeros: no query, key and value bias.
ELSEWHERE = {"img_size", "hidden_dim", "pos_resize", "qkv_bias", "num_classes", "head_input", "embedding_dim"}


def from_runtime(config: ViTConfig, **fields: Any) -> VitConfig:
    """The module's configuration for a runtime model.

    Raises
    ------
    UsageError
        If the model has a part that the torch module does not: SwiGLU, rotary positions, or a head on patch averages.
    """
    if config.num_classes and config.head_input != "cls" and fields.get("num_classes", 1):
        raise UsageError("this model's head looks at the patches, too; only heads on the class token can be trained")
    try:
        known = VitConfig(
            image_size=min(config.img_size),
            patch_size=config.patch_size,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp_ratio=config.mlp_dim / config.embed_dim,
            num_classes=config.num_classes,
            num_registers=config.num_registers,
            distilled=config.distilled,
            init_values=1.0 if config.layer_scale else None,
            layer_norm_eps=config.norm_eps,
        )
    except ValueError as error:
        raise UsageError(f"this model has what recipes cannot train: {error}") from error
    own = to_runtime(known).to_dict()
    if other := [
        f"{name} {value!r} (here {own[name]!r})"
        for name, value in config.to_dict().items()
        if value != own[name] and name not in ELSEWHERE
    ]:
        raise UsageError(
            f"this model has what recipes cannot train: {', '.join(other)}. They train ViT, DeiT and DINOv2 with GELU"
        )
    try:
        return dataclasses.replace(known, **fields)
    except ValueError as error:
        raise UsageError(f"the model does not hold together: {error}") from error


@dataclasses.dataclass
class Start:
    """Pretrained weights under canonical names, and what is known about them; of a pair, the image tower alone."""

    name: str
    params: Mapping[str, Any]
    config: ViTConfig
    preprocessing: ImagePreprocessing
    labels: tuple[str, ...]
    reads_text: bool = False

    def module(
        self, *, image_size: int | None = None, num_classes: int | None = None, drop_path: float = 0.0
    ) -> VisionTransformer:
        """A module with these weights.

        Parameters
        ----------
        image_size
            Side in pixels; the position embedding is resized once, by the model's own rule.
        num_classes
            ``None`` keeps the head; another number gives a new one, with random weights.
        """
        size = image_size or min(self.config.img_size)
        fields: dict[str, Any] = {"image_size": size, "drop_path": drop_path}
        if num_classes is not None:
            fields["num_classes"] = num_classes
        module = VisionTransformer(from_runtime(self.config, **fields))
        state = {name: _tensor(value) for name, value in self.params.items() if not name.startswith("projection.")}
        if num_classes is not None:
            state = {name: value for name, value in state.items() if not name.startswith("head")}
        rows = size // self.config.patch_size
        params: Any = self.params
        state["pos_embed"] = _tensor(position_embedding(params, self.config, rows, rows))
        own = module.state_dict()
        for name, value in own.items():  # the runtime allows no qkv bias; zeros say the same
            if name.endswith("attn.qkv.bias") and name not in state:
                state[name] = torch.zeros_like(value)
            if num_classes is not None and name.startswith("head"):
                state[name] = value
        checkpoints.restore(module, state, Path(self.name))
        return module


def load_start(name: str) -> Start:
    """Find pretrained weights: a run's folder or ``.pt`` file, a weights file or folder, or a name of the zoo.

    Raises
    ------
    UsageError
        If a run's checkpoint holds no Vision Transformer, or the weights are of another architecture.
    VitseekError
        Whatever reading or fetching the weights raises.
    """
    path = Path(name)
    if path.suffix == ".pt" or (path / checkpoints.LAST).is_file():
        return _from_run(path)
    if path.exists():
        loaded = load_weights(path)
        described = loaded.preprocessing
    else:
        row = zoo.find(name)
        config = None if isinstance(row.source, zoo.Embedded) else row.config
        loaded = load_weights(obtain(row.source), config=config, naming=row.naming)
        described = loaded.preprocessing or row.preprocessing.to_dict()
    if not isinstance(loaded.config, ViTConfig):
        raise UsageError(
            f"{name} is a {architecture_of(loaded.config).name} model, and recipes start from plain Vision "
            "Transformers: ViT, DeiT, DINOv2 (`vitseek models`)"
        )
    size = min(loaded.config.img_size)
    fallback = ImagePreprocessing(size_px=size, resize_px=round(size / 0.875), mean=HALF, std=HALF)
    preprocessing = ImagePreprocessing.from_dict(described) if described else fallback
    return Start(name, loaded.params, loaded.config, preprocessing, tuple(loaded.labels or ()), loaded.text is not None)


def _from_run(path: Path) -> Start:
    if path.is_dir():
        path = path / (checkpoints.BEST if (path / checkpoints.BEST).is_file() else checkpoints.LAST)
    found = checkpoints.load(path)
    card = Card.from_dict(found.card)
    if not card.config:
        raise TrainingError(f"{path} is a checkpoint of {found.recipe} without a Vision Transformer in it")
    params = {name.removeprefix(card.prefix): v for name, v in found.model.items() if name.startswith(card.prefix)}
    preprocessing = ImagePreprocessing.from_dict(card.preprocessing)
    arrays = {name: np.asarray(value.numpy()) for name, value in params.items()}
    config = ViTConfig.from_dict(card.config)
    return Start(str(path), arrays, config, preprocessing, card.labels, card.text is not None)


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))  # a copy: mapped files are read-only
