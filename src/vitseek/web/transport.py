"""How the HTTP server treats a body that is too large: it answers at once, and the client gets to read the answer.

Waitress by itself refuses such a request with a text of its own and closes the connection while the client is still
sending; the operating system then resets the connection, and most browsers show that instead of the answer.
"""

import socket
import time
from contextlib import suppress
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import WSGITask
from waitress.utilities import Error, RequestEntityTooLarge

LINGER_S = 30.0
LINGER_READ_BYTES = 2**16


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Hands a request that is too large to the application, without its body: the page knows what to say."""

    refused = False
    error: Error | None
    body_rcv: Any

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if isinstance(self.error, RequestEntityTooLarge):
            self.error = None
            self.refused = True
            self.connection_close = True
            if self.body_rcv is not None:
                self.body_rcv.getbuf().close()
                self.body_rcv = None
            # A chunked body announces no length; what came until now is over the limit.
            self.headers["CONTENT_LENGTH"] = str(max(self.content_length, self.body_bytes_received))
            self.expect_continue = False
        return consumed


class Task(WSGITask):  # type: ignore[misc]
    """Closes the connection after the answer to a refused request: what follows is its body, not a request."""

    def execute(self) -> None:
        if self.request.refused:
            self.set_close_on_finish()
        super().execute()


class Channel(HTTPChannel):  # type: ignore[misc]
    """After the answer to a refused request, reads on and forgets what comes until the client is done."""

    parser_class = Parser
    task_class = Task
    _refused = False
    _lingers_until: float | None = None

    def service(self) -> None:
        self._refused = self.requests[0].refused
        super().service()

    def handle_close(self) -> None:
        if self._refused and self.connected and self._lingers_until is None and not self.total_outbufs_len:
            self._lingers_until = time.monotonic() + LINGER_S
            self.will_close = self.close_when_flushed = False
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
            return
        super().handle_close()

    def handle_read(self) -> None:
        if self._lingers_until is None:
            super().handle_read()
            return
        with suppress(OSError):
            if self.recv(LINGER_READ_BYTES):  # an empty read has closed the channel already
                self.last_activity = time.time()
                if time.monotonic() < self._lingers_until:
                    return
        if self.connected:
            super().handle_close()


class Server(TcpWSGIServer):  # type: ignore[misc]
    """Waitress with these manners."""

    channel_class = Channel
