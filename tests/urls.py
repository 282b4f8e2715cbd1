"""The admin, and nothing else: what a test needs besides it brings itself with ``@pytest.mark.urls``."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
