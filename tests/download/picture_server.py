"""A server on the loopback address with everything that an address in a query can lead to."""

import gzip
import io
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


def picture(side: int = 31) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side + 6), (200, 30, 30)).save(stream, "PNG")
    return stream.getvalue()


def bomb(size: int = 200_000_000) -> bytes:
    """A grey picture of 40,000 × 40,000 pixels as far as it goes, packed a thousandfold."""
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    pieces = [packer.compress(b"P5\n40000 40000\n255\n")]
    pieces += [packer.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)]
    return b"".join([*pieces, packer.flush()])


BOMB = bomb()


@contextmanager
def serve(tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """Its address, and the paths and headers that were asked for."""
    asked: list[tuple[str, dict[str, str]]] = []
    stopping = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            try:
                getattr(self, self.path.strip("/").partition("?")[0].partition("/")[0].replace("-", "_"))()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def send(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def moved(self, where: str) -> None:
            self.send(b"", 302, Location=where)

        def cat(self) -> None:
            self.send(picture(), Content_Type="text/html")  # what it says of itself is not believed

        def unnamed(self) -> None:  # without a length, until the connection closes
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture())
            self.close_connection = True

        def packed(self) -> None:
            self.send(gzip.compress(picture()), Content_Encoding="gzip")

        def deflated(self) -> None:
            self.send(zlib.compress(picture()), Content_Encoding="deflate")

        def brotli(self) -> None:
            self.send(picture(), Content_Encoding="br")

        def not_packed(self) -> None:
            self.send(picture(), Content_Encoding="gzip")

        def bomb(self) -> None:
            self.send(BOMB, Content_Encoding="gzip")

        def page(self) -> None:
            self.send(b"<!DOCTYPE html><html>" + b"x" * 5_000_000, Content_Type="image/jpeg")

        def empty(self) -> None:
            self.send(b"")

        def short(self) -> None:
            self.send(b"hm")

        def cut(self) -> None:
            self.send(picture(97)[:-90])

        def hung_up(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(picture())
            self.close_connection = True

        def announced_large(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "60000000")
            self.end_headers()
            self.wfile.write(picture())
            self.close_connection = True

        def large(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"BM" + b"\0" * 40)
            for _ in range(400):
                self.wfile.write(b"\0" * 10_000)
            self.close_connection = True

        def drip(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            for byte in picture(300):
                self.wfile.write(bytes([byte]))
                if stopping.wait(0.05):
                    return

        def drip_headers(self) -> None:
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 5000:
                self.wfile.write(bytes([byte]))
                if stopping.wait(0.05):
                    return

        def silent(self) -> None:
            stopping.wait(20)

        def loop(self) -> None:
            self.moved("/loop")

        def once(self) -> None:
            self.moved("cat?from=once")

        def hops(self) -> None:
            left = int(self.path.rpartition("/")[2])
            self.moved(f"/hops/{left - 1}" if left else "/cat")

        def inside(self) -> None:
            self.moved("http://[::ffff:10.0.0.1]/secret")

        def elsewhere(self) -> None:
            self.moved("file:///etc/passwd")

        def password(self) -> None:
            self.moved("http://me:secret@example.org/cat.png")

        def nowhere(self) -> None:
            self.send(b"", 302)

        def missing(self) -> None:
            self.send(picture(), 404)

        def forbidden(self) -> None:
            self.send(b"", 403)

        def broken(self) -> None:
            self.send(b"", 503)

        def teapot(self) -> None:
            self.send(b"", 418)

        def noise(self) -> None:
            self.wfile.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        host = "http://127.0.0.1" if tls is None else "https://localhost"
        yield f"{host}:{server.server_port}", asked
    finally:
        stopping.set()
        time.sleep(0.06)  # drips see it and end before the socket is gone
        server.shutdown()
        server.server_close()
        thread.join()
