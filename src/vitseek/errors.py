"""Every exception that vitseek raises on purpose.

    VitseekError
    ├── UsageError              the call itself is wrong              (exit status 2)
    │   ├── ShapeError          an array has the wrong shape
    │   ├── DTypeError          an array has the wrong number type
    │   ├── ConfigError         a model or preprocessing description does not hold together
    │   ├── UnknownModelError   no model of that name
    │   ├── FilterSyntaxError   a --where filter does not parse
    │   ├── QuerySyntaxError    a query such as 'cat.jpg + "at night"' does not parse
    │   ├── TextUnsupportedError    the model does not read text
    │   ├── EmptyTextError      a text without a word
    │   └── MissingExtraError   an optional part is not installed
    ├── ImageError
    │   ├── UnreadableImageError
    │   │   └── MissingDecoderError   readable once an extra is installed
    │   ├── ImageTooLargeError
    │   └── AddressError        no picture can be had from an http(s) address
    │       └── PrivateAddressError     it leads into this machine's own network
    ├── WeightsError
    │   ├── PickledWeightsError
    │   ├── CorruptWeightsError
    │   ├── WeightsKeyError     missing, extra or misshapen parameters
    │   ├── TokenizerError      a tokenizer file that is missing, damaged or another model's
    │   └── DownloadError
    │       ├── ChecksumError
    │       └── OfflineError
    ├── GalleryError
    │   ├── GalleryNotFoundError
    │   ├── GalleryEmptyError
    │   ├── GalleryLockedError
    │   ├── GalleryMismatchError
    │   ├── GalleryCorruptError
    │   ├── GalleryVersionError
    │   ├── ImageNotFoundError
    │   ├── OutsideGalleryError
    │   ├── FeaturesError       a features file (.npz) that cannot be imported
    │   └── StorageError        the disk is full, or read-only
    ├── WebError
    │   ├── ServerStartError    the address is taken, or not this machine's
    │   └── BusyError           too many requests at the same time
    └── TrainingError
        └── TrainingInterrupted     a run that was asked to stop, with its checkpoint written

A message says what was wanted, what came, which object, and what to do next.
"""


class VitseekError(Exception):
    """Base of every error that vitseek raises on purpose; its text is meant for the user."""

    exit_status = 1


class UsageError(VitseekError):
    """A call that cannot work as written: an option, an argument, a combination."""

    exit_status = 2


class ShapeError(UsageError):
    """An array of another shape than the function takes."""


class DTypeError(UsageError):
    """An array of another number type than the function takes, where converting it would hide a mistake."""


class ConfigError(UsageError):
    """A model or preprocessing description that contradicts itself or names something unknown."""


class UnknownModelError(UsageError):
    """A model name that is neither in the zoo nor a file nor a folder."""


