"""Collect the page's texts and compile their translations: `python -m vitseek.web.translate` (needs GNU gettext).

Run it after a text changed, translate what is new in `locale/*/LC_MESSAGES/django.po`, and run it again.
"""

import os
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

HERE = Path(__file__).parent


def main() -> None:
    settings.configure(LOCALE_PATHS=[HERE / "locale"], USE_I18N=True)
    django.setup()
    os.chdir(HERE)
    locales = [folder.name for folder in (HERE / "locale").iterdir() if folder.is_dir()]
    call_command(
        "makemessages", locale=locales, extensions=["html", "py"], add_location="file", no_wrap=True, no_obsolete=True
    )
    call_command("compilemessages", locale=locales)


if __name__ == "__main__":
    main()
