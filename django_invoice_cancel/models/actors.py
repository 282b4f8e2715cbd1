"""The acting user: the column that refers to it, its name as text, and the lookup of a user by name.

Users may be stored in another database or schema, may have names of any type, and may be deleted. The log of their
actions stays.
"""

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DataError, models
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor

from ..domain.audit import LoggedActor
from ..services.call_arguments import checked_actor
from .values import storable

LABEL_LENGTH = 150
"""Length of the columns that hold an actor's name."""


class _ActorDescriptor(ForwardManyToOneDescriptor):  # type: ignore[type-arg]
    def get_object(self, instance: Any) -> Any:
        """Return the user, or None if it was deleted: the key is not cleared then."""
        with suppress(ObjectDoesNotExist):
            return super().get_object(instance)
        return None


class ActorField(models.ForeignKey):  # type: ignore[type-arg]
    """A foreign key to the acting user, without a constraint. Its value is None if the user was deleted."""

    forward_related_accessor_class = _ActorDescriptor

    def validate(self, value: Any, model_instance: Any) -> None:
        """Validate the value, but not that the user still exists."""
        super(models.ForeignKey, self).validate(value, model_instance)


def acting_user(verbose_name: Any, **options: Any) -> "models.ForeignKey[Any, Any]":
    """Return a foreign key to the acting user.

    It uses ``DO_NOTHING``, because with any other rule a deletion of a user queries the users' database for tables of
    this app.
    """
    return ActorField(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        db_constraint=False,
        related_name="+",
        verbose_name=verbose_name,
        **options,
    )


def named_actor(actor: Any) -> tuple[Any, str]:
    """Return the user's primary key, or None, and the text to log: the name, else the key.

    Args:
        actor: A user, an object that behaves like one (such as the user of a token), a label, or None.

    Raises:
        TypeError: ``actor`` has another type.
    """
    actor = checked_actor(actor)
    if actor is None:
        return None, ""
    if isinstance(actor, str):
        return None, _label(actor)
    if isinstance(actor, LoggedActor):
        return actor.key, actor.label
    if getattr(actor, "is_anonymous", False):
        return None, "anonymous"
    key = getattr(actor, "pk", None)
    names = (_label(name) for name in (_username(actor), key) if name is not None)
    label = next((name for name in names if name.strip()), "")
    # The key of a token may be that of a user of another service.
    return (key if isinstance(actor, get_user_model()) else None), label


def find_actor(name: str) -> Any:
    """Return the user with this name. If no user has it, return the name as a label."""
    user_model = get_user_model()
    field = user_model.USERNAME_FIELD
    # A field of numbers, UUIDs or the like raises one of these for other text.
    with suppress(TypeError, ValueError, OverflowError, ValidationError, DataError):
        return (user_model._default_manager.filter(**{field: name}).first() if field else None) or name
    return name


def _username(actor: Any) -> Any:
    """Return the user's name, or None if the user model has no names."""
    get_username = getattr(actor, "get_username", None)
    if not callable(get_username):  # not an AbstractBaseUser
        return getattr(actor, "username", None)
    with suppress(AttributeError, TypeError):  # USERNAME_FIELD is None
        return get_username()
    return None


def _label(name: Any) -> str:
    return storable(str(name), LABEL_LENGTH)
