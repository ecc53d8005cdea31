"""Where a model's weights come from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitseek.errors import WeightsError

DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class Embedded:
    """Weights that come with the package, in ``vitseek/data``, and the description beside them."""

    file: str

    @property
    def path(self) -> Path:
        """The weights file.

        Raises
        ------
        WeightsError
            If this installation lacks it.
        """
        path = DATA / self.file
        if not path.is_file():
            raise WeightsError(
                f"the embedded model is not in this installation ({path} is missing): install vitseek again, "
                "or name another model (`vitseek models`) or a weights file."
            )
        return path

    @property
    def sha256(self) -> str | None:
        """As the description says it; a test compares it with the file."""
        digest = self.description.get("sha256")
        return digest if isinstance(digest, str) else None

    @property
    def size_bytes(self) -> int | None:
        """Of the weights file, if it is there."""
        path = DATA / self.file
        return path.stat().st_size if path.is_file() else None

    @property
    def description(self) -> Mapping[str, Any]:
        """``NAME.json`` beside the weights; empty where it is missing."""
        path = (DATA / self.file).with_suffix(".json")
        document = json.loads(path.read_bytes()) if path.is_file() else {}
        return document if isinstance(document, dict) else {}


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Weights in a repository of the Hugging Face hub.

    Parameters
    ----------
    repo
        ``owner/name``.
    revision
        The 40-digit commit. ``None`` where no trustworthy one is known: then ``main``, and the commit seen with the
        first download is remembered.
    sha256
        Of the weights file. ``None`` where no trustworthy one is known: then the hub's own checksum and the one seen
        with the first download.
    file
        The weights file; safetensors only.
    extra_files
        Small JSON files beside it; a missing one is no error.
    gated
        The licence that has to be accepted on the repository's page before anything can be downloaded.
    """

    repo: str
    revision: str | None = None
    sha256: str | None = None
    file: str = "model.safetensors"
    extra_files: tuple[str, ...] = ("config.json",)
    gated: str | None = None

    @property
    def pinned(self) -> bool:
        """Whether vitseek itself knows which bytes to expect."""
        return self.sha256 is not None

    @property
    def page(self) -> str:
        """The repository's page, for people."""
        return f"https://huggingface.co/{self.repo}"


def git_blob_sha1(content: bytes) -> str:
    """What git, and with it the hub, calls a small file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
