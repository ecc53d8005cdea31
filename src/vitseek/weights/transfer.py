"""Move one file from the hub to this disk: metadata, ranged download, deadlines, checksum.

huggingface_hub builds the address and the headers; the bytes are moved here, because its own download (release 2)
throws an interrupted file away and starts again from zero.
"""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import httpx

from vitseek.errors import ChecksumError, DownloadError
from vitseek.version import __version__
from vitseek.weights.sources import git_blob_sha1

Result = TypeVar("Result")
Progress = Callable[[str, int, int | None], None]
"""Called with file name, bytes so far, and bytes in all if they are known."""

HUB = "https://huggingface.co"
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0  # HF_HUB_DOWNLOAD_TIMEOUT overrides it
SLOW_WINDOW_S = 60.0
SLOW_BYTES = 16 * 1024  # less than this in a window is a dead connection that still drips
ATTEMPTS = 4
BACKOFF_S = 1.0  # then 2, 4
CHUNK_BYTES = 1 << 20
MAX_REDIRECTS = 5
TRANSIENT = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)
SHA256_DIGITS, SHA1_DIGITS = 64, 40


@dataclass(frozen=True)
class Remote:
    """What the hub says about a file before it is fetched."""

    url: str
    size: int | None
    etag: str  # the sha256 of a large file, the git blob sha1 of a small one
    commit: str | None

    @property
    def sha256(self) -> str | None:
        return self.etag if _is_hex(self.etag, SHA256_DIGITS) else None


class RefusedError(DownloadError):
    """The hub wants an account that may read this repository."""


class NotThereError(DownloadError):
    """The hub has no such file (404); only for files that may be missing."""


@contextmanager
def session() -> Iterator[httpx.Client]:
    """A client with the hub's headers (among them the user's token, if any) and deadlines on every step."""
    from huggingface_hub import constants, get_token

    read_s = float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or READ_TIMEOUT_S)
    timeout = httpx.Timeout(read_s, connect=CONNECT_TIMEOUT_S)
    headers = {"user-agent": f"vitseek/{__version__}", "accept-encoding": "identity"}
    if not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN and (token := get_token()):
        headers["authorization"] = f"Bearer {token}"  # httpx drops it when a redirect leaves the hub
    with httpx.Client(headers=headers, timeout=timeout, follow_redirects=False) as client:
        yield client


def look_up(client: httpx.Client, repo: str, file: str, revision: str) -> Remote:
    """Ask the hub for a file's size, checksum and commit.

    Raises
    ------
    NotThereError
        If repository, revision or file do not exist.
    DownloadError
        If the hub cannot be reached or refuses.
    """
    from huggingface_hub import hf_hub_url

    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    url = hf_hub_url(repo, file, revision=revision, endpoint=endpoint.rstrip("/"))
    what = f"{repo}/{file} at {revision}"
    for _ in range(MAX_REDIRECTS):
        response = _with_retries(what, partial(_head, client, url, what))
        headers = response.headers
        # A large file is linked: its checksum comes with the redirect to the storage host. A renamed repository
        # redirects too, but within the hub and without a checksum.
        if "x-linked-etag" in headers or not response.is_redirect:
            etag = (headers.get("x-linked-etag") or headers.get("etag") or "").removeprefix("W/").strip('"')
            size = headers.get("x-linked-size") or (None if response.is_redirect else headers.get("content-length"))
            return Remote(url, int(size) if size and size.isdecimal() else None, etag, headers.get("x-repo-commit"))
        url = urljoin(url, headers.get("location", ""))
        if urlsplit(url).netloc not in (urlsplit(endpoint).netloc, urlsplit(HUB).netloc):
            raise DownloadError(f"{what}: the hub sends elsewhere ({urlsplit(url).netloc}) without a checksum.")
    raise DownloadError(f"{what}: more than {MAX_REDIRECTS} redirects; check HF_ENDPOINT ({endpoint}).")


def _head(client: httpx.Client, url: str, what: str) -> httpx.Response:
    response = client.head(url)
    if response.status_code >= httpx.codes.BAD_REQUEST:
        raise _refusal(what, response)
    return response


