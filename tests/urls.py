"""Only the admin. A test adds other URLs with ``@pytest.mark.urls``."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
