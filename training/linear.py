"""The simple models that the networks are held against: a ridge Cox model, a logistic regression.

Both take values as they are, NaN where one is missing: it is given the mean of the patients fitted
on, so that a gap, which goes by centre, says nothing. Values are standardised on the same patients,
and the strength of the ridge is fixed, so that nothing is chosen on patients who are scored.
"""

from __future__ import annotations

import warnings
from typing import Final, Self

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceWarning
from numpy.typing import ArrayLike, NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from shared.errors import InputError
from shared.metrics.probability import best_threshold

PENALTY: Final = 0.1
"""Of half the squared coefficients, a patient: with one event in five it shrinks a coefficient by
about a third."""

THRESHOLD_FOLDS: Final = 5


class RidgeCox:
    """Cox's proportional hazards with a ridge penalty, by lifelines (Efron's ties)."""

    def __init__(self, penalty: float = PENALTY) -> None:
        self.penalty = penalty

    def fit(self, values: ArrayLike, time_days: ArrayLike, events: ArrayLike) -> Self:
        """Fit on patients.

        Parameters
        ----------
        values : shape (n, k), NaN where missing. A column that is the same for all counts for
            nothing; where all are, every risk is 0.
        time_days, events : as for `shared.metrics.survival.concordance_index`.

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
        self._telling = np.flatnonzero(scaled.std(axis=0) > 1e-6)
        self._coefficients = np.zeros(len(self._telling))
        if len(self._telling):
            frame = pd.DataFrame(scaled[:, self._telling]).add_prefix("value")
            frame = frame.assign(time_days=np.asarray(time_days), event=np.asarray(events))
            with warnings.catch_warnings():
                # A value that only patients with, or without, recurrence have: the ridge bounds it.
                warnings.filterwarnings("ignore", "Column.*very low variance", ConvergenceWarning)
                fitted = CoxPHFitter(penalizer=self.penalty).fit(frame, "time_days", "event")
            self._coefficients = fitted.params_.to_numpy()
        return self

    def risk(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return log hazards, shape (n,), 0 for the mean patient; higher = earlier recurrence."""
        scaled = self._scale.transform(np.asarray(values, dtype=np.float64))
        risks: NDArray[np.float64] = scaled[:, self._telling] @ self._coefficients
        return risks


class ThresholdedLogistic:
    """Logistic regression with a ridge penalty, by scikit-learn, and its threshold.

    Both classes weigh the same in the fit, and the threshold is that of the best balanced accuracy
    on folds within the patients fitted on, so that neither leans on how many are positive.
    """

    def fit(self, values: ArrayLike, positive: ArrayLike, seed: int = 0) -> Self:
        """Fit on patients.

        Parameters
        ----------
        values : shape (n, k), NaN where missing.
        positive : shape (n,).
        seed : of the folds that set the threshold.

        Raises
        ------
        InputError
            If there are not at least two patients of each class.
        """
        truths = np.asarray(positive, dtype=bool)
        smaller = min(np.count_nonzero(truths), np.count_nonzero(~truths))
        if smaller < 2:
            raise InputError(
                "expected at least two patients of each class to fit a logistic regression to, "
                f"found {np.count_nonzero(truths)} positive of {len(truths)}; give other folds or "
                "a larger cohort"
            )
        logistic = make_pipeline(_standardised(), LogisticRegression(class_weight="balanced"))
        folds = StratifiedKFold(min(THRESHOLD_FOLDS, smaller), shuffle=True, random_state=seed)
        seen = np.asarray(values, dtype=np.float64)
        out_of_fold = cross_val_predict(logistic, seen, truths, cv=folds, method="predict_proba")
        self.threshold = best_threshold(out_of_fold[:, 1], truths)
        self._logistic = logistic.fit(seen, truths)
        return self

    def probability(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of being positive, shape (n,), where both classes are as many."""
        seen = np.asarray(values, dtype=np.float64)
        both: NDArray[np.float64] = self._logistic.predict_proba(seen)
        return both[:, 1]


def _standardised() -> Pipeline:
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
