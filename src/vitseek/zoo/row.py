"""What is known about one pretrained model."""

import math
from dataclasses import dataclass

from vitseek.models.architectures import ModelConfig, parameter_shapes
from vitseek.models.text import TextConfig, text_parameter_shapes
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
        The key table of its file; one of ``weights.families.NAMINGS``. ``None`` where the names themselves must tell.
    text
        Its text tower; ``None`` if pictures cannot be searched by words with it.
    tokenizer
        Where the tokenizer of the text tower is.
    aliases
        What others call it; found like its name.
    exact_bytes
        Size of the weights file where it is known to the byte.
    paper
        Its address.
    """

    name: str
    title: str
    family: str
    config: ModelConfig
    preprocessing: ImagePreprocessing
    source: Embedded | HubSource
    naming: str | None
    pooling: str = "cls"
    licence: str = "Apache-2.0"
    paper: str = ""
    text: TextConfig | None = None
    tokenizer: HubSource | None = None
    aliases: tuple[str, ...] = ()
    exact_bytes: int | None = None

    @property
    def parameters(self) -> int:
        """How many numbers the model has, both towers together."""
        shapes = [*parameter_shapes(self.config).values()]
        if self.text is not None:
            shapes += text_parameter_shapes(self.text).values()
        return sum(math.prod(shape) for shape in shapes)

    @property
    def size_bytes(self) -> int:
        """Size of the weights file: exact where known, else its parameters as float32 (the header is left out)."""
        return self.exact_bytes or FLOAT32_BYTES * self.parameters
