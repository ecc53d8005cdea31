"""From the picture to the embedding: a checkpoint's own processor and model in transformers against `vitseek.load`.

The folder holds what a repository on the hub holds: weights, config.json and preprocessor_config.json. Largest absolute
difference measured: 1.1e-6, for values up to 3.2.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitseek

pytestmark = pytest.mark.parity
towers = pytest.importorskip("tests.parity.towers", reason="torch and transformers are not installed")

EMBEDDING_FLOAT32 = 5e-6
SIZES = [(200, 100), (90, 300), (131, 131), (50, 37)]  # (width, height) in px: one narrow, one smaller than the model's


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(17)
    made = []
    for number, (width, height) in enumerate(SIZES):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 9 + 2, width // 9 + 2, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        made.append(folder / f"{number}.png")
    return made


def checkpoint(kind: str) -> tuple[Any, Any]:
    """A random model and its processor; SigLIP's pictures have 38 px, which 7 px patches do not fill."""
    import transformers

    square: dict[str, Any] = {"height": 38, "width": 38}
    models = {
        "clip": lambda: transformers.CLIPModel(
            transformers.CLIPConfig(text_config=towers.TEXT, vision_config=towers.SQUARE, projection_dim=29)
        ),
        "siglip": lambda: transformers.SiglipModel(
            transformers.SiglipConfig(
                text_config={**towers.TEXT, "projection_size": 60}, vision_config={**towers.VISION, "image_size": 38}
            )
        ),
        "siglip2": lambda: transformers.Siglip2Model(
            transformers.Siglip2Config(
                text_config={**towers.TEXT, "projection_size": 60}, vision_config={**towers.VISION, "num_patches": 25}
            )
        ),
    }
    processors = {
        "clip": lambda: transformers.CLIPImageProcessor(size={"shortest_edge": 35}, crop_size=35),
        "siglip": lambda: transformers.SiglipImageProcessor(size=square, resample=3),
        "siglip2": lambda: transformers.Siglip2ImageProcessor(patch_size=7, max_num_patches=25),
    }
    model = models[kind]().eval()
    towers.randomise(model, seed=len(kind))
    return model, processors[kind]()


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_pictures_embed_as_with_the_checkpoints_own_processor(kind: str, pictures: list[Path], tmp_path: Path) -> None:
    import torch

    model, processor = checkpoint(kind)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    ours = vitseek.load(tmp_path)
    assert ours.pooling == "embedding"
    for picture in pictures:
        inputs = processor(images=[Image.open(picture)], return_tensors="pt")
        with torch.inference_mode():
            wanted = model.get_image_features(**inputs).pooler_output.numpy()
        found = ours.embed([picture])
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < EMBEDDING_FLOAT32, picture
    assert np.ptp(ours.embed(pictures), axis=0).max() > 0.1, "four pictures must not look alike"
