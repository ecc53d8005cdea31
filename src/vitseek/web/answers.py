"""How an answer is written: a whole page, the part of it that a script asked for, or JSON for programs."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers

from vitseek.web.problems import Problem

PART_HEADER = "X-Vitseek-Part"
API_PREFIX = "/api/"
RETRY_AFTER_S = "3"


def page_response(request: HttpRequest, name: str, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    """Render ``<name>.html``; a script that swaps only the content gets the template without the frame."""
    part = PART_HEADER in request.headers
    context = {**context, "frame": "vitseek/part.html" if part else "vitseek/frame.html"}
    response = render(request, f"vitseek/{name}.html", context, status=status)
    patch_vary_headers(response, [PART_HEADER])
    response.headers["Cache-Control"] = "private, no-cache"
    if status == 429:
        response.headers["Retry-After"] = RETRY_AFTER_S
    return response


def problem_response(request: HttpRequest, problem: Problem) -> HttpResponse:
    """The answer to a request that failed, in the form that the client reads."""
    if request.path.startswith(API_PREFIX):
        return json_problem(problem)
    return page_response(request, "problem", {"problem": problem}, status=problem.status)


def json_problem(problem: Problem) -> JsonResponse:
    document: dict[str, Any] = {"error": str(problem)}
    if problem.mark:
        document["position"] = problem.mark.position
        if problem.mark.hint:
            document["hint"] = problem.mark.hint
    response = JsonResponse(document, status=problem.status)
    if problem.status == 429:
        response.headers["Retry-After"] = RETRY_AFTER_S
    return response
