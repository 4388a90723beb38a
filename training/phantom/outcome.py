"""The causal model: from HPV status to clinical record, hazard and relapse.

    HPV  ->  primary and nodes (site, size, uptake, core), age, gender, tobacco, alcohol (`biology`)
    age, tobacco  ->  performance status;  age  ->  treatment
    all  ->  hazard  ->  relapse or censoring

Log hazard relative to an average patient; MTV is the volume of GTVp and GTVn in ml, n the number
of nodes, PS the performance status:

    eta =  1.00 [HPV negative]  +  0.60 ln((MTV + 2) / 20)  +  0.12 (n - 1.5)  +  0.45 PS
         + 0.50 [tobacco]  +  0.15 [alcohol]  +  0.030 (age - 60)  -  0.65 ([chemo] - 0.84)
         + 1.00 [M1]  +  centre

Time to relapse is exponential with that hazard, T = RELAPSE_SCALE_DAYS * E / exp(eta) where E is
Exp(1). Follow-up C is Weibull with shape 1.5 and scale 2200 days, at most 5888 days. RFS is
min(T, C), at least 7 days; a relapse means T < C. The constants give about 20 % relapses and RFS
quartiles near 715 / 1295 / 2546 days (HECKTOR 2025). The hazard depends on the true values; the
record has gaps, whose frequency depends on the centre. `LogHazard` separates the terms that images
show from those that a record states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.special import ndtri

from training.phantom.biology import AGE_SD, BIOLOGY
from training.phantom.centres import Centre
from training.phantom.lesion import Lesion

Ehr: TypeAlias = dict[str, int | float | str | None]
"""The challenge's clinical record; `shared.clinical` explains the codes."""

RELAPSE_SCALE_DAYS = 23000.0
FOLLOW_UP_SHAPE, FOLLOW_UP_SCALE_DAYS, LONGEST_DAYS, SHORTEST_DAYS = 1.5, 2200.0, 5888.0, 7.0
HPV_NEGATIVE_LOG_HAZARD = 1.0
STATUS_STEPS = np.array([-0.043, 1.43, 1.98, 2.39])
"""Normal quantiles of the cumulative shares of performance status 0 to 3.

In HECKTOR 2025 the performance status of 468 patients is recorded; 0 to 4 have 226, 208, 23, 7 and
4 patients.
"""


@dataclass(frozen=True, kw_only=True)
class Person:
    """The true clinical data of a patient, including values that the record does not state."""

    hpv: bool
    age: int
    male: bool
    tobacco: bool
    alcohol: bool
    performance_status: int
    chemotherapy: bool
    m_stage: str


def draw_person(rng: np.random.Generator, hpv: bool) -> Person:
    """Draw a person, given the HPV status of the tumour."""
    biology = BIOLOGY[hpv]
    age = int(np.clip(round(rng.normal(biology.age, AGE_SD)), 32, 90))
    male, tobacco, alcohol, fit, chemo, stage = rng.random(6)
    is_smoker = bool(tobacco < biology.tobacco)
    frailty = float(ndtri(fit)) + 0.15 * is_smoker + 0.015 * (age - 60) - 0.07
    return Person(
        hpv=hpv,
        age=age,
        male=bool(male < biology.male),
        tobacco=is_smoker,
        alcohol=bool(alcohol < biology.alcohol),
        performance_status=int(np.searchsorted(STATUS_STEPS, frailty)),
        chemotherapy=bool(chemo < (0.88 if age < 70 else 0.62)),
        m_stage="M1" if stage < 0.012 else "Mx" if stage < 0.04 else "M0",
    )


@dataclass(frozen=True, kw_only=True)
class ClinicalTerm:
    """One term of eta that a record may state: coefficient * (value - reference).

    Attributes
    ----------
    key : field of the EHR.
    mean : expected value if the field is missing.
    """

    key: str
    coefficient: float
    reference: float
    mean: float

    def compute(self, value: float | str) -> float:
        """Return the term for a value; the M-stage is 1 for M1 and 0 otherwise."""
        number = float(value == "M1") if isinstance(value, str) else float(value)
        return self.coefficient * (number - self.reference)

    def expect(self, ehr: Ehr) -> float:
        """Return the expected term, given a record."""
        value = ehr.get(self.key)
        return self.compute(self.mean if value is None else value)


