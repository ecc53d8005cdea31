"""The page, its parts, and the pictures."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotModified,
    HttpResponseRedirect,
    JsonResponse,
)
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST, require_safe

from vitseek.errors import VitseekError
from vitseek.gallery.records import ImageRecord
from vitseek.preprocess.formats import SNIFF_BYTES
from vitseek.search.query import Term
from vitseek.version import __version__
from vitseek.web.answers import page_response, problem_response
from vitseek.web.asking import ask, weighed
from vitseek.web.cards import LESS, MORE, Card
from vitseek.web.facets import facets
from vitseek.web.finder import Found, find, samples
from vitseek.web.params import K_CHOICES, SearchParams, checked_query, image_id, joined
from vitseek.web.pictures import browser_type
from vitseek.web.problems import Problem, problem_of
from vitseek.web.site import Site, site_of
from vitseek.web.spaces import spaces_of_uploads
from vitseek.web.uploads import query_of

View = Callable[..., HttpResponseBase]
Answer = TypeVar("Answer", bound=HttpResponseBase)
FOREVER_S = 365 * 86_400
TURNS = 1000


def answers_problems(view: View) -> View:
    """Turn what a view cannot do into a page that says so."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except Problem as problem:
            return problem_response(request, problem)
        except VitseekError as error:
            return problem_response(request, problem_of(error))

    return answer


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The start of a search, or its results: everything about them is in the address."""
    site = site_of(request)
    try:
        params = SearchParams.of(request.GET.dict())
        if changed := _changed(request, params):
            return HttpResponseRedirect(reverse("home") + changed)
        if params.has_query:
            found = find(site, ask(site, params), exclude_query=True)
            return _results(request, site, params, found)
        return _start(request, site, params)
    except Problem as problem:
        return _mistaken(request, site, problem)
    except VitseekError as error:
        return _mistaken(request, site, problem_of(error))


def _changed(request: HttpRequest, params: SearchParams) -> str:
    """The address of the search that the query's form asks for: other weights (``w``), or words more (``plus``)."""
    expression = params.expression()
    weights, words = request.GET.getlist("w"), request.GET.get("plus", "").strip()
    if expression is None or not (weights or words):
        return ""
    if weights:
        expression = weighed(expression, weights)
    if words:
        weight = LESS if request.GET.get("sign") == "-" else MORE
        expression = joined([*expression.terms, Term(weight, "text", checked_query(words))])
    return params.asking(expression)


def _results(
    request: HttpRequest, site: Site, params: SearchParams, found: Found, problem: Problem | None = None
) -> HttpResponse:
    context = {
        "found": found,
        "asked": found.asked,
        "facets": facets(site, params),
        "problem": problem,
        **_controls(params),
        "shown": found.asked.text,
        "typed": found.asked.text,
    }
    return page_response(request, "results", context, status=problem.status if problem else 200)


def _start(request: HttpRequest, site: Site, params: SearchParams, problem: Problem | None = None) -> HttpResponse:
    wanted = request.GET.get("others", "")
    turn = int(wanted) % TURNS if re.fullmatch(r"[0-9]{1,6}", wanted) else 0
    context = {
        "samples": samples(site, turn),
        "next_turn": turn + 1,
        "problem": problem,
        **_controls(params),
        "shown": "",
        "typed": params.q,
    }
    return page_response(request, "start", context, status=problem.status if problem else 200)


def _mistaken(request: HttpRequest, site: Site, problem: Problem) -> HttpResponse:
    """The start page with the message; a filter that does not parse keeps its query, so that it can be mended."""
    params = SearchParams.lenient(request.GET.dict())
    if problem.status == 422 and params.has_query:
        try:
            unfiltered = SearchParams(image=params.image, query=params.query, q=params.q, k=params.k)
            found = find(site, ask(site, unfiltered), exclude_query=True)
        except (Problem, VitseekError):
            pass
        else:
            return _results(request, site, params, found, problem)
    return _start(request, site, SearchParams(q=params.q, k=params.k), problem)


def _controls(params: SearchParams) -> dict[str, Any]:
    return {
        "params": params,
        "k_choices": sorted({*K_CHOICES, params.k}),
        "unfiltered_address": params.address(where=""),
    }


