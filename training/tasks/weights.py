"""Computes how much each kind of model counts if networks and linear models are served together.

The outputs of the kinds have no common scale: a network that has memorised its patients gives large
logits, a ridge model gives small ones, and a plain mean would follow the large ones. The weights
are therefore the coefficients of a model that is fitted to the out-of-fold outputs of the kinds: a
logistic regression for Task 3, in which both classes count alike (its coefficients are Platt's
slopes), and a Cox model for Task 2. Both have a ridge penalty. No weight is negative (Breiman): a
kind that would get a negative weight is left out.

References
----------
Platt 1999, Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers.
Breiman 1996, Stacked regressions, Machine Learning 24:49-64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from shared.models.card import MemberKind
from training.tasks.linear import BalancedLogistic, Linear, RidgeCox

MIN_EVENTS: Final = 10
"""Weights need at least this number of patients with the outcome, and the same number without it;
with fewer, all kinds count alike. The number is five for each of two weights (Vittinghoff and
McCulloch 2007, American Journal of Epidemiology 165:710, find 5 to 9 events per variable
acceptable)."""

PARTS: Final = 5
"""Number of parts into which the patients of a single fold are divided. The outputs of each part
are combined with weights that are fitted to the other parts."""

Fit: TypeAlias = Callable[[pd.DataFrame, pd.DataFrame], Linear]
"""Fits a model, given outputs (one column per kind) and outcomes; both have a row per patient."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How outputs of several kinds become one number.

    Attributes
    ----------
    weights : factor of each kind's output; empty if all count alike.
    offset : is added to the weighted sum.
    """

    weights: Mapping[MemberKind, float] = field(default_factory=dict)
    offset: float = 0.0

    def combine(self, outputs: pd.DataFrame) -> pd.Series:
        """Return one number per row of outputs, which have one column per kind."""
        if not self.weights:
            return outputs.mean(axis=1)
        return sum(w * outputs[kind] for kind, w in self.weights.items()) + self.offset

    def fields(self) -> dict[str, Any]:
        """Return the fields of the card."""
        return {"weights": dict(self.weights), "offset": self.offset}


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """How a task weighs its kinds.

    Attributes
    ----------
    outcome : the column that says whether a patient has the outcome.
    fit : fits the model whose coefficients are the weights.
    """

    outcome: str
    fit: Fit

    def weights(self, outputs: pd.DataFrame, outcomes: pd.DataFrame) -> Weights:
        """Return the weights that fit out-of-fold outputs best.

        Parameters
        ----------
        outputs : one column per kind, one row per patient.
        outcomes : the same rows.
        """
        has_outcome = outcomes[self.outcome].astype(bool)
        if min(has_outcome.sum(), (~has_outcome).sum()) < MIN_EVENTS:
            return Weights()
        kinds = list(outputs.columns)
        while kinds:
            model = self.fit(outputs[kinds], outcomes)
            offset = float(model(np.zeros((1, len(kinds))))[0])
            slopes = model(np.eye(len(kinds))) - offset
            if slopes.min() >= 0:
                chosen = dict(zip(kinds, map(float, slopes), strict=True))
                if not any(chosen.values()):
                    break
                return Weights(
                    weights={kind: chosen.get(kind, 0.0) for kind in outputs.columns},
                    offset=offset,
                )
            kinds.pop(int(slopes.argmin()))
        return Weights()

    def combine_unseen(
        self, outputs: pd.DataFrame, outcomes: pd.DataFrame, groups: pd.Series
    ) -> pd.Series:
        """Return one number per row, with weights fitted to the other groups of patients.

        The score of these numbers is therefore not too good. Rows without an outcome get weights
        that are fitted to all rows with one. If the weights of a group cannot be fitted, all kinds
        count alike in all rows.

        Parameters
        ----------
        groups : the fold of each row. Patients of a single fold are divided into parts.
        """
        if outputs.shape[1] == 1:
            return outputs.iloc[:, 0]
        known = outcomes.notna().all(axis=1)
        if groups[known].nunique() < 2:
            groups = pd.Series(np.arange(len(groups)) % PARTS, groups.index)
        names = groups[known].unique()
        others = {name: known & (groups != name) for name in names}
        by_group = {
            name: self.weights(outputs[rows], outcomes[rows]) for name, rows in others.items()
        }
        if not all(fitted.weights for fitted in by_group.values()):
            return Weights().combine(outputs)  # the same scale in all rows
        combined = self.weights(outputs[known], outcomes[known]).combine(outputs)
        for name, fitted in by_group.items():
            own = known & (groups == name)
            combined[own] = fitted.combine(outputs[own])
        return combined


def _logistic(outputs: pd.DataFrame, outcomes: pd.DataFrame) -> Linear:
    return BalancedLogistic().fit(outputs.to_numpy(), outcomes["HPV Status"].astype(bool)).logit


def _cox(outputs: pd.DataFrame, outcomes: pd.DataFrame) -> Linear:
    relapse = outcomes["Relapse"].astype(bool)
    return RidgeCox().fit(outputs.to_numpy(), outcomes["RFS"].astype(float), relapse).risk


HPV_WEIGHING: Final = Weighing(outcome="HPV Status", fit=_logistic)
RISK_WEIGHING: Final = Weighing(outcome="Relapse", fit=_cox)
