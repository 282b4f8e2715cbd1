"""Users with permissions, and clients in which they are logged in."""

from itertools import count
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

_numbers = count(1)


def user_with(*codenames: str, **fields: Any) -> User:
    """Store a member of staff with these permissions."""
    user = User.objects.create_user(f"user-{next(_numbers)}", is_staff=True, **fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def client_of(user: User, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client
