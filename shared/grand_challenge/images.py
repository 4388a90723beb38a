"""Image files of the platform: reading one scalar volume, writing one label map."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk

from shared.errors import InputError

IMAGE_READERS: Final = {".mha": "MetaImageIO", ".tif": "TIFFImageIO", ".tiff": "TIFFImageIO"}
"""SimpleITK's readers of the platform's image files, by file suffix in lower case."""


def images_in(folder: Path) -> list[Path]:
    """Return the image files in a folder, by name; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_READERS)


def read_image(path: Path, slug: str, outside: float) -> tuple[sitk.Image, tuple[str, ...]]:
    """Read one 3-D scalar image.

    Parameters
    ----------
    slug : of the input socket, for messages.
    outside : replaces values that are not finite.

    Returns
    -------
    The image, and a remark if values were replaced.

    Raises
    ------
    InputError
        If the file cannot be read, is not 3-D, has several values a voxel, or has no finite value.
    """
    try:
        with library_errors_in_log():
            image = sitk.ReadImage(str(path), imageIO=IMAGE_READERS[path.suffix.lower()])
    except RuntimeError:
        raise InputError(
            f"expected a readable image for {slug}, but {path} is truncated or not an image; "
            "write it again, for example with SimpleITK"
        ) from None
    components = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() != 3 or components != 1:
        raise InputError(
            f"expected a 3-D image with one value per voxel for {slug}, found {path} with "
            f"{image.GetDimension()} dimensions and {components} value(s) per voxel; "
            "provide one scalar volume"
        )
    values = sitk.GetArrayViewFromImage(image)
    if not np.issubdtype(values.dtype, np.floating):
        return image, ()
    is_finite = np.isfinite(values)
    count = values.size - int(np.count_nonzero(is_finite))
    if count == 0:
        return image, ()
    if count == values.size:
        raise InputError(
            f"expected numbers in {path} for {slug}, found NaN or infinity in every voxel; "
            "convert the image again"
        )
    repaired = sitk.GetImageFromArray(np.where(is_finite, values, values.dtype.type(outside)))
    repaired.CopyInformation(image)
    return repaired, (f"{slug}: {count} voxels are not finite and are replaced by {outside:g}",)


@contextmanager
def library_errors_in_log() -> Iterator[None]:
    """Send what C libraries print on stderr to stdout: the platform shows stderr to the user."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(1, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
