"""Django's development server, with our own introduction once it listens (the port may have been 0)."""

from typing import ClassVar

from django.contrib.staticfiles.management.commands.runserver import Command


class Runserver(Command):
    introduction: ClassVar[str] = ""

    def on_bind(self, server_port: int) -> None:
        print(self.introduction.format(port=server_port))
