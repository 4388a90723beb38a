"""The file names and labels of real CTs, as in OpenKBP (Babier et al. 2021)."""

from __future__ import annotations

from enum import IntEnum

from shared.errors import InputError

CT_SUFFIX, LABELS_SUFFIX = "_ct.nii.gz", "_labels.nii.gz"


class Structure(IntEnum):
    """Values of the label map."""

    PTV56 = 1
    PTV63 = 2
    PTV70 = 3
    BRAINSTEM = 4
    CORD = 5
    RIGHT_PAROTID = 6
    LEFT_PAROTID = 7
    OESOPHAGUS = 8
    LARYNX = 9
    MANDIBLE = 10


TARGETS = (Structure.PTV56, Structure.PTV63, Structure.PTV70)


class UnusableError(InputError):
    """No patient can be built on this CT."""
