"""Reads the records of a training run, which are small JSON files with a schema each."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from shared.errors import InputError
from shared.schema import Strict

Record = TypeVar("Record", bound=Strict)


def read_record(schema: type[Record], path: Path) -> Record:
    """Read a record.

    Raises
    ------
    InputError
        If the file is not JSON or does not follow the schema, for example has an unknown key.
    """
    try:
        return schema.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(
            f"{path} is not a valid record: {first_problem(error)}; it is damaged, was changed, or "
            "comes from another version of this software; delete it together with the results that "
            "it describes, or give another folder of runs"
        ) from None


def read_training_record(schema: type[Record], path: Path) -> Record:
    """Read a record that every training run writes when it begins.

    Raises
    ------
    InputError
        If the file is missing or does not follow the schema.
    """
    if not path.is_file():
        raise InputError(f"expected {path.name} in {path.parent}, found none; train first")
    return read_record(schema, path)


def first_problem(error: ValidationError) -> str:
    """Return the first problem and its place in one line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    message = first["msg"].splitlines()[0]
    return f"{where}: {message}" if where else message
