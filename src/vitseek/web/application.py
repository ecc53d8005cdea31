"""From a gallery to a WSGI application."""

from collections.abc import Callable, Iterable
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler

from vitseek.errors import UsageError
from vitseek.web.options import WebOptions
from vitseek.web.secret import secret_key
from vitseek.web.settings import build_settings
from vitseek.web.site import ENVIRON_KEY, Site

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_configured: WebOptions | None = None


def configure(options: WebOptions) -> None:
    """Set Django up for this process.

    Raises
    ------
    UsageError
        If it is set up for something else: Django's settings are global, so one process is one server.
    """
    global _configured
    if _configured == options:
        return
    if _configured is not None or settings.configured:
        raise UsageError(
            "this process has set Django up already, with other settings. Start the server in a process of its own."
        )
    settings.configure(**build_settings(options, secret_key=secret_key()))
    django.setup(set_prefix=False)
    _configured = options


def create_application(site: Site) -> Application:
    """The page and the API over one gallery, for any WSGI server.

    The server must listen at ``site.options.host`` and ``port``, since only those are answered.
    """
    configure(site.options)
    handler = WSGIHandler()

    def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ[ENVIRON_KEY] = site
        return handler(environ, start_response)

    return application
