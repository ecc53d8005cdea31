"""The production server: binds, loads the model, serves until it is told to stop."""

import errno
import hashlib
import logging
import shlex
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from PIL import Image
from waitress.adjustments import Adjustments

from vitseek.errors import GalleryEmptyError, ServerStartError, UsageError, VitseekError
from vitseek.gallery.gallery import Gallery
from vitseek.paths import cache_dir
from vitseek.search.query import Expression, Term
from vitseek.web.application import create_application
from vitseek.web.options import WebOptions
from vitseek.web.site import Site
from vitseek.web.transport import Server
from vitseek.web.uploads import FORM_BYTES

IDLE_S = 60  # a connection that sends nothing for so long is closed
CONNECTIONS = 200
USUAL_PORT, LAST_PORT = 8000, 65535

Say = Callable[[str], None]


def serve(
    gallery: Gallery,
    options: WebOptions,
    *,
    open_browser: bool = False,
    say: Say = print,
    warn: Say = print,
) -> None:
    """Serve the page over one gallery until Ctrl-C or SIGTERM.

    The port is taken first, so that a mistake shows before the model is loaded; the model is loaded before the first
    request, so that nobody waits for it on the page.

    Parameters
    ----------
    gallery
        Open, and left open.
    options
        Where to listen and what to take; port 0 lets the system choose.
    open_browser
        Open the page in the default browser once it answers.
    say, warn
        Called with one line each.

    Raises
    ------
    UsageError
        If other machines could reach the server and ``allow_remote`` is not set.
    ServerStartError
        If the port is taken or the address is not this machine's.
    GalleryEmptyError
        If there is nothing to search.
    """
    refuse_unasked_exposure(options)
    listener = bind(options)
    try:
        options = replace(options, port=listener.getsockname()[1])
        site = _ready_site(gallery, options, say, warn)
        application = create_application(site)
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        logging.getLogger("django.request").setLevel(logging.ERROR)  # a 404 is the client's affair
        if not options.loopback:
            warn(f"there is no login: everyone who reaches {options.host}:{options.port} sees all images")
        _run(application, listener, options, open_browser=open_browser, say=say)
    finally:
        listener.close()


def refuse_unasked_exposure(options: WebOptions) -> None:
    """There is no login, so other machines get in only if the person said so in words."""
    if not options.loopback and not options.allow_remote:
        raise UsageError(
            f"--host {options.host} lets other machines in, and the page has no login: whoever reaches it sees every "
            "image. If that is what you want, add --allow-remote; if not, leave --host at 127.0.0.1 "
            "(from another machine: ssh -L 8000:127.0.0.1:8000 THIS-MACHINE)."
        )


def bind(options: WebOptions) -> socket.socket:
    """Take the address, without listening yet."""
    host = options.host.strip("[]")
    where = f"{host} port {options.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServerStartError(f"{host!r} is no address of this machine ({error}). Try --host 127.0.0.1.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not against a server that still listens
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ServerStartError(_why_not(error, where, options.port)) from error
    return listener


def _why_not(error: OSError, where: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        another = port + 1 if port < LAST_PORT else USUAL_PORT
        return (
            f"{where} is taken by another program, perhaps another `vitseek serve`. "
            f"Stop that one, or use --port {another}, or --port 0 for any free port."
        )
    if error.errno == errno.EACCES:
        return f"{where} may be taken by the administrator only. Use a port from 1024 up, such as --port 8000."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: this machine has no such address. Use --host 127.0.0.1, or 0.0.0.0 for all of its own."
    return f"{where} cannot be used: {error.strerror}. Try another --port."


def _ready_site(gallery: Gallery, options: WebOptions, say: Say, warn: Say) -> Site:
    status = gallery.status()
    if not status.images:
        raise GalleryEmptyError(
            f"gallery {status.path} holds no images yet. Add some: vitseek index {shlex.quote(str(status.path))}"
        )
    say(f"Loading the model and {status.images:,} images of {status.path} …")
    model = gallery.model
    size_px = model.preprocessing.size_px
    vector = model.embed([Image.new("RGB", (size_px, size_px))])[0]
    gallery.search(vector, k=1)  # reads the matrix once
    site = Site.over(gallery, options, thumbnails=thumbnail_folder(status.path))
    _warm_words(site, warn)
    return site


def _warm_words(site: Site, warn: Say) -> None:
    """Read the text tower, and the model of a second space, before anybody waits for them."""
    try:
        space = site.gallery.words_space()
        if space is not None:
            site.gallery.search(Expression((Term(1.0, "text", "a picture"),)), k=1)
    except VitseekError as error:  # searching by pictures works all the same
        warn(f"searching by words will not work: {error}")


def thumbnail_folder(gallery: Path) -> Path:
    """Beside the index where it can be written, else in the user's cache: a gallery may lie on a read-only disk."""
    folder = gallery / ".vitseek" / "thumbnails"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
        return folder
    name = hashlib.sha256(str(gallery.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return cache_dir() / "thumbnails" / name


def _run(
    application: Callable[..., object],
    listener: socket.socket,
    options: WebOptions,
    *,
    open_browser: bool,
    say: Say,
) -> None:
    # The application itself refuses what is a little over the limit; waitress stops reading at the same point.
    adjustments = Adjustments(
        sockets=[listener],
        threads=options.threads,
        max_request_body_size=options.upload_limit_bytes + FORM_BYTES + 1,
        channel_timeout=IDLE_S,
        connection_limit=CONNECTIONS,
        clear_untrusted_proxy_headers=True,
        ident="vitseek",
    )
    server = Server(
        application,
        _sock=listener,
        bind_socket=False,
        adj=adjustments,
        sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
    )
    address = page_address(options)
    say(f"vitseek is at {address}  (Ctrl-C stops it)")
    if open_browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    previous = _stop_on_terminate()
    try:
        server.run()  # returns on KeyboardInterrupt and SystemExit, after the requests in work
    finally:
        server.asyncore.close_all(server._map, ignore_all=True)  # idle connections of browsers, too
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    say("Stopped.")


def _stop_on_terminate() -> Callable[[int, FrameType | None], object] | int | None:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit

    if threading.current_thread() is not threading.main_thread():
        return None  # only the main thread receives signals
    return signal.signal(signal.SIGTERM, stop)


def page_address(options: WebOptions) -> str:
    """The address to type into a browser on this machine."""
    host = "127.0.0.1" if options.every_address else options.host.strip("[]")
    return f"http://{f'[{host}]' if ':' in host else host}:{options.port}/"
