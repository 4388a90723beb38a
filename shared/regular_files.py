"""Open files that others provide. A pipe, a device or a folder is refused and never read.

A named pipe would block the process forever, and a device such as `/dev/zero` has no end. Symbolic
links are followed, because `/input` is a symbolic link on the platform.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from shared.errors import InputError


class FileError(InputError):
    """A file cannot be used. The message is a predicate, such as "is a folder"."""


class MissingFileError(FileError):
    """There is no such file."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FileError
        If it cannot be opened or is not a regular file.
    """
    try:
        # A pipe without a writer blocks `open` unless O_NONBLOCK is set.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingFileError("does not exist") from None
    except OSError as error:
        raise FileError(f"cannot be opened ({error.strerror})") from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
    raise FileError(f"is {kind}, not a file")


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    FileError
        If the file cannot be read, is not a regular file, or is longer than `most_bytes`.
    """
    with open_regular(path) as file:
        try:
            content = file.read(most_bytes + 1)
        except OSError as error:
            raise FileError(f"cannot be read ({error.strerror})") from None
    if len(content) > most_bytes:
        raise FileError(f"has more than {most_bytes} bytes")
    return content
