"""Settings of the test suite. The environment selects the database; the default is SQLite.

``INVOICE_CANCEL_TEST_DATABASE_URL`` is ``postgres://USER:PASSWORD@HOST:PORT/NAME``, ``mysql://...`` (MariaDB too) or
``sqlite:///PATH``. The suite never uses NAME itself but creates ``test_NAME`` (and one for each xdist worker), and
the same for the second alias, ``other``. A child process of a test gets the created databases in the same variables:
see the fixture ``child_env``.
"""

import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ENGINES = {"postgres": "postgresql", "postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}


def sqlite(path: str, alias: str) -> dict[str, Any]:
    """A file, not memory: threads and processes of a test share it. Named by pid: two runs do not meet."""
    file = Path(path or Path(tempfile.gettempdir(), f"invoice_cancel_{os.getpid()}.{alias}.sqlite3"))
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(file),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
        "TEST": {"NAME": str(file.with_name(f"test_{file.name}"))},
    }


def server(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    engine = ENGINES[parts.scheme]
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": parts.path.strip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "127.0.0.1",
        "PORT": parts.port or "",
        "OPTIONS": {"charset": "utf8mb4"} if engine == "mysql" else {},
        "TEST": {"CHARSET": "utf8mb4"} if engine == "mysql" else {},
    }


def database(url: str, alias: str) -> dict[str, Any]:
    return sqlite(url.removeprefix("sqlite://").removeprefix("/"), alias) if url.startswith("sqlite:") else server(url)


URL = os.environ.get("INVOICE_CANCEL_TEST_DATABASE_URL", "sqlite://")
OTHER_URL = os.environ.get("INVOICE_CANCEL_TEST_OTHER_DATABASE_URL") or (URL if URL == "sqlite://" else f"{URL}_other")

DATABASES = {"default": database(URL, "default"), "other": database(OTHER_URL, "other")}
# One database is enough to test the migrations; the tables of the other are created from the models, which is faster.
DATABASES["other"]["TEST"]["MIGRATE"] = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SECRET_KEY = "invented-for-the-tests"
ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
USE_TZ = os.environ.get("INVOICE_CANCEL_TEST_USE_TZ", "1") != "0"
TIME_ZONE = "Europe/Berlin"
LANGUAGE_CODE = "en"
STATIC_URL = "static/"
ROOT_URLCONF = "tests.urls"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_invoice_cancel",
    "tests.apps.child_models",
    "tests.apps.quick_flush",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# No server listens on port 9, so a test without a sandbox sends no requests.
INVOICE_CANCEL: dict[str, Any] = {
    "PROVIDERS": {
        "firekassa": {
            "BACKEND": "django_invoice_cancel.providers.firekassa.FireKassa",
            "OPTIONS": {"base_url": "http://127.0.0.1:9", "api_token": "invented-firekassa-token"},
        },
        "cryptocloud": {
            "BACKEND": "django_invoice_cancel.providers.cryptocloud.CryptoCloud",
            "OPTIONS": {"base_url": "http://127.0.0.1:9", "api_key": "invented-cryptocloud-key"},
        },
    },
}
