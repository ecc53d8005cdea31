"""What goes wrong with a request, as a status code and a text for the person."""

from django.utils.translation import gettext as _

from vitseek.errors import (
    BusyError,
    FilterSyntaxError,
    GalleryEmptyError,
    GalleryError,
    ImageNotFoundError,
    ImageTooLargeError,
    UnreadableImageError,
    UsageError,
    VitseekError,
)


class Problem(Exception):
    """A request that cannot be answered: ``status`` for programs, ``message`` in the language of the page.

    ``detail`` is what the library said, in English.
    """

    def __init__(self, status: int, message: str, *, detail: str = "") -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.detail = detail

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
            return Problem(422, _("The filter cannot be understood."), detail=str(error))
        case ImageTooLargeError():
            return Problem(413, _("The picture has too many pixels."), detail=error.reason)
        case UnreadableImageError():
            return Problem(404, _("The file of this image cannot be read any more."), detail=error.reason)
        case GalleryEmptyError():
            return Problem(409, _("The gallery holds no images yet. Add some with: vitseek index"), detail=str(error))
        case UsageError():
            return Problem(422, _("The search cannot be done like this."), detail=str(error))
        case GalleryError():
            return Problem(503, _("The gallery cannot be searched at the moment."), detail=str(error))
        case _:
            return Problem(500, _("The search failed."), detail=str(error))
