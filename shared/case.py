"""One patient visit, as every task starts from it."""

from dataclasses import dataclass, field

import SimpleITK as sitk

from shared.clinical import ClinicalRecord


@dataclass(frozen=True)
class Case:
    """The images and the clinical record of one patient visit.

    Attributes
    ----------
    ct_hu : CT in Hounsfield units, of any scalar type, finite everywhere, on its own grid.
    pet : PET on its own grid, likewise; SUV, or Bq/mL as some centres store it.
    clinical : what the EHR says, missing values as None.
    remarks : what was noticed while reading, for the log.
    """

    ct_hu: sitk.Image
    pet: sitk.Image
    clinical: ClinicalRecord
    remarks: tuple[str, ...] = field(default=())
