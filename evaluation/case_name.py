"""Derives the name of a case from the file name of its CT or mask.

The name of the case is the file name without the suffix of an image and without the `__CT` of the
challenge's training data: `MDA-001.mha` and `MDA-001__CT.nii.gz` both belong to the case MDA-001.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from shared.grand_challenge.images import IMAGE_SUFFIXES

CT_MARK: Final = "__CT"
_IMAGE_SUFFIXES: Final = (".nii.gz", ".nii", *IMAGE_SUFFIXES)


def case_name(image_name: str) -> str:
    """Return the name of the case from the name of its CT or mask."""
    name = PurePosixPath(image_name).name
    for suffix in _IMAGE_SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return name.removesuffix(CT_MARK)
