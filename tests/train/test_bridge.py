import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from safetensors.numpy import save_file  # noqa: E402

from tests.models.random_weights import FAMILIES, SMALL  # noqa: E402
from vitseek.errors import UsageError  # noqa: E402
from vitseek.models.architectures import parameter_shapes  # noqa: E402
from vitseek.models.config import ViTConfig  # noqa: E402
from vitseek.models.swin_config import SwinConfig  # noqa: E402
from vitseek.train.bridge import from_runtime, load_start, to_runtime  # noqa: E402
from vitseek.train.vit import VisionTransformer  # noqa: E402

TRAINED = {"vit", "distilled", "registers", "dino"}


def config_of(family: str) -> ViTConfig:
    return ViTConfig.from_dict({**SMALL.to_dict(), "img_size": (35, 35), **FAMILIES[family]})


@pytest.mark.parametrize("family", sorted(TRAINED))
def test_the_module_has_the_parameters_that_the_runtime_reads(family: str) -> None:
    config = config_of(family)
    module = VisionTransformer(from_runtime(config, image_size=35))
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    known = parameter_shapes(config)
    assert {name: shape for name, shape in own.items() if name in known} == known
    assert {name.split(".", 2)[-1] for name in own.keys() - known.keys()} <= {"attn.qkv.bias"}
    back = to_runtime(module.config)
    assert (back.embed_dim, back.mlp_dim, back.num_registers) == (
        config.embed_dim,
        config.mlp_dim,
        config.num_registers,
    )


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - TRAINED))
def test_what_the_module_cannot_be_is_refused_by_name(family: str) -> None:
    config = config_of(family)
    with pytest.raises(UsageError, match=r"this model has what recipes cannot train: |looks at the patches") as refused:
        from_runtime(config)
    if not config.class_token and "cannot train" in str(refused.value):
        assert "class_token False (here True)" in str(refused.value)


def test_a_start_of_another_architecture_is_refused(tmp_path: Path) -> None:
    config = SwinConfig(embed_dim=6, depths=(1, 1), num_heads=(1, 2), window_size=3, img_size=(24, 24))
    rng = np.random.default_rng(3)
    shapes = parameter_shapes(config)
    save_file(
        {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}, tmp_path / "windows.safetensors"
    )
    values = {"architecture": "swin", **config.to_dict()}
    document = {"format": "vitseek", "version": 1, "name": "windows", "config": values, "preprocessing": None}
    (tmp_path / "windows.json").write_text(json.dumps(document))
    with pytest.raises(
        UsageError, match=r"windows.safetensors is a swin model, and recipes start from plain Vision Tr"
    ):
        load_start(str(tmp_path / "windows.safetensors"))
