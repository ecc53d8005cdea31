"""timm's layouts of the position embedding mean the same as the canonical one."""

import dataclasses

import numpy as np
import pytest

from tests.weights.checkpoints import SMALL, random_params, save_safetensors
from vitseek.errors import WeightsKeyError
from vitseek.models.config import ViTConfig
from vitseek.weights.loader import load_weights

REGISTERS = dataclasses.replace(SMALL, layer_scale=True, num_registers=4)


def added(cls_token: np.ndarray, registers: np.ndarray | None, positions: np.ndarray, patches: np.ndarray, layout: str):
    """What enters the first block, as timm's VisionTransformer._pos_embed computes it."""
    prefix = [cls_token] if registers is None else [cls_token, registers]
    if layout == "patches":  # no_embed_class: only the patches have positions
        return np.concatenate([*prefix, patches + positions], axis=1)
    return np.concatenate([*prefix, patches], axis=1) + positions


@pytest.mark.parametrize("config", [SMALL, REGISTERS], ids=["plain", "registers"])
@pytest.mark.parametrize("layout", ["patches", "all"])
def test_tokens_with_positions_are_those_of_timm(config: ViTConfig, layout: str, tmp_path, rng) -> None:
    rows, columns = config.grid
    count = rows * columns
    arrays = random_params(config, rng)
    arrays["pos_embed"] = rng.normal(
        size=(1, count if layout == "patches" else config.num_prefix_tokens + count, config.embed_dim)
    ).astype(np.float32)
    patches = rng.normal(size=(1, count, config.embed_dim)).astype(np.float32)
    loaded = load_weights(save_safetensors(tmp_path / "model.safetensors", arrays))
    assert loaded.config == config

    reference = added(arrays["cls_token"], arrays.get("reg_token"), arrays["pos_embed"], patches, layout)
    ours = loaded.params
    canonical = np.concatenate([ours["cls_token"], patches], axis=1) + ours["pos_embed"]
    if config.num_registers:
        canonical = np.insert(canonical, [1] * config.num_registers, ours["reg_token"], axis=1)
    np.testing.assert_array_equal(canonical, reference)
    changed = layout == "patches" or config.num_registers > 0
    assert any("pos_embed" in note for note in loaded.notes[1:]) is changed


def test_a_position_grid_of_another_size_is_reported(tmp_path, rng) -> None:
    arrays = random_params(SMALL, rng)
    arrays["pos_embed"] = arrays["pos_embed"][:, :-2]  # one fewer would be the patches-only layout
    path = save_safetensors(tmp_path / "model.safetensors", arrays)
    with pytest.raises(WeightsKeyError, match=r"pos_embed has \(1, 48, 192\), wanted \(1, 50, 192\)"):
        load_weights(path, config=SMALL)
