"""Files that are there whole or not at all, and one writer at a time.

A full disk or a killed process leaves the file as it was before. Folders may be on a file system
that several machines share.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def draft_of(path: Path) -> Path:
    """Return where this process drafts a file: beside it, hidden, with the same suffix."""
    return path.with_name(f".{socket.gethostname()}-{os.getpid()}.{path.name}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes `path` when the block ends and goes when it fails."""
    draft = draft_of(path)
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written; the file is then as it was.
    """
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_first(path: Path, text: str) -> None:
    """Write a text unless the file is there: of several processes that start at once, one does."""
    with locked(path):
        if not path.exists():
            write_whole(path, text)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes, also of other machines, from a file while it is read and rewritten."""
    # Over NFS an exclusive lock takes a file that is open for writing.
    with path.with_name(f".{path.name}.lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
