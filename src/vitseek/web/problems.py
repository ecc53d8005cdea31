"""What goes wrong with a request, as a status code and a text for the person."""

import re
from dataclasses import dataclass

from django.utils.translation import gettext as _

from vitseek.errors import (
    AddressError,
    BusyError,
    EmptyTextError,
    FilterSyntaxError,
    GalleryEmptyError,
    GalleryError,
    GalleryMismatchError,
    ImageNotFoundError,
    ImageTooLargeError,
    MarkedSyntaxError,
    QuerySyntaxError,
    TextUnsupportedError,
    UnreadableImageError,
    UsageError,
    VitseekError,
    WeightsError,
)

ADD_WORDS = "Add a space whose model does: vitseek index GALLERY --model clip-vit-b32 (vitseek models lists others)."
_ADVICE = re.compile(r"\.? (?:If you trust|Search there:) ")


@dataclass(frozen=True)
class Mark:
    """Where a text stops making sense, for pages that draw it."""

    text: str
    position: int
    problem: str
    hint: str

    @property
    def before(self) -> str:
        return self.text[: self.position]

    @property
    def here(self) -> str:
        return self.text[self.position : self.position + 1].strip() or "\N{NO-BREAK SPACE}"

    @property
    def after(self) -> str:
        return self.text[self.position + 1 :]

    @classmethod
    def of(cls, error: MarkedSyntaxError) -> "Mark | None":
        """None where the whole text is meant."""
        if error.position is None or not error.text:
            return None
        return cls(error.text, error.position, error.problem, error.hint)


class Problem(Exception):
    """A request that cannot be answered: ``status`` for programs, ``message`` in the language of the page.

    ``detail`` is what the library said, in English; ``mark`` shows the place in a query or filter that does not
    parse, and ``field`` is the one of the page that holds it. ``wordless``: words came for a gallery that reads none,
    and the page shows the way out.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        detail: str = "",
        mark: Mark | None = None,
        field: str = "",
        wordless: bool = False,
    ) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.detail = detail
        self.mark = mark
        self.field = field
        self.wordless = wordless

    def __str__(self) -> str:
        return f"{self.message} {self.detail}".strip()


def problem_of(error: VitseekError) -> Problem:
    """Translate an error of the library for the page and the API."""
    match error:
        case BusyError():
            return Problem(429, _("Too many searches at the same time. Try again in a few seconds."))
        case ImageNotFoundError():
            return Problem(404, _("The gallery has no such image. It may have been removed since."))
        case FilterSyntaxError():
            text = _("The filter cannot be understood.")
            return Problem(422, text, detail=str(error), mark=Mark.of(error), field="where")
        case QuerySyntaxError():
            text = _("The query cannot be understood.")
            return Problem(422, text, detail=str(error), mark=Mark.of(error), field="q")
        case TextUnsupportedError(elsewhere=True):  # only who names a space meets this
            return Problem(422, _("The search does not fit the gallery's spaces."), detail=_fact(str(error)))
        case TextUnsupportedError():
            return Problem(422, _("This gallery does not read words yet."), detail=ADD_WORDS, wordless=True)
        case EmptyTextError():
            return Problem(422, _("There is no word in this text that the model knows."), detail=str(error))
        case AddressError():
            return Problem(422, _("No picture can be had from this address."), detail=_fact(str(error)))
        case ImageTooLargeError():
            return Problem(413, _("The picture has too many pixels."), detail=_fact(error.reason))
        case UnreadableImageError():
            return Problem(404, _("The file of this image cannot be read any more."), detail=error.reason)
        case GalleryEmptyError():
            return Problem(409, _("The gallery holds no images yet. Add some with: vitseek index"), detail=str(error))
        case GalleryMismatchError():
            return Problem(422, _("The search does not fit the gallery's spaces."), detail=str(error))
        case WeightsError():
            return Problem(503, _("The model of this space cannot be loaded."), detail=str(error))
        case UsageError():
            return Problem(422, _("The search cannot be done like this."), detail=str(error))
        case GalleryError():
            return Problem(503, _("The gallery cannot be searched at the moment."), detail=str(error))
        case _:
            return Problem(500, _("The search failed."), detail=str(error))


def _fact(text: str) -> str:
    """A message of the library without its advice, which is for the command line."""
    fact = _ADVICE.split(text, maxsplit=1)[0]
    return fact if fact.endswith(".") else f"{fact}."
