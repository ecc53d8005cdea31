"""`vitseek serve`: the web page."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from vitseek.cli.common import GalleryOption, note, warn
from vitseek.errors import MissingExtraError

MEBIBYTE = 2**20


def serve(
    gallery: GalleryOption = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8000,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Let other machines in. There is no login.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further host name that the page is reached by; may be repeated."),
    ] = None,
    allow_addresses: Annotated[
        bool,
        typer.Option("--allow-addresses", help="Let queries name pictures by http(s) address; this machine gets them."),
    ] = False,
    max_upload_mb: Annotated[int, typer.Option(min=1, max=1024, help="Largest upload in MiB.")] = 20,
    max_megapixels: Annotated[int, typer.Option(min=1, max=1000, help="Largest picture that is decoded.")] = 100,
) -> None:
    """Search a gallery in the browser: type words, or drop, paste or choose a picture, and see what fits best.

    The page and its API answer on this machine only, unless --host and --allow-remote say otherwise. Ctrl-C stops
    the server.

    \b
    Examples:
      vitseek serve --gallery photos --open
      vitseek serve --port 9000
      vitseek serve --host 0.0.0.0 --allow-remote --allow-host photos.local
    """
    if missing := [name for name in ("django", "ninja", "waitress", "whitenoise") if find_spec(name) is None]:
        raise MissingExtraError(
            f"the web page needs packages that are not installed ({', '.join(missing)}): pip install 'vitseek[web]'"
        )
    from vitseek.gallery.gallery import Gallery
    from vitseek.web.options import WebOptions
    from vitseek.web.server import serve as run

    options = WebOptions(
        host=host,
        port=port,
        allow_remote=allow_remote,
        extra_names=tuple(name.lower() for name in allow_host or ()),
        allow_addresses=allow_addresses,
        upload_limit_bytes=max_upload_mb * MEBIBYTE,
        limit_pixels=max_megapixels * 1_000_000,
    )
    folder: Path = Gallery.locate(gallery)
    with Gallery(folder, create=False) as opened:
        run(opened, options, open_browser=open_browser, say=note, warn=warn)
