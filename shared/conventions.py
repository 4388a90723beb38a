"""The conventions that every module follows.

- A SimpleITK size, spacing, index or point is a tuple in the order (x, y, z): names end in `_xyz`
  or are `size`, `spacing_mm`, `origin_mm`. A NumPy volume is indexed [z, y, x]: names end in
  `_zyx` where both orders occur together. A network's volume is [channel, z, y, x].
- The world is LPS in millimetres, as in DICOM and SimpleITK: x points to the patient's left, y to
  the back, z to the head.
- A box is half-open, [start, stop), in voxels, in the order (x, y, z).
- CT is in Hounsfield units (`ct_hu`), PET is in standardised uptake values (`pet_suv`).
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Triple: TypeAlias = tuple[float, float, float]
IntTriple: TypeAlias = tuple[int, int, int]
Volume: TypeAlias = NDArray[np.float32]
LabelVolume: TypeAlias = NDArray[np.uint8]
Axis: TypeAlias = Literal["x", "y", "z"]


def array_axes(names: Iterable[str]) -> tuple[int, ...]:
    """Return the numbers of the named axes of an array [..., z, y, x]; x is -1, y -2 and z -3."""
    return tuple("zyx".index(name) - 3 for name in names)


class Label(IntEnum):
    """Voxel values of every label map (HECKTOR 2025)."""

    BACKGROUND = 0
    GTVP = 1
    """Primary gross tumour volume."""
    GTVN = 2
    """Involved lymph nodes."""


LESIONS: Final = {"GTVp": Label.GTVP, "GTVn": Label.GTVN}
"""The label of each kind of lesion, by its name in model cards, logs and reports."""

AIR_HU: Final = -1000.0
"""HU of air by the definition of the Hounsfield scale; it fills the parts of the region in which
the CT is not interpolated."""

NO_UPTAKE_SUV: Final = 0.0
"""The SUV that fills the parts of the region in which the PET is not interpolated. It is also the
lowest SUV in the region."""
