"""Invoke mode: an HTTP server that answers one case per call.

The platform polls `GET /health` until the server returns 200. For each case, it then places the
inputs, calls `POST /invoke` and, when that returns 201, collects the outputs. If a case fails, the
server prints one line to stderr, returns 500 and is ready for the next case.

Threads:
- The main thread loads the models before the port opens, then processes the cases one by one. Only
  this thread uses the models, the input and the output.
- One thread accepts connections. Each connection has its own thread, so `/health` responds at once,
  even while a case is running.
- The thread of `POST /invoke` passes the case to the main thread and waits for the result. Only one
  call runs at a time: a second call returns 503 and has no effect.
- If the client disconnects, as the platform does at the time limit, the case still runs to its end.
  Until then, calls return 503.
- SIGTERM and SIGINT end the process at once from another thread, see `signals`. All threads except
  the main one are daemons, so they never keep the process alive.

The server listens only on the loopback address, because the platform's runtime is in the same
container.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from queue import SimpleQueue
from socketserver import ThreadingTCPServer
from typing import Final, NoReturn

from shared.errors import HecktorError

PORT: Final = 4743
HOST: Final = "127.0.0.1"
READ_LIMIT_S: Final = 10
"""Time limit for a client to send its request."""
BODY_LIMIT_BYTES: Final = 1024**2


def serve(answer: Callable[[], int], *, port: int = PORT) -> NoReturn:
    """Process calls until a signal ends the process.

    Parameters
    ----------
    answer : processes the case that is now in the input folder. It returns 0 on success, or prints
        one line to stderr and returns 1.

    Raises
    ------
    HecktorError
        If the port cannot be used.
    """
    try:
        server = _Server((HOST, port), _Handler)
    except OSError as error:
        raise HecktorError(
            f"expected port {port} to be free, but it cannot be used ({error.strerror}); "
            "stop the other server"
        ) from None
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"ready for POST /invoke on port {server.server_address[1]}", flush=True)
        while True:
            result = server.calls.get()
            result.put(answer())


class _Server(ThreadingTCPServer):
    """Passes calls to the main thread.

    `http.server.HTTPServer` is not used, because it looks up its own host name, possibly over the
    network.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.calls: SimpleQueue[SimpleQueue[int]] = SimpleQueue()
        self._turn = threading.Lock()
        super().__init__(address, handler)

    def call(self) -> int | None:
        """Pass the case to the main thread and return the exit code; None if a case is running."""
        if not self._turn.acquire(blocking=False):
            return None
        try:
            result: SimpleQueue[int] = SimpleQueue()
            self.calls.put(result)
            return result.get()
        finally:
            self._turn.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log that a client disconnected or was too slow, instead of a traceback on stderr."""
        print(f"HTTP: {sys.exception()!r}", flush=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_LIMIT_S

    def do_GET(self) -> None:  # the name that http.server calls
        if self.path == "/health":
            self._reply(HTTPStatus.OK, "ready")
        else:
            self._refuse()

    def do_POST(self) -> None:
        if self.path != "/invoke":
            self._refuse()
            return
        self._skip_body()
        code = self.server.call()
        if code is None:
            self._reply(HTTPStatus.SERVICE_UNAVAILABLE, "busy with another case")
        elif code == 0:
            self._reply(HTTPStatus.CREATED, "done")
        else:
            self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, "failed; see stderr")

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing. The default logs each request to stderr."""

    def _refuse(self) -> None:
        self._reply(HTTPStatus.NOT_FOUND, "expected GET /health or POST /invoke")

    def _skip_body(self) -> None:
        """Read any request body: unread bytes would cut off the reply. The platform sends none."""
        length = self.headers.get("Content-Length", "0")
        self.rfile.read(min(int(length) if length.isdecimal() else 0, BODY_LIMIT_BYTES))

    def _reply(self, status: HTTPStatus, text: str) -> None:
        content = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
