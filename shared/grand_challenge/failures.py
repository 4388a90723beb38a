"""Explains to the user in one line why a job failed and what to do."""

from __future__ import annotations

import errno
from typing import Final

from shared.errors import HecktorError

_REMEDIES: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "allow larger files",
    errno.EROFS: "mount it so that it can be written to",
    errno.EACCES: "change its permissions",
    errno.EPERM: "change its permissions",
    errno.ENAMETOOLONG: "use a shorter path",
    errno.EIO: "check the disk",
}
_MEMORY_TEXTS: Final = (
    "allocate memory", "bad_alloc", "bad allocation", "can't start new thread",
)  # fmt: skip
"""How SimpleITK, ONNX Runtime, C++ and Python say that memory ran out."""


def is_expected(error: Exception) -> bool:
    """Return whether the message explains the error; otherwise the log needs the traceback."""
    return isinstance(error, (HecktorError, OSError))


def explain(error: Exception) -> str:
    """Return the line for the user."""
    if isinstance(error, HecktorError):
        return str(error)
    if is_out_of_memory(error):
        return "out of memory; raise the memory limit (the log has the traceback)"
    if isinstance(error, OSError):
        remedy = _REMEDIES.get(error.errno or 0, "correct this and run the case again")
        place = f" {error.filename}" if error.filename else " a file"
        return f"expected to read or write{place}, but: {error.strerror or error}; {remedy}"
    return f"unexpected {type(error).__name__}: {error}; the log has the traceback"


def is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out; SimpleITK and ONNX Runtime have their own errors for this."""
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or any(text in str(error) for text in _MEMORY_TEXTS)
    )
