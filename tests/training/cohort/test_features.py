"""The scale of clinical values and the code for a missing value, by hand."""

from __future__ import annotations

import pytest

from shared.clinical import ClinicalFeature, ClinicalRecord, encode
from training.cohort.features import fit_features

RECORDS = [
    ClinicalRecord(age=50.0, gender=1.0),
    ClinicalRecord(age=70.0, gender=0.0),
    ClinicalRecord(gender=1.0),
]
KEYS = ("hpv", "age", "gender")


def test_age_is_z_normalised_and_missing_is_minus_one_as_in_the_paper() -> None:
    features = fit_features(KEYS, RECORDS, "minus one")
    assert [feature.key for feature in features] == list(KEYS)
    assert (features[1].mean, features[1].std) == (60, 10)
    assert encode(ClinicalRecord(age=75, hpv=0.5), features).tolist() == [0.5, 1.5, -1]


def test_missing_value_can_be_the_mean() -> None:
    features = fit_features(KEYS, RECORDS, "mean")
    # No record has an HPV status, so its code stays -1.
    assert encode(ClinicalRecord(age=75), features).tolist() == pytest.approx([-1, 1.5, 2 / 3])
    assert encode(ClinicalRecord(hpv=0.5), features).tolist() == pytest.approx([0.5, 0, 2 / 3])


def test_variable_without_spread_or_values_keeps_a_scale_that_can_divide() -> None:
    same = [ClinicalRecord(age=60.0), ClinicalRecord(age=60.0)]
    assert fit_features(("age",), same, "mean") == (
        ClinicalFeature(key="age", mean=60.0, std=1.0, missing=0.0),
    )
    unknown = [ClinicalRecord()]
    assert fit_features(("age",), unknown, "mean") == (ClinicalFeature(key="age"),)
