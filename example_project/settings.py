"""Settings of the example shop: one SQLite file, ATOMIC_REQUESTS is on, and the sandbox simulates both providers.

All credentials are invented. ``demo.py`` and ``serve.py`` set values in the environment.
"""

import os
from pathlib import Path

from databases import database

HERE = Path(__file__).resolve().parent
DATABASE = Path(os.environ.get("EXAMPLE_DATABASE", HERE / "var" / "example.sqlite3"))
SANDBOX_URL = os.environ.get("EXAMPLE_SANDBOX_URL", "http://127.0.0.1:8765")
DEADLINE = float(os.environ.get("EXAMPLE_DEADLINE", "15"))
LOG_LEVEL = os.environ.get("EXAMPLE_LOG_LEVEL", "INFO")

DEBUG = True
SECRET_KEY = "invented-for-the-example"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ru", "Русский")]
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "orders"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_invoice_cancel",
    "shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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

DATABASES = {"default": database(DATABASE)}

INVOICE_CANCEL = {
    "PROVIDERS": {
        "cryptocloud": {
            "BACKEND": "django_invoice_cancel.providers.cryptocloud.CryptoCloud",
            "OPTIONS": {"base_url": SANDBOX_URL, "api_key": "sandbox-cryptocloud-key", "deadline": DEADLINE},
        },
        "firekassa": {
            "BACKEND": "django_invoice_cancel.providers.firekassa.FireKassa",
            "OPTIONS": {
                "base_url": SANDBOX_URL,
                "api_token": "sandbox-firekassa-token",
                "deadline": DEADLINE,
                # FireKassa does not document it, so it is off by default. The sandbox supports it.
                "lookup": True,
            },
        },
        # A second account, whose token has been revoked.
        "firekassa_old": {
            "BACKEND": "django_invoice_cancel.providers.firekassa.FireKassa",
            "OPTIONS": {"base_url": SANDBOX_URL, "api_token": "revoked-token", "deadline": DEADLINE},
        },
    },
    # Short, so that you do not wait for a quarter of an hour. Use the default in production.
    "DOUBT_PERIOD": 60,
}

CRYPTOCLOUD_SECRET_KEY = "sandbox-cryptocloud-secret"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": LOG_LEVEL, "propagate": False}
        for name in ("django_invoice_cancel", "shop")
    },
}
