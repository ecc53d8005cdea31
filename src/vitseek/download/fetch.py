"""One picture from an http(s) address that a person gave: in time, of bounded size, an image, and nobody's secret.

The address may come from a stranger through a web page, so the request carries no credentials, follows redirects by
hand and looks at every hop before it connects (see :mod:`vitseek.download.network`). Proxies of the environment are
not used: behind one, where an address leads could not be seen.
"""

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

import httpcore
import httpx

from vitseek.download.network import Deadline, GuardedNetwork, NotPublicError
from vitseek.errors import AddressError, ImageError, PrivateAddressError, UnreadableImageError
from vitseek.preprocess import formats
from vitseek.preprocess.decode import decode
from vitseek.version import __version__

LIMIT_BYTES = 50_000_000
DEADLINE_S = 20.0
SILENCE_S = 10.0  # without a single byte
MAX_REDIRECTS = 5
MAX_PORT = 65_535
REDIRECTS = frozenset({301, 302, 303, 307, 308})
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # zlib.decompressobj: look at the header
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


class FetchKeywords(TypedDict, total=False):
    """What :func:`fetch_picture` may be held to."""

    limit_bytes: int
    limit_pixels: int | None
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """A picture as a server sent it, and the address that gave it in the end."""

    data: bytes
    address: str


def fetch_picture(
    address: str,
    *,
    allow_private: bool = False,
    limit_bytes: int = LIMIT_BYTES,
    limit_pixels: int | None = None,
    deadline_s: float = DEADLINE_S,
) -> Fetched:
    """Fetch one picture.

    Parameters
    ----------
    address
        http:// or https://.
    allow_private
        Also ask this machine and its own network.
    limit_bytes
        Stop when more than this came; compressed answers count unpacked.
    limit_pixels
        Refuse pictures with more pixels; by default the limit for files.
    deadline_s
        For everything together: names, connections, redirects, the last byte.

    Returns
    -------
    bytes that decode to an image

    Raises
    ------
    PrivateAddressError
        If the address, or one that it redirects to, is not of the public internet.
    AddressError
        If it cannot be reached, answers with something else than an image, is too large or too slow.
    ImageTooLargeError, MissingDecoderError
        If it is an image that cannot be decoded here.
    """
    return _Fetch(address, allow_private, limit_bytes, limit_pixels, Deadline(deadline_s)).run()


