"""The API for programs; `/api/v1/openapi.json` describes it.

There is no documentation page: django-ninja's loads its scripts from elsewhere, and this server works offline.
"""

from datetime import datetime
from typing import Annotated, Any

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from ninja import File, Form, NinjaAPI, Schema, UploadedFile
from ninja.errors import HttpError, ValidationError
from pydantic import Field

from vitseek.errors import VitseekError
from vitseek.version import __version__
from vitseek.web.answers import json_problem
from vitseek.web.finder import Card, find
from vitseek.web.params import DEFAULT_K, ID_LIMIT, K_LIMIT, WHERE_LENGTH, SearchParams
from vitseek.web.problems import Problem, problem_of
from vitseek.web.site import site_of
from vitseek.web.uploads import query_of


class ApiError(Schema):
    """What is wrong and what to do, in one text."""

    error: str


class Image(Schema):
    """One image of the gallery."""

    id: int
    path: str = Field(description="Relative to the indexed folder, with / between names.")
    labels: list[str]
    width: int | None = Field(description="Pixels, upright.")
    height: int | None
    bytes: int
    date: datetime = Field(description="When the picture was taken, or else when the file was changed; local time.")
    thumbnail: str = Field(description="Address of a WebP copy, at most 480 px.")
    preview: str = Field(description="Address of a WebP copy, at most 1600 px.")
    original: str = Field(description="Address of the file as it is, or of the preview where browsers cannot show it.")

    @classmethod
    def of(cls, card: Card) -> "Image":
        record = card.record
        version = f"?v={card.version}" if card.version else ""
        addresses = {name: reverse(name, args=[card.id]) + version for name in ("thumbnail", "preview", "original")}
        return cls(
            id=card.id,
            path=record.relative_path,
            labels=list(record.labels),
            width=record.width,
            height=record.height,
            bytes=record.bytes,
            date=card.date,
            **addresses,
        )


class Result(Schema):
    """One image that was found."""

    rank: int
    score: float = Field(description="Cosine similarity; up is better, 1 is the same picture.")
    image: Image


class Query(Schema):
    """What was searched with."""

    image: Image | None = Field(description="The gallery's image, if the search was by id.")
    name: str | None = Field(description="Name of the uploaded file.")
    width: int | None
    height: int | None


class SearchAnswer(Schema):
    """The images that are most similar to the query, best first."""

    query: Query
    model: str
    gallery_images: int
    embed_s: float | None = Field(description="Time to compute the features of the upload, in seconds.")
    search_s: float
    results: list[Result]


class SearchForm(Schema):
    """The fields beside the picture."""

    image_id: int | None = Field(None, ge=0, le=ID_LIMIT, description="Search with this image of the gallery instead.")
    k: int = Field(DEFAULT_K, ge=1, le=K_LIMIT, description="How many results.")
    where: str = Field("", max_length=WHERE_LENGTH, description="A filter, as in `vitseek search --where`.")
    exclude_query: bool = Field(True, description="With image_id: leave that image out of the results.")


api = NinjaAPI(
    title="vitseek",
    version=__version__,
    description="Search a gallery of images by example.",
    urls_namespace="api",
    docs_url=None,
)
ERRORS: dict[Any, Any] = dict.fromkeys((400, 403, 404, 409, 413, 422, 429, 503), ApiError)


@api.post("/search", response={200: SearchAnswer, **ERRORS}, summary="Find similar images", tags=["search"])
def search(
    request: HttpRequest,
    form: Form[SearchForm],
    image: Annotated[UploadedFile | None, File(description="A picture to search with.")] = None,
) -> SearchAnswer:
    """Send a picture as `image` (multipart/form-data), or the id of an image of the gallery as `image_id`."""
    site = site_of(request)
    if (image is None) == (form.image_id is None):
        what = "neither came" if image is None else "both came"
        raise Problem(422, f"Send either a picture as 'image' or an image's id as 'image_id': {what}.")
    held = query_of(image, site) if image is not None else None
    params = SearchParams(image=form.image_id, k=form.k, where=form.where.strip())
    found = find(site, params, exclude_query=form.exclude_query, held=held)
    query = Query(
        image=Image.of(found.image) if found.image else None,
        name=held.name if held else None,
        width=held.width if held else None,
        height=held.height if held else None,
    )
    return SearchAnswer(
        query=query,
        model=site.gallery.model.name,
        gallery_images=site.status().images,
        embed_s=held.embed_s if held else None,
        search_s=found.search_s,
        results=[Result(rank=c.rank or 0, score=c.score or 0.0, image=Image.of(c)) for c in found.cards],
    )


@api.get("/images/{int:image_id}", response={200: Image, 404: ApiError}, summary="One image", tags=["images"])
def image(request: HttpRequest, image_id: int) -> Image:
    """Path, size, labels and addresses of one image."""
    if image_id > ID_LIMIT:
        raise Http404
    return Image.of(Card(record=site_of(request).gallery.image(image_id)))


@api.exception_handler(Problem)
def on_problem(request: HttpRequest, problem: Problem) -> HttpResponse:
    return json_problem(problem)


@api.exception_handler(VitseekError)
def on_vitseek_error(request: HttpRequest, error: VitseekError) -> HttpResponse:
    return json_problem(problem_of(error))


@api.exception_handler(ValidationError)
def on_invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    faults = [f"{'.'.join(str(p) for p in e['loc'][1:] if p != 'form')}: {e['msg']}" for e in error.errors]
    return json_problem(Problem(422, "; ".join(faults)))


@api.exception_handler(HttpError)
def on_http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return json_problem(Problem(error.status_code, str(error)))


@api.exception_handler(Http404)
def on_not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return json_problem(Problem(404, "There is nothing at this address."))
