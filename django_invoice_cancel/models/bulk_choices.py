"""The words of a stored bulk run: what is done with each invoice, and how far it is."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Operation(models.TextChoices):
    """What is done with each invoice."""

    CANCEL = "cancel", _("Cancel")
    CHECK = "check", _("Check with provider")
    RESOLVE = "resolve", _("Resolve by hand")


class Progress(models.TextChoices):
    """How far an operation is."""

    DRAFT = "draft", _("Not confirmed")
    RUNNING = "running", _("Running")
    STOPPED = "stopped", _("Stopped")
    FINISHED = "finished", _("Finished")
