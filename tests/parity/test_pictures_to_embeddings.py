"""From pictures to embeddings: a saved checkpoint with its processor, loaded as a user would, against transformers.

Pictures of several sizes go in at once. At native resolution transformers pads them to one number of patches and masks
the padding; vitseek computes each size by itself. The result must not depend on that.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitseek

pytestmark = pytest.mark.parity
families = pytest.importorskip("tests.parity.families", reason="torch and transformers are not installed")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = [(400, 300), (300, 400), (33, 97), (400, 300), (224, 224), (641, 37)]  # (width, height) in px
FLOAT32 = 1e-5  # measured: 2.7e-6, for embeddings of up to 4.4
TOWER = {"hidden_size": 60, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 53, "patch_size": 16}


def naflex() -> tuple[Any, Any, str]:
    model = transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**TOWER, num_patches=256))
    return model, transformers.Siglip2ImageProcessorPil(patch_size=16, max_num_patches=256), "pooler_output"


def siglip() -> tuple[Any, Any, str]:
    model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**TOWER, image_size=224))
    return model, transformers.SiglipImageProcessorPil(), "pooler_output"


def siglip_with_an_edge_that_fills_no_patch() -> tuple[Any, Any, str]:
    config = transformers.SiglipVisionConfig(**{**TOWER, "patch_size": 14}, image_size=104)
    size = {"height": 104, "width": 104}
    return transformers.SiglipVisionModel(config), transformers.SiglipImageProcessorPil(size=size), "pooler_output"


def clip() -> tuple[Any, Any, str]:
    config = transformers.CLIPVisionConfig(**TOWER, projection_dim=13)
    return transformers.CLIPVisionModelWithProjection(config), transformers.CLIPImageProcessorPil(), "image_embeds"


@pytest.mark.parametrize("make", [naflex, siglip, siglip_with_an_edge_that_fills_no_patch, clip])
def test_embeddings_of_pictures_equal_transformers(make: Callable[[], tuple[Any, Any, str]], tmp_path: Path) -> None:
    reference, processor, embedding = make()
    families.randomise(reference.eval(), seed=7)
    reference.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    rng = np.random.default_rng(20)
    pictures = [Image.fromarray(rng.integers(0, 256, (high, wide, 3), dtype=np.uint8)) for wide, high in SIZES]
    with torch.inference_mode():
        theirs = reference(**processor(images=pictures, return_tensors="pt"))[embedding].numpy()
    model = vitseek.load(tmp_path)
    assert model.pooling == "embedding"
    ours = model.embed(pictures, batch_size=4)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=FLOAT32)
