"""What is known about one pretrained model."""

import math
from dataclasses import dataclass

from vitseek.models.config import ViTConfig, parameter_shapes
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.sources import Embedded, HubSource

FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class ZooRow:
    """A pretrained model: what it is, how it wants its pictures, and where its weights are.

    Parameters
    ----------
    name
        What users call it.
    title, family
        What its authors call it.
    preprocessing
        The authors' own evaluation preprocessing: the policy ``official``.
    pooling
        Which features represent an image.
    naming
        The key table of its file; one of ``weights.families.NAMINGS``.
    exact_bytes
        Size of the weights file where it is known to the byte.
    paper
        Its address.
    """

    name: str
    title: str
    family: str
    config: ViTConfig
    preprocessing: ImagePreprocessing
    source: Embedded | HubSource
    naming: str
    pooling: str = "cls"
    licence: str = "Apache-2.0"
    paper: str = ""
    exact_bytes: int | None = None

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(math.prod(shape) for shape in parameter_shapes(self.config).values())

    @property
    def size_bytes(self) -> int:
        """Size of the weights file: exact where known, else its parameters as float32 (the header is left out)."""
        return self.exact_bytes or FLOAT32_BYTES * self.parameters
