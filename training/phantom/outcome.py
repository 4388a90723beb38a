"""The causal model: from HPV status to the clinical record, the hazard and the relapse.

    HPV  ->  primary and nodes (site, size, uptake, core), age, gender, tobacco, alcohol (`biology`)
    age, tobacco  ->  performance status;  age  ->  treatment
    all  ->  hazard  ->  relapse or censoring

Log hazard, relative to a middling patient; MTV is the volume of GTVp and GTVn in ml, n the number
of nodes, PS the performance status:

    eta =  1.00 [HPV negative]  +  0.60 ln((MTV + 2) / 20)  +  0.12 (n - 1.5)  +  0.45 PS
         + 0.50 [tobacco]  +  0.15 [alcohol]  +  0.030 (age - 60)  -  0.65 ([chemo] - 0.84)
         + 1.00 [M1]  +  centre

Time to relapse is exponential with that hazard, T = RELAPSE_SCALE_DAYS * E / exp(eta) where E is
Exp(1); follow-up C is Weibull with shape 1.5 and scale 2200 days, at most 5888 days. RFS is
min(T, C), at least 7 days, relapse is T < C. The constants give about 20 % relapses and RFS
quartiles near 715 / 1295 / 2546 days (HECKTOR 2025). The hazard sees true values; a record may lack
them, by centre. `LogHazard` says which terms images show and which a record
tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.special import ndtri

from training.phantom.biology import AGE_SD, BIOLOGY
from training.phantom.centres import Centre
from training.phantom.tumour import Lesion

Record: TypeAlias = dict[str, int | float | str | None]
"""An EHR as the challenge gives it; see `shared.clinical` for what the codes mean."""

RELAPSE_SCALE_DAYS = 23000.0
FOLLOW_UP_SHAPE, FOLLOW_UP_SCALE_DAYS, LONGEST_DAYS, SHORTEST_DAYS = 1.5, 2200.0, 5888.0, 7.0
HPV_NEGATIVE_LOG_HAZARD = 1.0
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
    biology = BIOLOGY[hpv]
    age = int(np.clip(round(rng.normal(biology.age, AGE_SD)), 32, 90))
    male, tobacco, alcohol, fit, chemo, stage = rng.random(6)
    smokes = bool(tobacco < biology.tobacco)
    frailty = float(ndtri(fit)) + 0.15 * smokes + 0.015 * (age - 60) - 0.07
    return Person(
        hpv=hpv,
        age=age,
        male=bool(male < biology.male),
        tobacco=smokes,
        alcohol=bool(alcohol < biology.alcohol),
        performance_status=int(np.searchsorted(STATUS_STEPS, frailty)),
        chemotherapy=bool(chemo < (0.88 if age < 70 else 0.62)),
        m_stage="M1" if stage < 0.012 else "Mx" if stage < 0.04 else "M0",
    )


@dataclass(frozen=True)
class ClinicalTerm:
    """One term of eta that a record may state: coefficient * (value - reference).

    Attributes
    ----------
    key : of the EHR.
    mean : expected value where the record has a gap.
    """

    key: str
    coefficient: float
    reference: float
    mean: float

    def of(self, value: float | str) -> float:
        """Return the term; an M-stage counts as 1 if it is M1."""
        number = float(value == "M1") if isinstance(value, str) else float(value)
        return self.coefficient * (number - self.reference)

    def expected(self, ehr: Record) -> float:
        """Return the term as far as a record tells it."""
        value = ehr.get(self.key)
        return self.of(self.mean if value is None else value)


CLINICAL_LOG_HAZARD = (
    ClinicalTerm("Performance Status", 0.45, 0.0, 0.62),
    ClinicalTerm("Tobacco Consumption", 0.50, 0.0, 0.46),
    ClinicalTerm("Alcohol Consumption", 0.15, 0.0, 0.64),
    ClinicalTerm("Age", 0.030, 60.0, 60.0),
    ClinicalTerm("Treatment", -0.65, 0.84, 0.84),
    ClinicalTerm("M-stage", 1.00, 0.0, 0.01),
)


@dataclass(frozen=True)
class LogHazard:
    """The terms of eta, by where they show; higher = earlier relapse.

    Attributes
    ----------
    hpv : of the status, which no image and no record of the challenge states.
    images : of metabolic tumour volume and number of nodes.
    clinical : of the terms in `CLINICAL_LOG_HAZARD`.
    centre : beyond what the patient explains.
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
    """Return the terms of the module's formula."""
    mtv_ml = sum(lesion.volume_ml for lesion in lesions)
    nodes = sum(not lesion.primary for lesion in lesions)
    truth = full_record(person, centre)
    return LogHazard(
        hpv=HPV_NEGATIVE_LOG_HAZARD * (not person.hpv),
        images=float(0.60 * np.log((mtv_ml + 2) / 20) + 0.12 * (nodes - 1.5)),
        clinical=sum(term.expected(truth) for term in CLINICAL_LOG_HAZARD),
        centre=centre.log_hazard,
    )


def draw_relapse(rng: np.random.Generator, eta: float) -> tuple[int, float]:
    """Draw (relapse 0 or 1, RFS in days) for a log hazard."""
    relapse_days = RELAPSE_SCALE_DAYS * rng.exponential() / np.exp(eta)
    follow_up = min(FOLLOW_UP_SCALE_DAYS * rng.weibull(FOLLOW_UP_SHAPE), LONGEST_DAYS)
    days = max(min(relapse_days, follow_up), SHORTEST_DAYS)
    return int(relapse_days < follow_up), float(round(days))


def full_record(person: Person, centre: Centre) -> Record:
    """Return the record of a person without a gap, in the challenge's codes."""
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


def draw_ehr(
    rng: np.random.Generator, person: Person, centre: Centre
) -> tuple[Record, bool | None]:
    """Write the record with its gaps; return it and the HPV status where it is known.

    A missing value is null (None) or, for about half of the patients, its key is absent.
    """
    ehr = full_record(person, centre)
    drop = bool(rng.random() < 0.5)
    gaps = {field: bool(rng.random() < share) for field, share in centre.missing.items()}
    hpv = None if gaps.pop("HPV") else person.hpv
    for field, missing in gaps.items():
        if missing:
            ehr[field] = None
            if drop:
                del ehr[field]
    return ehr, hpv
