"""Reads a JSON file as a pydantic type, or says in one line what is wrong with the file."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from shared.errors import InputError

Content = TypeVar("Content")


def read(path: Path, kind: TypeAdapter[Content], expected: str) -> Content:
    """Return the content of a file.

    Parameters
    ----------
    expected : what the file should be, for the error message.

    Raises
    ------
    InputError
        If the file is missing or does not fit the type.
    """
    try:
        return kind.validate_json(path.read_bytes())
    except OSError:
        raise InputError(f"expected {path}, found no such file; it should be {expected}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"expected {path} to be {expected}; found a problem at {where}: {first['msg']}"
        ) from None
