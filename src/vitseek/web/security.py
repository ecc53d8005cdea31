"""Who may ask, and what browsers may do with the answers.

The server has no login. What keeps other web sites in the same browser away from it:

- only known host names are answered, so that a foreign name that is pointed at 127.0.0.1 (DNS rebinding) gets nothing;
- a request that a browser marks as coming from another site may navigate here, nothing else: neither post nor load
  images into its own page;
- the page runs only scripts and styles of its own, and cannot be framed.

Programs such as curl send neither ``Sec-Fetch-Site`` nor ``Origin`` and are let through; every browser of the last
years sends at least one of them with a POST. Go's ``http.CrossOriginProtection`` decides in the same way.
"""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from vitseek.web.answers import problem_response
from vitseek.web.problems import Problem

Answer = Callable[[HttpRequest], HttpResponse]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # "no-referrer" would make browsers post with `Origin: null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def security_headers(get_response: Answer) -> Answer:
    """Middleware, outermost: every answer carries the headers above unless it has stricter ones."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return answer


def only_known_hosts(get_response: Answer) -> Answer:
    """Middleware: a foreign Host header is refused before anything is served, static files included."""

    def answer(request: HttpRequest) -> HttpResponse:
        request.get_host()  # raises DisallowedHost, which Django answers with 400
        return get_response(request)

    return answer


def only_own_pages(get_response: Answer) -> Answer:
    """Middleware: a browser's request from another origin may open the page and do nothing else."""

    def answer(request: HttpRequest) -> HttpResponse:
        if _foreign(request):
            text = _("This request comes from another web site. Open the page itself and search there.")
            return problem_response(request, Problem(403, text))
        return get_response(request)

    return answer


def _foreign(request: HttpRequest) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        opens_page = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.method in SAFE_METHODS
        framed = request.headers.get("Sec-Fetch-Dest", "document") != "document"
        return framed or not opens_page
    origin = request.headers.get("Origin")
    if origin is None or request.method in SAFE_METHODS:
        return False
    # Hosts are compared, not schemes: behind a proxy that speaks HTTPS, this server sees plain HTTP.
    return urlsplit(origin).netloc != request.get_host()
