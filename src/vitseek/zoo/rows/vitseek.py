"""The model that comes with the package."""

from collections.abc import Iterator

from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.sources import Embedded
from vitseek.zoo.pictures import AUGREG_PICTURES
from vitseek.zoo.row import ZooRow

NAME = "vitseek-tiny"


def rows() -> Iterator[ZooRow]:
    """The model in the package, as the description beside its weights says it."""
    source = Embedded(f"{NAME}.safetensors")
    description = source.description
    config, preprocessing = description.get("config"), description.get("preprocessing")
    yield ZooRow(
        name=NAME,
        title="ViT-Ti/16, distilled by vitseek",
        family="vitseek",
        # Without the file (a source tree before the model was made) the row still describes what is planned.
        config=ViTConfig.from_dict(config)
        if config
        else ViTConfig(**VARIANTS["vit_tiny"], patch_size=16, img_size=(224, 224)),
        preprocessing=ImagePreprocessing.from_dict(preprocessing) if preprocessing else AUGREG_PICTURES,
        pooling=description.get("pooling") or "cls",
        licence=description.get("licence") or "Apache-2.0",
        source=source,
        naming="timm",
        exact_bytes=source.size_bytes,
    )
