"""What a search asks with: the terms as the page shows them, and as the gallery takes them."""

from dataclasses import dataclass, replace
from functools import cached_property
from urllib.parse import urlsplit

from django.urls import reverse
from django.utils.translation import gettext as _

from vitseek.errors import QuerySyntaxError
from vitseek.search.query import MAX_TERMS, MAX_WEIGHT, Expression, Term
from vitseek.web.cards import Card
from vitseek.web.held import HeldQuery
from vitseek.web.params import SearchParams, joined, written
from vitseek.web.problems import Problem
from vitseek.web.site import Site

SLIDER = 2.0  # weights from -2 to 2, unless a typed one is larger
STEP = 0.1


@dataclass(frozen=True, kw_only=True)
class Part:
    """One term of a query on the page: a picture or words, its weight, and the address without it."""

    term: Term
    expression: Expression
    params: SearchParams
    number: int
    card: Card | None = None
    held: HeldQuery | None = None

    @property
    def name(self) -> str:
        """What a person calls it."""
        if self.card:
            return self.card.name
        if self.held:
            return self.held.name
        if self.term.kind == "address":
            address = urlsplit(str(self.term.value))
            return address.path.rpartition("/")[2] or address.netloc
        return str(self.term.value)

    @property
    def token(self) -> str:
        return str(self.term.value) if self.held else ""

    @property
    def weight(self) -> str:
        return shown_weight(self.term.weight)

    @property
    def value(self) -> str:
        return f"{self.term.weight:g}"

    @property
    def limit(self) -> str:
        return f"{max(SLIDER, abs(self.term.weight)):g}"

    @property
    def step(self) -> str:
        """Steps of the slider; a typed weight such as 0.25 lies between them and must stay as it is."""
        steps = self.term.weight / STEP
        return f"{STEP:g}" if abs(steps - round(steps)) < 1e-6 and abs(self.term.weight) <= SLIDER else "any"

    @property
    def without(self) -> str:
        """The address of the search without this; the start page when it is the only one."""
        rest = [term for at, term in enumerate(self.expression.terms) if at != self.number]
        if not any(term.weight for term in rest):
            return reverse("home")
        return reverse("home") + self.params.asking(joined(rest))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A query with its pictures at hand."""

    expression: Expression
    params: SearchParams
    parts: tuple[Part, ...]

    @property
    def searched(self) -> Expression:
        """What the gallery takes: uploads as the vectors that they gave."""
        return Expression(
            tuple(
                replace(part.term, kind="vector", value=part.held.vectors, name=part.held.name)
                if part.held
                else replace(part.term, bare=False)  # nobody here means a file
                for part in self.parts
            )
        )

    @cached_property
    def text(self) -> str:
        """The query as a person writes it; what was typed stays as it was typed."""
        alone = self.params.q and self.params.image is None and self.params.query is None
        return self.params.q if alone else written(self.expression)

    @property
    def title(self) -> str:
        """A line for the browser's tab."""
        joined_names = ""
        for part in self.parts:
            sign = "−" if part.term.weight < 0 else "+" if joined_names else ""
            joined_names += f" {sign} {part.name}" if joined_names else f"{sign}{part.name}"
        return joined_names

    @property
    def picture(self) -> Part | None:
        """The one picture that is searched with, if that is all."""
        only = self.parts[0]
        single = len(self.parts) == 1 and only.term.weight == 1
        return only if single and (only.card or only.held) else None

    @property
    def words_only(self) -> bool:
        return all(part.term.kind == "text" for part in self.parts)

    @property
    def phrase(self) -> str:
        """The words that are searched for, if that is all: there is nothing to weigh them against."""
        only = self.parts[0].term
        return only.value if len(self.parts) == 1 and only.kind == "text" and only.weight == 1 else ""

    @property
    def has_words(self) -> bool:
        return self.expression.has_words

    @property
    def full(self) -> bool:
        """Whether nothing more can be added."""
        return len(self.parts) >= MAX_TERMS


def ask(site: Site, params: SearchParams, *, held: HeldQuery | None = None) -> Asked:
    """Look up what a search names.

    Parameters
    ----------
    held
        A picture that came with the request and is not held by name; it joins the query as its first term.

    Raises
    ------
    Problem
        410 if an upload is not held any more, 403 for an address where none may be fetched.
    VitseekError
        A query that does not parse, an unknown id.
    """
    expression = params.expression()
    terms = [] if held is None else [Term(1.0, "upload", "")]
    terms += expression.terms if expression else ()
    expression = joined(terms)
    parts = []
    for number, term in enumerate(terms):
        part = Part(term=term, expression=expression, params=params, number=number)
        if term.kind == "image":
            part = replace(part, card=Card(record=site.gallery.image(term.value)))
        elif term.kind == "upload":
            kept = site.held.get(term.value) if term.value else held
            if kept is None:
                raise Problem(410, _("The picture of this search is not held any more. Choose it again."))
            part = replace(part, held=kept)
        elif term.kind == "address" and not site.options.allow_addresses:
            text = _("This server fetches no pictures from addresses. Save the picture and choose the file.")
            raise Problem(403, text, detail="vitseek serve --allow-addresses")
        parts.append(part)
    return Asked(expression=expression, params=params, parts=tuple(parts))


def shown_weight(weight: float) -> str:
    """A weight with a true minus sign, as people see it."""
    return f"{weight:g}".replace("-", "−")


def weighed(expression: Expression, weights: list[str]) -> Expression:
    """The same terms with other weights, in their order.

    Raises
    ------
    Problem
        422 if they are not as many numbers as there are terms.
    """
    try:
        numbers = [round(float(weight), 3) for weight in weights]
    except ValueError:
        numbers = []
    if len(numbers) != len(expression.terms) or not all(abs(number) <= MAX_WEIGHT for number in numbers):
        raise Problem(422, _("The weights do not fit the query."))
    if not any(numbers):
        raise QuerySyntaxError("every weight is 0, so nothing is searched for", hint="Give one a weight above 0.")
    terms = [replace(term, weight=number) for term, number in zip(expression.terms, numbers, strict=True)]
    return joined(terms)
