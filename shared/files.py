"""Writes files atomically, and locks them against other processes.

A full disk or a killed process leaves the previous file unchanged. The folder may be on a file
system that several machines share.
"""

from __future__ import annotations

import fcntl
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def draft_of(path: Path) -> Path:
    """Return this thread's temporary path for a file: hidden, same folder, same suffix."""
    return path.with_name(f".{socket.gethostname()}-{threading.get_native_id()}.{path.name}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a draft to write to; it replaces `path` after the block, or is deleted on failure."""
    draft = draft_of(path)
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text atomically, in UTF-8.

    Raises
    ------
    OSError
        If writing fails; the previous file is then unchanged.
    """
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_first(path: Path, text: str) -> None:
    """Write a text unless the file exists. If several processes start at once, only one writes."""
    with locked(path):
        if not path.exists():
            write_whole(path, text)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a file against other processes, including those on other machines, during the block."""
    # NFS grants an exclusive lock only on a file that is open for writing.
    with path.with_name(f".{path.name}.lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
