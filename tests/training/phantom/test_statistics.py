"""300 drawn patients against the statistics of HECKTOR 2025 (seven centres, 680 and 782 patients).

The tolerance of a share p is three standard errors of n patients, sqrt(p (1 - p) / n), unless the
test says another. Patients are drawn, not scanned: no statistic here needs a voxel, but for the
last, which scans a few.
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
from training.phantom.patient import Drawn, Kind, draw_patient, make_patient

PATIENTS, SEED = 300, 2025


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return [draw_patient(SEED, index) for index in range(PATIENTS)]


def share(patients: list[Drawn], holds: Callable[[Drawn], bool]) -> float:
    return float(np.mean([holds(patient) for patient in patients]))


def within(values: Sequence[float], low: float, high: float) -> bool:
    return low <= min(values) and max(values) <= high


def near(p: float, n: int = PATIENTS) -> object:
    return pytest.approx(p, abs=3 * float(np.sqrt(p * (1 - p) / n)))


def records(patients: list[Drawn]) -> list[dict[str, object]]:
    return [
        {"facts": p.facts(), "relapse": p.relapse, "rfs_days": p.rfs_days} for p in patients
    ]  # fmt: skip


def test_lesions(drawn: list[Drawn]) -> None:
    nodes = [sum(not lesion.primary for lesion in p.lesions) for p in drawn]
    primary = [any(lesion.primary for lesion in p.lesions) for p in drawn]
    assert 1 - np.mean(primary) == near(0.040)
    assert np.mean(np.equal(nodes, 0)) == near(0.111)
    assert all(n or p for n, p in zip(nodes, primary, strict=True)), "never neither"
    assert max(nodes) <= 8
    # The means by N stage run from 0.3 (N0) to 2.0 (N3).
    assert 1.0 < np.mean(nodes) < 2.0


def test_whole_body_scans_by_centre(drawn: list[Drawn]) -> None:
    assert share(drawn, lambda p: p.whole_body) == near(0.31)
    whole = {name: [p.whole_body for p in drawn if p.centre.name == name] for name in CENTRES}
    assert all(whole["CHUP"])
    assert all(whole["USZ"])
    assert np.mean(whole["MDA"]) == near(0.25, len(whole["MDA"]))
    others = whole["CHUM"] + whole["CHUS"] + whole["HGJ"] + whole["HMR"]
    assert np.mean(others) < 0.1


def test_centres_have_their_share_and_two_are_unseen(drawn: list[Drawn]) -> None:
    for name, patients in (("MDA", 442), ("CHUP", 72), ("CHUS", 72), ("CHUM", 56), ("HGJ", 55)):
        assert share(drawn, lambda p, name=name: p.centre.name == name) == near(patients / 726)
    assert not any(p.centre.unseen for p in drawn)
    unseen = [draw_patient(SEED, index, Kind(centres="unseen")).centre for index in range(12)]
    assert {centre.name for centre in unseen} == {"CHUV", "CHB"}
    assert all(centre.unseen for centre in unseen)


def test_grids(drawn: list[Drawn]) -> None:
    ct, pet = [p.protocol.ct for p in drawn], [p.protocol.pet for p in drawn]
    assert {raster.size_xyz[:2] for raster in ct} == {(512, 512)}
    slices = [raster.size_xyz[2] for raster in ct]
    assert within(slices, 67, 736)
    assert np.median(slices) == pytest.approx(135, rel=0.25)
    pixel, slice_mm = ([raster.spacing_mm[axis] for raster in ct] for axis in (0, 2))
    assert within(pixel, 0.49, 2.7)
    assert np.median(pixel) == pytest.approx(0.98, abs=0.05)
    assert within(slice_mm, 1, 5)
    assert np.median(slice_mm) == pytest.approx(3.27, abs=0.3)
    assert within([raster.size_xyz[0] for raster in pet], 128, 256)
    assert within([mm for raster in pet for mm in raster.spacing_mm], 2.5, 5.5)
    assert within([raster.size_xyz[2] for raster in pet], 60, 543)
    same = [a.size_xyz[2] == b.size_xyz[2] for a, b in zip(ct, pet, strict=True)]
    assert 1 - np.mean(same) == near(199 / 524)


def test_units_of_pet(drawn: list[Drawn]) -> None:
    assert share(drawn, lambda p: p.protocol.bqml_per_suv != 1) == near(50 / 680)


def test_people(drawn: list[Drawn]) -> None:
    ages = [p.person.age for p in drawn]
    assert np.mean(ages) == pytest.approx(60.0, abs=3 * 9.2 / np.sqrt(PATIENTS))
    assert np.std(ages) == pytest.approx(9.2, rel=0.15)
    assert within(ages, 32, 90)
    people = {
        "male": 0.835, "tobacco": 0.46, "alcohol": 0.64, "chemotherapy": 0.836, "hpv": 0.893,
    }  # fmt: skip
    for name, expected in people.items():
        assert share(drawn, lambda p, name=name: getattr(p.person, name)) == near(expected), name
    for status, count in enumerate((226, 208, 23, 7, 4)):
        found = share(drawn, lambda p, s=status: p.person.performance_status == s)
        assert found == near(count / 468), status


def test_gaps_in_the_records_go_by_centre(drawn: list[Drawn]) -> None:
    gaps = {
        "Tobacco Consumption": 0.33, "Alcohol Consumption": 0.34, "Performance Status": 0.40,
        "Treatment": 0.02,
    }  # fmt: skip
    for key, expected in gaps.items():
        assert share(drawn, lambda p, key=key: p.ehr.get(key) is None) == near(expected), key
    assert share(drawn, lambda p: p.hpv is None) == near(0.24)
    bare = [p for p in drawn if p.centre.name in ("CHUM", "CHUP", "HGJ", "HMR", "USZ")]
    assert share(bare, lambda p: p.ehr.get("Tobacco Consumption") is None) > 0.85


def test_prevalence_can_be_shifted() -> None:
    shifted = [draw_patient(SEED, index, Kind(prevalence=0.3)) for index in range(60)]
    assert share(shifted, lambda p: p.person.hpv) == near(0.3, 60)


def test_outcome(drawn: list[Drawn]) -> None:
    days = [p.rfs_days for p in drawn]
    assert share(drawn, lambda p: p.relapse == 1) == near(0.204)
    assert np.percentile(days, [25, 50, 75]) == pytest.approx([715, 1295, 2546], rel=0.2)
    assert np.mean(days) == pytest.approx(1639, rel=0.12)
    assert np.std(days) == pytest.approx(1200, rel=0.15)
    assert within(days, 7, 5888)


def test_oracle_scores_leave_tasks_neither_trivial_nor_hopeless(drawn: list[Drawn]) -> None:
    scores = oracle_scores(records(drawn))
    c_index, accuracy = scores["c_index"], scores["balanced_accuracy"]
    assert 0.70 <= c_index["true"] <= 0.80
    assert 0.80 <= accuracy["joint"] <= 0.92
    for score in (c_index, accuracy):
        assert 0.55 < score["images"] < score["joint"]
        assert 0.55 < score["record"] < score["joint"]
    assert c_index["joint"] < c_index["true"] + 0.02


@pytest.fixture(scope="module")
def features(drawn: list[Drawn]) -> NDArray[np.float64]:
    """Return what a simple reader measures: uptake, tumour volume, node count, largest of both."""
    return np.array(
        [
            [
                max(lesion.suv for lesion in p.lesions),
                np.log(sum(lesion.volume_ml for lesion in p.lesions) + 1),
                sum(not lesion.primary for lesion in p.lesions),
                max((lesion.volume_ml for lesion in p.lesions if not lesion.primary), default=0),
                max((lesion.volume_ml for lesion in p.lesions if lesion.primary), default=0),
            ]
            for p in drawn
        ]
    )


def test_simple_image_features_tell_the_hpv_status_but_less_than_the_oracle(
    drawn: list[Drawn], features: NDArray[np.float64]
) -> None:
    hpv = np.array([p.person.hpv for p in drawn])
    scaled = (features - features.mean(0)) / features.std(0)
    model = LogisticRegression(class_weight="balanced")
    probability = cross_val_predict(model, scaled, hpv, cv=5, method="predict_proba")[:, 1]
    assert roc_auc_score(hpv, probability) > 0.65
    oracle = oracle_scores(records(drawn))["balanced_accuracy"]["images"]
    assert oracle is not None
    assert balanced_accuracy_score(hpv, probability > 0.5) < oracle


def test_simple_image_features_tell_the_hazard_but_less_than_the_oracle(
    drawn: list[Drawn], features: NDArray[np.float64]
) -> None:
    days, relapse = [p.rfs_days for p in drawn], [p.relapse for p in drawn]
    scaled = (features - features.mean(0)) / features.std(0)
    columns = list("abcde")
    table = pd.DataFrame(scaled, columns=columns).assign(days=days, relapse=relapse)
    folds = [table[: PATIENTS // 2], table[PATIENTS // 2 :]]
    risk = [
        CoxPHFitter(penalizer=0.1).fit(fitted, "days", "relapse").predict_log_partial_hazard(judged)
        for judged, fitted in (folds, folds[::-1])
    ]
    found = concordance_index(np.concatenate(risk), days, relapse)
    true = oracle_scores(records(drawn))["c_index"]["true"]
    assert true is not None
    assert 0.55 < found < true


def test_values_of_the_images() -> None:
    for index, name in enumerate(("HGJ", "HMR", "CHUS")):
        made = make_patient(SEED, index, Kind(small=True, centre=name, whole_body=False))
        ct, pet = (sitk.GetArrayViewFromImage(image) for image in (made.ct_hu, made.pet_suv))
        assert -10504 <= ct.min() <= -1000
        assert 1000 < ct.max() <= 30000
        assert pet.min() == 0
        suv = pet / (5000 if made.facts["bqml"] else 1)
        assert 1.2 < suv.max() < 2016
