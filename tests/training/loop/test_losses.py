"""Cox's partial likelihood: by hand, against lifelines, and for large numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv
from torch import Tensor

from training.loop.losses import cox_loss


def loss_of(risks: list[float], times: list[float], events: list[int]) -> float:
    return cox_loss(torch.tensor(risks), torch.tensor(times), torch.tensor(events)).item()


def by_definition(risks: np.ndarray, times: np.ndarray, events: np.ndarray) -> float:
    """Return the loss patient by patient, as the formula is written (Breslow's ties)."""
    terms = [
        risks[i]
        - math.log(sum(math.exp(r) for r, t in zip(risks, times, strict=True) if t >= time))
        for i, time in enumerate(times)
        if events[i]
    ]
    return -sum(terms) / len(terms)


def test_four_patients_by_hand() -> None:
    # Events at days 1 and 3. At risk: all four, then the last two.
    risks = [math.log(2), 0.0, math.log(3), 0.0]
    at_day_1 = math.log(2 / (2 + 1 + 3 + 1))
    at_day_3 = math.log(3 / (3 + 1))
    expected = -(at_day_1 + at_day_3) / 2
    assert loss_of(risks, [1, 2, 3, 4], [1, 0, 1, 0]) == pytest.approx(expected, abs=1e-6)


def test_order_of_the_patients_changes_nothing() -> None:
    rows = [(0.3, 5.0, 1), (-1.0, 2.0, 0), (2.0, 2.0, 1), (0.0, 9.0, 1), (0.7, 5.0, 1)]
    losses = [
        loss_of(*(list(column) for column in zip(*order, strict=True)))
        for order in itertools.permutations(rows)
    ]
    assert np.ptp(losses) < 1e-6


def test_tied_events_share_the_whole_tied_set_by_hand() -> None:
    # At risk for both events of day 2: both patients, the one censored that day, and later ones.
    risks = [0.0, math.log(2), math.log(4), 0.0]
    expected = -(math.log(1 / 8) + math.log(2 / 8)) / 2
    assert loss_of(risks, [2, 2, 2, 7], [1, 1, 0, 0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_the_formula_with_many_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    risks, times = rng.normal(0, 2, 12), rng.integers(1, 6, 12).astype(float)
    events = np.append(rng.integers(0, 2, 11), 1)
    found = cox_loss(torch.tensor(risks), torch.tensor(times), torch.tensor(events)).item()
    assert found == pytest.approx(by_definition(risks, times, events), rel=1e-5)


def test_a_cox_model_of_lifelines_has_this_likelihood_and_no_gradient() -> None:
    rng = np.random.default_rng(4)
    covariate = rng.normal(size=60)
    times = rng.exponential(np.exp(-0.8 * covariate)) + 1e-3 * np.arange(60)
    events = rng.integers(0, 2, 60)
    frame = pd.DataFrame({"x": covariate, "days": times, "event": events})
    fitted = CoxPHFitter().fit(frame, "days", "event")
    beta = torch.tensor(float(fitted.params_["x"]), requires_grad=True)
    loss = cox_loss(
        beta * torch.tensor(covariate).float(), torch.tensor(times), torch.tensor(events)
    )
    assert -loss.item() * events.sum() == pytest.approx(fitted.log_likelihood_, rel=1e-5)
    loss.backward()
    assert beta.grad is not None
    assert beta.grad.item() == pytest.approx(0, abs=1e-3)


def test_with_ties_a_cox_model_of_scikit_survival_has_no_gradient() -> None:
    rng = np.random.default_rng(6)
    covariates = rng.normal(size=(80, 2))
    times = np.ceil(4 * rng.exponential(np.exp(-0.8 * covariates[:, 0]))).clip(1, 9)
    events = rng.random(80) < 0.5
    fitted = CoxPHSurvivalAnalysis(ties="breslow").fit(covariates, Surv.from_arrays(events, times))
    assert len(np.unique(times[events])) < 10
    beta = torch.tensor(fitted.coef_, dtype=torch.float32, requires_grad=True)
    risks = torch.tensor(covariates, dtype=torch.float32) @ beta
    cox_loss(risks, torch.tensor(times), torch.tensor(events)).backward()
    assert beta.grad is not None
    np.testing.assert_allclose(beta.grad.numpy(), 0, atol=1e-4)


def test_gradient_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(5)
    times, events = rng.integers(1, 7, 9).astype(float), np.array([1, 0, 1, 1, 0, 1, 0, 0, 1])
    values = rng.normal(size=9)
    risks = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    cox_loss(risks, torch.tensor(times), torch.tensor(events)).backward()
    step = 1e-5
    expected = [
        (by_definition(values + d, times, events) - by_definition(values - d, times, events))
        / (2 * step)
        for d in step * np.eye(9)
    ]
    assert risks.grad is not None
    np.testing.assert_allclose(risks.grad.numpy(), expected, atol=1e-5)


def test_the_right_order_costs_less() -> None:
    right = loss_of([3.0, 2.0, 1.0, 0.0], [1, 2, 3, 4], [1, 1, 1, 1])
    wrong = loss_of([0.0, 1.0, 2.0, 3.0], [1, 2, 3, 4], [1, 1, 1, 1])
    assert right < wrong


@pytest.mark.parametrize("added", [-300.0, 1.0, 5000.0])
def test_a_constant_added_to_all_risks_changes_nothing(added: float) -> None:
    risks = torch.tensor([0.5, -1.25, 2.0, 0.25])
    times, events = torch.tensor([3.0, 1.0, 2.0, 8.0]), torch.tensor([1, 1, 0, 1])
    expected = cox_loss(risks, times, events)
    torch.testing.assert_close(cox_loss(risks + added, times, events), expected, atol=1e-3, rtol=0)


def with_gradient(
    values: list[float], times: list[float], events: list[int]
) -> tuple[Tensor, Tensor]:
    risks = torch.tensor(values, requires_grad=True)
    loss = cox_loss(risks, torch.tensor(times), torch.tensor(events))
    loss.backward()
    assert risks.grad is not None
    return loss, risks.grad


def test_a_batch_without_an_event_teaches_nothing() -> None:
    loss, gradient = with_gradient([1.0, -2.0, 3.0], [1, 2, 3], [0, 0, 0])
    assert loss.item() == 0
    assert not gradient.any()


def test_one_patient_alone_teaches_nothing() -> None:
    loss, gradient = with_gradient([7.0], [1], [1])
    assert loss.item() == 0
    assert not gradient.any()


def test_huge_risks_stay_finite() -> None:
    loss, gradient = with_gradient([1e4, -1e4, 0.0, 1e5], [1, 2, 3, 4], [1, 1, 1, 0])
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_full(kind: torch.dtype) -> None:
    risks = torch.tensor([60000.0, 59968.0, 60000.0, 59904.0]).to(kind)
    times, events = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1, 1, 1, 1])
    found = cox_loss(risks, times, events)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, cox_loss(risks.float(), times, events))


def test_events_may_be_booleans() -> None:
    risks, times = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])
    loss = cox_loss(risks, times, torch.tensor([True, False, True]))
    assert loss == cox_loss(risks, times, torch.tensor([1.0, 0.0, 1.0]))


def test_single_event_by_hand() -> None:
    assert loss_of([0.0, 0.0], [1, 2], [1, 0]) == pytest.approx(math.log(2), abs=1e-6)


def test_large_constant_costs_no_precision() -> None:
    risks = torch.tensor([0.5, -1.25, 2.0, 0.25])
    times, events = torch.tensor([3.0, 1.0, 2.0, 8.0]), torch.tensor([1, 1, 0, 1])
    # The sums are exact in float32.
    torch.testing.assert_close(
        cox_loss(risks + 2.0**20, times, events), cox_loss(risks, times, events)
    )