class _Fetch:
    def __init__(
        self, address: str, allow_private: bool, limit_bytes: int, limit_pixels: int | None, deadline: Deadline
    ) -> None:
        self.address = address
        self.current = address
        self.allow_private = allow_private
        self.limit_bytes = limit_bytes
        self.limit_pixels = limit_pixels
        self.deadline = deadline

    def run(self) -> Fetched:
        network = GuardedNetwork(self.deadline, allow_private=self.allow_private)
        url = self.checked(self.address)
        with httpcore.ConnectionPool(ssl_context=httpx.create_ssl_context(), network_backend=network) as pool:
            for _ in range(MAX_REDIRECTS + 1):
                try:
                    data, location = self.asked(pool, url)
                except NotPublicError as error:
                    raise self.private(error) from None
                except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
                    raise self.failed(error) from error
                if location is None:
                    self.check_image(data)
                    return Fetched(data, self.current)
                url = self.checked(self.joined(url, location))
                self.current = str(url)
        raise self.error(f"more than {MAX_REDIRECTS} redirects; open it in a browser and copy the last address")

    def checked(self, text: str) -> httpx.URL:
        try:
            url = httpx.URL(text)
        except (httpx.InvalidURL, ValueError, UnicodeError) as error:
            raise self.error(f"this is no address ({error})") from error
        if url.scheme not in ("http", "https"):
            raise self.error(f"{url.scheme or 'no scheme'}: only http:// and https:// are fetched")
        if not url.host:
            raise self.error("the address names no server; it has the form https://example.org/cat.jpg")
        if url.port is not None and not 0 < url.port <= MAX_PORT:
            raise self.error(f"there is no port {url.port}")
        if url.userinfo:
            raise self.error("an address with a user name or password is not fetched; download the picture first")
        return url.copy_with(fragment=None)

    def joined(self, url: httpx.URL, location: str) -> str:
        try:
            return str(url.join(location))
        except (httpx.InvalidURL, ValueError, UnicodeError) as error:
            raise self.error(f"the server redirects to {location!r}, which is no address") from error

    def asked(self, pool: httpcore.ConnectionPool, url: httpx.URL) -> tuple[bytes, str | None]:
        """The body, or where to look instead."""
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        sent = [
            (b"host", url.netloc),
            (b"user-agent", f"vitseek/{__version__}".encode()),
            (b"accept", b"image/*, */*;q=0.1"),
            (b"accept-encoding", b"identity"),
            (b"connection", b"close"),
        ]
        limits = {"timeout": {"read": SILENCE_S, "write": SILENCE_S}}  # the network keeps the deadline and connects
        with pool.stream("GET", target, headers=sent, extensions=limits) as response:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            if response.status in REDIRECTS and headers.get("location"):
                return b"", headers["location"]
            if response.status != httpx.codes.OK:
                raise self.error(_refusal(response.status))
            length = headers.get("content-length", "")
            if length.isascii() and length.isdigit() and int(length[:20]) > self.limit_bytes:
                raise self.too_large(int(length[:20]))
            encoding = headers.get("content-encoding", "identity").strip().lower()
            return self.received(self.unpacked(response.iter_stream(), encoding)), None

    def unpacked(self, pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
        """The body in small pieces, without the compression that was not asked for."""
        if encoding == "identity":
            yield from pieces
            return
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise self.error(f"the server packs the picture in a way that is not read ({encoding})")
        unpacker = zlib.decompressobj(GZIP_OR_ZLIB)
        try:
            for piece in pieces:
                rest = piece
                while rest and not unpacker.eof:
                    yield unpacker.decompress(rest, 1 << 16)  # bounded: a bomb is measured, not unpacked
                    rest = unpacker.unconsumed_tail
        except zlib.error as error:
            raise self.error(f"the compressed answer is damaged ({error})") from error

    def received(self, pieces: Iterator[bytes]) -> bytes:
        data = bytearray()
        sniffed = False
        for piece in pieces:
            data += piece
            if len(data) > self.limit_bytes:
                raise self.too_large(None)
            if not sniffed and len(data) >= formats.SNIFF_BYTES:  # a film is not fetched to the end
                self.sniff(bytes(data[: formats.SNIFF_BYTES]))
                sniffed = True
        return bytes(data)

    def sniff(self, prefix: bytes) -> None:
        if not formats.candidates(prefix, "") and not formats.is_heif(prefix):
            found = formats.describe(prefix)
            hint = "; open it and copy the address of the picture itself" if found == "a web page" else ""
            raise self.error(f"it is not an image but {found}{hint}")

    def check_image(self, data: bytes) -> None:
        if not data:
            raise self.error("the answer is empty")
        self.sniff(data[: formats.SNIFF_BYTES])
        try:
            decode(data, limit_pixels=self.limit_pixels)
        except UnreadableImageError as error:
            raise self.error(error.reason) from error
        except ImageError as error:
            raise type(error)(self.address, error.reason) from error

    # -- what to say

    def error(self, reason: str) -> AddressError:
        return AddressError(self.address, self.after_redirects(reason))

    def after_redirects(self, reason: str) -> str:
        return reason if self.current == self.address else f"redirected to {self.current}: {reason}"

    def private(self, error: NotPublicError) -> PrivateAddressError:
        leads = f"it leads to {error.address}, {error.what}"
        return PrivateAddressError(
            self.address,
            self.after_redirects(
                f"{leads}; only the public internet is asked. If you trust it: --allow-private-addresses, "
                'or in Python addresses="any"'
            ),
        )

    def too_large(self, size: int | None) -> AddressError:
        came = "it" if size is None else f"its {size / 1e6:,.1f} MB"
        verb = "has more than" if size is None else "are more than"
        return self.error(f"{came} {verb} {self.limit_bytes / 1e6:,.1f} MB; download it and search with the file")

    def failed(self, error: Exception) -> AddressError:
        host = httpx.URL(self.current).host
        if self.deadline.passed:
            return self.error(f"it took more than {self.deadline.seconds:g} s; download it and search with the file")
        if isinstance(error, (httpcore.TimeoutException, TimeoutError)):
            return self.error(f"{host} does not answer; try again later{_proxy_hint()}")
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return self.error(f"the certificate of {host} cannot be trusted; download the picture with a browser")
        if isinstance(error, httpcore.ProtocolError):
            return self.error(f"{host} does not speak proper HTTP, or hung up early ({error})")
        if isinstance(error, httpcore.ConnectError):
            return self.error(f"{host} cannot be reached ({error}){_proxy_hint()}")
        return self.error(f"the connection to {host} broke ({error or type(error).__name__}); try again")


def _refusal(status: int) -> str:
    if status in (404, 410):
        return f"there is nothing at this address ({status})"
    if status in (401, 403, 407, 451):
        return f"the server does not give it to everybody ({status}); download it with a browser"
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return f"the server wants fewer requests ({status}); try again in a minute"
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return f"the server has a problem ({status}); try again later"
    return f"the server answered {status} instead of a picture"


def _proxy_hint() -> str:
    names = [name for name in os.environ if name.lower() in _PROXIES and os.environ[name]]
    return f". The proxy of {names[0]} is not used for pictures: download it yourself" if names else ""
