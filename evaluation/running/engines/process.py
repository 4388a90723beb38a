"""Runs a command to its end, its time limit or its cancellation, and keeps what it prints."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from evaluation.running.engines.protocol import Cancelled, Run

POLL_S: Final = 0.5
"""How often a run checks whether it is out of time or cancelled."""


def run_process(
    command: Sequence[str],
    *,
    limit_s: int,
    logs: Path,
    stop: Callable[[], object] | None = None,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
    memory_limit_bytes: int | None = None,
    cpus: frozenset[int] | None = None,
    cancelled: threading.Event | None = None,
) -> Run:
    """Run a command; its output goes to files in `logs`.

    The command's processes form a group of their own. Ctrl-C therefore reaches only this process,
    which then ends the group.

    Parameters
    ----------
    stop : called at the time limit, to end what runs outside the group, such as a container.
    folder : working directory.
    memory_limit_bytes : limit of the data segment.

    Raises
    ------
    Cancelled
        If `cancelled` was set before the end.
    """

    def set_limits() -> None:
        if memory_limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, memory_limit_bytes))
        if cpus is not None:
            os.sched_setaffinity(0, cpus)

    out, err = logs / "stdout.txt", logs / "stderr.txt"
    note = ""
    start = time.perf_counter()
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
            cwd=folder,
            env=environment,
            start_new_session=True,
            preexec_fn=set_limits,
        )
        try:
            while not _ends_within(process, POLL_S):
                if cancelled is not None and cancelled.is_set():
                    raise Cancelled
                if time.perf_counter() - start > limit_s:
                    note = f"stopped at the time limit of {limit_s} s"
                    if stop is not None:
                        stop()
                    break
        finally:
            seconds = time.perf_counter() - start
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return Run(
        exit_code=None if note else process.returncode,
        stdout=out.read_text(encoding="utf-8", errors="replace"),
        stderr=err.read_text(encoding="utf-8", errors="replace"),
        seconds=seconds,
        note=note,
    )


def available_cpus(share: Iterable[int] | None, limit: int) -> frozenset[int]:
    """Return at most `limit` CPUs for a run, from its share; without a share, from all CPUs."""
    cpus = os.sched_getaffinity(0) if share is None else share
    return frozenset(sorted(cpus)[:limit])


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def succeeds(*command: str) -> bool:
    """Return whether a command exists and ends with exit code 0 within a minute."""
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def prefix_to_die_with_parent() -> list[str]:
    """Return the command prefix that kills a process when the thread that started it ends."""
    prefix = ["setpriv", "--pdeathsig", "KILL"]
    return prefix if succeeds(*prefix, "true") else []


def prefix_without_network() -> list[str]:
    """Return the command prefix that cuts a process off the network; empty if not permitted."""
    for prefix in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if succeeds(*prefix, "true"):
            return prefix
    return []


def prefix_with_tmpfs(folder: Path, option: str) -> list[str]:
    """Return the command prefix that shows a process an empty tmpfs in place of a folder.

    It needs the right to mount, which `prefix_without_network` grants to users that lack it.

    Parameters
    ----------
    option : option of the mount, such as `ro` or `size=4k`.
    """
    script = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, option, str(folder)]


def last_lines(log: Path, lines: int = 15) -> str:
    """Return the end of a log file."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(text[-lines:])


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
