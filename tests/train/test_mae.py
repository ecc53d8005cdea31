from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.errors import UsageError  # noqa: E402
from vitseek.train.mae import MaskedAutoencoder, build  # noqa: E402
from vitseek.train.options import MaeOptions  # noqa: E402
from vitseek.train.run import run  # noqa: E402
from vitseek.train.task import Silence  # noqa: E402
from vitseek.train.team import Team  # noqa: E402
from vitseek.train.vit import VitConfig  # noqa: E402

CONFIG = VitConfig(image_size=20, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_registers=3)


@pytest.fixture
def module() -> MaskedAutoencoder:
    torch.manual_seed(3)
    return MaskedAutoencoder(CONFIG, MaeOptions(decoder_width=16, decoder_depth=1, decoder_heads=2)).eval()


def test_three_quarters_of_the_patches_are_hidden_and_those_with_the_smallest_noise_seen(
    module: MaskedAutoencoder,
) -> None:
    noise = torch.rand(7, 25)
    _, predicted, hidden = module(torch.randn(7, 3, 20, 20), noise)
    assert predicted.shape == (7, 25, 48)
    assert hidden.sum(dim=1).tolist() == [19.0] * 7  # 6 of 25 stay
    for row in range(7):
        assert float(noise[row][hidden[row] == 0].max()) < float(noise[row][hidden[row] == 1].min())


def test_hidden_pixels_reach_nothing_but_the_loss(module: MaskedAutoencoder) -> None:
    pixels, noise = torch.randn(2, 3, 20, 20), torch.rand(2, 25)
    _, predicted, hidden = module(pixels, noise)
    changed = module.unpatch(torch.where(hidden[..., None] > 0, torch.randn(2, 25, 48), module.patches(pixels)))
    loss, again, _ = module(changed, noise)
    assert torch.equal(predicted, again)
    assert not torch.equal(loss, module(pixels, noise)[0])
    seen = module.unpatch(torch.where(hidden[..., None] > 0, module.patches(pixels), torch.randn(2, 25, 48)))
    assert not torch.equal(predicted, module(seen, noise)[1])


def test_predictions_stand_where_their_patches_are(module: MaskedAutoencoder) -> None:
    # Moving image and noise by the same permutation of patches must not be noticed except through the positions: with
    # positions switched off, predictions move along.
    with torch.no_grad():
        module.encoder.pos_embed.zero_()
        module.decoder_positions.zero_()
    pixels, noise, order = torch.randn(2, 3, 20, 20), torch.rand(2, 25), torch.randperm(25)
    _, predicted, hidden = module(pixels, noise)
    moved = module.unpatch(module.patches(pixels)[:, order])
    _, predicted_moved, hidden_moved = module(moved, noise[:, order])
    assert torch.equal(hidden_moved, hidden[:, order])
    assert torch.allclose(predicted_moved, predicted[:, order], atol=1e-5)


def test_patches_and_images_turn_into_each_other(module: MaskedAutoencoder) -> None:
    pixels = torch.randn(3, 3, 20, 20)
    assert torch.equal(module.unpatch(module.patches(pixels)), pixels)
    assert torch.equal(module.patches(pixels)[1, 7].reshape(3, 4, 4), pixels[1, :, 4:8, 8:12])


def test_targets_are_normalised_within_their_patch_and_only_hidden_patches_count(module: MaskedAutoencoder) -> None:
    pixels, noise = torch.randn(2, 3, 20, 20) * 5 + 3, torch.rand(2, 25)
    target = module.target(pixels)
    assert torch.allclose(target.mean(dim=2), torch.zeros(2, 25), atol=1e-5)
    assert torch.allclose(target.var(dim=2), torch.ones(2, 25), atol=1e-3)
    loss, predicted, hidden = module(pixels, noise)
    wanted = (predicted - target)[hidden == 1].square().mean()
    assert torch.allclose(loss, wanted, atol=1e-6)


def test_a_perfect_prediction_paints_the_true_image(module: MaskedAutoencoder) -> None:
    pixels = torch.randn(2, 3, 20, 20)
    hidden = torch.ones(2, 25)
    assert torch.allclose(module.painted(pixels, module.target(pixels), hidden), pixels, atol=1e-4)


def test_a_mask_of_everything_or_nothing_is_refused(small: Callable[..., Any]) -> None:
    for ratio in (0.0, 1.0):
        options = small("mae", mask_ratio=ratio)
        with pytest.raises(UsageError, match="--mask-ratio is a part between 0 and 1"):
            build(options, Team.join(options), Silence())


def test_a_run_learns_and_draws_its_reconstructions(small: Callable[..., Any]) -> None:
    from PIL import Image

    outcome = run("mae", small("mae", epochs=6, lr=3e-3))
    assert {path.name for path in outcome.pictures} == {"curves.png", "reconstruction.png"}
    with Image.open(outcome.folder / "reconstruction.png") as picture:
        assert picture.height == picture.width * 3  # one held-out image: image, visible part, reconstruction
    assert outcome.scores["val_loss"] < 1.2
