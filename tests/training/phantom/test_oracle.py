"""The oracle: Bayes' rule by hand, against what patients are, and where it must be silent."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from training.phantom.anatomy import SITES, make_body
from training.phantom.biology import BIOLOGY, SUV_SIGMA
from training.phantom.centres import CENTRES
from training.phantom.oracle import Evidence, oracle_scores, weigh
from training.phantom.outcome import LogHazard, draw_ehr, draw_person
from training.phantom.tumour import draw_node, draw_primary

BODY = make_body(np.random.default_rng(0), arms_up=False)
ALL = list(SITES)
NOTHING = LogHazard(hpv=0.0, images=0.0, clinical=0.0, centre=0.0)
FULL = {"Age": 62.6, "Gender": 1, "Tobacco Consumption": 1, "Alcohol Consumption": 0}


def lesion(**changes: object) -> SimpleNamespace:
    """Return a primary that speaks for neither status but by its site."""
    median = np.sqrt(BIOLOGY[True].primary_ml * BIOLOGY[False].primary_ml)
    suv = np.sqrt(BIOLOGY[True].primary_suv * BIOLOGY[False].primary_suv)
    plain = {"primary": True, "place": "tonsil", "volume_ml": median, "suv": suv, "core": "solid"}
    return SimpleNamespace(**(plain | changes))


def test_record_by_hand() -> None:
    # 62.6 lies midway between the two mean ages, so it says nothing.
    evidence = weigh(FULL, [], ALL, NOTHING, prevalence=0.5)
    expected = np.log(0.85 / 0.72) + np.log(0.42 / 0.80) + np.log(0.38 / 0.18)
    assert evidence.hpv_record == pytest.approx(expected)
    assert evidence.hpv_images == 0
    assert evidence.hpv_joint == pytest.approx(expected)
    # At equal odds a likelihood ratio r is a posterior r / (1 + r).
    ratio = np.exp(expected)
    recorded = 0.45 * 0.62 + 0.50 + 0.030 * 2.6 + 1.00 * 0.01
    assert evidence.risk_record == pytest.approx(recorded + 1 / (1 + ratio))


def test_images_by_hand() -> None:
    cored = np.log(0.85 / 0.60)
    site = weigh({}, [lesion()], ALL, NOTHING, 0.9).hpv_images
    assert site == pytest.approx(np.log(0.53 / 0.32) + cored)
    hot = weigh({}, [lesion(suv=BIOLOGY[False].primary_suv)], ALL, NOTHING, 0.9).hpv_images
    distance = np.log(BIOLOGY[False].primary_suv / BIOLOGY[True].primary_suv)
    assert hot - site == pytest.approx(-(distance**2) / (2 * SUV_SIGMA**2))
    cyst = lesion(primary=False, place="II", volume_ml=np.sqrt(7.5 * 4.0), core="cystic")
    assert weigh({}, [cyst], ALL, NOTHING, 0.9).hpv_images == pytest.approx(np.log(0.35 / 0.03))
    small = lesion(primary=False, place="II", volume_ml=1.0)
    assert weigh({}, [cyst, small], ALL, NOTHING, 0.9).hpv_images == pytest.approx(
        np.log(0.35 / 0.03)
    )


def test_a_site_weighs_among_those_that_the_anatomy_offers() -> None:
    two = weigh({}, [lesion()], ["tonsil", "larynx"], NOTHING, 0.9).hpv_images
    every = weigh({}, [lesion()], ALL, NOTHING, 0.9).hpv_images
    share = (0.53 / 0.55) / (0.32 / 0.47)
    assert two - every == pytest.approx(np.log(share) - np.log(0.53 / 0.32))


def test_a_gap_in_the_record_says_nothing() -> None:
    for key in FULL:
        gap, absent = FULL | {key: None}, {k: v for k, v in FULL.items() if k != key}
        assert weigh(gap, [], ALL, NOTHING, 0.5) == weigh(absent, [], ALL, NOTHING, 0.5)
    assert weigh({}, [], ALL, NOTHING, 0.5).hpv_record == 0


@pytest.mark.parametrize("prevalence", [0.0, 1.0])
def test_a_certain_prior_needs_no_evidence(prevalence: float) -> None:
    evidence = weigh(FULL, [lesion()], ALL, NOTHING, prevalence)
    nothing = weigh(FULL, [], ALL, NOTHING, prevalence)
    assert evidence.risk_joint == nothing.risk_joint
    assert evidence.risk_images == 1 - prevalence


def test_the_evidence_is_calibrated_and_bayes_beats_its_parts() -> None:
    rng = np.random.default_rng(4)
    truth, evidence = rng.random(3000) < 0.5, []
    for hpv in truth.tolist():
        person = draw_person(rng, hpv)
        ehr, _ = draw_ehr(rng, person, CENTRES["MDA"])
        lesions = [draw_primary(rng, BODY, hpv), draw_node(rng, BODY, hpv, 1.0, first=True)]
        evidence.append(weigh(ehr, lesions, ALL, NOTHING, 0.5))
    joint, images, record = (
        np.array([getattr(e, f"hpv_{reader}") for e in evidence])
        for reader in ("joint", "images", "record")
    )
    accuracy = [((ratio > 0) == truth).mean() for ratio in (joint, images, record)]
    assert accuracy[0] > accuracy[1] > accuracy[2] > 0.6
    # Of those to whom Bayes gives 60 to 80 percent, so many are positive.
    posterior = 1 / (1 + np.exp(-joint))
    among = (posterior > 0.6) & (posterior < 0.8)
    assert truth[among].mean() == pytest.approx(posterior[among].mean(), abs=0.06)


def record(hpv: bool, relapse: int, days: float, **evidence: float) -> dict[str, object]:
    fields = dict.fromkeys(Evidence.__dataclass_fields__, 0.0) | evidence
    return {
        "facts": {"hpv": hpv, "evidence": fields}, "relapse": relapse, "rfs_days": days,
    }  # fmt: skip


def test_scores_by_hand() -> None:
    records = [
        record(True, 1, 100, risk_true=3, risk_joint=1, hpv_joint=2, hpv_record=-1),
        record(False, 1, 200, risk_true=2, risk_joint=2, hpv_joint=-2, hpv_record=-1),
        record(True, 0, 300, risk_true=1, risk_joint=0, hpv_joint=-1, hpv_record=-1),
    ]
    scores = oracle_scores(records)
    assert scores["c_index"] == {"true": 1, "joint": 2 / 3, "images": 0.5, "record": 0.5}
    assert scores["balanced_accuracy"]["joint"] == 0.75
    assert scores["balanced_accuracy"]["record"] == 0.5


def test_a_cohort_with_nothing_to_compare_has_no_score() -> None:
    scores = oracle_scores([record(True, 0, 100), record(True, 0, 200)])
    assert set(scores["c_index"].values()) == {None}
    assert set(scores["balanced_accuracy"].values()) == {None}
    assert set(oracle_scores([])["c_index"].values()) == {None}
