"""The simple models: against scikit-survival and scikit-learn, gaps, and what cannot be fitted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from shared.errors import InputError
from training.tasks.linear import BalancedLogistic, Linear, RidgeCox, linear_model

RNG = np.random.default_rng(3)
VALUES = RNG.normal(size=(120, 3)) * (1, 10, 0.1) + (0, 60, 5)
HAZARD = np.exp(0.8 * VALUES[:, 0] - 0.05 * VALUES[:, 1])
DAYS = np.ceil(1000 * RNG.exponential(1 / HAZARD)).clip(1, 5000)
EVENTS = RNG.random(120) < 0.5
POSITIVE = RNG.random(120) < 1 / (1 + np.exp(-2 - 2 * VALUES[:, 0]))


def risks_of(values: NDArray[np.float64], penalty: float = 0.1) -> NDArray[np.float64]:
    return RidgeCox(penalty).fit(values, DAYS, EVENTS).risk(values)


def test_without_a_penalty_it_is_scikit_survivals_cox() -> None:
    theirs = CoxPHSurvivalAnalysis(ties="efron").fit(VALUES, Surv.from_arrays(EVENTS, DAYS))
    expected = theirs.predict(VALUES)
    np.testing.assert_allclose(risks_of(VALUES, 0.0), expected - expected.mean(), atol=1e-3)


def test_the_penalty_is_that_of_scikit_survivals_ridge() -> None:
    scaled = (VALUES - VALUES.mean(axis=0)) / VALUES.std(axis=0)
    # lifelines divides by the standard deviation of a sample, n - 1, and adds alpha a patient.
    theirs = CoxPHSurvivalAnalysis(alpha=0.1 * len(VALUES), ties="efron")
    expected = theirs.fit(scaled, Surv.from_arrays(EVENTS, DAYS)).predict(scaled)
    np.testing.assert_allclose(risks_of(VALUES), expected - expected.mean(), atol=0.01)


def test_a_gap_is_the_mean_patient() -> None:
    model = RidgeCox().fit(VALUES, DAYS, EVENTS)
    nobody = np.full((1, 3), np.nan)
    assert model.risk(nobody) == pytest.approx(0)
    holes = np.where(RNG.random(VALUES.shape) < 0.3, np.nan, VALUES)
    filled = np.where(np.isnan(holes), np.nanmean(holes, axis=0), holes)
    np.testing.assert_allclose(risks_of(holes), risks_of(filled), atol=1e-9)


def test_units_change_nothing() -> None:
    np.testing.assert_allclose(risks_of(VALUES), risks_of(VALUES * 1000 + 7), atol=1e-6)


def test_columns_that_are_the_same_for_all_count_for_nothing() -> None:
    same = np.full((120, 1), 4.0)
    unknown = np.full((120, 1), np.nan)
    np.testing.assert_allclose(risks_of(np.hstack([same, VALUES, unknown])), risks_of(VALUES))
    assert not risks_of(np.hstack([same, unknown])).any()


def test_without_a_recurrence_there_is_no_cox_model() -> None:
    with pytest.raises(InputError, match=r"expected recurrences .* found none in 120 patients"):
        RidgeCox().fit(VALUES, DAYS, np.zeros(120, bool))


def test_the_logistic_regression_leans_on_neither_class() -> None:
    assert POSITIVE.mean() > 0.75
    logit = BalancedLogistic().fit(VALUES, POSITIVE).logit(VALUES)
    # Sensitivity alone would be had by calling everybody positive.
    assert balanced_accuracy_score(POSITIVE, logit >= 0) > 0.75
    often = np.concatenate([np.arange(120), np.repeat(np.flatnonzero(POSITIVE), 9)])
    repeated = BalancedLogistic().fit(VALUES[often], POSITIVE[often])
    # The ridge weighs less beside more patients, which changes the slope; not where 0 lies.
    assert np.mean((repeated.logit(VALUES) >= 0) != (logit >= 0)) < 0.03


def test_one_class_is_refused() -> None:
    with pytest.raises(InputError, match="found 120 positive of 120"):
        BalancedLogistic().fit(VALUES, np.ones(120))


@pytest.mark.parametrize(
    "function",
    [RidgeCox().fit(VALUES, DAYS, EVENTS).risk, BalancedLogistic().fit(VALUES, POSITIVE).logit],
)
def test_the_graph_says_what_the_fitted_model_says(function: Linear) -> None:
    model = linear_model(function, 2, 1)
    tensor = torch.from_numpy(VALUES).float()
    with torch.no_grad():
        found = model(tensor[:, :2], tensor[:, 2:])
    assert found.shape == (120, 1)
    np.testing.assert_allclose(found[:, 0].numpy(), function(VALUES), atol=1e-4)
