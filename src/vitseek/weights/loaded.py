"""What a checkpoint becomes: parameters under canonical names, with everything that is known about them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitseek.models.architectures import ModelConfig
from vitseek.models.text import TextConfig
from vitseek.weights.arrays import AnyArray


class LazyArrays(Mapping[str, AnyArray]):
    """Named arrays that are read at the moment they are asked for, and not kept."""

    def __init__(self, read: Mapping[str, Callable[[], AnyArray]]) -> None:
        self._read = dict(read)

    def __getitem__(self, name: str) -> AnyArray:
        return self._read[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._read

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


@dataclass
class LoadedText:
    """The text tower of a checkpoint. Nothing of it is read until its parameters are asked for.

    Parameters
    ----------
    params
        Exactly the names and shapes of ``text_parameter_shapes(config)``, float32, read on access.
    tokenizer
        ``tokenizer.json`` beside the weights; ``None`` if there is none.
    logit_scale, logit_bias
        The pair's temperature (its natural logarithm) and bias, as stored.
    """

    config: TextConfig
    params: Mapping[str, AnyArray]
    tokenizer: Path | None
    logit_scale: float | None = None
    logit_bias: float | None = None


@dataclass
class LoadedWeights:
    """A checkpoint under canonical names, with everything that is known about it.

    Parameters
    ----------
    params
        Canonical name to array: exactly the names and shapes of ``parameter_shapes(config)``, float32, read on access
        and not kept. Read-only views of the mapped file where its layout allows; what is stored in half precision or
        in parts is converted or joined at that moment, so that never more than one such copy is in memory.
    preprocessing
        As found beside the file, in the fields of ``ImagePreprocessing``; ``None`` if nothing was found.
    usual_pictures
        The same as the family has it, for want of anything better; ``None`` if the naming tells no family.
    pooling
        What stands for a picture: as the description beside the file says, else as is usual for such a model.
    naming
        Whose names the file uses; one of ``families.NAMINGS``.
    sha256
        Of the file, or of the list of shards.
    text
        The text tower, if the checkpoint has one.
    notes
        What was inferred or left out, one sentence each, for the user.
    """

    params: Mapping[str, AnyArray]
    config: ModelConfig
    preprocessing: dict[str, Any] | None
    pooling: str
    naming: str
    sha256: str
    name: str | None = None
    labels: list[str] | None = None
    text: LoadedText | None = None
    usual_pictures: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
