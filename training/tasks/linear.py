"""Linear models: a ridge Cox model and a logistic regression.

Both take unscaled values, with NaN for a missing value. A missing value becomes the mean of the
training patients. A gap therefore carries no information, although some centres have more gaps than
others. Values are standardised on the same patients. The strength of the ridge penalty is fixed, so
nothing is tuned on patients who are scored.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Final, Self, TypeAlias

import numpy as np
import pandas as pd
import torch
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceWarning
from numpy.typing import ArrayLike, NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from shared.errors import InputError
from shared.models.networks.linear import LinearModel

Linear: TypeAlias = Callable[[ArrayLike], NDArray[np.float64]]
"""Maps values, shape (n, k), to risks or logits, shape (n,)."""

PENALTY: Final = 0.1
"""Factor of half the squared coefficients, per patient. With one event in five patients, it shrinks
a coefficient by about a third."""


class RidgeCox:
    """Cox's proportional hazards with a ridge penalty, by lifelines (Efron's ties)."""

    def __init__(self, penalty: float = PENALTY) -> None:
        self.penalty = penalty

    def fit(self, values: ArrayLike, time_days: ArrayLike, events: ArrayLike) -> Self:
        """Fit on patients.

        Parameters
        ----------
        values : shape (n, k), NaN if missing. A constant column has no effect; if all columns are
            constant, every risk is 0.
        time_days, events : see `shared.metrics.survival.concordance_index`.

        Raises
        ------
        InputError
            If no recurrence was observed.
        """
        if not np.any(events):
            raise InputError(
                f"expected recurrences to fit a Cox model to, found none in {np.size(events)} "
                "patients; give other folds or a larger cohort"
            )
        self._scale = _standardised()
        scaled = self._scale.fit_transform(np.asarray(values, dtype=np.float64))
        self._varying = np.flatnonzero(scaled.std(axis=0) > 1e-6)
        self._coefficients = np.zeros(len(self._varying))
        if len(self._varying):
            frame = pd.DataFrame(scaled[:, self._varying]).add_prefix("value")
            frame = frame.assign(time_days=np.asarray(time_days), event=np.asarray(events))
            with warnings.catch_warnings():
                # lifelines warns if all patients with (or without) recurrence have almost the same
                # value; the ridge penalty keeps the coefficient finite.
                warnings.filterwarnings("ignore", "Column.*very low variance", ConvergenceWarning)
                model = CoxPHFitter(penalizer=self.penalty).fit(frame, "time_days", "event")
            self._coefficients = model.params_.to_numpy()
        return self

    def risk(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return log hazards, shape (n,); 0 for the mean patient, higher = earlier recurrence."""
        scaled = self._scale.transform(np.asarray(values, dtype=np.float64))
        risks: NDArray[np.float64] = scaled[:, self._varying] @ self._coefficients
        return risks


class BalancedLogistic:
    """Logistic regression with a ridge penalty, by scikit-learn.

    Both classes have the same weight in the fit. A probability of 0.5 therefore favours neither
    class, however many patients are positive.
    """

    def fit(self, values: ArrayLike, positive: ArrayLike) -> Self:
        """Fit on patients.

        Parameters
        ----------
        values : shape (n, k), NaN if missing.
        positive : shape (n,).

        Raises
        ------
        InputError
            If all patients are of one class.
        """
        truths = np.asarray(positive, dtype=bool)
        if truths.all() or not truths.any():
            raise InputError(
                "expected patients of both classes to fit a logistic regression to, found "
                f"{np.count_nonzero(truths)} positive of {len(truths)}; give other folds or a "
                "larger cohort"
            )
        self._scale, self._logistic = _standardised(), LogisticRegression(class_weight="balanced")
        self._logistic.fit(self._scale.fit_transform(np.asarray(values, dtype=np.float64)), truths)
        return self

    def logit(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return logits, shape (n,); a positive logit means the positive class."""
        scaled = self._scale.transform(np.asarray(values, dtype=np.float64))
        logits: NDArray[np.float64] = self._logistic.decision_function(scaled)
        return logits


def linear_model(function: Linear, clinical_features: int, measures: int) -> LinearModel:
    """Return a fitted model as a torch module, which can be exported.

    Parameters
    ----------
    function : `RidgeCox.risk` or `BalancedLogistic.logit`. It takes the clinical values followed by
        the measures, and is affine if no value is missing.
    """
    values = clinical_features + measures
    intercept = float(function(np.zeros((1, values)))[0])
    model = LinearModel(clinical_features, measures)
    with torch.no_grad():
        model.output.weight[0] = torch.from_numpy(function(np.eye(values)) - intercept)
        model.output.bias[0] = intercept
    return model.eval()


def _standardised() -> Pipeline:
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
