"""vitseek: search your own images with Vision Transformers, on any CPU, without PyTorch.

import vitseek
model = vitseek.load("dinov2-base")
features = model.embed(["cat.jpg", "dog.jpg"])          # (2, 768)
gallery = vitseek.Gallery("photos")
gallery.index()
for match in gallery.search("cat.jpg", k=10):
    print(match.score, match.path)
"""

from typing import TYPE_CHECKING, Any

from vitseek.version import __version__

if TYPE_CHECKING:
    from vitseek.engines.model import Model as Model
    from vitseek.engines.model import load as load
    from vitseek.gallery.gallery import Gallery as Gallery

__all__ = ["Gallery", "Model", "__version__", "load"]

_HOME = {
    "Gallery": "vitseek.gallery.gallery",
    "Model": "vitseek.engines.model",
    "load": "vitseek.engines.model",
}


def __getattr__(name: str) -> Any:
    # Nothing is imported before it is used: `import vitseek` takes milliseconds and opens no file.
    if name not in _HOME:
        raise AttributeError(f"module 'vitseek' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
