"""Body-weight SUV of a DICOM PET, from the tags of its slices.

SUV is activity (Bq/mL) times body weight (g) divided by the injected dose (Bq). Activity and dose
must refer to the same time, because both decay.

References
----------
Kinahan & Fletcher 2010, Positron emission tomography-computed tomography standardized uptake values
in clinical practice and assessing response to therapy, Semin Ultrasound CT MR 31:496-505.
QIBA, vendor-neutral pseudo-code for SUV calculation (order of the reference times).
Vácha et al. 2026, Comprehensive manual for SUV computation, github.com/oncoray/suv_computation
(units, Philips's and GE's private tags, PETs without decay correction).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.valuerep import DT

from shared.errors import InputError

LOWEST_DOSE_BQ: Final = 1e5
"""A dose below this number is in MBq, the unit of some scanners. Doses of FDG are 1e8 to 1e9 Bq."""
HIGHEST_WEIGHT_KG: Final = 1000.0
"""A weight above this number is in grams."""
LONGEST_UPTAKE: Final = timedelta(hours=12)
"""Longest plausible time between injection and scan. FDG is scanned after about an hour."""
CLOCK_TOLERANCE: Final = timedelta(seconds=1)
"""Some scanners omit the fractions of a second in one of two equal times."""
PHILIPS_SUV: Final = (0x7053, 0x1000)
PHILIPS_ACTIVITY: Final = (0x7053, 0x1009)
GE_SCAN_TIME: Final = (0x0009, 0x100D)
MS_PER_S: Final = 1000.0
REMEDY: Final = (
    "convert the PET to SUV with other software, or give the factor from its values to SUV with "
    "--suv-factor"
)


def suv_factors(
    slices: Sequence[Dataset], *, weight_kg: float | None = None
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the factor of each slice that converts its rescaled values to SUV.

    Parameters
    ----------
    slices : headers of the slices of one PET series.
    weight_kg : body weight; None means the value of the tag PatientWeight.

    Returns
    -------
    Factors, shape (n,), and remarks about tags with an unusual unit.

    Raises
    ------
    InputError
        If a tag is missing or contradicts another, if the PET is not corrected for attenuation, or
        if its unit cannot be converted.
    """
    first = slices[0]
    corrections = first.get("CorrectedImage")
    if corrections and "ATTN" not in corrections:
        raise InputError(
            "expected a PET series with attenuation correction, found a series without it; choose "
            "another series of the scan"
        )
    unit = _required(first, "Units")
    if unit == "GML":
        kind = first.get("SUVType") or "BW"
        if kind != "BW":
            raise InputError(f"expected SUV by body weight, found SUVType {kind}; {REMEDY}")
        return np.ones(len(slices)), ()
    if unit == "CNTS":
        to_suv = [_private_number(each, PHILIPS_SUV) for each in slices]
        if all(to_suv):
            return np.array(to_suv, dtype=np.float64), ()
        to_activity = [_private_number(each, PHILIPS_ACTIVITY) for each in slices]
        if not all(to_activity):
            raise InputError(
                "expected a factor from counts to SUV in the tag (7053,1000) or to Bq/mL in "
                f"(7053,1009), found neither; {REMEDY}"
            )
        activity = np.array(to_activity, dtype=np.float64)
    elif unit == "BQML":
        activity = np.ones(len(slices))
    else:
        raise InputError(f"expected a PET in Units BQML, GML or CNTS, found {unit}; {REMEDY}")
    weight_g, weight_remarks = _weight_g(first, weight_kg)
    suv_per_bqml, dose_remarks = _suv_per_bqml(slices, weight_g)
    return activity * suv_per_bqml, weight_remarks + dose_remarks


def _weight_g(first: Dataset, weight_kg: float | None) -> tuple[float, tuple[str, ...]]:
    if weight_kg is None:
        weight_kg = float(first.get("PatientWeight") or 0)
        if not weight_kg > 0:
            raise InputError(
                "expected the body weight in the tag PatientWeight of the PET, found none; give it "
                "with --weight-kg"
            )
        if weight_kg > HIGHEST_WEIGHT_KG:
            return weight_kg, (f"PET: PatientWeight {weight_kg:g} is treated as grams",)
    return 1000 * weight_kg, ()