def fetch(
    client: httpx.Client, remote: Remote, target: Path, *, sha256: str | None = None, progress: Progress | None = None
) -> str:
    """Download to ``target``, going on where an earlier try stopped.

    Parameters
    ----------
    sha256
        What the file must have; the hub's own checksum is checked in any case.

    Returns
    -------
    The sha256 of the file.

    Raises
    ------
    ChecksumError
        If the content is another; nothing is kept then.
    DownloadError
        If the connection fails for good; what arrived is kept for the next try.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # The checksum in the name: a partial file is only ever continued with the same content.
    unfinished = target.with_name(f"{target.name}.{(sha256 or remote.etag or 'unknown')[:16]}.partial")
    held = _Resumable(unfinished)
    _check_space(target, remote, held.size)
    _with_retries(
        f"{target.name} ({remote.url})",
        lambda: _append(client, remote, held, progress),
        kept=lambda: f"{held.size:,} of {_count(remote.size)} bytes are kept",
    )
    came = held.hexdigest()
    for wanted in (sha256, remote.sha256):
        if wanted is not None and came != wanted:
            unfinished.unlink(missing_ok=True)
            raise ChecksumError(
                f"{target.name} from {remote.url} has sha256 {came}, wanted {wanted}. It was deleted: try again; if it "
                "happens twice, the source or a proxy on the way serves something else."
            )
    if _is_hex(remote.etag, SHA1_DIGITS) and git_blob_sha1(unfinished.read_bytes()) != remote.etag:
        unfinished.unlink(missing_ok=True)
        raise ChecksumError(
            f"{target.name} from {remote.url} does not have the hub's checksum {remote.etag}. Try again."
        )
    unfinished.replace(target)
    return came


class _Resumable:
    """A partial file and the running checksum of what is in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()
        with path.open("a+b") as stream:
            stream.seek(0)
            while chunk := stream.read(CHUNK_BYTES):
                self._digest.update(chunk)
                self.size += len(chunk)

    def restart(self) -> None:
        self.path.write_bytes(b"")
        self.size, self._digest = 0, hashlib.sha256()

    def append(self, chunks: Iterator[bytes], report: Callable[[int], None]) -> None:
        with self.path.open("ab") as stream:
            for chunk in chunks:
                stream.write(chunk)
                self._digest.update(chunk)
                self.size += len(chunk)
                report(self.size)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _append(client: httpx.Client, remote: Remote, held: _Resumable, progress: Progress | None) -> None:
    if remote.size is not None and held.size > remote.size:
        held.restart()
    if remote.size is not None and held.size == remote.size:
        return
    name = remote.url.rpartition("/")[2]
    headers = {"range": f"bytes={held.size}-"} if held.size else {}
    with client.stream("GET", remote.url, headers=headers, follow_redirects=True) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            held.restart()
            raise httpx.RemoteProtocolError("the server did not accept the range; starting again")
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise _refusal(name, response)
        if held.size and not _continues(response, held.size):
            held.restart()  # the server ignored the range and sends the whole file
        held.append(
            _not_too_slow(response.iter_bytes()),  # as it arrives: a larger chunk would be lost with the connection
            lambda done: progress(name, done, remote.size) if progress else None,
        )
    if remote.size is not None and held.size != remote.size:
        raise httpx.RemoteProtocolError(f"the connection ended after {held.size:,} of {remote.size:,} bytes")


def _continues(response: httpx.Response, offset: int) -> bool:
    return response.status_code == httpx.codes.PARTIAL_CONTENT and response.headers.get("content-range", "").startswith(
        f"bytes {offset}-"
    )


def _not_too_slow(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass chunks on; a connection that drips is cut, so that the next try can find a better one."""
    began, arrived = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        arrived += len(chunk)
        if (now := time.monotonic()) - began > SLOW_WINDOW_S:
            if arrived < SLOW_BYTES:
                raise httpx.ReadTimeout(f"only {arrived} bytes in {SLOW_WINDOW_S:.0f} s")
            began, arrived = now, 0


def _with_retries(what: str, attempt: Callable[[], Result], kept: Callable[[], str] | None = None) -> Result:
    last: Exception | None = None
    for number in range(ATTEMPTS):
        if number:
            time.sleep(BACKOFF_S * 2 ** (number - 1))
        try:
            return attempt()
        except (httpx.TransportError, _UnavailableError) as error:
            last = error
        except OSError as error:
            raise _disk_error(what, error) from error
    raise DownloadError(
        f"{what}: given up after {ATTEMPTS} attempts, the last: {str(last) or type(last).__name__}. "
        + (f"{kept()}; the next try goes on from there." if kept else "Check the connection, then try again.")
    ) from last


class _UnavailableError(Exception):
    """An answer that may be another one in a moment."""


def _refusal(what: str, response: httpx.Response) -> Exception:
    code = response.status_code
    # The hub answers 401 for a repository that does not exist, so that private ones cannot be guessed.
    if code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
        return NotThereError(f"{what} does not exist on the hub (HTTP {code}).")
    if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return RefusedError(
            f"{what}: the hub refuses (HTTP {code}): it does not exist, or it needs an account that has accepted its "
            "terms. Log in with `hf auth login`, or download the file in a browser and give its path."
        )
    if (
        code in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)
        or code >= httpx.codes.INTERNAL_SERVER_ERROR
    ):
        return _UnavailableError(f"HTTP {code} {response.reason_phrase}")
    return DownloadError(f"{what}: the hub answers HTTP {code} {response.reason_phrase}.")


def _check_space(target: Path, remote: Remote, there: int) -> None:
    missing = (remote.size or 0) - there
    free = shutil.disk_usage(target.parent).free
    if missing > free:
        raise DownloadError(
            f"{target.name} needs {missing:,} more bytes, but {target.parent} has {free:,} free. Make room, or set "
            "VITSEEK_CACHE to a folder on another disk."
        )


def _disk_error(what: str, error: OSError) -> DownloadError:
    reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
    return DownloadError(
        f"{what}: cannot be written: {reason}. Make room, or set VITSEEK_CACHE to a folder on another disk; the next "
        "try goes on from what is there."
    )


def _count(size: int | None) -> str:
    return "an unknown number of" if size is None else f"{size:,}"


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and all(character in "0123456789abcdef" for character in text)
