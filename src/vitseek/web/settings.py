"""Django's settings, built from the options of one server; nothing is read from the environment."""

import hashlib
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitseek.web.options import WebOptions

HERE = Path(__file__).parent
STATIC_FOLDER = HERE / "static"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
MEMORY_BYTES = 2 * 2**20  # larger uploads wait in a temporary file


def build_settings(options: WebOptions, *, secret_key: str) -> dict[str, Any]:
    """Everything that ``settings.configure`` takes; ``options.port`` must be the port that is listened on."""
    return {
        "DEBUG": False,
        "SECRET_KEY": secret_key,
        "ALLOWED_HOSTS": allowed_hosts(options),
        "ROOT_URLCONF": "vitseek.web.urls",
        "INSTALLED_APPS": ["vitseek.web"],
        "MIDDLEWARE": [
            "vitseek.web.security.security_headers",
            "vitseek.web.security.only_known_hosts",
            "whitenoise.middleware.WhiteNoiseMiddleware",
            "django.middleware.locale.LocaleMiddleware",
            "django.middleware.common.CommonMiddleware",
            "vitseek.web.security.only_own_pages",
            "vitseek.web.uploads.upload_limit",
            "django.middleware.csrf.CsrfViewMiddleware",
        ],
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "DIRS": [HERE / "templates"],
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.template.context_processors.i18n",
                        "vitseek.web.context.site",
                    ]
                },
            }
        ],
        # The address of static files names their content, so that browsers keep them for good and never see an old
        # one; modules import each other by relative paths, which no renaming of single files would allow.
        "STATIC_URL": f"/static/{static_version()}/",
        "STATIC_ROOT": STATIC_FOLDER,
        "WHITENOISE_AUTOREFRESH": False,
        "WHITENOISE_USE_FINDERS": False,
        "WHITENOISE_ALLOW_ALL_ORIGINS": False,
        "WHITENOISE_IMMUTABLE_FILE_TEST": lambda path, url: True,
        "USE_I18N": True,
        "LANGUAGE_CODE": "en",
        "LANGUAGES": LANGUAGES,
        "LOCALE_PATHS": [HERE / "locale"],
        "LANGUAGE_COOKIE_NAME": "vitseek_language",
        "LANGUAGE_COOKIE_AGE": 365 * 86_400,
        "LANGUAGE_COOKIE_SAMESITE": "Lax",
        "LANGUAGE_COOKIE_HTTPONLY": True,
        "USE_TZ": False,  # dates of files are shown in this machine's time
        # Cookies know no port: a name of its own keeps this server apart from others on the same machine.
        "CSRF_COOKIE_NAME": f"vitseek_csrf_{options.port}",
        "CSRF_COOKIE_HTTPONLY": True,
        "CSRF_COOKIE_SAMESITE": "Strict",
        "CSRF_FAILURE_VIEW": "vitseek.web.failures.bad_token",
        "CSRF_TRUSTED_ORIGINS": [f"https://{name}" for name in options.extra_names],  # a proxy that speaks HTTPS
        "DATA_UPLOAD_MAX_MEMORY_SIZE": MEMORY_BYTES,
        "DATA_UPLOAD_MAX_NUMBER_FILES": 1,
        "DATA_UPLOAD_MAX_NUMBER_FIELDS": 20,
        "FILE_UPLOAD_MAX_MEMORY_SIZE": MEMORY_BYTES,
        "DATABASES": {},
        "LOGGING_CONFIG": None,
    }


def allowed_hosts(options: WebOptions) -> list[str]:
    """The names by which this server may be asked: a foreign one may be somebody else's DNS record.

    Numeric addresses of this machine cannot be pointed elsewhere, so listening on all of them allows each.
    """
    names = [*LOOPBACK_NAMES, *options.extra_names]
    if options.every_address:
        names += [socket.gethostname().lower(), *_own_addresses()]
    else:
        names.append(options.host)
    return list(dict.fromkeys(_bracketed(name) for name in names))


def _own_addresses() -> list[str]:
    found: set[str] = set()
    with suppress(OSError):
        found.update(str(row[4][0]) for row in socket.getaddrinfo(socket.gethostname(), None))
    # Documentation addresses (RFC 5737, RFC 3849): connecting a datagram socket sends nothing, it only picks the
    # address that a packet would leave from.
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            found.add(str(probe.getsockname()[0]))
    return sorted(address for address in found if "%" not in address)


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def static_version() -> str:
    """A short digest of all static files."""
    digest = hashlib.sha256()
    for path in sorted(STATIC_FOLDER.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(STATIC_FOLDER).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
