"""Call a function in other processes, each with a limit on memory and on the time of a call.

An output of a submission may crash a library, exhaust the memory or take forever. Then only the
process of that call ends, the result of the call says why, and a new process makes the next call.
Otherwise the same process makes the next call. The kernel enforces both limits, so they also hold
inside C code, and even if the main process has died.

The processes are forked from a server that has imported the modules and has done nothing else
(`multiprocessing`, method "forkserver"). Starting a process takes milliseconds. A new process does
not inherit the locks of SimpleITK that threads of the main process hold.
"""

from __future__ import annotations

import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

import SimpleITK as sitk

from shared.errors import InputError
from shared.grand_challenge.job import log

Request = TypeVar("Request")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one process.

    Attributes
    ----------
    memory_bytes : limit on the memory for data (RLIMIT_DATA). Scoring a mask of 512×512×1000
        voxels needs less than half of it.
    seconds : longest time of one call.
    """

    memory_bytes: int = 4 * 10**9
    seconds: int = 120


LIMITS: Final = Limits()


def preload(module: str) -> None:
    """Let the server import a module before it starts the first process."""
    get_context("forkserver").set_forkserver_preload([module])


@dataclass(frozen=True)
class Lost:
    """A call that gave no result. `cause` completes the sentence "scoring the output …"."""

    cause: str


def call_isolated(
    function: Callable[[Request], Result],
    requests: Sequence[Request],
    *,
    workers: int,
    limits: Limits = LIMITS,
) -> Iterator[Result | Lost]:
    """Call a function for each request in processes with limited memory and time.

    Parameters
    ----------
    function, requests : the function and its arguments. They and the results must be picklable.
    workers : number of processes.

    Returns
    -------
    The results in the order of the requests. The result is `Lost` if the process ended, or if the
    function raised an error other than `InputError`. The log then has the traceback of the error.

    Raises
    ------
    InputError
        If the function raises it.
    """
    lanes = [_Lane(function, limits) for _ in range(min(workers, len(requests)))]
    idle: SimpleQueue[_Lane[Request, Result]] = SimpleQueue()
    for lane in lanes:
        idle.put(lane)

    def call(request: Request) -> Result | Lost:
        lane = idle.get()
        try:
            return lane.call(request)
        finally:
            idle.put(lane)

    try:
        with ThreadPoolExecutor(max(1, len(lanes))) as threads:
            yield from threads.map(call, requests)
    finally:
        for lane in lanes:
            lane.close()


class _Lane(Generic[Request, Result]):
    """A process that makes one call at a time, and is replaced if it ends."""

    def __init__(self, function: Callable[[Request], Result], limits: Limits) -> None:
        self._function = function
        self._limits = limits
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def call(self, request: Request) -> Result | Lost:
        """Call the function in the process and return its result."""
        if self._connection is None or self._process is None or not self._process.is_alive():
            self._start()
        assert self._connection is not None
        try:
            self._connection.send(request)
            reply: Result | InputError | Lost = self._connection.recv()
        except (EOFError, OSError):  # the process has ended, perhaps in the middle of its reply
            return Lost(_cause(self.close(), self._limits))
        if isinstance(reply, InputError):
            raise reply
        if isinstance(reply, Lost):
            self.close()
        return reply

    def close(self) -> int | None:
        """Let the process end, and return its exit code; None if there is no process."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is None:
            return None
        self._process.join()
        return self._process.exitcode

    def _start(self) -> None:
        self.close()
        context = get_context("forkserver")
        connection, theirs = context.Pipe()
        with theirs:
            process = context.Process(target=_serve, args=(theirs, self._function, self._limits))
            process.start()
        self._process, self._connection = process, connection
        try:
            connection.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"a process {_cause(self.close(), self._limits)} at start") from None


def _serve(connection: Connection, function: Callable[[Request], Result], limits: Limits) -> None:
    """Answer requests until the other side closes the connection or a call is lost."""
    os.dup2(1, 2)  # messages of C libraries belong in the log, because users see stderr
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # only the main process reports Ctrl-C
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = limits.memory_bytes if hard == resource.RLIM_INFINITY else min(hard, limits.memory_bytes)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    connection.send("ready")
    with suppress(EOFError):
        while True:
            request: Request = connection.recv()
            signal.alarm(limits.seconds)  # SIGALRM ends the process
            reply = _reply(function, request, limits)
            connection.send(reply)
            signal.alarm(0)
            if isinstance(reply, Lost):
                return


def _reply(
    function: Callable[[Request], Result], request: Request, limits: Limits
) -> Result | InputError | Lost:
    try:
        return function(request)
    except InputError as error:
        return error
    except MemoryError:
        return Lost(f"needs more than {limits.memory_bytes / 1e9:g} GB of memory")
    except Exception as error:
        log(*traceback.format_exc().splitlines())
        return Lost(
            f"ended with an unexpected {type(error).__name__}: {error}; the log has the traceback"
        )


def _cause(exit_code: int | None, limits: Limits) -> str:
    if exit_code == -signal.SIGALRM:
        return f"takes more than {limits.seconds} s"
    if exit_code == -signal.SIGKILL:
        return "ended with SIGKILL; the machine may have run out of memory"
    if exit_code is not None and exit_code < 0:
        return f"ended with {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
