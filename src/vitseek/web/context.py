"""What every page shows of the server, for its templates."""

from typing import Any

from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from vitseek.web.cards import label_filter
from vitseek.web.params import QUERY_LENGTH
from vitseek.web.settings import LANGUAGES
from vitseek.web.site import site_of
from vitseek.web.spaces import reads_words, way_to_words
from vitseek.web.uploads import shown_name

LABEL_SUGGESTIONS = 12


def site(request: HttpRequest) -> dict[str, Any]:
    """Template context: the gallery's name and size, the limits, the languages, and what scripts say."""
    site = site_of(request)
    status = site.status()
    limit_bytes = site.options.upload_limit_bytes
    return {
        "gallery_name": shown_name(status.path.name or str(status.path)),
        "gallery_images": status.images,
        "gallery_number": f"{status.images:,}",
        "label_filters": [label_filter(label) for label in sorted(status.labels)[:LABEL_SUGGESTIONS]],
        "languages": LANGUAGES,
        "words": reads_words(site),
        "way": way_to_words(site),
        "query_length": QUERY_LENGTH,
        "texts": {
            "limit_bytes": limit_bytes,
            "too_large": _("This file is too large: at most %(limit)s are taken. Choose a smaller copy of the picture.")
            % {"limit": filesizeformat(limit_bytes)},
            "no_answer": _("The server does not answer. Is vitseek serve still running?"),
            "no_picture": _("There is no picture in what was dropped or pasted."),
            "first_only": _("Several pictures came; the search uses the first."),
            "searching": _("Looking for similar images…"),
            "place": _("%(number)s of %(total)s"),
            "copied": _("Copied."),
            "missing": _("This image cannot be shown: its file is gone or cannot be read."),
        },
    }
