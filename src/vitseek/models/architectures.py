"""The architectures that vitseek computes, by name: the one place where a new one is entered.

A family of checkpoints is a config of one of these; a new architecture is a config class, the names and shapes of its
parameters, and a forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vitseek.errors import ConfigError
from vitseek.models import config as vit_config
from vitseek.models import swin, swin_config, vit
from vitseek.models.config import ViTConfig
from vitseek.models.swin_config import SwinConfig
from vitseek.models.tokens import Tokens

ModelConfig = ViTConfig | SwinConfig
KEY = "architecture"  # in a config.json; absent in those of a plain Vision Transformer


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One way to turn pixels into tokens.

    Parameters
    ----------
    name
        What ``"architecture"`` says in a config.json.
    config_class
        With ``from_dict``; the instances have ``to_dict``, ``patch_size``, ``img_size``, ``depth``, ``num_features``,
        ``num_prefix_tokens``, ``num_classes``, and what :class:`vitseek.models.tokens.Poolable` asks for.
    parameter_shapes
        From a config to the name and shape of every parameter.
    forward_features
        ``(params, config, pixels, **options) -> Tokens``, the plain pass.
    """

    name: str
    config_class: type[ModelConfig]
    parameter_shapes: Callable[[Any], dict[str, tuple[int, ...]]]
    forward_features: Callable[..., Tokens]


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        one.name: one
        for one in (
            Architecture(
                name="vit",
                config_class=ViTConfig,
                parameter_shapes=vit_config.parameter_shapes,
                forward_features=vit.forward_features,
            ),
            Architecture(
                name="swin",
                config_class=SwinConfig,
                parameter_shapes=swin_config.swin_parameter_shapes,
                forward_features=swin.forward_features,
            ),
        )
    }
)


def architecture_of(config: ModelConfig) -> Architecture:
    """Return the architecture that a config belongs to; TypeError if it is no model config."""
    for architecture in ARCHITECTURES.values():
        if isinstance(config, architecture.config_class):
            return architecture
    raise TypeError(f"{type(config).__name__} is no model config: {', '.join(ARCHITECTURES)} are known")


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """Build the config that ``to_dict`` of any architecture wrote; ``"architecture"`` says which, absent for a ViT.

    Raises
    ------
    ConfigError
        If the architecture is unknown, or its fields are unknown, missing or contradictory.
    """
    name = values.get(KEY, "vit")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ConfigError(
            f"unknown architecture {name!r} (known: {', '.join(ARCHITECTURES)}). The file may come from a newer "
            "vitseek: upgrade, or choose another model"
        )
    fields = {key: value for key, value in values.items() if key != KEY}
    return ARCHITECTURES[name].config_class.from_dict(fields)


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every parameter of a model, whatever its architecture."""
    return architecture_of(config).parameter_shapes(config)
