"""Records and outcomes against the statistics of HECKTOR 2025, without images."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from training.phantom.centres import CENTRES
from training.phantom.outcome import Person, draw_ehr, draw_person, draw_relapse, log_hazard
from training.phantom.synthetic.body import make_body
from training.phantom.tumour import draw_node, draw_primary

BODY = make_body(np.random.default_rng(0), arms_up=False)
LOW_RISK = Person(
    hpv=True, age=60, male=True, tobacco=False, alcohol=False, performance_status=0,
    chemotherapy=True, m_stage="M0",
)  # fmt: skip


@pytest.fixture(scope="module")
def cohort() -> list[tuple[Person, float, int, float]]:
    rng = np.random.default_rng(0)
    shares = np.array([centre.patients for centre in CENTRES.values()], dtype=float)
    people = []
    for name in rng.choice(list(CENTRES), size=2000, p=shares / shares.sum()):
        centre = CENTRES[str(name)]
        person = draw_person(rng, bool(rng.random() < centre.hpv_prevalence))
        lesions = [
            draw_primary(rng, BODY, person.hpv),
            draw_node(rng, BODY, hpv=person.hpv, side=1.0, first=True),
        ]
        eta = log_hazard(person, lesions, centre).total
        people.append((person, eta, *draw_relapse(rng, eta)))
    return people


def test_people_match_the_challenge(cohort: list[tuple[Person, float, int, float]]) -> None:
    people = [row[0] for row in cohort]
    assert np.mean([p.hpv for p in people]) == pytest.approx(0.893, abs=0.03)
    assert np.mean([p.age for p in people]) == pytest.approx(60.0, abs=1)
    assert np.mean([p.male for p in people]) == pytest.approx(0.835, abs=0.03)
    assert np.mean([p.tobacco for p in people]) == pytest.approx(0.46, abs=0.04)
    assert np.mean([p.alcohol for p in people]) == pytest.approx(0.64, abs=0.04)
    assert np.mean([p.chemotherapy for p in people]) == pytest.approx(0.836, abs=0.03)
    assert np.mean([p.performance_status == 0 for p in people]) == pytest.approx(0.483, abs=0.04)


def test_relapse_and_follow_up_match_the_challenge(
    cohort: list[tuple[Person, float, int, float]],
) -> None:
    days = np.array([row[3] for row in cohort])
    assert np.mean([row[2] for row in cohort]) == pytest.approx(0.204, abs=0.04)
    assert np.allclose(np.percentile(days, [25, 50, 75]), [715, 1295, 2546], rtol=0.15)


def test_patients_with_relapse_have_a_higher_hazard(
    cohort: list[tuple[Person, float, int, float]],
) -> None:
    hazard, relapse = (np.array([row[column] for row in cohort]) for column in (1, 2))
    assert hazard[relapse == 1].mean() > hazard[relapse == 0].mean() + 0.5


def test_log_hazard_by_hand() -> None:
    # MTV 18 ml and no node: ln(20 / 20) = 0, so eta = -0.12 * 1.5 - 0.65 * 0.16.
    primary = SimpleNamespace(volume_ml=18.0, primary=True)
    hazard = log_hazard(LOW_RISK, [primary], CENTRES["MDA"])
    assert hazard.total == pytest.approx(-0.18 - 0.104)
    high_risk = replace(
        LOW_RISK, hpv=False, tobacco=True, alcohol=True, performance_status=2, chemotherapy=False,
        age=70, m_stage="M1",
    )  # fmt: skip
    node = SimpleNamespace(volume_ml=20.0, primary=False)
    # MTV 38 ml and one node: 0.60 ln 2 - 0.06; then HPV 1, PS 0.9, 0.5, 0.15, 0.3, 0.546, M1 1.
    hazard = log_hazard(high_risk, [primary, node], CENTRES["CHUP"])
    assert hazard.images == pytest.approx(0.4159 - 0.06, abs=1e-4)
    assert hazard.clinical == pytest.approx(0.9 + 0.5 + 0.15 + 0.3 + 0.546 + 1)
    assert hazard.total == pytest.approx(0.3559 + 3.396 + 1 + 0.25, abs=1e-3)


def test_frequency_of_gaps_depends_on_the_centre() -> None:
    rng = np.random.default_rng(1)
    for name, share in (("MDA", 0.09), ("CHUP", 0.96)):
        records = [draw_ehr(rng, LOW_RISK, CENTRES[name])[0] for _ in range(400)]
        gaps = [record.get("Tobacco Consumption") is None for record in records]
        assert np.mean(gaps) == pytest.approx(share, abs=0.05)
        assert all(record["Age"] == 60 for record in records)
