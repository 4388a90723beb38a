"""Ends the process at once on SIGTERM or SIGINT, even during a long call to C code.

Python runs signal handlers only between instructions of the main thread, so running a network can
delay them by many seconds. Python's C code, however, immediately writes the number of the signal to
a pipe. A thread reads from this pipe and ends the process.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

is_ending = threading.Event()
"""Set when a signal ends the process. Errors are then not reported, because the removal of files
may have caused them."""


@contextmanager
def stop_on_signals(clean_up: Callable[[], object]) -> Iterator[None]:
    """End the process on SIGTERM or SIGINT with exit code 128 plus the signal's number.

    This has no effect outside the main thread, because only that thread can set signal handlers.

    Parameters
    ----------
    clean_up : is called before the process ends, in a separate thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handlers = {number: signal.signal(number, _leave_to_thread) for number in STOPPING}
    previous_writer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_wait, args=(reader, clean_up), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_writer)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writer)
        thread.join()
        os.close(reader)


def _leave_to_thread(*_: object) -> None:
    """Do nothing. By default, SIGTERM leaves files behind and SIGINT prints a traceback."""


def _reset_in_child() -> None:
    """Restore the default handlers in a forked process. Otherwise its signals end the parent."""
    if signal.getsignal(signal.SIGTERM) is _leave_to_thread:
        signal.set_wakeup_fd(-1)
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_reset_in_child)


def _wait(reader: int, clean_up: Callable[[], object]) -> None:
    while numbers := os.read(reader, 1):
        if numbers[0] in STOPPING:
            is_ending.set()
            # The main thread is still running and may print errors when its files disappear.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                clean_up()
            finally:
                os._exit(128 + numbers[0])
