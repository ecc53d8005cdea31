"""A server on the loopback address that speaks the part of the hub's protocol that downloads need."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from vitseek.weights.sources import git_blob_sha1

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PATH = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>[^?]+)")


@dataclass
class Hub:
    """The content of the pretended hub and its faults, to be set by a test."""

    files: dict[str, bytes] = field(default_factory=dict)  # "owner/name/file" -> content
    large: tuple[str, ...] = (".safetensors",)  # kept in the storage, with a sha256
    cut_after: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    refuse: list[int] = field(default_factory=list)  # statuses of the next answers
    tamper: bool = False  # serve other bytes than announced
    ignore_ranges: bool = False
    hang: threading.Event = field(default_factory=threading.Event)  # when set, answers wait for `release`
    release: threading.Event = field(default_factory=threading.Event)
    moved: dict[str, str] = field(default_factory=dict)  # a repository that was renamed, or an address elsewhere
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, range
    authorised: list[tuple[str, str | None]] = field(default_factory=list)  # path, authorization
    url: str = ""
    storage_url: str = ""  # another server for the large files; the same one by default

    def asked(self, method: str, part: str) -> list[str | None]:
        """The ranges of all requests of a method whose path contains something."""
        return [span for verb, path, span in self.requests if verb == method and part in path]


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            hub.requests.append((self.command, self.path, self.headers.get("range")))
            hub.authorised.append((self.path, self.headers.get("authorization")))
            if hub.hang.is_set():
                hub.release.wait(20)
            if hub.refuse:
                return self.refuse(hub.refuse.pop(0))
            if self.path.startswith("/storage/"):
                return self.content(self.path.removeprefix("/storage/"), body=body)
            found = PATH.match(self.path)
            if found and found["repo"] in hub.moved:
                return self.move(self.path.replace(f"/{found['repo']}", hub.moved[found["repo"]], 1))
            name = f"{found['repo']}/{found['file']}" if found else ""
            if not found or name not in hub.files or found["revision"] not in ("main", COMMIT):
                return self.refuse(404)
            return self.redirect(name)

        def move(self, where: str) -> None:
            self.send_response(307)
            self.send_header("Location", where)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def redirect(self, name: str) -> None:
            content = hub.files[name]
            large = name.endswith(hub.large)
            digest = hashlib.sha256(content).hexdigest() if large else git_blob_sha1(content)
            self.send_response(302 if large else 307)
            self.send_header("Location", f"{hub.storage_url}/storage/{name}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Linked-Etag", f'"{digest}"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def content(self, name: str, *, body: bool) -> None:
            content = hub.files[name]
            span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range") or "")
            start = int(span[1]) if span and not hub.ignore_ranges else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", '"of-the-storage"')  # another than the one that the hub announced
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if not body:
                return
            if hub.tamper:
                content = content[:-1] + bytes([content[-1] ^ 1])
            end = start + hub.cut_after.pop(0) if hub.cut_after else len(content)
            self.wfile.write(content[start:end])
            if end < len(content):
                self.close_connection = True
                self.connection.close()

        def refuse(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # connections are cut on purpose

    server = Server(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
