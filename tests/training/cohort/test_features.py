"""Scale and code for missing of clinical values, by hand."""

from __future__ import annotations

import pytest

from shared.clinical import ClinicalRecord, encode
from tests.training.synthetic import make_patient, with_facts
from training.cohort.features import features_of

PATIENTS = [
    with_facts(make_patient(0), clinical=record)
    for record in (
        ClinicalRecord(age=50.0, gender=1.0),
        ClinicalRecord(age=70.0, gender=0.0),
        ClinicalRecord(gender=1.0),
    )
]
KEYS = ("hpv", "age", "gender")


def test_age_is_z_normalised_and_missing_is_minus_one_as_in_the_paper() -> None:
    features = features_of(KEYS, PATIENTS, "minus one")
    assert [feature.key for feature in features] == list(KEYS)
    assert (features[1].mean, features[1].std) == (60, 10)
    assert encode(ClinicalRecord(age=75, hpv=0.5), features).tolist() == [0.5, 1.5, -1]


def test_missing_value_can_be_the_mean() -> None:
    features = features_of(KEYS, PATIENTS, "mean")
    # No record has an HPV status, so its code stays -1.
    assert encode(ClinicalRecord(age=75), features).tolist() == pytest.approx([-1, 1.5, 2 / 3])
    assert encode(ClinicalRecord(hpv=0.5), features).tolist() == pytest.approx([0.5, 0, 2 / 3])
