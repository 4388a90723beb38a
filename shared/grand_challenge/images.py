"""Reads image files, with a strict check in Python before a parser written in C sees a file.

All images from outside are opened with `open_image`: the inputs of the containers, and the masks
and the truth of the evaluation. A MetaImage is read in Python alone. A TIFF or NIfTI file is
checked completely and then read by SimpleITK.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk

from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge.image_bounds import require_plausible
from shared.grand_challenge.metaimage import Header, read_header, read_voxels
from shared.grand_challenge.nifti import check_nifti
from shared.grand_challenge.tiff import check_tiff
from shared.regular_files import FileError

IMAGE_SUFFIXES: Final = (".mha", ".tif", ".tiff")
"""Suffixes of the platform's image files, in lower case."""
NIFTI_SUFFIXES: Final = (".nii.gz", ".nii")
"""Lower-case suffixes of NIfTI files, which are also allowed in a ground truth or a cohort."""


LARGEST_VALUE: Final = 1e9
"""Largest absolute value of a voxel: a hundred times the activity of a full bladder in Bq/mL. Sums
and splines of larger values would overflow."""


class ImageError(InputError):
    """An image file cannot be used.

    Attributes
    ----------
    problem : the problem as a predicate, such as "is truncated", for use in another message.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(
            f"expected a readable 3-D image, but {name} {problem}; write it again, for example "
            "with SimpleITK"
        )
        self.problem = problem


@dataclass(frozen=True)
class ImageFile:
    """A 3-D scalar image file whose header has passed the checks.

    Attributes
    ----------
    grid : geometry of the image.
    """

    path: Path
    grid: Grid
    _header: Header | None = field(default=None, repr=False)

    def read(self) -> sitk.Image:
        """Return the image with its voxels, in the file's data type.

        Raises
        ------
        ImageError
            If the voxels are truncated or damaged.
        """
        with _problems_of(self.path):
            if self._header is not None:
                return read_voxels(self.path, self._header)
            with library_errors_in_log():
                image: sitk.Image = _library_reader(self.path).Execute()
            return image


def open_image(path: Path) -> ImageFile:
    """Check an image file and return its geometry; `read` of the result returns the voxels.

    Symbolic links are followed; the caller decides where they may lead. Nothing outside the file is
    read, whatever its header says. A file of any name can be opened; only TIFF and NIfTI need a
    name in UTF-8.

    Parameters
    ----------
    path : a MetaImage (`.mha`), TIFF (`.tif`, `.tiff`) or NIfTI (`.nii`, `.nii.gz`).

    Returns
    -------
    The file. For a MetaImage, only the header is read, so this is fast and needs no memory. TIFF
    and NIfTI files are read and checked completely.

    Raises
    ------
    ImageError
        If the file is missing, truncated or damaged, if it is not a regular file or not a 3-D image
        with one value per voxel, or if its geometry is impossible (see `image_bounds`). The message
        names only the file, not its folder.
    """
    with _problems_of(path):
        if path.suffix.lower() == ".mha":
            header = read_header(path)
            return ImageFile(path, header.grid, header)
        size = check_tiff(path) if path.suffix.lower() in IMAGE_SUFFIXES else check_nifti(path)
        reader = _library_reader(path)
        grid = Grid(
            reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
        )
        if grid.size_xyz != size or reader.GetNumberOfComponents() != 1:
            raise FileError(f"is damaged: its parts disagree about its size, {grid.size_xyz}")
        require_plausible(grid)
        return ImageFile(path, grid)


def is_image_name(name: str) -> bool:
    """Return whether a name is that of an image; hidden files, such as `._ct.mha`, do not count."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def images_in(folder: Path) -> list[Path]:
    """Return the image files in a folder, sorted by name; empty if the folder does not exist.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if is_image_name(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_image(path: Path, slug: str, outside: float) -> tuple[sitk.Image, tuple[str, ...]]:
    """Read one 3-D scalar image of a case.

    Parameters
    ----------
    slug : slug of the input socket, for messages.
    outside : value that replaces NaN and infinity.

    Returns
    -------
    The image, and a remark if values were replaced.

    Raises
    ------
    InputError
        If `open_image` refuses the file, no value is finite, or an absolute value exceeds
        `LARGEST_VALUE`.
    """
    try:
        image = open_image(path).read()
    except ImageError as error:
        raise InputError(
            f"expected a readable 3-D image with one value per voxel for {slug}, but {path} "
            f"{error.problem}; write it again, for example with SimpleITK"
        ) from None
    image, count = _with_finite_values(image, outside)
    if count is None:
        raise InputError(
            f"expected numbers in {path} for {slug}, found NaN or infinity in every voxel; "
            "convert the image again"
        )
    largest = _largest_magnitude(image)
    if largest > LARGEST_VALUE:
        raise InputError(
            f"expected values up to {LARGEST_VALUE:g} in {path} for {slug}, found {largest:.3g}; "
            "convert the image again"
        )
    if not count:
        return image, ()
    return image, (f"{slug}: {count} voxels are not finite and are replaced by {outside:g}",)


def _with_finite_values(image: sitk.Image, outside: float) -> tuple[sitk.Image, int | None]:
    """Replace NaN and infinity; also return how many there are, or None if no voxel is finite."""
    values = sitk.GetArrayViewFromImage(image)
    if not np.issubdtype(values.dtype, np.floating):
        return image, 0
    is_finite = np.isfinite(values)
    count = values.size - int(np.count_nonzero(is_finite))
    if count == 0:
        return image, 0
    if count == values.size:
        return image, None
    repaired = sitk.GetImageFromArray(np.where(is_finite, values, values.dtype.type(outside)))
    repaired.CopyInformation(image)
    return repaired, count


def _largest_magnitude(image: sitk.Image) -> float:
    """Return the largest absolute value, or 0 if no value of this type can exceed the limit."""
    values = sitk.GetArrayViewFromImage(image)
    if np.issubdtype(values.dtype, np.integer) and np.iinfo(values.dtype).max <= LARGEST_VALUE:
        return 0.0
    return max(abs(float(values.min())), abs(float(values.max())))


@contextmanager
def library_errors_in_log() -> Iterator[None]:
    """Redirect stderr to stdout, the log; this includes what C libraries write.

    Stderr is kept for messages to the user: the platform shows its last line, and marks a
    successful job that wrote to it as "with warnings".
    """
    sys.stdout.flush()
    sys.stderr.flush()
    original = os.dup(2)
    os.dup2(1, 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)


def _library_reader(path: Path) -> sitk.ImageFileReader:
    """Return a SimpleITK reader that has read the header of a checked TIFF or NIfTI."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise FileError("has a name that is not UTF-8; rename it") from None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    is_tiff = path.suffix.lower() in IMAGE_SUFFIXES
    reader.SetImageIO("TIFFImageIO" if is_tiff else "NiftiImageIO")
    with library_errors_in_log():
        reader.ReadImageInformation()
    return reader


@contextmanager
def _problems_of(path: Path) -> Iterator[None]:
    try:
        yield
    except FileError as problem:
        raise ImageError(path.name, str(problem)) from None
    except RuntimeError as error:
        if "allocate" in str(error):
            raise MemoryError from None
        raise ImageError(path.name, "is truncated or not an image") from None
