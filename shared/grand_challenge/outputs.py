"""Writes the files that the platform collects. Each file is written completely or not at all."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import SimpleITK as sitk

from shared.editions import Edition
from shared.errors import OutputError
from shared.grand_challenge.failures import is_out_of_memory
from shared.grand_challenge.images import ImageError, library_errors_in_log, open_image
from shared.tasks import TaskName

PARTIAL_PREFIX: Final = ".partial-"
"""Prefix of the folders for incomplete files. The platform also collects hidden files, so none may
remain."""


def write_segmentation(output_dir: Path, mask: sitk.Image, edition: Edition) -> None:
    """Write a label map as a compressed image.

    Raises
    ------
    OSError
        If the output folder cannot be written to.
    OutputError
        If SimpleITK cannot write the image, for example because the disk is full.
    """
    with _whole_file(output_dir, edition.outputs["segmentation"].path) as path:
        try:
            with library_errors_in_log():
                sitk.WriteImage(mask, str(path), useCompression=True)
            open_image(path)  # MetaIO may leave a truncated file without an error
        except (RuntimeError, ImageError) as error:
            if is_out_of_memory(error):
                raise
            raise OutputError(
                f"expected to write the mask to {output_dir}, but it is incomplete; check that the "
                "folder is writable and has enough space"
            ) from None


def write_risk(output_dir: Path, risk: float, edition: Edition) -> None:
    """Write a risk (higher = earlier recurrence) with the sign that the edition expects."""
    write_value(output_dir, "survival", edition.outputs["survival"].risk_sign * risk, edition)


def write_hpv(output_dir: Path, is_positive: bool, edition: Edition) -> None:
    """Write the decision on HPV status."""
    write_value(output_dir, "hpv", is_positive, edition)


def write_value(output_dir: Path, task: TaskName, value: float | bool, edition: Edition) -> None:
    """Write the answer of a task whose output is a bare number or boolean in JSON.

    Raises
    ------
    ValueError
        If the number is infinite or NaN.
    """
    path = edition.outputs[task].path
    if not math.isfinite(value):
        raise ValueError(f"JSON cannot hold {value}; {path} was not written")
    with _whole_file(output_dir, path) as draft:
        draft.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")


def remove_partials(output_dir: Path) -> None:
    """Remove incomplete files of a process that was killed while it was writing."""
    for folder in output_dir.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _whole_file(output_dir: Path, name: str) -> Iterator[Path]:
    """Yield a temporary path, then move the complete file to its final path.

    The temporary folder is directly below `output_dir`, so that the move is atomic and the folder
    of an image never contains two files.
    """
    target = output_dir / name
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=output_dir) as folder:
        partial = Path(folder) / target.name
        yield partial
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
