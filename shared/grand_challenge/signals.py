"""SIGTERM and SIGINT end the process at once, even during a long call into C code.

Python runs a signal handler only between two instructions of the main thread, which a network's
run can delay by many seconds. The C part of Python writes the signal's number to a pipe at once,
though, and a thread that reads from the pipe ends the process.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals(clean_up: Callable[[], object]) -> Iterator[None]:
    """End the process on SIGTERM or SIGINT with exit code 128 + the signal's number.

    Nothing happens outside the main thread, where Python sets no signal handlers.

    Parameters
    ----------
    clean_up : called first, in a thread of its own.
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
    """Do nothing, instead of the default: SIGTERM would leave files, SIGINT print a traceback."""


def _reset_in_child() -> None:
    """Give a forked process Python's handlers back: its signals would end the parent."""
    if signal.getsignal(signal.SIGTERM) is _leave_to_thread:
        signal.set_wakeup_fd(-1)
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_reset_in_child)


def _wait(reader: int, clean_up: Callable[[], object]) -> None:
    while numbers := os.read(reader, 1):
        if numbers[0] in STOPPING:
            # The main thread still runs, and may fail when its files disappear.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                clean_up()
            finally:
                os._exit(128 + numbers[0])
