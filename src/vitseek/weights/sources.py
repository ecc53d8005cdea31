"""Where a model's weights come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Embedded:
    """Weights that come with the package, in ``vitseek/data``."""

    file: str


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Weights in a repository of the Hugging Face hub.

    Parameters
    ----------
    repo
        ``owner/name``.
    file
        The weights file in it; safetensors only.
    revision
        The 40-digit commit; ``None`` if no trustworthy one is known, then the commit seen at the first download is
        kept.
    sha256
        Of the file; ``None`` if not known, then the one seen at the first download is kept.
    extra_files
        Small JSON files that are fetched too.
    """

    repo: str
    file: str = "model.safetensors"
    revision: str | None = None
    sha256: str | None = None
    extra_files: tuple[str, ...] = ("config.json",)

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repo}"
