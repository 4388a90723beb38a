"""Linear models: against scikit-survival and scikit-learn, missing values, and bad cohorts."""

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


def test_cox_without_a_penalty_equals_scikit_survival() -> None:
    theirs = CoxPHSurvivalAnalysis(ties="efron").fit(VALUES, Surv.from_arrays(EVENTS, DAYS))
    expected = theirs.predict(VALUES)
    np.testing.assert_allclose(risks_of(VALUES, 0.0), expected - expected.mean(), atol=1e-3)


def test_cox_penalty_equals_the_ridge_of_scikit_survival() -> None:
    scaled = (VALUES - VALUES.mean(axis=0)) / VALUES.std(axis=0)
    # lifelines divides by the sample's standard deviation (n - 1) and adds alpha per patient.
    theirs = CoxPHSurvivalAnalysis(alpha=0.1 * len(VALUES), ties="efron")
    expected = theirs.fit(scaled, Surv.from_arrays(EVENTS, DAYS)).predict(scaled)
    np.testing.assert_allclose(risks_of(VALUES), expected - expected.mean(), atol=0.01)


def test_missing_value_is_that_of_the_mean_patient() -> None:
    model = RidgeCox().fit(VALUES, DAYS, EVENTS)
    nobody = np.full((1, 3), np.nan)
    assert model.risk(nobody) == pytest.approx(0)
    holes = np.where(RNG.random(VALUES.shape) < 0.3, np.nan, VALUES)
    filled = np.where(np.isnan(holes), np.nanmean(holes, axis=0), holes)
    np.testing.assert_allclose(risks_of(holes), risks_of(filled), atol=1e-9)


def test_risk_does_not_depend_on_units() -> None:
    np.testing.assert_allclose(risks_of(VALUES), risks_of(VALUES * 1000 + 7), atol=1e-6)


def test_constant_columns_have_no_effect() -> None:
    same = np.full((120, 1), 4.0)
    unknown = np.full((120, 1), np.nan)
    np.testing.assert_allclose(risks_of(np.hstack([same, VALUES, unknown])), risks_of(VALUES))
    assert not risks_of(np.hstack([same, unknown])).any()


def test_cox_model_without_a_recurrence_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected recurrences .* found none in 120 patients"):
        RidgeCox().fit(VALUES, DAYS, np.zeros(120, bool))


def test_logistic_regression_weighs_both_classes_the_same() -> None:
    assert POSITIVE.mean() > 0.75
    logit = BalancedLogistic().fit(VALUES, POSITIVE).logit(VALUES)
    # Calling everybody positive would give a sensitivity of 1 and a balanced accuracy of 0.5.
    assert balanced_accuracy_score(POSITIVE, logit >= 0) > 0.75
    often = np.concatenate([np.arange(120), np.repeat(np.flatnonzero(POSITIVE), 9)])
    repeated = BalancedLogistic().fit(VALUES[often], POSITIVE[often])
    # More patients weaken the ridge, which changes the slope but not where the logit is 0.
    assert np.mean((repeated.logit(VALUES) >= 0) != (logit >= 0)) < 0.03


def test_logistic_regression_of_one_class_is_refused() -> None:
    with pytest.raises(InputError, match="found 120 positive of 120"):
        BalancedLogistic().fit(VALUES, np.ones(120))


@pytest.mark.parametrize(
    "function",
    [RidgeCox().fit(VALUES, DAYS, EVENTS).risk, BalancedLogistic().fit(VALUES, POSITIVE).logit],
)
def test_torch_module_equals_the_fitted_model(function: Linear) -> None:
    model = linear_model(function, 2, 1)
    tensor = torch.from_numpy(VALUES).float()
    with torch.no_grad():
        found = model(tensor[:, :2], tensor[:, 2:])
    assert found.shape == (120, 1)
    np.testing.assert_allclose(found[:, 0].numpy(), function(VALUES), atol=1e-4)
