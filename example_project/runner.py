"""Django's development server, which prints our introduction when it listens (the port may have been 0).

Other processes are started only then: if the port is in use, Django exits at once and would leave them running.
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