CLINICAL_LOG_HAZARD = (
    ClinicalTerm(key="Performance Status", coefficient=0.45, reference=0.0, mean=0.62),
    ClinicalTerm(key="Tobacco Consumption", coefficient=0.50, reference=0.0, mean=0.46),
    ClinicalTerm(key="Alcohol Consumption", coefficient=0.15, reference=0.0, mean=0.64),
    ClinicalTerm(key="Age", coefficient=0.030, reference=60.0, mean=60.0),
    ClinicalTerm(key="Treatment", coefficient=-0.65, reference=0.84, mean=0.84),
    ClinicalTerm(key="M-stage", coefficient=1.00, reference=0.0, mean=0.01),
)


@dataclass(frozen=True, kw_only=True)
class LogHazard:
    """The terms of eta, grouped by what reveals them; higher = earlier relapse.

    Attributes
    ----------
    hpv : HPV status, which neither images nor record state.
    images : metabolic tumour volume and number of nodes.
    clinical : sum of the terms in `CLINICAL_LOG_HAZARD`.
    centre : effect of the centre.
    """

    hpv: float
    images: float
    clinical: float
    centre: float

    @property
    def total(self) -> float:
        """Eta."""
        return self.hpv + self.images + self.clinical + self.centre


def log_hazard(person: Person, lesions: Sequence[Lesion], centre: Centre) -> LogHazard:
    """Return the terms of eta (see the module's docstring)."""
    mtv_ml = sum(lesion.volume_ml for lesion in lesions)
    nodes = sum(not lesion.primary for lesion in lesions)
    ehr = complete_ehr(person, centre)
    return LogHazard(
        hpv=HPV_NEGATIVE_LOG_HAZARD * (not person.hpv),
        images=float(0.60 * np.log((mtv_ml + 2) / 20) + 0.12 * (nodes - 1.5)),
        clinical=sum(term.expect(ehr) for term in CLINICAL_LOG_HAZARD),
        centre=centre.log_hazard,
    )


def draw_relapse(rng: np.random.Generator, eta: float) -> tuple[int, float]:
    """Draw the relapse (0 or 1) and the RFS in days, given the log hazard."""
    relapse_days = RELAPSE_SCALE_DAYS * rng.exponential() / np.exp(eta)
    follow_up = min(FOLLOW_UP_SCALE_DAYS * rng.weibull(FOLLOW_UP_SHAPE), LONGEST_DAYS)
    days = max(min(relapse_days, follow_up), SHORTEST_DAYS)
    return int(relapse_days < follow_up), float(round(days))


def complete_ehr(person: Person, centre: Centre) -> Ehr:
    """Return the record of a person without gaps, in the challenge's codes."""
    return {
        "CenterID": centre.code,
        "Age": person.age,
        "Gender": int(person.male),
        "Tobacco Consumption": int(person.tobacco),
        "Alcohol Consumption": int(person.alcohol),
        "Performance Status": person.performance_status,
        "Treatment": int(person.chemotherapy),
        "M-stage": person.m_stage,
    }


def draw_ehr(rng: np.random.Generator, person: Person, centre: Centre) -> tuple[Ehr, bool | None]:
    """Draw the gaps of the record; return the record and the HPV status, None if not recorded.

    For about half of the patients, the key of a missing value is absent; otherwise it is None.
    """
    ehr = complete_ehr(person, centre)
    omit_keys = bool(rng.random() < 0.5)
    gaps = {key: bool(rng.random() < share) for key, share in centre.missing_share.items()}
    hpv = None if gaps.pop("HPV") else person.hpv
    for key, is_missing in gaps.items():
        if is_missing:
            ehr[key] = None
            if omit_keys:
                del ehr[key]
    return ehr, hpv
