from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from shared.metrics.classification import balanced_accuracy
from shared.metrics.survival import concordance_index
from shared.metrics.uncertainty import (
    Interval,
    Statistic,
    bootstrap,
    mean_over_groups,
    paired_difference,
)

VALUES = np.random.default_rng(1).normal(0.7, 0.2, 200)


def mean_of(values: NDArray[np.float64]) -> Statistic:
    return lambda chosen: float(values[chosen].mean())


def test_the_value_is_that_of_all_patients() -> None:
    assert bootstrap(mean_of(VALUES), 200).value == VALUES.mean()


def test_an_interval_is_written_as_its_numbers_are() -> None:
    assert f"{Interval(0.25, -0.125, 0.5, 0.1):+.2f}" == "+0.25 [-0.12, +0.50]"
    assert f"{Interval(0.25, None, None, None):.3f}" == "0.250"


def test_the_interval_of_a_mean_is_the_known_one() -> None:
    found = bootstrap(mean_of(VALUES), 200, samples=4000)
    error = VALUES.std(ddof=1) / np.sqrt(200)
    assert found.standard_error == pytest.approx(error, rel=0.05)
    assert found.low == pytest.approx(VALUES.mean() - 1.96 * error, abs=0.003)
    assert found.high == pytest.approx(VALUES.mean() + 1.96 * error, abs=0.003)


def test_agrees_with_scipy() -> None:
    found = bootstrap(mean_of(VALUES), 200, samples=4000, confidence=0.9)
    theirs = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=4000, confidence_level=0.9, method="percentile", rng=0
    )
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.002)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.002)
    assert found.standard_error == pytest.approx(theirs.standard_error, rel=0.05)


def test_the_same_seed_gives_the_same_interval() -> None:
    statistic = mean_of(VALUES)
    assert bootstrap(statistic, 200, samples=50) == bootstrap(statistic, 200, samples=50)
    assert bootstrap(statistic, 200, samples=50, seed=1) != bootstrap(statistic, 200, samples=50)


def test_every_patient_may_be_drawn_and_a_resample_is_as_large() -> None:
    drawn: list[int] = []

    def watch(chosen: NDArray[np.intp]) -> float:
        assert len(chosen) == 7
        drawn.extend(chosen.tolist())
        return 0.0

    bootstrap(watch, 7, samples=100)
    assert set(drawn) == set(range(7))


def test_strata_keep_their_sizes() -> None:
    strata = np.array(["rare"] * 3 + ["common"] * 17)

    def watch(chosen: NDArray[np.intp]) -> float:
        assert np.count_nonzero(strata[chosen] == "rare") == 3
        return float(chosen.mean())

    assert bootstrap(watch, 20, strata=strata, samples=50).standard_error is not None
    with pytest.raises(ValueError, match=r"strata of shape \(20,\), found \(19,\)"):
        bootstrap(watch, 20, strata=strata[1:], samples=50)


def two_classes(positives: int, negatives: int) -> Statistic:
    truth = np.arange(positives + negatives) < positives
    return lambda chosen: balanced_accuracy(truth[chosen], truth[chosen])


def test_resamples_without_a_score_are_left_out() -> None:
    # 1 of 8 is negative: a resample has none of it with probability (7/8)^8 = 0.34.
    found = bootstrap(two_classes(7, 1), 8)
    assert (found.value, found.low, found.high, found.standard_error) == (1, 1, 1, 0)


def test_too_few_resamples_with_a_score_make_no_interval() -> None:
    # Of two patients, one of each class, a resample has both with probability 1/2; 0.49 of these.
    calls = 0

    def seldom(chosen: NDArray[np.intp]) -> float:
        nonlocal calls
        calls += 1
        if calls % 3:
            return 1.0 if calls < 3 else _no_score()
        return 1.0

    found = bootstrap(seldom, 2)
    assert (found.low, found.high, found.standard_error) == (None, None, None)


def _no_score() -> float:
    raise ValueError("no score")


def test_no_patient_and_no_score_are_errors() -> None:
    with pytest.raises(ValueError, match="at least one patient"):
        bootstrap(mean_of(VALUES), 0)
    with pytest.raises(ValueError, match="both classes"):
        bootstrap(two_classes(5, 0), 5)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    better = VALUES + np.random.default_rng(2).normal(0.02, 0.02, 200)
    found = paired_difference(mean_of(better), mean_of(VALUES), 200)
    assert found.value == pytest.approx((better - VALUES).mean())
    assert found.low is not None
    assert found.low > 0
    first, second = bootstrap(mean_of(better), 200), bootstrap(mean_of(VALUES), 200)
    assert first.low is not None
    assert second.high is not None
    assert first.low < second.high
    back = paired_difference(mean_of(VALUES), mean_of(better), 200)
    assert back.value == -found.value
    assert back.high == pytest.approx(-found.low)


def test_a_method_does_not_differ_from_itself() -> None:
    same = paired_difference(mean_of(VALUES), mean_of(VALUES), 200, samples=50)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_mean_over_groups_by_hand() -> None:
    decision = np.array([1, 0, 0, 1, 1, 1])
    truth = np.array([1, 0, 0, 1, 0, 1])
    folds = np.array(["a", "a", "a", "b", "b", "c"])  # 1 and 1/2; c has one class
    statistic = mean_over_groups(balanced_accuracy, (decision, truth), folds)
    assert statistic(np.arange(6)) == pytest.approx((3 * 1 + 2 * 0.5) / 5)
    assert statistic(np.array([3, 4, 4, 5])) == 0.5
    with pytest.raises(ValueError, match="expected a group of patients with a score"):
        statistic(np.array([5, 5]))


def test_a_mean_over_groups_does_not_compare_across_them() -> None:
    risk, days, event = np.array([2, 1, 200, 100]), np.array([1, 2, 1, 2]), np.ones(4, bool)
    within = mean_over_groups(concordance_index, (risk, days, event), [0, 0, 1, 1])
    assert within(np.arange(4)) == 1
    assert concordance_index(risk, days, event) < 1
