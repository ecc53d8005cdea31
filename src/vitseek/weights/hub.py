"""Get a model's weights onto this machine, once, and know that they are the right ones.

Files lie in ``<cache>/models/<owner>--<name>/<revision>/``: a plain folder that can be copied to a machine without a
network, with a ``source.json`` that says where it came from. What the Hugging Face cache already has is used in place.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitseek.errors import ChecksumError, DownloadError, OfflineError
from vitseek.paths import cache_dir
from vitseek.weights.fingerprint import file_sha256, remember
from vitseek.weights.sources import Embedded, HubSource

if TYPE_CHECKING:
    from vitseek.weights.transfer import Progress

MAIN = "main"
RECORD = "source.json"
YES = ("1", "ON", "YES", "TRUE")  # what huggingface_hub takes for true


def obtain(
    source: Embedded | HubSource,
    *,
    tokenizer: HubSource | None = None,
    offline: bool | None = None,
    progress: "Progress | None" = None,
) -> Path:
    """The weights file of a source: the embedded one, or pulled from the hub if it is not here yet.

    Parameters
    ----------
    tokenizer
        Pulled along when the weights are; pictures can do without it, so its absence is no error here.
    """
    if isinstance(source, Embedded):
        path = source.path
        if source.sha256 and (came := file_sha256(path)) != source.sha256:
            raise ChecksumError(f"{path} has sha256 {came}, wanted {source.sha256}: install vitseek again.")
        return path
    if found := held(source):
        return found
    file = pull(source, offline=offline, progress=progress)
    if tokenizer is not None:
        with suppress(DownloadError):
            pull(tokenizer, offline=offline)
    return file


def pull(source: HubSource, *, offline: bool | None = None, progress: "Progress | None" = None) -> Path:
    """Bring a hub model's files onto this machine; nothing happens if they are here.

    Parameters
    ----------
    offline
        Never touch the network; by default what ``HF_HUB_OFFLINE`` says.
    progress
        Called with file name, bytes so far and bytes in all while something is fetched.

    Returns
    -------
    The weights file, its checksum verified.

    Raises
    ------
    OfflineError
        If the file is not here and the network may not be used.
    ChecksumError
        If the file, here or there, is not the expected one.
    DownloadError
        If the download fails; the next try goes on where it stopped.
    """
    if found := held(source):
        return found
    if is_offline(offline):
        raise OfflineError(
            f"{source.repo} is not on this machine, and the network may not be used (--offline or HF_HUB_OFFLINE). "
            f"Fetch it once with the network (`vitseek models pull`), or copy {source.file} from {source.page} into "
            f"{folder(source)}, or give a weights file by its path."
        )
    return _download(source, progress)


def held(source: HubSource) -> Path | None:
    """The weights file if it is on this machine already, its checksum verified; no network is used.

    Raises
    ------
    ChecksumError
        If the file changed since it was fetched, or is not the pinned one.
    """
    file = present(source)
    if file is not None:
        own = file == folder(source) / source.file
        wanted = source.sha256 or (_record(source).get("sha256") if own else None)
        if wanted and (came := file_sha256(file)) != wanted:
            raise ChecksumError(
                f"{file} has sha256 {came}, wanted {wanted} ({source.repo}): it is damaged or not this model. "
                "Delete it and pull the model again."
            )
    return file


def present(source: HubSource) -> Path | None:
    """The weights file if it is on this machine, whatever is in it."""
    candidates = (folder(source) / source.file, _in_hugging_face_cache(source))
    return next((file for file in candidates if file is not None and file.is_file()), None)


def folder(source: HubSource) -> Path:
    """Where a source's files lie in vitseek's own cache."""
    return cache_dir() / "models" / source.repo.replace("/", "--") / (source.revision or MAIN)


def is_offline(offline: bool | None = None) -> bool:
    """Whether the network is forbidden, by the caller or by the environment."""
    if offline is not None:
        return offline
    variables = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(variable, "").upper() in YES for variable in variables)


def _how_to_be_let_in(source: HubSource, refusal: Exception) -> str:
    if source.gated is None:
        return str(refusal)
    return (
        f"{source.repo} is given only to those who accept the {source.gated}: do so at {source.page} with an account "
        f"of the hub, log in with `hf auth login`, and try again; or download {source.file} in a browser and give its "
        f"path. ({refusal})"
    )


def _in_hugging_face_cache(source: HubSource) -> Path | None:
    from huggingface_hub import constants, try_to_load_from_cache

    if not (Path(constants.HF_HUB_CACHE) / f"models--{source.repo.replace('/', '--')}").is_dir():
        return None  # without importing the hub's client, which takes as long as a search
    found = try_to_load_from_cache(source.repo, source.file, revision=source.revision or MAIN)
    return Path(found) if isinstance(found, str) else None


def _record_file(source: HubSource) -> Path:
    """What is known of the weights is in ``source.json``; a tokenizer beside them has a record of its own."""
    name = Path(source.file)
    return folder(source) / (RECORD if name.suffix == ".safetensors" else f"{name.stem}.{RECORD}")


def _record(source: HubSource) -> Mapping[str, Any]:
    with suppress(OSError, ValueError):
        document = json.loads(_record_file(source).read_bytes())
        return document if isinstance(document, dict) else {}
    return {}


def _download(source: HubSource, progress: "Progress | None") -> Path:
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # exported lazily

    # An HTTP client takes 0.2 s to import: only a download pays for it.
    from vitseek.weights.transfer import NotThereError, RefusedError, fetch, look_up, session

    target = folder(source) / source.file
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"{target.parent} cannot be made ({error}); set VITSEEK_CACHE to another folder."
        ) from error
    # Two processes at once: the second waits, and finds the file.
    with WeakFileLock(target.parent / ".lock"):
        if found := held(source):
            return found
        with session() as client:
            # A branch may move between two files: everything comes from the commit of the first answer.
            try:
                remote = look_up(client, source.repo, source.file, source.revision or MAIN)
            except RefusedError as error:
                raise DownloadError(_how_to_be_let_in(source, error)) from error
            if source.sha256 and remote.sha256 not in (None, source.sha256):
                raise ChecksumError(
                    f"{source.repo}/{source.file} has sha256 {remote.sha256} on the hub, wanted {source.sha256}: the "
                    "file was replaced there, or HF_ENDPOINT serves another one. Nothing was downloaded."
                )
            revision = source.revision or remote.commit or MAIN
            for name in source.extra_files:
                with suppress(NotThereError):
                    fetch(client, look_up(client, source.repo, name, revision), target.parent / name)
            sha256 = fetch(client, remote, target, sha256=source.sha256, progress=progress)
        remember(target, sha256)
        record = {
            "repo": source.repo,
            "file": source.file,
            "commit": source.revision or remote.commit,
            "sha256": sha256,
            "size_bytes": target.stat().st_size,
            "pinned": source.pinned,
        }
        _record_file(source).write_text(json.dumps(record, indent=2) + "\n", encoding="ascii")
    return target
