"""Time-dependent AUC: small cases by hand, censoring, errors, comparison with scikit-survival."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sksurv.metrics import cumulative_dynamic_auc
from sksurv.util import Surv

from shared.metrics.survival import time_dependent_auc
from tests.shared.metrics.test_concordance import NAN, random_patients


def test_by_hand_without_censoring() -> None:
    times = [100, 200, 300, 400]
    # At 250 days, the first two patients are compared with the last two: 3 of 4 pairs concordant.
    assert time_dependent_auc([4, 2, 3, 1], times, [True] * 4, horizon_days=250) == 3 / 4
    assert time_dependent_auc([4, 3, 2, 1], times, [True] * 4, horizon_days=250) == 1


def test_by_hand_with_a_censored_patient() -> None:
    times, events = [100, 200, 300, 400], [True, False, True, True]
    # At 350 days, patients 1 and 3 are compared with patient 4. At 200 days, one of the three
    # patients at risk was censored, so patient 3 has a weight of 1.5: (1 * 1 + 1.5 * 0) / 2.5.
    assert time_dependent_auc([3, 9, 1, 2], times, events, horizon_days=350) == pytest.approx(
        1 / 2.5
    )


@pytest.mark.parametrize("censored_first", [True, False])
def test_at_equal_times_recurrence_comes_before_censoring(censored_first: bool) -> None:
    # At 100 days, the recurrence comes first. Two patients are then at risk, and one of them is
    # censored. The recurrences at 50 and 100 days therefore have weights of 1 and 2.
    order = [0, 2, 1, 3] if censored_first else [0, 1, 2, 3]
    risks, times = np.array([3, 1, 9, 2])[order], np.array([50, 100, 100, 400])[order]
    events = np.array([True, True, False, True])[order]
    auc = time_dependent_auc(risks, times, events, horizon_days=350)
    assert auc == pytest.approx(1 / 3)


def test_weights_increase_with_each_censored_patient() -> None:
    times, events = [10, 100, 200, 300, 400], [False, True, False, True, True]
    # The probability of not being censored is 4/5 at 100 days and 4/5 * 2/3 at 300 days, so the
    # weights are 5/4 and 15/8. Only the first recurrence has a higher risk than the last patient.
    auc = time_dependent_auc([9, 3, 9, 1, 2], times, events, horizon_days=350)
    assert auc == pytest.approx((5 / 4) / (5 / 4 + 15 / 8))


def test_recurrence_at_the_horizon_counts_as_recurrence() -> None:
    assert time_dependent_auc([2, 1], [100, 200], [True, True], horizon_days=100) == 1
    with pytest.raises(ValueError, match="found 2 and 0"):
        time_dependent_auc([2, 1], [100, 200], [True, True], horizon_days=200)


def test_equal_and_missing_risks_count_one_half() -> None:
    times, events = [100, 200], [True, True]
    assert time_dependent_auc([1, 1], times, events, horizon_days=150) == 0.5
    assert time_dependent_auc([NAN, 1], times, events, horizon_days=150) == 0.5
    assert time_dependent_auc([1, NAN], times, events, horizon_days=150) == 0.5


@pytest.mark.parametrize("horizon", [50, 500])
def test_an_empty_group_is_an_error(horizon: float) -> None:
    with pytest.raises(ValueError, match="patients with recurrence by"):
        time_dependent_auc([1, 2], [100, 200], [True, True], horizon_days=horizon)


def test_invalid_columns_are_errors() -> None:
    with pytest.raises(ValueError, match="finite times"):
        time_dependent_auc([1, 2], [NAN, 3], [True, True], horizon_days=2)
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\) and \(2,\)"):
        time_dependent_auc([1, 2], [1, 2, 3], [True, True], horizon_days=2)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("ties", [False, True])
def test_equals_scikit_survival(seed: int, ties: bool) -> None:
    risks, times, events = random_patients(seed, ties)
    # scikit-survival requires an event at the latest time.
    events[np.argmax(times)] = True
    events |= times == times.max()
    survival = Surv.from_arrays(events, times)
    for horizon in np.quantile(times, [0.3, 0.5, 0.8]) + 0.5:
        expected, _ = cumulative_dynamic_auc(survival, survival, risks, [horizon])
        auc = time_dependent_auc(risks, times, events, horizon_days=horizon)
        assert auc == pytest.approx(float(expected[0]), abs=1e-6)


@given(st.integers(0, 10_000), st.booleans())
def test_only_the_order_of_risks_matters(seed: int, ties: bool) -> None:
    risks, times, events = random_patients(seed, ties)
    horizon = float(np.median(times))
    score = time_dependent_auc(risks, times, events, horizon_days=horizon)
    assert 0 <= score <= 1
    assert time_dependent_auc(np.exp(risks), times, events, horizon_days=horizon) == score
    assert time_dependent_auc(-risks, times, events, horizon_days=horizon) == pytest.approx(
        1 - score
    )
    order = np.random.default_rng(seed).permutation(len(risks))
    shuffled = time_dependent_auc(risks[order], times[order], events[order], horizon_days=horizon)
    assert shuffled == pytest.approx(score)
