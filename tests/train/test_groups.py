import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.train.groups import layer_decay, parameter_groups  # noqa: E402
from vitseek.train.vit import VisionTransformer, VitConfig  # noqa: E402

CONFIG = VitConfig(
    image_size=12, patch_size=4, embed_dim=24, depth=3, num_heads=2, num_classes=5, num_registers=2, init_values=0.1
)


def _named(module: torch.nn.Module, groups: list[dict[str, object]], field: str) -> dict[str, object]:
    of = {id(p): group[field] for group in groups for p in group["params"]}  # type: ignore[attr-defined]
    return {name: of[id(p)] for name, p in module.named_parameters() if p.requires_grad}


def test_every_trainable_parameter_is_in_one_group() -> None:
    module = VisionTransformer(CONFIG)
    module.norm.requires_grad_(False)
    groups = parameter_groups(module, 0.05, lr_scale=layer_decay(0.5, 3))
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in module.parameters() if p.requires_grad)


def test_weights_decay_and_norms_biases_tokens_positions_and_layer_scale_do_not() -> None:
    module = VisionTransformer(CONFIG)
    decay = _named(module, parameter_groups(module, 0.05), "weight_decay")
    assert {name for name, value in decay.items() if value == 0.05} == {
        "patch_embed.proj.weight", "head.weight",
        *(f"blocks.{i}.{part}.weight" for i in range(3) for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")),
    }  # fmt: skip


def test_learning_rates_fall_by_the_decay_from_head_to_embeddings() -> None:
    module = VisionTransformer(CONFIG)
    rates = _named(module, parameter_groups(module, 0.05, lr_scale=layer_decay(0.5, 3)), "lr_scale")
    assert rates["head.weight"] == rates["norm.weight"] == 1.0
    assert [rates[f"blocks.{i}.mlp.fc1.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert rates["patch_embed.proj.weight"] == rates["pos_embed"] == rates["cls_token"] == 0.0625