class MarkedSyntaxError(UsageError):
    """Text that does not parse; the message shows the place with a mark below it.

    ``problem``, ``position`` (None when the whole text is meant) and ``hint`` are for pages that draw it themselves.
    """

    SHOWN = 72  # characters of a long text around the mark
    WHAT = "text"

    def __init__(self, problem: str, text: str = "", position: int | None = None, hint: str = "") -> None:
        super().__init__(problem, text, position, hint)  # all in args, so that the error survives pickling
        self.problem, self.text, self.position, self.hint = problem, text, position, hint

    def __str__(self) -> str:
        lines = [f"{self.WHAT}: {self.problem}"]
        if self.position is not None and self.text:
            start = max(0, min(self.position - self.SHOWN // 2, len(self.text) - self.SHOWN))
            end = start + self.SHOWN
            before, after = "…" if start else "", "…" if end < len(self.text) else ""
            shown = [_one_cell(character) for character in self.text[start:end]]
            width = len(before) + sum(_cells(character) for character in shown[: self.position - start])
            lines += [f"  {before}{''.join(shown)}{after}", f"  {' ' * width}^"]
        return "\n".join([*lines, self.hint] if self.hint else lines)


class FilterSyntaxError(MarkedSyntaxError):
    """A ``--where`` filter that does not parse."""

    WHAT = "filter"


class QuerySyntaxError(MarkedSyntaxError):
    """A query, such as ``cat.jpg + "at night"``, that does not parse or asks for nothing."""

    WHAT = "query"


class TextUnsupportedError(UsageError):
    """A text for a model that has no text tower, or whose features cannot be compared with text.

    ``elsewhere``: the gallery has another space that understands it.
    """

    def __init__(self, message: str, *, elsewhere: bool = False) -> None:
        super().__init__(message)
        self.elsewhere = elsewhere


class EmptyTextError(UsageError):
    """A text that has no word for the model: empty, blank, or nothing but what its tokenizer leaves out."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed; the message names the extra to install."""


class ImageError(VitseekError):
    """An image that cannot be used; ``name`` says which one, ``reason`` why and what to do."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both in args, so that the error survives pickling between processes
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class UnreadableImageError(ImageError):
    """A file that is not an image, is cut off, or cannot be read."""


class MissingDecoderError(UnreadableImageError):
    """An image in a format whose decoder is not installed; worth another try once it is."""


class ImageTooLargeError(ImageError):
    """An image with more pixels than the limit: a decompression bomb, or a limit set too low."""


class AddressError(ImageError):
    """A picture that an http(s) address does not give: not reached, refused, too large, too slow, or no image."""


class PrivateAddressError(AddressError):
    """An address of this machine or its own network, which is not asked unless that was allowed."""


class WeightsError(VitseekError):
    """Weights that cannot be loaded."""


class PickledWeightsError(WeightsError):
    """Weights stored with pickle, which runs code when read; refused with the way out."""


class CorruptWeightsError(WeightsError):
    """A weights file that is cut off or contradicts its own header."""


class WeightsKeyError(WeightsError):
    """Parameters that are missing, unexpected or of another shape; all of them in one message."""


class TokenizerError(WeightsError):
    """The tokenizer of a text tower: missing, damaged, or made for another model."""


class DownloadError(WeightsError):
    """A download that failed; what arrived is kept and resumed by the next try."""


class ChecksumError(DownloadError):
    """A file whose sha256 differs from the pinned one; it is not used."""


class OfflineError(DownloadError):
    """A file is not on this machine and the network may not be used."""


class GalleryError(VitseekError):
    """A gallery that cannot be used as asked."""


class GalleryNotFoundError(GalleryError):
    """No index where one was expected."""


class GalleryEmptyError(GalleryError):
    """A gallery or a folder without a usable image."""


class GalleryLockedError(GalleryError):
    """Another process is writing; the message says which."""


class GalleryMismatchError(GalleryError):
    """Vectors of one model, weights or preprocessing meet those of another."""


class GalleryCorruptError(GalleryError):
    """An index that fails its integrity check; the message says how to recover."""


class GalleryVersionError(GalleryError):
    """An index written by a newer vitseek than this one."""


class ImageNotFoundError(GalleryError):
    """No image with this id or path in the gallery."""


class OutsideGalleryError(GalleryError):
    """A path that lies in none of the gallery's folders."""

    exit_status = 2


class FeaturesError(GalleryError):
    """A features file without a pair of arrays "paths" and "features", or with pickled objects."""


class StorageError(GalleryError):
    """The disk is full or read-only; what was committed stays."""


class WebError(VitseekError):
    """The web server cannot do what was asked."""


class ServerStartError(WebError):
    """The server cannot listen: the port is taken or reserved, or the address is not one of this machine."""


class BusyError(WebError):
    """The server has as much to do as its memory allows; worth another try in a moment."""


class TrainingError(VitseekError):
    """A training run that cannot start or go on."""


class TrainingInterrupted(TrainingError):  # it is news, not a fault
    """A training run that was asked to stop (Ctrl-C, SIGTERM) and left a checkpoint to go on from."""

    exit_status = 130


def _one_cell(character: str) -> str:
    return character if character.isprintable() else " " if character.isspace() else "?"


def _cells(character: str) -> int:
    """Columns that a character takes in a terminal: the mark must stand below the right one."""
    import unicodedata

    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