@require_POST
def upload(request: HttpRequest) -> HttpResponse:
    """Take words and perhaps a picture, hold the picture, and send the browser to the results of both.

    ``shown`` is what the box held when the page was made: left as it was, a new picture takes its place; changed, the
    words and the picture are searched together.
    """
    site = site_of(request)
    fields = {name: str(request.POST.get(name, "")) for name in ("q", "k", "where", "balance")}
    typed = SearchParams.lenient(fields)
    try:
        file = request.FILES.get("image")
        if file is not None and fields["q"].strip() == str(request.POST.get("shown", "")).strip():
            fields["q"] = ""
        params = SearchParams.of(fields)
        written = params.expression()
        terms = list(written.terms) if written else []
        if file is not None:
            held = query_of(file, site, spaces_of_uploads(site))
            joined([*terms, Term(1.0, "upload", "")])  # too many terms are refused before the picture is held
            terms.insert(0, Term(1.0, "upload", site.held.hold(held)))
        elif not terms:
            raise Problem(400, _("There is nothing to search for yet. Type words, or choose a picture."))
    except Problem as problem:
        return _start(request, site, SearchParams(q=typed.q, k=typed.k), problem)
    except VitseekError as error:
        return _start(request, site, SearchParams(q=typed.q, k=typed.k), problem_of(error))
    address = params.asking(joined(terms)) if file is not None else params.address()
    return HttpResponseRedirect(reverse("home") + address, status=303)


@require_safe
@answers_problems
def details(request: HttpRequest, image: str) -> HttpResponse:
    """All that is known of one image."""
    site = site_of(request)
    record = site.gallery.image(image_id(image))
    params = SearchParams.lenient(request.GET.dict())
    try:
        expression = params.expression()
    except VitseekError:
        expression = None  # the search that it was found by is a help, no more
    card = Card(record=record, params=params, expression=expression)
    return page_response(request, "details", {"card": card, "full_path": _full_path(site, record)})


def _full_path(site: Site, record: ImageRecord) -> str:
    """The absolute path, for the person at this machine; others need not know how its folders are called."""
    if not site.options.loopback:
        return ""
    return str(record.path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@require_safe
@answers_problems
def picture(request: HttpRequest, image: str, kind: str) -> HttpResponseBase:
    """A small copy of one image: ``thumbnail`` or ``preview``."""
    site = site_of(request)
    record = _usable(site, image)
    tag = f'"{(record.content_hash or "")[:32]}-{kind}"'
    if request.headers.get("If-None-Match") == tag:
        response: HttpResponse = HttpResponseNotModified()
    else:
        data, known = site.thumbnails.get(record, kind)
        response = HttpResponse(data, content_type="image/webp")
        if not known:
            response.headers["Cache-Control"] = "no-store"
            return response
    response.headers["ETag"] = tag
    return _kept(request, response, Card(record=record))


@require_safe
@answers_problems
def original(request: HttpRequest, image: str) -> HttpResponseBase:
    """The file itself where a browser can show it, else its preview."""
    record = _usable(site_of(request), image)
    try:
        file = record.path.open("rb")
    except OSError as error:
        raise Problem(404, _("The file of this image cannot be read any more.")) from error
    content_type = browser_type(file.read(SNIFF_BYTES), record.path.suffix)
    if content_type is None:
        file.close()
        return picture(request, image, "preview")
    file.seek(0)
    response = FileResponse(file, content_type=content_type, filename=Card(record=record).name)
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    return _kept(request, response, Card(record=record))


def _usable(site: Site, image: str) -> ImageRecord:
    record = site.gallery.image(image_id(image))
    if record.status != "ok":
        raise Problem(404, _("The file of this image cannot be read any more."), detail=record.reason or "")
    return record


def _kept(request: HttpRequest, response: Answer, card: Card) -> Answer:
    """An address that names the content never changes; without it the browser asks each time."""
    if card.version and request.GET.get("v") == card.version:
        patch_cache_control(response, private=True, max_age=FOREVER_S, immutable=True)
    else:
        patch_cache_control(response, private=True, no_cache=True)
    return response


@require_safe
@answers_problems
def held_preview(request: HttpRequest, token: str) -> HttpResponse:
    """The small copy of an uploaded query."""
    held = site_of(request).held.get(token)
    if held is None:
        raise Problem(410, _("The picture of this search is not held any more. Choose it again."))
    response = HttpResponse(held.preview, content_type="image/webp")
    response.headers["Cache-Control"] = "private, max-age=3600, immutable"
    return response


@require_GET
def health(request: HttpRequest) -> JsonResponse:
    """Whether the server and its index answer, for scripts that start it."""
    site = site_of(request)
    try:
        answer = JsonResponse({"status": "ok", "images": site.status().images, "version": __version__})
    except VitseekError as error:
        answer = JsonResponse({"status": "error", "error": str(error)}, status=503)
    answer.headers["Cache-Control"] = "no-store"
    return answer
