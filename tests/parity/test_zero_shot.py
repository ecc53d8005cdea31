"""Probabilities of labels from both towers, against transformers: softmax of CLIP's scores, sigmoid of SigLIP's."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.text_engine import TextEngine
from vitseek.heads.zero_shot import classifier, probabilities

pytestmark = pytest.mark.parity
texts = pytest.importorskip("tests.parity.texts", reason="torch and transformers are not installed")
torch = pytest.importorskip("torch")

FLOAT32 = 5e-6  # measured: 1.1e-6, for probabilities that differ by up to 0.89
PICTURES, SIDE_PX = 5, 48


class Numbered:
    """Texts by their number: "3" is the third row of ready token numbers."""

    def __init__(self, made: "texts.Reference") -> None:
        self.logit_scale = math.exp(made.loaded.text.logit_scale)
        self.logit_bias = made.loaded.text.logit_bias
        self._ids, self._mask = texts.random_texts(made.config)
        self._engine = TextEngine(made.text, made.config)

    def embed_texts(self, wanted: Sequence[str] | str, *, report: Callable[[str], None] | None = None) -> np.ndarray:
        rows = [int(text) for text in wanted]
        return np.asarray(self._engine.encode(self._ids[rows], self._mask[rows]))


@pytest.mark.parametrize("name", list(texts.FAMILIES))
def test_probabilities_equal_transformers(name: str) -> None:
    made = texts.reference(name)
    model = Numbered(made)
    ids, mask = texts.random_texts(made.config)
    pixels = np.random.default_rng(11).standard_normal((PICTURES, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    logits = torch.from_numpy(made.logits(ids, mask, pixels).T)  # (pictures, texts)
    sigmoid = model.logit_bias is not None
    theirs = (torch.sigmoid(logits) if sigmoid else torch.softmax(logits, dim=-1)).numpy()
    features = NumpyEngine(made.image, made.loaded.config, "embedding").embed_pixels(pixels)
    rows = classifier(model, [str(number) for number in range(len(ids))], ["{}"])
    ours = probabilities(features, rows, model)
    assert sigmoid == name.startswith("SigLIP")
    assert np.abs(ours - theirs).max() < FLOAT32
    assert np.ptp(theirs) > 100 * FLOAT32  # they are not all alike