def _suv_per_bqml(
    slices: Sequence[Dataset], weight_g: float
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the factor from Bq/mL to SUV of each slice, shape (n,), and remarks."""
    first = slices[0]
    tracer = (first.get("RadiopharmaceuticalInformationSequence") or [Dataset()])[0]
    dose_bq = _number(tracer, "RadionuclideTotalDose")
    remarks: tuple[str, ...] = ()
    if not dose_bq > 0:
        raise InputError(f"expected the injected dose in Bq, found {dose_bq:g}; {REMEDY}")
    if dose_bq < LOWEST_DOSE_BQ:
        remarks = (f"PET: RadionuclideTotalDose {dose_bq:g} is treated as MBq",)
        dose_bq *= 1e6
    correction = _required(first, "DecayCorrection")
    if correction == "ADMIN":
        return np.full(len(slices), weight_g / dose_bq), remarks
    decay_per_s = math.log(2) / _number(tracer, "RadionuclideHalfLife")
    if correction == "START":
        reference = _decay_reference(slices, decay_per_s)
        remaining = math.exp(-decay_per_s * _uptake_s(tracer, reference))
        return np.full(len(slices), weight_g / (dose_bq * remaining)), remarks
    if correction != "NONE":
        raise InputError(
            f"expected DecayCorrection START, ADMIN or NONE, found {correction}; {REMEDY}"
        )
    factors = []
    for each in slices:
        # The mean activity of the frame is converted to the activity at the start of the frame, and
        # this to the activity at the injection.
        remaining = math.exp(-decay_per_s * _uptake_s(tracer, _acquired_at(each)))
        factors.append(weight_g / (dose_bq * remaining * _mean_to_start(each, decay_per_s)))
    return np.array(factors), remarks


def _decay_reference(slices: Sequence[Dataset], decay_per_s: float) -> datetime:
    """Return the time to which the activity of a series is corrected with DecayCorrection START.

    Notes
    -----
    This is SeriesTime, unless SeriesTime is later than an acquisition, which happens when software
    processes the series again. GE then states the reference in a private tag. Without this tag, the
    reference is computed: FrameReferenceTime is the time from the reference to the moment in the
    frame at which the activity equals the frame's mean.
    """
    first = slices[0]
    acquired = [_acquired_at(each) for each in slices]
    series = _moment_of(first.get("SeriesDate"), first.get("SeriesTime"))
    if series is not None and series <= min(acquired) + CLOCK_TOLERANCE:
        return series
    if str(first.get("Manufacturer", "")).upper().startswith("GE"):
        scan = _moment(_private_text(first, GE_SCAN_TIME))
        if scan is not None:
            return scan
    mean_after_s = -math.log(_mean_to_start(first, decay_per_s)) / decay_per_s
    offset_s = _number(first, "FrameReferenceTime") / MS_PER_S
    return acquired[0] + timedelta(seconds=mean_after_s - offset_s)


def _mean_to_start(header: Dataset, decay_per_s: float) -> float:
    """Return the mean activity during a slice's frame divided by the activity at its start."""
    lives = decay_per_s * _number(header, "ActualFrameDuration") / MS_PER_S
    if not lives > 0:
        raise InputError(f"expected ActualFrameDuration above 0 in the PET, found 0; {REMEDY}")
    return -math.expm1(-lives) / lives


def _uptake_s(tracer: Dataset, until: datetime) -> float:
    """Return the seconds from the injection to a time."""
    waits = []
    injected = _moment(tracer.get("RadiopharmaceuticalStartDateTime"))
    if injected is not None:
        waits.append(until - injected)
    injected = _moment_of(f"{until:%Y%m%d}", tracer.get("RadiopharmaceuticalStartTime"))
    if injected is not None:  # the tag has no date, so it is the day of the scan or the day before
        waits += [until - injected, until - injected + timedelta(days=1)]
    for wait in waits:
        if timedelta(0) <= wait <= LONGEST_UPTAKE:
            return wait.total_seconds()
    times = " and ".join(f"{until - wait:%Y-%m-%d %H:%M:%S}" for wait in waits) or "none"
    raise InputError(
        "expected the time of injection in RadiopharmaceuticalStartDateTime or "
        "RadiopharmaceuticalStartTime, within 12 hours before the scan at "
        f"{until:%Y-%m-%d %H:%M:%S}, found {times}; {REMEDY}"
    )


def _acquired_at(header: Dataset) -> datetime:
    moment = _moment_of(header.get("AcquisitionDate"), header.get("AcquisitionTime")) or _moment(
        header.get("AcquisitionDateTime")
    )
    if moment is None:
        raise InputError(
            "expected AcquisitionDate and AcquisitionTime in every slice of the PET, found a slice "
            f"without them; {REMEDY}"
        )
    return moment


def _moment_of(date: object, time: object) -> datetime | None:
    """Return the moment of a DICOM date and time; None if one is missing or not valid."""
    return _moment(f"{date}{time}") if date and time else None


def _moment(text: object) -> datetime | None:
    """Return the moment of a DICOM date-time without its time zone; None if it is not valid."""
    try:
        value = DT(str(text or ""))
    except ValueError:
        return None
    # The time zone is dropped, because dates and times in separate tags have none.
    return None if value is None else datetime(*value.timetuple()[:6], value.microsecond)


def _number(header: Dataset, keyword: str) -> float:
    """Return the number in a tag that must be present."""
    try:
        return float(_required(header, keyword))
    except ValueError:
        raise InputError(
            f"expected a number in the tag {keyword} of the PET, found "
            f"{header.get(keyword)!r}; {REMEDY}"
        ) from None


def _required(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    if value is None or value == "":
        raise InputError(f"expected the tag {keyword} in the PET, found none; {REMEDY}")
    return str(value)


def _private_number(header: Dataset, tag: tuple[int, int]) -> float | None:
    """Return the number in a private tag; None if it is missing, 0 or not a number."""
    try:
        return float(_private_text(header, tag) or 0) or None
    except ValueError:
        return None


def _private_text(header: Dataset, tag: tuple[int, int]) -> str | None:
    """Return the text in a private tag, which some files store as bytes of unknown type."""
    entry = header.get(tag)
    value = None if entry is None else entry.value
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return None if value is None else str(value).strip("\0 ")
