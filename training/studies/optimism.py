"""How optimistic a score is if the scored patients chose the epoch: a simulation of Task 3.

A network is validated many times, and each time its true balanced accuracy is the same. The epoch
with the best score on a fold's held-out patients is kept, and its balanced accuracy on the same
patients is averaged over the folds: the apparent score. Assumptions:

- The output for a patient is m for HPV+ or -m for HPV-, plus noise with a standard deviation of 1.
  With m = Φ⁻¹(accuracy) the balanced accuracy at a threshold of 0 is the true one, and 2m times the
  output is the logit, as log-odds of balanced classes.
- A share of the noise's variance is of the patient: it stays the same in all validations of a fold.
  The rest is drawn again in each validation.
- The network neither improves nor worsens between the validations, so every epoch is equally good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from shared.metrics.uncertainty import Interval

Scores = NDArray[np.float64]
"""A score of each validation, shape (validations,)."""

FIXED: Final = "none: a fixed epoch"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is simulated; the defaults are Task 3 of the paper.

    Attributes
    ----------
    positive, negative : numbers of patients of each class, divided among the folds.
    accuracy : true balanced accuracy of every epoch.
    patient_share : share of the noise's variance that stays the same for a patient in all
        validations.
    """

    positive: int = 484
    negative: int = 58
    folds: int = 5
    validations: int = 100
    accuracy: float = 0.75
    patient_share: float = 0.7
    repeats: int = 300
    seed: int = 0


def balanced_accuracies(positive: Scores, negative: Scores) -> Scores:
    """Return the balanced accuracy of each validation at a threshold of 0.

    Parameters
    ----------
    positive, negative : logits of the patients of each class, shape (validations, patients).
    """
    sensitivity, specificity = (positive > 0).mean(axis=1), (negative <= 0).mean(axis=1)
    accuracies: Scores = (sensitivity + specificity) / 2
    return accuracies


def aucs(positive: Scores, negative: Scores) -> Scores:
    """Return the AUC of each validation, from the ranks (Mann and Whitney 1947)."""
    count = positive.shape[1]
    ranks = rankdata(np.concatenate([positive, negative], axis=1), axis=1)[:, :count]
    areas: Scores = (ranks.mean(axis=1) - (count + 1) / 2) / negative.shape[1]
    return areas


def negative_log_losses(positive: Scores, negative: Scores) -> Scores:
    """Return minus the balanced log-loss of each validation."""
    losses: Scores = np.logaddexp(0, -positive).mean(axis=1) + np.logaddexp(0, negative).mean(
        axis=1
    )
    return -losses / 2


SELECTED_BY: Final[Mapping[str, Callable[[Scores, Scores], Scores]]] = {
    "balanced accuracy": balanced_accuracies,
    "AUC": aucs,
    "balanced log-loss": negative_log_losses,
}
"""The choices of `selected_by` in the configuration of Task 3."""


def simulate(setting: Setting) -> dict[str, Interval]:
    """Return the apparent balanced accuracy for each way to choose the epoch.

    Returns
    -------
    For each score that chooses the epoch, the mean over the repeated studies and the interval that
    contains their central 95 %.
    """
    rng = np.random.default_rng(setting.seed)
    sizes = zip(
        _divide(setting.positive, setting.folds),
        _divide(setting.negative, setting.folds),
        strict=True,
    )
    apparent = {name: np.zeros(setting.repeats) for name in (*SELECTED_BY, FIXED)}
    for patients in sizes:
        for repeat in range(setting.repeats):
            logits = [
                _logits(rng, count, sign, setting)
                for count, sign in zip(patients, (1, -1), strict=True)
            ]
            accuracies = balanced_accuracies(*logits)
            for name, score in SELECTED_BY.items():
                apparent[name][repeat] += accuracies[score(*logits).argmax()] / setting.folds
            apparent[FIXED][repeat] += accuracies[-1] / setting.folds
    return {name: _interval(values) for name, values in apparent.items()}


def markdown(setting: Setting) -> str:
    """Return the simulation's result as a table in Markdown."""
    lines = [
        f"{setting.folds} folds of {setting.positive} HPV+ and {setting.negative} HPV-, "
        f"{setting.validations} validations of a network of true balanced accuracy "
        f"{setting.accuracy:g}; {setting.patient_share:.0%} of the noise is of the patient",
        "",
        "| epoch chosen on the scored patients by | apparent balanced accuracy [95 %] | optimism |",
        "|---|---|---|",
    ]
    for name, interval in simulate(setting).items():
        lines.append(f"| {name} | {interval:.3f} | {interval.value - setting.accuracy:+.3f} |")
    return "\n".join(lines)


def _logits(rng: np.random.Generator, count: int, sign: int, setting: Setting) -> Scores:
    margin = NormalDist().inv_cdf(setting.accuracy)
    of_patient = rng.normal(size=(1, count)) * np.sqrt(setting.patient_share)
    of_epoch = rng.normal(size=(setting.validations, count)) * np.sqrt(1 - setting.patient_share)
    return 2 * margin * (sign * margin + of_patient + of_epoch)


def _divide(patients: int, folds: int) -> list[int]:
    return [len(part) for part in np.array_split(np.arange(patients), folds)]


def _interval(values: Scores) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(
        value=float(values.mean()),
        low=float(low),
        high=float(high),
        standard_error=float(values.std(ddof=1)),
    )
