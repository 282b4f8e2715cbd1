"""Two listening sockets on 127.0.0.1 and a thread that serves them.

Knows sockets and threads, not what is said over them. The second port works also while the first refuses; a port
that refuses stays ours. An exception in a callback is kept in ``errors``, never swallowed.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from .wire import Line, Request

BACKLOG = 1024
Receiver = Callable[[Request, Line], None]


class Server:
    """The sandbox's sockets and its thread."""

    def __init__(self, receive: Receiver, receive_elsewhere: Receiver) -> None:
        self._receive, self._receive_elsewhere = receive, receive_elsewhere
        self.errors: list[BaseException] = []
        self._lines: set[Line] = set()
        self._elsewhere_lines: set[Line] = set()
        self._servers: dict[str, asyncio.Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self._reserved: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None

    def start(self, port: int) -> tuple[int, int]:
        """Listen on ``port`` (0: any) and on another one, and return both."""
        # Listening before anybody is told the address: a client that connects early waits in the backlog.
        listening, elsewhere = _bind(port), _bind(0)
        for sock in (listening, elsewhere):
            sock.listen(BACKLOG)
        self._port, elsewhere_port = listening.getsockname()[1], elsewhere.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._note_error)
        self._begin(self._serve("here", listening))
        self._begin(self._serve("elsewhere", elsewhere))
        self._thread = threading.Thread(target=self._run, name="provider-sandbox", daemon=True)
        self._thread.start()
        return self._port, elsewhere_port

    def close(self) -> None:
        """End every connection and the thread. Does nothing the second time."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def refuse(self) -> None:
        """Refuse connections on the first port and end those that there are."""
        self._in_loop(self._refuse)

    def accept_again(self) -> None:
        """Take the first port into service again."""
        self._in_loop(self._accept_again)

    # -- in the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._hang_up())
            asyncio.set_event_loop(None)
            self._loop.close()

    async def _hang_up(self) -> None:
        for server in self._servers.values():
            server.close()
        if self._reserved is not None:
            self._reserved.close()
        while lines := self._lines | self._elsewhere_lines:
            for line in lines:
                line.hang_up()
            await asyncio.sleep(0)

    async def _serve(self, name: str, sock: socket.socket) -> None:
        is_here = name == "here"
        receive = self._receive if is_here else self._receive_elsewhere
        lines = self._lines if is_here else self._elsewhere_lines
        self._servers[name] = await self._loop.create_server(lambda: Line(receive, lines), sock=sock, backlog=BACKLOG)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        # The loop itself keeps no reference to a task.
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _in_loop(self, action: Callable[[], None]) -> None:
        if self._thread is None or threading.current_thread() is self._thread:
            action()
            return
        done = threading.Event()
        self._loop.call_soon_threadsafe(action)
        self._loop.call_soon_threadsafe(done.set)
        done.wait()

    def _refuse(self) -> None:
        # The control request that asked for it may have come in here: its answer is written first.
        self._servers.pop("here").close()
        self._reserved = _bind(self._port)
        for line in tuple(self._lines):
            self._loop.call_soon(line.hang_up)

    def _accept_again(self) -> None:
        if self._reserved is not None:
            self._reserved.listen(BACKLOG)
            self._begin(self._serve("here", self._reserved))
            self._reserved = None

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(context.get("exception") or RuntimeError(context["message"]))


def _bind(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock
