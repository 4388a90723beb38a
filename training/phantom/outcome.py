"""The causal model: from HPV status to the clinical record, the hazard and the relapse.

    HPV  ->  primary and nodes (size, necrosis, site; see `tumour`), age, gender, tobacco, alcohol
    all  ->  hazard  ->  relapse or censoring

Log hazard, relative to a middling patient; MTV is the volume of GTVp and GTVn in ml, n the number
of nodes, PS the performance status:

    eta =  1.25 [HPV negative]  +  0.70 ln((MTV + 2) / 20)  +  0.12 (n - 1.5)  +  0.55 PS
         + 0.60 [tobacco]  +  0.15 [alcohol]  +  0.040 (age - 60)  -  0.80 ([chemo] - 0.84)
         + 1.20 [M1]  +  centre

Time to relapse is Weibull with shape k = 0.75 and scale RELAPSE_SCALE_DAYS,

    T = scale * (E / exp(eta)) ** (1 / k),   E ~ Exp(1),

and follow-up C is log-normal (median 1650 days, sigma 0.83), at most 5888 days. RFS is min(T, C),
at least 7 days, relapse is T < C. The constants give about 20 % relapses and RFS quartiles near
715 / 1295 / 2546 days (HECKTOR 2025). The hazard sees true values; a record may lack them, by
centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from training.phantom.centres import Centre
from training.phantom.tumour import Lesion

RELAPSE_SHAPE = 0.75
RELAPSE_SCALE_DAYS = 66000.0
FOLLOW_UP_MEDIAN_DAYS, FOLLOW_UP_SIGMA, LONGEST_DAYS, SHORTEST_DAYS = 1650.0, 0.83, 5888.0, 7.0
# Cumulative shares of performance status 0..3 among 468 known (226, 208, 23, 7, 4).
STATUS_STEPS = np.array([-0.043, 1.43, 1.98, 2.39])  # normal quantiles


@dataclass(frozen=True)
class Person:
    """What is true of a patient, whether recorded or not."""

    hpv: bool
    age: int
    male: bool
    tobacco: bool
    alcohol: bool
    performance_status: int
    chemotherapy: bool
    m_stage: str


def draw_person(rng: np.random.Generator, hpv: bool) -> Person:
    """Draw a person given the HPV status of the tumour."""
    age = int(np.clip(round(rng.normal(59.2 if hpv else 66, 8.9)), 32, 90))
    male, tobacco, alcohol, fit, chemo, stage = rng.random(6)
    smokes = bool(tobacco < (0.42 if hpv else 0.80))
    frailty = float(ndtri(fit)) + 0.15 * smokes + 0.015 * (age - 60) - 0.07
    return Person(
        hpv=hpv,
        age=age,
        male=bool(male < (0.85 if hpv else 0.72)),
        tobacco=smokes,
        alcohol=bool(alcohol < (0.62 if hpv else 0.82)),
        performance_status=int(np.searchsorted(STATUS_STEPS, frailty)),
        chemotherapy=bool(chemo < (0.88 if age < 70 else 0.62)),
        m_stage="M1" if stage < 0.012 else "Mx" if stage < 0.04 else "M0",
    )


def log_hazard(person: Person, lesions: list[Lesion], centre: Centre) -> float:
    """Return eta of the module's formula (higher = earlier relapse)."""
    mtv_ml = sum(lesion.volume_ml for lesion in lesions)
    nodes = sum(not lesion.primary for lesion in lesions)
    return float(
        1.25 * (not person.hpv)
        + 0.70 * np.log((mtv_ml + 2) / 20)
        + 0.12 * (nodes - 1.5)
        + 0.55 * person.performance_status
        + 0.60 * person.tobacco
        + 0.15 * person.alcohol
        + 0.040 * (person.age - 60)
        - 0.80 * (person.chemotherapy - 0.84)
        + 1.20 * (person.m_stage == "M1")
        + centre.log_hazard
    )


def draw_relapse(rng: np.random.Generator, eta: float) -> tuple[int, float]:
    """Draw (relapse 0 or 1, RFS in days) for a log hazard."""
    relapse_days = RELAPSE_SCALE_DAYS * (rng.exponential() / np.exp(eta)) ** (1 / RELAPSE_SHAPE)
    follow_up = FOLLOW_UP_MEDIAN_DAYS * np.exp(FOLLOW_UP_SIGMA * rng.normal())
    follow_up = min(follow_up, LONGEST_DAYS)
    days = max(min(relapse_days, follow_up), SHORTEST_DAYS)
    return int(relapse_days < follow_up), float(round(days))


def draw_ehr(
    rng: np.random.Generator, person: Person, centre: Centre
) -> tuple[dict[str, int | float | str | None], bool | None]:
    """Write the record with its gaps; return it and the HPV status where it is known.

    A missing value is null (None) or, for about half of the patients, its key is absent.
    """
    ehr: dict[str, int | float | str | None] = {
        "CenterID": centre.code,
        "Age": person.age,
        "Gender": int(person.male),
        "Tobacco Consumption": int(person.tobacco),
        "Alcohol Consumption": int(person.alcohol),
        "Performance Status": person.performance_status,
        "Treatment": int(person.chemotherapy),
        "M-stage": person.m_stage,
    }
    drop = bool(rng.random() < 0.5)
    gaps = {field: bool(rng.random() < share) for field, share in centre.missing.items()}
    hpv = None if gaps.pop("HPV") else person.hpv
    for field, missing in gaps.items():
        if missing:
            ehr[field] = None
            if drop:
                del ehr[field]
    return ehr, hpv
