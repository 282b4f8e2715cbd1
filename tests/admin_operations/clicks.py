"""Users by permission, and the requests of their clicks."""

from itertools import count
from typing import Any

from django.contrib.auth.models import Permission, User
from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse

from django_invoice_cancel.models import BulkOperation, Invoice

_users = count(1)


def page(operation: BulkOperation, name: str = "operation", site: str = "admin") -> str:
    return reverse(f"{site}:invoice_cancel_bulkoperation_{name}", args=[operation.pk])


def user_with(*codenames: str, **fields: Any) -> User:
    user = User.objects.create_user(f"user-{next(_users)}", is_staff=True, **fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def client_of(user: User, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


def text(answer: Any) -> str:
    """Return a page with its white space made single."""
    return " ".join(answer.content.decode().split())


def run(client: Client, operation: BulkOperation) -> dict[str, Any]:
    """Do a slice as the page's script does."""
    return client.post(page(operation, "run"), headers={"accept": "application/json"}).json()


def look(client: Client, operation: BulkOperation) -> dict[str, Any]:
    """Ask how far it is, as the page's script does."""
    return client.get(page(operation), {"format": "json"}).json()


def put(invoice: Invoice, **columns: object) -> None:
    """Write columns past everything that guards them."""
    QuerySet(Invoice).filter(pk=invoice.pk).update(**columns)
