"""Two listening sockets on 127.0.0.1, and a thread that serves them.

The second port still works while the first one refuses connections. A port that refuses stays bound. Exceptions in
callbacks are appended to ``errors``.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

from .wire import Connection, Request

BACKLOG = 1024
Receiver = Callable[[Request, Connection], None]


class Server:
    """The sandbox's sockets and its thread."""

    def __init__(self, receive: Receiver, receive_elsewhere: Receiver) -> None:
        self._receive, self._receive_elsewhere = receive, receive_elsewhere
        self.errors: list[BaseException] = []
        self._connections: set[Connection] = set()
        self._elsewhere_connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._port = 0
        self._here: socket.socket
        self._elsewhere: socket.socket
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None

    def start(self, port: int) -> tuple[int, int]:
        """Listen on ``port`` (0: any free port) and on a second port; return both."""
        self._here, self._elsewhere = _bind(port), _bind(0)
        self._port = self._here.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._keep_error)
        # Listen before the address is published: a client that connects early waits in the backlog.
        self._listen(self._here, self._receive, self._connections)
        self._listen(self._elsewhere, self._receive_elsewhere, self._elsewhere_connections)
        self._thread = threading.Thread(target=self._run, name="provider-sandbox", daemon=True)
        self._thread.start()
        return self._port, self._elsewhere.getsockname()[1]

    def close(self) -> None:
        """Close all connections and stop the thread. Does nothing if the server is closed already."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def refuse(self) -> None:
        """Refuse connections on the first port and close the open ones. Does nothing if the server is not started.

        When it returns, the connections are closed, unless a control request on one of them called it.
        """
        if self._thread is None or threading.current_thread() is self._thread:
            self._in_loop(self._refuse)
        else:
            asyncio.run_coroutine_threadsafe(self._refuse_and_wait(), self._loop).result()

    def accept_again(self) -> None:
        """Accept connections on the first port again. Does nothing if the server is not started."""
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
        for sock in (self._here, self._elsewhere):
            self._loop.remove_reader(sock)
            sock.close()
        while self._tasks or self._connections or self._elsewhere_connections:
            for connection in self._connections | self._elsewhere_connections:
                connection.hang_up()
            await asyncio.sleep(0)

    def _listen(self, sock: socket.socket, receive: Receiver, connections: set[Connection]) -> None:
        # Not asyncio's create_server: it needs an iteration of the loop, and refuse() must not wait for that.
        sock.setblocking(False)  # noqa: FBT003 - its only parameter
        sock.listen(BACKLOG)
        self._loop.add_reader(sock, self._accept, sock, lambda: Connection(receive, connections))

    def _accept(self, sock: socket.socket, make_connection: Callable[[], Connection]) -> None:
        for _ in range(BACKLOG):
            try:
                client, _ = sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            # The loop keeps only weak references to tasks.
            task = self._loop.create_task(self._loop.connect_accepted_socket(make_connection, client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _in_loop(self, action: Callable[[], None]) -> None:
        if self._thread is None:
            return
        if threading.current_thread() is self._thread:
            action()
            return
        done = threading.Event()
        self._loop.call_soon_threadsafe(action)
        self._loop.call_soon_threadsafe(done.set)
        done.wait()

    def _refuse(self) -> None:
        self._loop.remove_reader(self._here)
        self._here.close()
        self._here = _bind(self._port)  # a bound socket that does not listen refuses connections and keeps the port
        # Not now: the control request that called this may use this port, and its answer must be sent first.
        self._loop.call_soon(self._drop)
        for task in self._tasks:  # accepted, but without a connection object yet
            task.add_done_callback(lambda _: self._drop())

    async def _refuse_and_wait(self) -> None:
        self._refuse()
        while self._tasks or self._connections:
            await asyncio.sleep(0)

    def _drop(self) -> None:
        for connection in tuple(self._connections):
            connection.hang_up()

    def _accept_again(self) -> None:
        self._listen(self._here, self._receive, self._connections)

    def _keep_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
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
