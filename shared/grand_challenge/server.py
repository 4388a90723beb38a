"""Invoke mode: an HTTP server that answers one case per call.

The platform asks `GET /health` until it answers 200, lays a case out, calls `POST /invoke`, which
answers 201 once the outputs are written, collects them, lays the next case out, and so on.
A failed case answers 500 after one line on stderr, and the server stays ready for the next one.

The threads:
- The main thread loads the models before the port opens, then answers the cases one after another.
  Only this thread touches models, input and output.
- One thread accepts connections. Each connection has a thread of its own, so `/health` answers at
  once, also during a case.
- The thread of `POST /invoke` hands the call to the main thread and waits for the result. One call
  at a time: a call during another one answers 503 and changes nothing.
- If the client hangs up, as the platform does at the time limit, the case runs to its end
  unnoticed; until then calls answer 503.
- SIGTERM and SIGINT end the process at once from yet another thread, see `signals`. All threads but
  the main one are daemons, which never keep the process alive.

The server listens on the loopback address only: the platform's runtime runs in the container.
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
"""How long a client may take to send its request."""
BODY_LIMIT_BYTES: Final = 1024**2


def serve(answer: Callable[[], int], *, port: int = PORT) -> NoReturn:
    """Answer calls until a signal ends the process.

    Parameters
    ----------
    answer : answers the case that lies in the input folder at that moment, and returns 0; or 1
        after one line on stderr.

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
    """Hands calls to the thread that answers them.

    `http.server.HTTPServer` is not used: it looks its own host name up, which can reach out to the
    network.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.calls: SimpleQueue[SimpleQueue[int]] = SimpleQueue()
        self._turn = threading.Lock()
        super().__init__(address, handler)

    def call(self) -> int | None:
        """Have the case answered and return the exit code, or None during another call."""
        if not self._turn.acquire(blocking=False):
            return None
        try:
            result: SimpleQueue[int] = SimpleQueue()
            self.calls.put(result)
            return result.get()
        finally:
            self._turn.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log that a client hung up or was too slow; the default prints a traceback to stderr."""
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
            self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, "failed; stderr says why")

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing; the default logs each request to stderr."""

    def _refuse(self) -> None:
        self._reply(HTTPStatus.NOT_FOUND, "expected GET /health or POST /invoke")

    def _skip_body(self) -> None:
        """Read a body, which the platform does not send: unread bytes would cut the reply off."""
        length = self.headers.get("Content-Length", "0")
        self.rfile.read(min(int(length) if length.isdecimal() else 0, BODY_LIMIT_BYTES))

    def _reply(self, status: HTTPStatus, text: str) -> None:
        content = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
