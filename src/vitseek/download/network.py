"""Which network addresses may be asked, and connections that go only there and end in time.

A name is resolved once and the connection is made to one of the addresses that were looked at: a name server that
answers differently the second time (DNS rebinding) is never asked twice. Spellings such as ``http://2130706433/`` or
``http://0177.1/`` are resolved like any other and judged by where they lead.
"""

import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore  # httpx's own transport; here for its interface to the network

CONNECT_S = 5.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Services that hand out credentials to whoever asks from inside a cloud. Those of AWS, Google and Alibaba lie in
# link-local or private ranges; Azure's looks public (learn.microsoft.com, "What is IP address 168.63.129.16?"), and
# Oracle's does to Python up to 3.12, which does not know all of 192.0.0.0/24 for reserved.
METADATA = frozenset({ipaddress.ip_address("168.63.129.16"), ipaddress.ip_address("192.0.0.192")})
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, 2.5.5.1: deprecated, still parsed


class NotPublicError(Exception):
    """A name leads to an address that may not be asked; nobody outside this package sees it."""

    def __init__(self, address: str, what: str) -> None:
        super().__init__(address, what)
        self.address = address
        self.what = what


class Deadline:
    """A moment after which everything stops, however lively the other side drips."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, at_most: float | None = None) -> float:
        """Seconds that are left; never 0, which would mean "do not wait" to a socket."""
        rest = max(self._end - time.monotonic(), 1e-3)
        return rest if at_most is None else min(rest, at_most)

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._end


def not_public(text: str) -> str | None:
    """What an IP address is if it is not of the public internet; None if it is."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and (inner := _ipv4_inside(address)) is not None:
        return not_public(str(inner))
    if address in METADATA:
        return "the metadata service of a cloud"
    if address.is_loopback or address.is_unspecified:
        return "this machine itself"
    if address.is_link_local:
        return "a link-local address, where clouds keep their metadata services"
    if address.is_multicast:
        return "a multicast address"
    if not address.is_global or address.is_reserved or getattr(address, "is_site_local", False):
        return "an address of a private network"
    return None


def _ipv4_inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in NAT64 or (address in COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def resolve(host: str, port: int, timeout_s: float) -> list[str]:
    """The addresses of a host.

    Raises
    ------
    TimeoutError
        If the name server does not answer in time. (The system call itself cannot be stopped: it is left behind.)
    OSError
        If there is no such host.
    """
    answer: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except OSError as error:
            answer.put(error)
        except UnicodeError as error:  # a part of the name is empty or too long
            answer.put(OSError(str(error)))

    threading.Thread(target=ask, name="vitseek-resolve", daemon=True).start()
    try:
        result = answer.get(timeout=timeout_s)
    except queue.Empty as error:
        raise TimeoutError(f"no name server answered for {host}") from error
    if isinstance(result, OSError):
        raise result
    return result


class GuardedNetwork(httpcore.NetworkBackend):
    """Connects to public addresses only, unless told otherwise, and lets no step pass the deadline."""

    def __init__(self, deadline: Deadline, *, allow_private: bool = False) -> None:
        self._deadline = deadline
        self._allow_private = allow_private
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = resolve(host, port, self._deadline.left(CONNECT_S))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(f"there is no host {host} ({error.strerror or error})") from error
        if not self._allow_private:
            for address in addresses:
                if (what := not_public(address)) is not None:
                    raise NotPublicError(address, what)
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in addresses:
            if failure is not None and self._deadline.passed:
                break
            try:
                stream = self._network.connect_tcp(
                    address,
                    port,
                    timeout=self._deadline.left(CONNECT_S),
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            return _TimedStream(stream, self._deadline)
        raise failure or httpcore.ConnectError(f"{host} has no address")


class _TimedStream(httpcore.NetworkStream):
    """A connection whose every read and write ends with the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._deadline.passed:
            raise httpcore.ReadTimeout("the deadline has passed")
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        return _TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
