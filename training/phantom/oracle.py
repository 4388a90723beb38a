"""The best possible scores on a phantom cohort.

A reader who knows the causal model (`biology`, `outcome`) infers the HPV status from images and
record by Bayes' rule, and then the hazard. `weigh_evidence` does this for one patient;
`oracle_scores` scores such readers on a cohort. A model can do better only by chance.

Evidence for the status is the natural logarithm of a likelihood ratio, positive for HPV-positive:

    images    site, ln volume, ln uptake and core of the primary; ln volume of the largest node;
              cores of the nodes
    record    age, gender, tobacco, alcohol, if recorded

The posterior odds are the prior odds, from the prevalence, times this ratio. Densities ignore that
ages and volumes are clipped to a range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from shared.metrics.classification import balanced_accuracy
from shared.metrics.survival import concordance_index
from training.phantom.biology import (
    AGE_SD,
    BIOLOGY,
    CORES,
    MIN_CORED_NODE_ML,
    MIN_CORED_PRIMARY_ML,
    NODE_ML_SIGMA,
    PRIMARY_ML_SIGMA,
    SUV_SIGMA,
)
from training.phantom.lesion import Lesion
from training.phantom.outcome import (
    CLINICAL_LOG_HAZARD,
    HPV_NEGATIVE_LOG_HAZARD,
    Ehr,
    LogHazard,
)

READERS: Final = ("joint", "images", "record")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the images and the record reveal about a patient.

    Attributes
    ----------
    hpv_joint, hpv_images, hpv_record : log likelihood ratio of HPV-positive to HPV-negative.
    risk_true : the log hazard; higher = earlier relapse.
    risk_joint, risk_images, risk_record : expected log hazard, given images and record, images
        alone, or record and centre alone, up to a constant.
    """

    hpv_joint: float
    hpv_images: float
    hpv_record: float
    risk_true: float
    risk_joint: float
    risk_images: float
    risk_record: float


def weigh_evidence(
    ehr: Ehr,
    lesions: Sequence[Lesion],
    *,
    sites: Sequence[str],
    hazard: LogHazard,
    prevalence: float,
) -> Evidence:
    """Return the evidence on a patient, assuming that images show the lesions exactly.

    Parameters
    ----------
    ehr : the published record, with its gaps.
    sites : sites where this body has room for a primary (`tumour.sites_with_room`).
    hazard : the true terms of the log hazard.
    prevalence : share of HPV-positive patients in the population that this patient comes from.
    """
    images, record = _images_log_ratio(lesions, sites), _record_log_ratio(ehr)
    recorded = sum(term.expect(ehr) for term in CLINICAL_LOG_HAZARD) + hazard.centre

    def hpv_term(log_ratio: float) -> float:
        return HPV_NEGATIVE_LOG_HAZARD * (1 - _posterior(log_ratio, prevalence))

    return Evidence(
        hpv_joint=images + record,
        hpv_images=images,
        hpv_record=record,
        risk_true=hazard.total,
        risk_joint=hazard.images + recorded + hpv_term(images + record),
        risk_images=hazard.images + hpv_term(images),
        risk_record=recorded + hpv_term(record),
    )


def oracle_scores(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return the scores of the oracle on a cohort.

    Parameters
    ----------
    records : the records that `cohort.read_records` returns.

    Returns
    -------
    `c_index` : of the true hazard and of each reader's expected hazard; None if the cohort has no
        relapse or fewer than two patients.
    `balanced_accuracy` : of each reader, who decides for the more likely status at equal prior
        odds. It includes patients whose status is not recorded, and is None if all patients have
        the same status.
    """
    facts = [record["facts"] for record in records]
    days = [record["rfs_days"] for record in records]
    relapse = [record["relapse"] for record in records]
    hpv = [fact["hpv"] for fact in facts]

    def evidence(name: str) -> list[float]:
        return [fact["evidence"][name] for fact in facts]

    c_index: dict[str, float | None] = dict.fromkeys(("true", *READERS))
    accuracy: dict[str, float | None] = dict.fromkeys(READERS)
    if any(relapse) and len(records) > 1:
        c_index = {r: concordance_index(evidence(f"risk_{r}"), days, relapse) for r in c_index}
    if len(set(hpv)) == 2:
        accuracy = {r: balanced_accuracy(np.array(evidence(f"hpv_{r}")) > 0, hpv) for r in accuracy}
    return {"c_index": c_index, "balanced_accuracy": accuracy}


def _posterior(log_ratio: float, prevalence: float) -> float:
    """Return the probability of being HPV-positive, given the evidence."""
    if prevalence in (0, 1):
        return float(prevalence)
    return 1 / (1 + math.exp(-log_ratio) * (1 - prevalence) / prevalence)


def _normal_log_ratio(value: float, *, positive: float, negative: float, sd: float) -> float:
    """Return the log ratio of two normal densities with the same standard deviation."""
    return ((value - negative) ** 2 - (value - positive) ** 2) / (2 * sd**2)


def _log_normal_log_ratio(value: float, median: str, sigma: float) -> float:
    """Return the log ratio of two log-normal densities with medians from a field of `Biology`."""
    positive, negative = (math.log(getattr(BIOLOGY[hpv], median)) for hpv in (True, False))
    return _normal_log_ratio(math.log(value), positive=positive, negative=negative, sd=sigma)


def _images_log_ratio(lesions: Sequence[Lesion], sites: Sequence[str]) -> float:
    positive, negative = BIOLOGY[True], BIOLOGY[False]
    total = 0.0
    for lesion in (lesion for lesion in lesions if lesion.primary):
        shares = [
            biology.sites[lesion.place] / sum(biology.sites[site] for site in sites)
            for biology in (positive, negative)
        ]
        total += math.log(shares[0] / shares[1])
        for value, column, sd in (
            (lesion.volume_ml, "primary_ml", PRIMARY_ML_SIGMA),
            (lesion.suv, "primary_suv", SUV_SIGMA),
        ):
            total += _log_normal_log_ratio(value, column, sd)
        if lesion.volume_ml > MIN_CORED_PRIMARY_ML:
            total += _core_log_ratio(lesion, positive.primary_cores, negative.primary_cores)
    nodes = [lesion for lesion in lesions if not lesion.primary]
    if nodes:
        total += _log_normal_log_ratio(nodes[0].volume_ml, "first_node_ml", NODE_ML_SIGMA)
    for node in nodes:
        if node.volume_ml > MIN_CORED_NODE_ML:
            total += _core_log_ratio(node, positive.node_cores, negative.node_cores)
    return total


def _core_log_ratio(
    lesion: Lesion, positive: tuple[float, ...], negative: tuple[float, ...]
) -> float:
    core = CORES.index(lesion.core)
    return math.log(positive[core] / negative[core])


def _record_log_ratio(ehr: Ehr) -> float:
    positive, negative = BIOLOGY[True], BIOLOGY[False]
    total = 0.0
    age = ehr.get("Age")
    if age is not None:
        total += _normal_log_ratio(
            float(age), positive=positive.age, negative=negative.age, sd=AGE_SD
        )
    for key, column in (
        ("Gender", "male"),
        ("Tobacco Consumption", "tobacco"),
        ("Alcohol Consumption", "alcohol"),
    ):
        value = ehr.get(key)
        if value is not None:
            shares = [getattr(biology, column) for biology in (positive, negative)]
            likelihoods = shares if value else [1 - share for share in shares]
            total += math.log(likelihoods[0] / likelihoods[1])
    return total
