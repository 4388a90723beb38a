"""One patient visit, which is the input of every task."""

from dataclasses import dataclass, field

import SimpleITK as sitk

from shared.clinical import ClinicalRecord


@dataclass(frozen=True, kw_only=True)
class Case:
    """The images and the clinical record of one patient visit.

    Attributes
    ----------
    ct_hu : CT in Hounsfield units on its own grid, of any scalar type, finite everywhere.
    pet : PET on its own grid, of any scalar type, finite everywhere; in SUV, or in Bq/mL as some
        centres store it.
    clinical : the values of the EHR; missing values are None.
    remarks : lines for the log about anything unusual in the files.
    """

    ct_hu: sitk.Image
    pet: sitk.Image
    clinical: ClinicalRecord
    remarks: tuple[str, ...] = field(default=())
