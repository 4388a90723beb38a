"""300 patients against the statistics of HECKTOR 2025 (seven centres, 680 and 782 patients).

The tolerance of a share p is three standard errors, sqrt(p (1 - p) / n), unless a test states
another. Only the last test makes images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from lifelines import CoxPHFitter
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from shared.metrics.survival import concordance_index
from training.phantom.centres import CENTRES
from training.phantom.oracle import oracle_scores
from training.phantom.patient import Blueprint, Kind, draw_patient, make_patient

PATIENTS, SEED = 300, 2025


@pytest.fixture(scope="module")
def cohort() -> list[Blueprint]:
    return [draw_patient(SEED, index) for index in range(PATIENTS)]


def share(patients: list[Blueprint], is_true: Callable[[Blueprint], bool]) -> float:
    return float(np.mean([is_true(patient) for patient in patients]))


def all_within(values: Sequence[float], low: float, high: float) -> bool:
    return low <= min(values) and max(values) <= high


def close_to(p: float, n: int = PATIENTS) -> object:
    return pytest.approx(p, abs=3 * float(np.sqrt(p * (1 - p) / n)))


def records(patients: list[Blueprint]) -> list[dict[str, object]]:
    return [
        {"facts": p.facts(), "relapse": p.relapse, "rfs_days": p.rfs_days} for p in patients
    ]  # fmt: skip


def test_number_of_lesions(cohort: list[Blueprint]) -> None:
    nodes = [sum(not lesion.primary for lesion in p.lesions) for p in cohort]
    primary = [any(lesion.primary for lesion in p.lesions) for p in cohort]
    assert 1 - np.mean(primary) == close_to(0.040)
    assert np.mean(np.equal(nodes, 0)) == close_to(0.111)
    assert all(n or p for n, p in zip(nodes, primary, strict=True)), (
        "a patient has a primary or a node"
    )
    assert max(nodes) <= 8
    # The means by N stage range from 0.3 (N0) to 2.0 (N3).
    assert 1.0 < np.mean(nodes) < 2.0


def test_whole_body_scans_by_centre(cohort: list[Blueprint]) -> None:
    assert share(cohort, lambda p: p.whole_body) == close_to(0.31)
    whole = {name: [p.whole_body for p in cohort if p.centre.name == name] for name in CENTRES}
    assert all(whole["CHUP"])
    assert all(whole["USZ"])
    assert np.mean(whole["MDA"]) == close_to(0.25, len(whole["MDA"]))
    others = whole["CHUM"] + whole["CHUS"] + whole["HGJ"] + whole["HMR"]
    assert np.mean(others) < 0.1


def test_share_of_each_centre_and_unseen_centres(cohort: list[Blueprint]) -> None:
    for name, patients in (("MDA", 442), ("CHUP", 72), ("CHUS", 72), ("CHUM", 56), ("HGJ", 55)):
        assert share(cohort, lambda p, name=name: p.centre.name == name) == close_to(patients / 726)
    assert not any(p.centre.unseen for p in cohort)
    unseen = [draw_patient(SEED, index, Kind(centres="unseen")).centre for index in range(12)]
    assert {centre.name for centre in unseen} == {"CHUV", "CHB"}
    assert all(centre.unseen for centre in unseen)


def test_grids(cohort: list[Blueprint]) -> None:
    ct, pet = [p.protocol.ct for p in cohort], [p.protocol.pet for p in cohort]
    assert {raster.size_xyz[:2] for raster in ct} == {(512, 512)}
    slices = [raster.size_xyz[2] for raster in ct]
    assert all_within(slices, 67, 736)
    assert np.median(slices) == pytest.approx(135, rel=0.25)
    pixel, slice_mm = ([raster.spacing_mm[axis] for raster in ct] for axis in (0, 2))
    assert all_within(pixel, 0.49, 2.7)
    assert np.median(pixel) == pytest.approx(0.98, abs=0.05)
    assert all_within(slice_mm, 1, 5)
    assert np.median(slice_mm) == pytest.approx(3.27, abs=0.3)
    assert all_within([raster.size_xyz[0] for raster in pet], 128, 256)
    assert all_within([mm for raster in pet for mm in raster.spacing_mm], 2.5, 5.5)
    assert all_within([raster.size_xyz[2] for raster in pet], 60, 543)
    same = [a.size_xyz[2] == b.size_xyz[2] for a, b in zip(ct, pet, strict=True)]
    assert 1 - np.mean(same) == close_to(199 / 524)


def test_share_of_pets_in_bqml(cohort: list[Blueprint]) -> None:
    assert share(cohort, lambda p: p.protocol.bqml_per_suv != 1) == close_to(50 / 680)


def test_people(cohort: list[Blueprint]) -> None:
    ages = [p.person.age for p in cohort]
    assert np.mean(ages) == pytest.approx(60.0, abs=3 * 9.2 / np.sqrt(PATIENTS))
    assert np.std(ages) == pytest.approx(9.2, rel=0.15)
    assert all_within(ages, 32, 90)
    people = {
        "male": 0.835, "tobacco": 0.46, "alcohol": 0.64, "chemotherapy": 0.836, "hpv": 0.893,
    }  # fmt: skip
    for name, expected in people.items():
        assert share(cohort, lambda p, name=name: getattr(p.person, name)) == close_to(expected), (
            name
        )
    for status, count in enumerate((226, 208, 23, 7, 4)):
        status_share = share(cohort, lambda p, s=status: p.person.performance_status == s)
        assert status_share == close_to(count / 468), status


def test_gaps_in_the_records_by_centre(cohort: list[Blueprint]) -> None:
    gaps = {
        "Tobacco Consumption": 0.33, "Alcohol Consumption": 0.34, "Performance Status": 0.40,
        "Treatment": 0.02,
    }  # fmt: skip
    for key, expected in gaps.items():
        assert share(cohort, lambda p, key=key: p.ehr.get(key) is None) == close_to(expected), key
    assert share(cohort, lambda p: p.hpv is None) == close_to(0.24)
    incomplete = [p for p in cohort if p.centre.name in ("CHUM", "CHUP", "HGJ", "HMR", "USZ")]
    assert share(incomplete, lambda p: p.ehr.get("Tobacco Consumption") is None) > 0.85


def test_prevalence_of_the_kind_replaces_that_of_the_centres() -> None:
    shifted = [draw_patient(SEED, index, Kind(prevalence=0.3)) for index in range(60)]
    assert share(shifted, lambda p: p.person.hpv) == close_to(0.3, 60)


def test_outcome(cohort: list[Blueprint]) -> None:
    days = [p.rfs_days for p in cohort]
    assert share(cohort, lambda p: p.relapse == 1) == close_to(0.204)
    assert np.percentile(days, [25, 50, 75]) == pytest.approx([715, 1295, 2546], rel=0.2)
    assert np.mean(days) == pytest.approx(1639, rel=0.12)
    assert np.std(days) == pytest.approx(1200, rel=0.15)
    assert all_within(days, 7, 5888)


def test_oracle_scores_are_plausible(cohort: list[Blueprint]) -> None:
    scores = oracle_scores(records(cohort))
    c_index, accuracy = scores["c_index"], scores["balanced_accuracy"]
    assert 0.70 <= c_index["true"] <= 0.80
    assert 0.80 <= accuracy["joint"] <= 0.92
    for score in (c_index, accuracy):
        assert 0.55 < score["images"] < score["joint"]
        assert 0.55 < score["record"] < score["joint"]
    assert c_index["joint"] < c_index["true"] + 0.02


@pytest.fixture(scope="module")
def features(cohort: list[Blueprint]) -> NDArray[np.float64]:
    """Return uptake, tumour volume, number of nodes, largest volumes of node and primary."""
    return np.array(
        [
            [
                max(lesion.suv for lesion in p.lesions),
                np.log(sum(lesion.volume_ml for lesion in p.lesions) + 1),
                sum(not lesion.primary for lesion in p.lesions),
                max((lesion.volume_ml for lesion in p.lesions if not lesion.primary), default=0),
                max((lesion.volume_ml for lesion in p.lesions if lesion.primary), default=0),
            ]
            for p in cohort
        ]
    )


def test_simple_image_features_predict_hpv_but_less_well_than_the_oracle(
    cohort: list[Blueprint], features: NDArray[np.float64]
) -> None:
    hpv = np.array([p.person.hpv for p in cohort])
    scaled = (features - features.mean(0)) / features.std(0)
    model = LogisticRegression(class_weight="balanced")
    probability = cross_val_predict(model, scaled, hpv, cv=5, method="predict_proba")[:, 1]
    assert roc_auc_score(hpv, probability) > 0.65
    oracle = oracle_scores(records(cohort))["balanced_accuracy"]["images"]
    assert oracle is not None
    assert balanced_accuracy_score(hpv, probability > 0.5) < oracle


def test_simple_image_features_predict_relapse_but_less_well_than_the_oracle(
    cohort: list[Blueprint], features: NDArray[np.float64]
) -> None:
    days, relapse = [p.rfs_days for p in cohort], [p.relapse for p in cohort]
    scaled = (features - features.mean(0)) / features.std(0)
    columns = list("abcde")
    table = pd.DataFrame(scaled, columns=columns).assign(days=days, relapse=relapse)
    halves = [table[: PATIENTS // 2], table[PATIENTS // 2 :]]
    risk = [
        CoxPHFitter(penalizer=0.1).fit(train, "days", "relapse").predict_log_partial_hazard(test)
        for test, train in (halves, halves[::-1])
    ]
    c_index = concordance_index(np.concatenate(risk), days, relapse)
    best = oracle_scores(records(cohort))["c_index"]["true"]
    assert best is not None
    assert 0.55 < c_index < best


def test_range_of_image_values() -> None:
    for index, name in enumerate(("HGJ", "HMR", "CHUS")):
        patient = make_patient(SEED, index, Kind(small=True, centre=name, whole_body=False))
        ct, pet = (sitk.GetArrayViewFromImage(image) for image in (patient.ct_hu, patient.pet_suv))
        assert -10504 <= ct.min() <= -1000
        assert 1000 < ct.max() <= 30000
        assert pet.min() == 0
        suv = pet / (5000 if patient.facts["bqml"] else 1)
        assert 1.2 < suv.max() < 2016
