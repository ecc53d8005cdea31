"""The API for programs; `/api/v1/openapi.json` describes it.

There is no documentation page: django-ninja's loads its scripts from elsewhere, and this server works offline.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from ninja import File, Form, NinjaAPI, Schema, UploadedFile
from ninja import Query as NinjaQuery
from ninja.errors import HttpError, ValidationError
from pydantic import Field

from vitseek.errors import VitseekError
from vitseek.version import __version__
from vitseek.web.answers import json_problem
from vitseek.web.asking import Part, ask
from vitseek.web.cards import Card
from vitseek.web.finder import find
from vitseek.web.params import DEFAULT_K, ID_LIMIT, K_LIMIT, QUERY_LENGTH, SPACE_LENGTH, WHERE_LENGTH, SearchParams
from vitseek.web.problems import Problem, problem_of
from vitseek.web.site import Site, site_of
from vitseek.web.spaces import usual
from vitseek.web.uploads import query_of


class ApiError(Schema):
    """What is wrong and what to do, in one text."""

    error: str
    position: int | None = Field(None, description="Where a query or filter stops making sense, in characters from 0.")
    hint: str | None = Field(None, description="What could stand there.")


class PredictedLabel(Schema):
    """A label that a model gave."""

    label: str
    probability: float
    source: str = Field(description='"zero-shot", "head", or a name that the user chose.')


class Image(Schema):
    """One image of the gallery."""

    id: int
    path: str = Field(description="Relative to the indexed folder, with / between names.")
    labels: list[str] = Field(description="Those of the user and of folders.")
    predictions: list[PredictedLabel] = Field(description="Those of models, the most probable first.")
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
            predictions=[PredictedLabel(**one._asdict()) for one in record.predictions],
            width=record.width,
            height=record.height,
            bytes=record.bytes,
            date=card.date,
            **addresses,
        )


class Result(Schema):
    """One image that was found."""

    rank: int
    score: float = Field(
        description="Up is better. One space: the cosine, 1 is the same picture. Two spaces: what joins them."
    )
    image: Image


class QueryTerm(Schema):
    """One thing that was searched with."""

    kind: Literal["words", "image", "upload", "address"]
    weight: float = Field(description="Negative for what is not wanted.")
    words: str | None = None
    image_id: int | None = None
    name: str | None = Field(default=None, description="Name of the image's or the uploaded file, or the address.")

    @classmethod
    def of(cls, part: Part) -> "QueryTerm":
        term = part.term
        match term.kind:
            case "text":
                return cls(kind="words", weight=term.weight, words=term.value)
            case "image":
                return cls(kind="image", weight=term.weight, image_id=term.value, name=part.name)
            case "upload":
                return cls(kind="upload", weight=term.weight, name=part.name)
        return cls(kind="address", weight=term.weight, name=str(term.value))


class Query(Schema):
    """What was searched with."""

    image: Image | None = Field(description="The gallery's image, if the search was by one alone.")
    name: str | None = Field(description="Name of the uploaded file.")
    width: int | None = Field(description="Of the uploaded picture.")
    height: int | None
    terms: list[QueryTerm] = Field(description="All of it, in order.")


class SearchAnswer(Schema):
    """The images that fit the query best, best first."""

    query: Query
    spaces: list[str] = Field(description="The space that was searched, by name, or the two.")
    model: str = Field(description="The model of the first of them.")
    notes: list[str] = Field(description="What a person should know about how the query was understood.")
    gallery_images: int
    embed_s: float | None = Field(description="Time to compute the features of the upload, in seconds.")
    search_s: float
    results: list[Result]


class SearchFields(Schema):
    """What to search for, and how."""

    q: str = Field(
        "",
        max_length=QUERY_LENGTH,
        description='Words, or a combination: image:12 + "at night" - 0.5 "snow". Files are never read.',
    )
    image_id: int | None = Field(None, ge=0, le=ID_LIMIT, description="An image of the gallery; joins q.")
    k: int = Field(DEFAULT_K, ge=1, le=K_LIMIT, description="How many results.")
    where: str = Field("", max_length=WHERE_LENGTH, description="A filter, as in `vitseek search --where`.")
    exclude_query: bool = Field(True, description="Leave the gallery's images that the query names out.")
    space: str = Field("", max_length=SPACE_LENGTH, description="Search this space instead of the usual one.")
    also: str = Field("", max_length=SPACE_LENGTH, description="A second space to search.")
    balance: float | None = Field(None, ge=0, le=1, description="How much the second space counts; 0.5 if not given.")
    fusion: Literal["", "scores", "ranks"] = Field("", description="How two spaces are joined; scores if not given.")

    def params(self) -> SearchParams:
        """The same as an address of the page."""
        if (self.balance is not None or self.fusion) and not self.also:
            raise Problem(422, "'balance' and 'fusion' join two spaces: name the second one in 'also'.")
        return SearchParams(
            q=self.q.strip(),
            image=self.image_id,
            k=self.k,
            where=self.where.strip(),
            space=self.space.strip(),
            also=self.also.strip(),
            balance=self.balance,
            fusion=self.fusion,
        )


class SpaceFacts(Schema):
    """One set of vectors of the gallery."""

    name: str
    model: str
    dim: int
    images: int
    default: bool
    words: bool = Field(description="Whether it can be searched by words.")


api = NinjaAPI(
    title="vitseek",
    version=__version__,
    description="Search a gallery of images by example, by words, and by combinations of both.",
    urls_namespace="api",
    docs_url=None,
)
ERRORS: dict[Any, Any] = dict.fromkeys((400, 403, 404, 409, 413, 422, 429, 503), ApiError)


@api.get("/search", response={200: SearchAnswer, **ERRORS}, summary="Search by words or images", tags=["search"])
def search_by_words(request: HttpRequest, fields: NinjaQuery[SearchFields]) -> SearchAnswer:
    """Search with `q`, with `image_id`, or with both together."""
    return _search(site_of(request), fields, None)


@api.post("/search", response={200: SearchAnswer, **ERRORS}, summary="Find similar images", tags=["search"])
def search(
    request: HttpRequest,
    form: Form[SearchFields],
    image: Annotated[UploadedFile | None, File(description="A picture to search with; joins q.")] = None,
) -> SearchAnswer:
    """Send a picture as `image` (multipart/form-data), `q`, or both; or the id of an image as `image_id`."""
    if image is not None and form.image_id is not None:
        raise Problem(422, "Send either a picture as 'image' or an image's id as 'image_id': both came.")
    return _search(site_of(request), form, image)


def _search(site: Site, fields: SearchFields, upload: UploadedFile | None) -> SearchAnswer:
    params = fields.params()
    if upload is None and not params.has_query:
        raise Problem(422, "Send a picture as 'image', an image's id as 'image_id', or words as 'q': nothing came.")
    params.expression()  # a query that does not parse is refused before the picture is embedded
    held = query_of(upload, site, _spaces(site, params)) if upload is not None else None
    found = find(site, ask(site, params, held=held), exclude_query=fields.exclude_query)
    query = Query(
        image=Image.of(found.image) if found.image else None,
        name=held.name if held else None,
        width=held.width if held else None,
        height=held.height if held else None,
        terms=[QueryTerm.of(part) for part in found.asked.parts],
    )
    return SearchAnswer(
        query=query,
        model=next((space.model for space in site.status().spaces if space.name == found.spaces[0]), ""),
        spaces=list(found.spaces),
        notes=list(found.notes),
        gallery_images=site.status().images,
        embed_s=held.embed_s if held else None,
        search_s=found.search_s,
        results=[Result(rank=c.rank or 0, score=c.score or 0.0, image=Image.of(c)) for c in found.cards],
    )


def _spaces(site: Site, params: SearchParams) -> list[str | int]:
    """Where an upload is needed besides the default space: the spaces that are named, or that of its words."""
    named: list[str | int] = [name for name in (params.space, params.also) if name]
    expression = params.expression()
    space = usual(site, expression) if expression and not params.space else None
    return [*named, space.id] if space else named


@api.get("/spaces", response={200: list[SpaceFacts], 503: ApiError}, summary="The gallery's spaces", tags=["search"])
def spaces(request: HttpRequest) -> list[SpaceFacts]:
    """Which sets of vectors there are, the default one first, and which can be searched by words."""
    return [
        SpaceFacts(
            name=space.name,
            model=space.model,
            dim=space.dim,
            images=space.images,
            default=space.default,
            words=space.words,
        )
        for space in sorted(site_of(request).status().spaces, key=lambda space: not space.default)
    ]


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
