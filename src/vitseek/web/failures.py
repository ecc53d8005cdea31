"""The answers to what fails before or outside a view."""

import logging

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _

from vitseek.web.answers import API_PREFIX, problem_response
from vitseek.web.problems import Problem

log = logging.getLogger("vitseek.web")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Status 400. A foreign host gets plain text only: nothing of the gallery belongs on such a page."""
    if isinstance(exception, DisallowedHost):
        text = "This server does not answer to the host name of this request. Open it by the address it printed.\n"
        if request.path.startswith(API_PREFIX):
            return JsonResponse({"error": text.strip()}, status=400)
        return HttpResponse(text, content_type="text/plain; charset=utf-8", status=400)
    return problem_response(request, Problem(400, _("The server cannot understand this request.")))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response(request, Problem(403, str(exception) or _("This is not allowed.")))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response(request, Problem(404, _("There is nothing at this address.")))


def server_error(request: HttpRequest) -> HttpResponse:
    return problem_response(
        request, Problem(500, _("Something went wrong on the server; its terminal shows what. Please report it."))
    )


def bad_token(request: HttpRequest, reason: str = "") -> HttpResponse:
    log.info("refused a form without a valid token: %s", reason)
    return problem_response(request, Problem(403, _("The page is out of date. Reload it and try again.")))
