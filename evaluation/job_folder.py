"""Find the outputs of a job without leaving the job's folder.

An algorithm may write anything. A symbolic link among its outputs could lead to the ground truth or
to the outputs of another job, so links that lead out of the job's folder are refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from shared.errors import InputError, one_line

OUTPUT: Final = "output"
LONGEST_NAME_BYTES: Final = 255
"""Longest name of a file or folder on Linux."""


def output_folder(input_dir: Path, pk: str) -> Path:
    """Return the folder of a job's outputs, `<pk>/output`. It need not exist.

    Parameters
    ----------
    input_dir : folder that holds the folders of the jobs; may be a symbolic link.
    pk : the platform's identifier of the job.

    Raises
    ------
    InputError
        If `pk` is not the name of a folder, or if `<pk>` or `<pk>/output` is a symbolic link.
    """
    is_name = pk not in ("", ".", "..") and "/" not in pk and "\0" not in pk
    if not is_name or len(os.fsencode(pk)) > LONGEST_NAME_BYTES:
        raise InputError(
            f"expected pk to be the name of a folder, found '{one_line(pk, 60)}'; "
            "use the platform's own predictions.json"
        )
    folder = Path(os.path.realpath(input_dir)) / pk / OUTPUT
    if folder != Path(os.path.realpath(folder)):
        raise InputError(
            f"expected folders at {one_line(pk)}/{OUTPUT}, found a symbolic link; "
            "replace it by a copy of its target"
        )
    return folder


def find_inside(folder: Path, path: str) -> Path:
    """Return a path below a folder with all symbolic links resolved. It need not exist.

    Parameters
    ----------
    path : path of a file or folder, relative to `folder`.

    Raises
    ------
    InputError
        If a symbolic link leads out of `folder`. A hard link cannot be recognised.
    """
    place = Path(os.path.realpath(folder / path))
    if not place.is_relative_to(os.path.realpath(folder)):
        raise InputError(
            f"expected {one_line(path)} in the job's own folder, found a symbolic link that leads "
            "out of it; write a file instead of a link"
        )
    return place
