"""Bulk operations in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from ..models import BulkOperation

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[BulkOperation]
else:  # generic for the type checker alone
    _ModelAdmin = admin.ModelAdmin


class BulkOperationAdmin(_ModelAdmin):
    """Operations on many invoices: read-only."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
