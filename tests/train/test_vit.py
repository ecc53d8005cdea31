"""The trainable module speaks timm's names and computes what the NumPy runtime computes."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.models.config import parameter_shapes  # noqa: E402
from vitseek.models.vit import forward_features  # noqa: E402
from vitseek.train.bridge import to_runtime  # noqa: E402
from vitseek.train.vit import VARIANTS, VisionTransformer, VitConfig, resize_pos_embed, variant  # noqa: E402

CONFIG = VitConfig(image_size=20, patch_size=4, embed_dim=24, depth=3, num_heads=2, num_classes=7)
DISTILLED = {"distilled": True, "init_values": 0.3}
REGISTERS = {"num_registers": 3, "init_values": 0.3, "pos_embed": "sincos"}
KINDS = pytest.mark.parametrize("fields", [{}, DISTILLED, REGISTERS], ids=["plain", "distilled", "registers"])


def _model(**fields: object) -> VisionTransformer:
    torch.manual_seed(5)
    model = VisionTransformer(VitConfig(**{**CONFIG.__dict__, **fields})).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # no zero biases and unit norms that hide a mistake
    return model


@KINDS
@pytest.mark.parametrize("size", [(20, 20), (12, 28)], ids=["native", "resized"])
def test_tokens_equal_those_of_the_numpy_runtime(fields: dict[str, object], size: tuple[int, int]) -> None:
    model = _model(**fields)
    pixels = torch.randn(2, 3, *size)
    params = {name: value.numpy() for name, value in model.state_dict().items()}
    runtime = forward_features(params, to_runtime(model.config), pixels.numpy())
    with torch.no_grad():
        difference = np.abs(model.tokens(pixels).numpy() - runtime.all)
    assert difference.max() < 1e-5  # float32; measured 2e-6


@KINDS
def test_names_and_shapes_are_the_runtimes(fields: dict[str, object]) -> None:
    model = _model(**fields)
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert ours == dict(parameter_shapes(to_runtime(model.config)))


def test_attention_is_the_same_with_and_without_gradients() -> None:
    model = _model()
    pixels = torch.randn(2, 3, 20, 20)
    with torch.no_grad():
        fused = model.tokens(pixels)
    assert torch.allclose(model.tokens(pixels), fused, atol=1e-5)


def test_hidden_states_end_where_the_tokens_are() -> None:
    model = _model(**REGISTERS)
    pixels = torch.randn(2, 3, 20, 20)
    hidden = model.hidden(pixels)
    assert torch.equal(hidden.normed, model.tokens(pixels))
    assert len(hidden.attended) == len(hidden.blocks) == 3
    assert torch.equal(model.blocks[1](hidden.blocks[0]), hidden.blocks[1])
    assert torch.equal(model.blocks[1].attend(hidden.blocks[0]), hidden.attended[1])


def test_a_fixed_position_table_is_saved_but_never_trained() -> None:
    model = _model(pos_embed="sincos")
    assert not model.pos_embed.requires_grad
    assert "pos_embed" in model.state_dict()
    rows = VisionTransformer(VitConfig(**{**CONFIG.__dict__, "pos_embed": "sincos"})).pos_embed[0, 1:]
    assert torch.unique(rows, dim=0).shape == (25, 24)  # every place has its own
    assert torch.allclose(rows.square().sum(dim=1), torch.tensor(12.0))  # sine and cosine of 12 angles


def test_resizing_positions_to_their_own_grid_changes_nothing_and_keeps_the_prefix() -> None:
    positions = torch.randn(1, 2 + 25, 24)
    assert resize_pos_embed(positions, 5, 5, num_prefix_tokens=2) is positions
    resized = resize_pos_embed(positions, 3, 7, num_prefix_tokens=2)
    assert resized.shape == (1, 2 + 21, 24)
    assert torch.equal(resized[:, :2], positions[:, :2])
    with pytest.raises(ValueError, match="26 patch positions"):
        resize_pos_embed(positions, 3, 7, num_prefix_tokens=1)


def test_stochastic_depth_is_off_in_evaluation_and_keeps_the_mean_in_training() -> None:
    model = _model(drop_path=0.5, num_classes=0)
    branch = torch.ones(4000, 1, 1)
    last = model.blocks[-1]
    assert torch.equal(last._drop(branch), branch)
    last.train()
    dropped = last._drop(branch)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert abs(float(dropped.mean()) - 1.0) < 0.1
    assert model.blocks[0].drop_path == 0.0


def test_weights_survive_the_disk(tmp_path: Path) -> None:
    model, other = _model(), VisionTransformer(CONFIG)
    model.save(tmp_path / "model.safetensors")
    other.load(tmp_path / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_checkpoint_of_another_shape_is_refused_with_all_mismatches(tmp_path: Path) -> None:
    _model().save(tmp_path / "model.safetensors")
    other = VisionTransformer(VitConfig(**{**CONFIG.__dict__, "depth": 2, "num_classes": 5, "distilled": True}))
    with pytest.raises(ValueError, match="not a checkpoint of this architecture") as caught:
        other.load(tmp_path / "model.safetensors")
    for part in ("blocks.2.norm1.bias", "dist_token", "head.weight: file (7, 24), model (5, 24)", "pos_embed"):
        assert part in str(caught.value)


def test_named_variants_have_the_papers_sizes() -> None:
    millions = {}
    for name in VARIANTS:
        with torch.device("meta"):
            module = VisionTransformer(variant(name, num_classes=1000))
        millions[name] = sum(p.numel() for p in module.parameters()) / 1e6
    # DeiT's and ViT's tables: 5.7, 22.1, 86.6, 304.3; huge with patch 14: 632.0
    assert millions == pytest.approx(
        {"tiny": 5.7, "small": 22.1, "base": 86.6, "large": 304.3, "huge": 632.0}, rel=0.01
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"embed_dim": 25}, "25 cannot be split over 2 heads"),
        ({"image_size": 21}, "use 20 px"),
        ({"pos_embed": "rotary"}, "'learned' or 'sincos'"),
        ({"pos_embed": "sincos", "embed_dim": 26}, "divisible by 4"),
        ({"distilled": True, "num_registers": 2}, "choose one"),
        ({"drop_path": 1.0}, "drop_path is a probability"),
    ],
)
def test_shapes_that_do_not_hold_together_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VitConfig(**{**CONFIG.__dict__, **fields})  # type: ignore[arg-type]


def test_an_image_that_is_not_whole_patches_is_refused_with_the_size_that_works() -> None:
    with pytest.raises(ValueError, match="resize it to 20 x 24"):
        _model()(torch.zeros(1, 3, 22, 24))
