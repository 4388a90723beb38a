"""Runs a program in invoke mode on one case, as the platform's runtime does.

It starts the program, asks `GET /health` until the program is ready, calls `POST /invoke` once, and
ends the program with SIGTERM. An engine runs it as a script inside the container, or inside the
network of a native run, so it uses only the standard library::

    python invoke_driver.py PORT LIMIT_S PROGRAM...

The last line on stdout is JSON, see `invoke.Call`; the other lines are the program's own. The exit
code is 0 if the call returned 201, else 1.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import http.client
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

START_LIMIT_S: Final = 300
"""The platform's time limit for start and health check."""
GRACE_S: Final = 5
"""How long the platform waits after SIGTERM before it sends SIGKILL."""
POLL_S: Final = 0.1
CREATED: Final = 201

_PR_SET_PDEATHSIG: Final = 1
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1


def main(port: int, limit_s: float, command: Sequence[str]) -> int:
    """Run a program on one case and return the exit code."""
    _raise_loopback()
    status: int | None = None
    call_s: float | None = None
    problem: str | None = None
    timed_out = False
    process = subprocess.Popen(command, preexec_fn=_die_with_parent)
    try:
        problem = _wait_until_ready(process, port)
        if problem is None:
            start = time.monotonic()
            try:
                status = _request("POST", "/invoke", port=port, timeout_s=limit_s)
            except TimeoutError:
                timed_out = True
            except (OSError, http.client.HTTPException):
                problem = "the program ended during the call"
            call_s = time.monotonic() - start
    finally:
        stop_s = _stop(process)
    print(
        json.dumps(
            {
                "status": status,
                "call_s": call_s,
                "timed_out": timed_out,
                "problem": problem,
                "stop_s": stop_s,
            }
        ),
        flush=True,
    )
    return int(status != CREATED)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> str | None:
    """Wait until the program is healthy; return the problem if it never is."""
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            return "the program ended before it was ready for a call"
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _request("GET", "/health", port=port, timeout_s=10) == http.client.OK:
                return None
        time.sleep(POLL_S)
    return f"expected GET /health to return 200 within {START_LIMIT_S} s"


def _request(method: str, path: str, *, port: int, timeout_s: float) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    with contextlib.closing(connection):
        connection.request(method, path)
        return connection.getresponse().status


def _stop(process: subprocess.Popen[bytes]) -> float | None:
    """End the program and return how long it took; None if only SIGKILL ended it."""
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
    return time.monotonic() - start


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _raise_loopback() -> None:
    """Start the loopback interface, which is down in a new network namespace (Linux)."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        request = fcntl.ioctl(endpoint, _SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        (flags,) = struct.unpack_from("h", request, 16)
        if not flags & _IFF_UP:
            fcntl.ioctl(endpoint, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
