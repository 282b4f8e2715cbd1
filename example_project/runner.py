"""Django's development server, with our own introduction once it listens (the port may have been 0).

What runs beside it is started then and not before: where the port is taken, Django ends the process at once, and would
leave it behind.
"""

from collections.abc import Callable
from typing import ClassVar

from django.contrib.staticfiles.management.commands.runserver import Command


class Runserver(Command):
    introduction: ClassVar[str] = ""
    start_others: ClassVar[Callable[[], object]]

    def on_bind(self, server_port: int) -> None:
        type(self).start_others()
        print(self.introduction.format(port=server_port))
