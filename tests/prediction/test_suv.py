"""SUV by hand: 350 MBq of fluorine-18 for 70 kg, scanned an hour after the injection."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from pydicom import Dataset

from prediction.suv import suv_factors
from shared.errors import InputError
from tests.prediction.dicom_files import HALF_LIFE_S, INJECTED_MBQ, WEIGHT_KG, add_uptake_tags

AT_INJECTION = 1000 * WEIGHT_KG / (INJECTED_MBQ * 1e6)
"""2e-4 SUV per Bq/mL: 1 SUV is 5000 Bq/mL."""
HOUR = 2 ** (3600 / HALF_LIFE_S)
"""Within an hour, the dose falls by this factor, 1.46, so the SUV rises by it."""
AN_HOUR_LATER = AT_INJECTION * HOUR

Change = Callable[[Dataset, Dataset], None]


def headers(change: Change = lambda pet, tracer: None, count: int = 3) -> list[Dataset]:
    slices = []
    for _ in range(count):
        header = Dataset()
        add_uptake_tags(header)
        change(header, header.RadiopharmaceuticalInformationSequence[0])
        slices.append(header)
    return slices


def set_in_pet(**values: object) -> Change:
    return lambda pet, tracer: pet.update(values)


def set_in_tracer(**values: object) -> Change:
    return lambda pet, tracer: tracer.update(values)


def remove(keyword: str) -> Change:
    def change(pet: Dataset, tracer: Dataset) -> None:
        del (pet if keyword in pet else tracer)[keyword]

    return change


def test_activity_is_divided_by_the_dose_that_remains_at_the_scan() -> None:
    factors, remarks = suv_factors(headers())
    assert factors == pytest.approx([2.921e-4] * 3, rel=1e-3)
    assert factors == pytest.approx([AN_HOUR_LATER] * 3)
    assert remarks == ()


def test_activity_corrected_to_the_injection_needs_no_times() -> None:
    slices = headers(set_in_pet(DecayCorrection="ADMIN"))
    for header in slices:
        del header.SeriesTime, header.AcquisitionTime
    assert suv_factors(slices)[0] == pytest.approx([AT_INJECTION] * 3)


def test_values_in_suv_stay_as_they_are() -> None:
    assert suv_factors(headers(set_in_pet(Units="GML")))[0].tolist() == [1, 1, 1]


def test_philips_counts_are_scaled_by_the_private_tags() -> None:
    def to_suv(pet: Dataset, tracer: Dataset) -> None:
        pet.Units = "CNTS"
        pet.add_new((0x7053, 0x1000), "DS", "0.25")

    def to_activity(pet: Dataset, tracer: Dataset) -> None:
        pet.Units = "CNTS"
        pet.add_new((0x7053, 0x1000), "DS", "0")
        pet.add_new((0x7053, 0x1009), "UN", b"4.0 ")

    assert suv_factors(headers(to_suv))[0].tolist() == [0.25] * 3
    assert suv_factors(headers(to_activity))[0] == pytest.approx([4 * AN_HOUR_LATER] * 3)


def test_frames_without_decay_correction_are_corrected_one_by_one() -> None:
    """The second bed position is scanned half a half-life later."""
    slices = headers(set_in_pet(DecayCorrection="NONE", ActualFrameDuration=1), count=2)
    slices[1].AcquisitionTime = f"{12 * 10000 - 10000 + 5453.1:010.3f}"  # 11:54:53.1
    early, late = suv_factors(slices)[0]
    assert early == pytest.approx(AN_HOUR_LATER, rel=1e-6)
    assert late / early == pytest.approx(math.sqrt(2), rel=1e-6)
    # During a frame of one half-life, the mean activity is 1 / (2 ln 2) of that at the start.
    slices[0].ActualFrameDuration = HALF_LIFE_S * 1000
    assert suv_factors(slices)[0][0] == pytest.approx(AN_HOUR_LATER * 2 * math.log(2))


def test_time_of_a_processed_series_is_not_used() -> None:
    """The series was processed at 11:30, but its activity refers to 11:00."""
    frame_s, decay = 300.0, math.log(2) / HALF_LIFE_S
    mean_after_s = math.log(decay * frame_s / (1 - math.exp(-decay * frame_s))) / decay
    late = set_in_pet(
        SeriesTime="113000",
        AcquisitionTime="110500",
        ActualFrameDuration=frame_s * 1000,
        FrameReferenceTime=(300 + mean_after_s) * 1000,
    )
    assert suv_factors(headers(late))[0] == pytest.approx([AN_HOUR_LATER] * 3)

    def on_ge(pet: Dataset, tracer: Dataset) -> None:
        late(pet, tracer)
        pet.Manufacturer, pet.FrameReferenceTime = "GE MEDICAL SYSTEMS", 0
        pet.add_new((0x0009, 0x100D), "UN", b"20250103110000.00 ")

    assert suv_factors(headers(on_ge))[0] == pytest.approx([AN_HOUR_LATER] * 3)


@pytest.mark.parametrize(
    "change",
    [
        set_in_tracer(RadiopharmaceuticalStartDateTime="20250103100000.000000"),
        # Anonymisation has replaced this date but not the others.
        set_in_tracer(RadiopharmaceuticalStartDateTime="19000101100000"),
        set_in_pet(SeriesTime="110000.7", AcquisitionTime="110000"),
    ],
)
def test_injection_is_an_hour_before_the_scan(change: Change) -> None:
    assert suv_factors(headers(change))[0] == pytest.approx([AN_HOUR_LATER] * 3, rel=1e-4)


def test_injection_before_midnight_counts() -> None:
    change = set_in_pet(SeriesTime="003000", AcquisitionTime="003000")
    slices = headers(change)
    for header in slices:
        header.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = "233000"
    assert suv_factors(slices)[0] == pytest.approx([AN_HOUR_LATER] * 3)


def test_dose_in_mbq_and_weight_in_grams_are_recognised() -> None:
    factors, remarks = suv_factors(headers(set_in_tracer(RadionuclideTotalDose=350.0)))
    assert factors == pytest.approx([AN_HOUR_LATER] * 3)
    assert remarks == ("PET: RadionuclideTotalDose 350 is treated as MBq",)
    factors, remarks = suv_factors(headers(set_in_pet(PatientWeight=70000.0)))
    assert factors == pytest.approx([AN_HOUR_LATER] * 3)
    assert remarks == ("PET: PatientWeight 70000 is treated as grams",)


def test_missing_weight_can_be_given() -> None:
    for change in (remove("PatientWeight"), set_in_pet(PatientWeight=None)):
        with pytest.raises(InputError, match=r"PatientWeight .* found none; give it with --weight"):
            suv_factors(headers(change))
        assert suv_factors(headers(change), weight_kg=35)[0] == pytest.approx(
            [AN_HOUR_LATER / 2] * 3
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove("Units"), "expected the tag Units in the PET, found none"),
        (set_in_pet(Units="CM2ML"), "Units BQML, GML or CNTS, found CM2ML"),
        (set_in_pet(Units="CNTS"), r"\(7053,1000\) or to Bq/mL in \(7053,1009\), found neither"),
        (set_in_pet(Units="GML", SUVType="LBM"), "SUV by body weight, found SUVType LBM"),
        (set_in_pet(CorrectedImage=["DECY", "SCAT"]), "attenuation correction, found a series"),
        (set_in_pet(DecayCorrection="LATER"), "START, ADMIN or NONE, found LATER"),
        (remove("RadiopharmaceuticalInformationSequence"), "tag RadionuclideTotalDose"),
        (set_in_tracer(RadionuclideTotalDose=0.0), "injected dose in Bq, found 0"),
        (remove("RadionuclideHalfLife"), "tag RadionuclideHalfLife"),
        (remove("RadiopharmaceuticalStartTime"), "time of injection .* found none"),
        (
            set_in_tracer(RadiopharmaceuticalStartTime="220000"),
            "found 2025-01-03 22:00:00 and",
        ),
        (remove("AcquisitionTime"), "AcquisitionTime in every slice"),
    ],
)
def test_message_names_the_missing_tag_and_a_remedy(change: Change, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        suv_factors(headers(change))
    message = str(error.value)
    assert "\n" not in message
    assert "choose another series" in message or "--suv-factor" in message


def test_factors_are_one_per_slice() -> None:
    assert suv_factors(headers(count=5))[0].shape == (5,)
    assert suv_factors(headers(count=5))[0].dtype == np.float64
