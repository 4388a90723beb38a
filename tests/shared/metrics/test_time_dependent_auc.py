from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sksurv.metrics import cumulative_dynamic_auc
from sksurv.util import Surv

from shared.metrics.survival import time_dependent_auc
from tests.shared.metrics.test_concordance import NAN, random_patients


def test_by_hand_without_censoring() -> None:
    times = [100, 200, 300, 400]
    # By 250 days: the first two against the last two; 3 of the 4 pairs are right.
    assert time_dependent_auc([4, 2, 3, 1], times, [True] * 4, 250) == 3 / 4
    assert time_dependent_auc([4, 3, 2, 1], times, [True] * 4, 250) == 1


def test_by_hand_with_a_censored_patient() -> None:
    times, events = [100, 200, 300, 400], [True, False, True, True]
    # By 350 days: patients 1 and 3 against 4. One of the three at risk was censored at 200, so
    # patient 3 stands for 1.5: (1 * 1 + 1.5 * 0) / 2.5.
    assert time_dependent_auc([3, 9, 1, 2], times, events, 350) == pytest.approx(1 / 2.5)


def test_equal_and_missing_risks_count_one_half() -> None:
    times, events = [100, 200], [True, True]
    assert time_dependent_auc([1, 1], times, events, 150) == 0.5
    assert time_dependent_auc([NAN, 1], times, events, 150) == 0.5
    assert time_dependent_auc([1, NAN], times, events, 150) == 0.5


@pytest.mark.parametrize("horizon", [50, 500])
def test_without_patients_on_both_sides_there_is_no_score(horizon: float) -> None:
    with pytest.raises(ValueError, match="patients with recurrence by"):
        time_dependent_auc([1, 2], [100, 200], [True, True], horizon)


def test_columns_are_checked() -> None:
    with pytest.raises(ValueError, match="finite times"):
        time_dependent_auc([1, 2], [NAN, 3], [True, True], 2)
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\) and \(2,\)"):
        time_dependent_auc([1, 2], [1, 2, 3], [True, True], 2)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("ties", [False, True])
def test_equals_scikit_survival(seed: int, ties: bool) -> None:
    risks, times, events = random_patients(seed, ties)
    # Its weights want that the last patient is an event.
    events[np.argmax(times)] = True
    events |= times == times.max()
    survival = Surv.from_arrays(events, times)
    for horizon in np.quantile(times, [0.3, 0.5, 0.8]) + 0.5:
        theirs, _ = cumulative_dynamic_auc(survival, survival, risks, [horizon])
        ours = time_dependent_auc(risks, times, events, horizon)
        assert ours == pytest.approx(float(theirs[0]), abs=1e-6)


@settings(derandomize=True)
@given(st.integers(0, 10_000), st.booleans())
def test_only_the_order_of_risks_matters(seed: int, ties: bool) -> None:
    risks, times, events = random_patients(seed, ties)
    horizon = float(np.median(times))
    score = time_dependent_auc(risks, times, events, horizon)
    assert 0 <= score <= 1
    assert time_dependent_auc(np.exp(risks), times, events, horizon) == score
    assert time_dependent_auc(-risks, times, events, horizon) == pytest.approx(1 - score)
    order = np.random.default_rng(seed).permutation(len(risks))
    shuffled = time_dependent_auc(risks[order], times[order], events[order], horizon)
    assert shuffled == pytest.approx(score)
