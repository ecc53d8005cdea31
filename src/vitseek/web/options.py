"""What the person who starts the server decides."""

from dataclasses import dataclass
from ipaddress import ip_address

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """Where the page is served, who may reach it, and what it takes."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 lets the system choose a free one."""
    allow_remote: bool = False
    """There is no login: an address that other machines reach must be asked for twice."""
    extra_names: tuple[str, ...] = ()
    """Further host names that the page is reached by, such as the machine's name in a local network."""
    upload_limit_bytes: int = 20 * MEBIBYTE
    limit_pixels: int = 100_000_000
    """Largest picture that is decoded; three bytes a pixel once it is RGB."""
    allow_addresses: bool = False
    """Whether a query may name a picture by its http(s) address, which this machine then fetches."""
    threads: int = 16

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the page."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def every_address(self) -> bool:
        """Whether the server listens on all addresses of the machine (``0.0.0.0`` or ``::``)."""
        try:
            return ip_address(self.host.strip("[]")).is_unspecified
        except ValueError:
            return False
