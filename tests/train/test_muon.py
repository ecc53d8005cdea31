"""Muon makes the updates of PyTorch's own optimizers."""

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.train.muon import Muon, orthogonalised  # noqa: E402

STEPS = 7


def _problem(seed: int) -> tuple["torch.nn.Linear", "torch.nn.Linear", "torch.Tensor"]:
    torch.manual_seed(seed)
    first, second = torch.nn.Linear(11, 23), torch.nn.Linear(11, 23)
    second.load_state_dict(first.state_dict())
    return first, second, torch.randn(STEPS, 5, 11)


def _train(layer: "torch.nn.Linear", inputs: "torch.Tensor", optimizers: "list[torch.optim.Optimizer]") -> None:
    for batch in inputs:
        for optimizer in optimizers:
            optimizer.zero_grad()
        (layer(batch) - batch.sum()).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon of its own to compare with")
def test_matrices_and_biases_move_as_with_torchs_muon_and_adamw() -> None:
    ours, theirs, inputs = _problem(0)
    groups = [
        {"params": [ours.weight], "muon": True, "weight_decay": 0.1},
        {"params": [ours.bias], "weight_decay": 0.1},
    ]
    _train(ours, inputs, [Muon(groups, lr=0.02, betas=(0.9, 0.98))])
    reference = [
        torch.optim.Muon([theirs.weight], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([theirs.bias], lr=0.02, betas=(0.9, 0.98), weight_decay=0.1),
    ]
    _train(theirs, inputs, reference)
    assert torch.allclose(ours.bias, theirs.bias, atol=1e-6)
    # bfloat16 iterations in another order of operations: measured difference 0, bound one bfloat16 step of an update
    assert torch.allclose(ours.weight, theirs.weight, atol=2e-4)


def test_singular_values_come_close_to_one_in_both_orientations() -> None:
    matrix = torch.randn(13, 37, generator=torch.Generator().manual_seed(1))
    for each in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonalised(each).float())
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_a_bias_in_a_matrix_group_is_refused_with_its_shape() -> None:
    layer = torch.nn.Linear(3, 5)
    with pytest.raises(ValueError, match=r"\(5,\)"):
        Muon([{"params": [layer.bias], "muon": True}])


def test_a_resumed_optimizer_goes_on_exactly() -> None:
    ours, copy, inputs = _problem(2)

    def optimizer(layer: "torch.nn.Linear") -> Muon:
        return Muon([{"params": [layer.weight], "muon": True}, {"params": [layer.bias]}], lr=0.01)

    whole = optimizer(ours)
    _train(ours, inputs, [whole])
    half = optimizer(copy)
    _train(copy, inputs[:3], [half])
    resumed = optimizer(copy)
    resumed.load_state_dict(half.state_dict())
    _train(copy, inputs[3:], [resumed])
    assert torch.equal(ours.weight, copy.weight)
    assert torch.equal(ours.bias, copy.bias)
