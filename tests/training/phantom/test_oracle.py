"""The oracle: Bayes' rule by hand, calibration against the truth, missing evidence."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from training.phantom.biology import BIOLOGY, SUV_SIGMA
from training.phantom.centres import CENTRES
from training.phantom.oracle import Evidence, oracle_scores, weigh_evidence
from training.phantom.outcome import Ehr, LogHazard, draw_ehr, draw_person
from training.phantom.places import SITES
from training.phantom.synthetic.body import make_body
from training.phantom.tumour import draw_node, draw_primary

BODY = make_body(np.random.default_rng(0), arms_up=False)
ALL_SITES = list(SITES)
NO_HAZARD = LogHazard(hpv=0.0, images=0.0, clinical=0.0, centre=0.0)
COMPLETE_EHR: Ehr = {"Age": 62.6, "Gender": 1, "Tobacco Consumption": 1, "Alcohol Consumption": 0}


def lesion(**changes: object) -> SimpleNamespace:
    """Return a primary that favours an HPV status only by its site and its solid core."""
    median = np.sqrt(BIOLOGY[True].primary_ml * BIOLOGY[False].primary_ml)
    suv = np.sqrt(BIOLOGY[True].primary_suv * BIOLOGY[False].primary_suv)
    plain = {"primary": True, "place": "tonsil", "volume_ml": median, "suv": suv, "core": "solid"}
    return SimpleNamespace(**(plain | changes))


def weigh(
    *,
    ehr: Ehr | None = None,
    lesions: Sequence[SimpleNamespace] = (),
    sites: Sequence[str] = ALL_SITES,
    prevalence: float = 0.9,
) -> Evidence:
    """Return the evidence about a patient whose log hazard is 0."""
    return weigh_evidence(
        ehr or {}, lesions, sites=sites, hazard=NO_HAZARD, prevalence=prevalence
    )  # fmt: skip


def test_record_by_hand() -> None:
    # 62.6 lies midway between the two mean ages, so the age favours neither status.
    evidence = weigh(ehr=COMPLETE_EHR, prevalence=0.5)
    expected = np.log(0.85 / 0.72) + np.log(0.42 / 0.80) + np.log(0.38 / 0.18)
    assert evidence.hpv_record == pytest.approx(expected)
    assert evidence.hpv_images == 0
    assert evidence.hpv_joint == pytest.approx(expected)
    # With equal prior odds, a likelihood ratio r gives the posterior r / (1 + r).
    ratio = np.exp(expected)
    recorded_hazard = 0.45 * 0.62 + 0.50 + 0.030 * 2.6 + 1.00 * 0.01
    assert evidence.risk_record == pytest.approx(recorded_hazard + 1 / (1 + ratio))


def test_images_by_hand() -> None:
    solid = np.log(0.85 / 0.60)
    typical = weigh(lesions=[lesion()]).hpv_images
    assert typical == pytest.approx(np.log(0.53 / 0.32) + solid)
    hot = weigh(lesions=[lesion(suv=BIOLOGY[False].primary_suv)]).hpv_images
    distance = np.log(BIOLOGY[False].primary_suv / BIOLOGY[True].primary_suv)
    assert hot - typical == pytest.approx(-(distance**2) / (2 * SUV_SIGMA**2))
    cyst = lesion(primary=False, place="II", volume_ml=np.sqrt(7.5 * 4.0), core="cystic")
    assert weigh(lesions=[cyst]).hpv_images == pytest.approx(np.log(0.35 / 0.03))
    small = lesion(primary=False, place="II", volume_ml=1.0)
    assert weigh(lesions=[cyst, small]).hpv_images == pytest.approx(np.log(0.35 / 0.03))


def test_sites_without_room_change_the_weight_of_a_site() -> None:
    two_sites = weigh(lesions=[lesion()], sites=["tonsil", "larynx"]).hpv_images
    all_sites = weigh(lesions=[lesion()]).hpv_images
    share_ratio = (0.53 / 0.55) / (0.32 / 0.47)
    assert two_sites - all_sites == pytest.approx(np.log(share_ratio) - np.log(0.53 / 0.32))


def test_missing_field_is_no_evidence() -> None:
    for key in COMPLETE_EHR:
        null = COMPLETE_EHR | {key: None}
        absent = {name: value for name, value in COMPLETE_EHR.items() if name != key}
        assert weigh(ehr=null) == weigh(ehr=absent) != weigh(ehr=COMPLETE_EHR)
    assert weigh().hpv_record == 0


@pytest.mark.parametrize("prevalence", [0.0, 1.0])
def test_evidence_does_not_change_a_certain_prior(prevalence: float) -> None:
    evidence = weigh(ehr=COMPLETE_EHR, lesions=[lesion()], prevalence=prevalence)
    assert evidence.risk_joint == weigh(ehr=COMPLETE_EHR, prevalence=prevalence).risk_joint
    assert evidence.risk_images == 1 - prevalence


def test_evidence_is_calibrated_and_joint_evidence_is_best() -> None:
    rng = np.random.default_rng(4)
    truth, evidence = rng.random(3000) < 0.5, []
    for hpv in truth.tolist():
        person = draw_person(rng, hpv)
        ehr, _ = draw_ehr(rng, person, CENTRES["MDA"])
        lesions = [
            draw_primary(rng, BODY, hpv),
            draw_node(rng, BODY, hpv=hpv, side=1.0, first=True),
        ]
        evidence.append(weigh(ehr=ehr, lesions=lesions, prevalence=0.5))
    joint, images, record = (
        np.array([getattr(e, f"hpv_{reader}") for e in evidence])
        for reader in ("joint", "images", "record")
    )
    accuracy = [((ratio > 0) == truth).mean() for ratio in (joint, images, record)]
    assert accuracy[0] > accuracy[1] > accuracy[2] > 0.6
    # Among patients with a posterior of 60 to 80 percent, that share is positive.
    posterior = 1 / (1 + np.exp(-joint))
    likely = (posterior > 0.6) & (posterior < 0.8)
    assert truth[likely].mean() == pytest.approx(posterior[likely].mean(), abs=0.06)


def record(*, hpv: bool, relapse: int, days: float, **evidence: float) -> dict[str, object]:
    fields = dict.fromkeys(Evidence.__dataclass_fields__, 0.0) | evidence
    return {
        "facts": {"hpv": hpv, "evidence": fields}, "relapse": relapse, "rfs_days": days,
    }  # fmt: skip


def test_scores_by_hand() -> None:
    records = [
        record(
            hpv=True, relapse=1, days=100, risk_true=3, risk_joint=1, hpv_joint=2, hpv_record=-1
        ),
        record(
            hpv=False, relapse=1, days=200, risk_true=2, risk_joint=2, hpv_joint=-2, hpv_record=-1
        ),
        record(
            hpv=True, relapse=0, days=300, risk_true=1, risk_joint=0, hpv_joint=-1, hpv_record=-1
        ),
    ]
    scores = oracle_scores(records)
    assert scores["c_index"] == {"true": 1, "joint": 2 / 3, "images": 0.5, "record": 0.5}
    assert scores["balanced_accuracy"]["joint"] == 0.75
    assert scores["balanced_accuracy"]["record"] == 0.5


def test_cohort_without_relapse_or_with_one_status_has_no_score() -> None:
    scores = oracle_scores(
        [record(hpv=True, relapse=0, days=100), record(hpv=True, relapse=0, days=200)]
    )
    assert set(scores["c_index"].values()) == {None}
    assert set(scores["balanced_accuracy"].values()) == {None}
    assert set(oracle_scores([])["c_index"].values()) == {None}
