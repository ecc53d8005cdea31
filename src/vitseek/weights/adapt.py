"""Turn family-specific layouts of the position embedding into the canonical one.

Canonical is: one position for the class token (and the distillation token), then the grid; registers have none.
timm has two more layouts. With ``no_embed_class`` only the patches have positions: the others get zeros, which adds
nothing. Without it, a model with registers has a position for each of them too: that is folded into the registers,
since both are only ever added.

Source: timm.models.vision_transformer.VisionTransformer._pos_embed.
"""

from collections.abc import Mapping

import numpy as np

from vitseek.models.config import ViTConfig
from vitseek.weights.arrays import AnyArray

ADAPTED = ("pos_embed", "reg_token")  # the parameters that `adapt_positions` looks at and rewrites


def adapt_positions(params: dict[str, AnyArray], config: ViTConfig) -> list[str]:
    """Rewrite ``pos_embed`` (and ``reg_token``) in place where the layout is one of timm's; say so."""
    layout = position_layout(params["pos_embed"].shape, config) if "pos_embed" in params else None
    if layout == "patches":
        positions = params["pos_embed"]
        zeros = np.zeros((1, config.num_position_prefix, config.embed_dim), positions.dtype)
        params["pos_embed"] = np.concatenate([zeros, positions], axis=1)
        return ["pos_embed covers the patches only; the tokens before them get zeros"]
    if layout == "all":
        positions, first = params["pos_embed"], config.num_position_prefix
        grid = first + config.num_registers
        params["reg_token"] = params["reg_token"] + positions[:, first:grid]
        params["pos_embed"] = np.concatenate([positions[:, :first], positions[:, grid:]], axis=1)
        return ["pos_embed has positions for the registers; they are added to the registers"]
    return []


def canonical_shapes(shapes: Mapping[str, tuple[int, ...]], config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """The shapes that `adapt_positions` will leave, for checking before anything is read."""
    adapted = dict(shapes)
    if position_layout(shapes.get("pos_embed", ()), config):
        rows, columns = config.grid
        adapted["pos_embed"] = (1, config.num_position_prefix + rows * columns, config.embed_dim)
    return adapted


def position_layout(shape: tuple[int, ...], config: ViTConfig) -> str | None:
    """Which of timm's layouts a ``pos_embed`` has: ``"patches"``, ``"all"``, or ``None`` for the canonical one."""
    rows, columns = config.grid
    layouts = {"patches": rows * columns, "all": config.num_prefix_tokens + rows * columns}
    for name, positions in layouts.items():
        if shape == (1, positions, config.embed_dim) and positions != config.num_position_prefix + rows * columns:
            return name
    return None
