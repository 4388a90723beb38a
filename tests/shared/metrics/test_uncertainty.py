"""Bootstrap intervals: known cases, resamples without a score, and comparison with SciPy."""

from __future__ import annotations

from collections import Counter

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


def interval(value: float, low: float | None, high: float | None) -> Interval:
    return Interval(value=value, low=low, high=high, standard_error=None)


def mean_of(values: NDArray[np.float64]) -> Statistic:
    return lambda chosen: float(values[chosen].mean())


def test_value_is_the_score_of_the_cohort() -> None:
    assert bootstrap(mean_of(VALUES), 200).value == VALUES.mean()


def test_format_applies_to_each_number() -> None:
    assert f"{interval(0.25, -0.125, 0.5):+.2f}" == "+0.25 [-0.12, +0.50]"
    assert f"{interval(0.25, None, None):.3f}" == "0.250"
    assert f"{interval(0.25, None, 0.5):.3f}" == "0.250"
    assert f"{interval(0.25, 0.125, None):.3f}" == "0.250"


def test_interval_of_a_mean_equals_the_normal_approximation() -> None:
    result = bootstrap(mean_of(VALUES), 200, samples=4000)
    error = VALUES.std(ddof=1) / np.sqrt(200)
    assert result.standard_error == pytest.approx(error, rel=0.05)
    assert result.low == pytest.approx(VALUES.mean() - 1.96 * error, abs=0.003)
    assert result.high == pytest.approx(VALUES.mean() + 1.96 * error, abs=0.003)


def test_equals_scipy() -> None:
    result = bootstrap(mean_of(VALUES), 200, samples=4000, confidence=0.9)
    expected = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=4000, confidence_level=0.9, method="percentile", rng=0
    )
    assert result.low == pytest.approx(expected.confidence_interval.low, abs=0.002)
    assert result.high == pytest.approx(expected.confidence_interval.high, abs=0.002)
    assert result.standard_error == pytest.approx(expected.standard_error, rel=0.05)


def test_same_seed_gives_the_same_interval() -> None:
    statistic = mean_of(VALUES)
    assert bootstrap(statistic, 200, samples=50) == bootstrap(statistic, 200, samples=50)
    assert bootstrap(statistic, 200, samples=50, seed=1) != bootstrap(statistic, 200, samples=50)


def test_resamples_draw_every_patient_and_have_the_size_of_the_cohort() -> None:
    indices: list[int] = []

    def watch(chosen: NDArray[np.intp]) -> float:
        assert len(chosen) == 7
        indices.extend(chosen.tolist())
        return 0.0

    bootstrap(watch, 7, samples=100)
    assert set(indices) == set(range(7))


def test_strata_keep_their_sizes() -> None:
    strata = np.array(["rare"] * 3 + ["common"] * 12 + ["other"] * 5)

    def watch(chosen: NDArray[np.intp]) -> float:
        assert Counter(strata[chosen]) == {"rare": 3, "common": 12, "other": 5}
        return float(chosen.mean())

    assert bootstrap(watch, 20, strata=strata, samples=50).standard_error is not None
    with pytest.raises(ValueError, match=r"strata of shape \(20,\), found \(19,\)"):
        bootstrap(watch, 20, strata=strata[1:], samples=50)


def two_classes(positives: int, negatives: int) -> Statistic:
    truth = np.arange(positives + negatives) < positives
    return lambda chosen: balanced_accuracy(truth[chosen], truth[chosen])


def test_resamples_without_a_score_are_omitted() -> None:
    # One of 8 patients is negative; (7/8)^8 = 34 % of the resamples do not contain this patient.
    result = bootstrap(two_classes(7, 1), 8)
    assert (result.value, result.low, result.high, result.standard_error) == (1, 1, 1, 0)


def scored(times: int, of: int) -> Statistic:
    """Return a statistic that has a score in the cohort and the first `times` of `of` resamples."""
    calls = -1

    def statistic(_: NDArray[np.intp]) -> float:
        nonlocal calls
        calls += 1
        if calls > times:
            raise ValueError(f"no score in {of - times} resamples")
        return float(calls)

    return statistic


@pytest.mark.parametrize(
    ("times", "samples", "has_interval"),
    [(50, 100, True), (49, 100, False), (2, 2, True), (2, 3, True), (1, 2, False), (1, 1, False)],
)
def test_interval_needs_a_score_in_half_of_the_resamples_and_in_two(
    times: int, samples: int, has_interval: bool
) -> None:
    result = bootstrap(scored(times, samples), 2, samples=samples)
    assert result.value == 0
    assert (result.low is not None) == has_interval
    assert (result.high is not None) == has_interval
    assert (result.standard_error is not None) == has_interval


def test_standard_error_is_the_sample_standard_deviation() -> None:
    # The scores of the two resamples are 1 and 2.
    assert bootstrap(scored(2, 2), 2, samples=2).standard_error == pytest.approx(np.sqrt(0.5))


def test_single_patient_has_an_interval_without_width() -> None:
    result = bootstrap(lambda indices: float(len(indices)), 1, samples=10)
    assert (result.value, result.low, result.high, result.standard_error) == (1, 1, 1, 0)


def test_default_is_a_thousand_resamples_at_95_percent_with_seed_0() -> None:
    expected = bootstrap(mean_of(VALUES), 200, samples=1000, confidence=0.95, seed=0)
    assert bootstrap(mean_of(VALUES), 200) == expected
    difference = paired_difference(mean_of(VALUES), mean_of(0 * VALUES), 200)
    assert difference == expected


def test_no_patient_and_no_score_are_errors() -> None:
    with pytest.raises(ValueError, match="at least one patient"):
        bootstrap(mean_of(VALUES), 0)
    with pytest.raises(ValueError, match="both classes"):
        bootstrap(two_classes(5, 0), 5)


def test_groups_without_a_score_are_omitted_wherever_they_are() -> None:
    truth, groups = np.array([1, 1, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 2, 2, 3, 3])
    decision = np.array([1, 1, 0, 1, 1, 1, 1])  # groups 1 and 3 have scores of 1 and 1/2
    statistic = mean_over_groups(balanced_accuracy, (decision, truth), groups)
    assert statistic(np.arange(7)) == pytest.approx(0.75)


def test_paired_difference_is_more_certain_than_two_intervals() -> None:
    better = VALUES + np.random.default_rng(2).normal(0.02, 0.02, 200)
    result = paired_difference(mean_of(better), mean_of(VALUES), 200)
    assert result.value == pytest.approx((better - VALUES).mean())
    assert result.low is not None
    assert result.low > 0
    first, second = bootstrap(mean_of(better), 200), bootstrap(mean_of(VALUES), 200)
    assert first.low is not None
    assert second.high is not None
    assert first.low < second.high
    back = paired_difference(mean_of(VALUES), mean_of(better), 200)
    assert back.value == -result.value
    assert back.high == pytest.approx(-result.low)


def test_method_does_not_differ_from_itself() -> None:
    same = paired_difference(mean_of(VALUES), mean_of(VALUES), 200, samples=50)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_mean_over_groups_by_hand() -> None:
    decision = np.array([1, 0, 0, 1, 1, 1])
    truth = np.array([1, 0, 0, 1, 0, 1])
    folds = np.array(["a", "a", "a", "b", "b", "c"])  # a scores 1, b 1/2; c has one class
    statistic = mean_over_groups(balanced_accuracy, (decision, truth), folds)
    assert statistic(np.arange(6)) == pytest.approx((3 * 1 + 2 * 0.5) / 5)
    assert statistic(np.array([3, 4, 4, 5])) == 0.5
    with pytest.raises(ValueError, match="expected a group of patients with a score"):
        statistic(np.array([5, 5]))


def test_mean_over_groups_does_not_compare_patients_of_different_groups() -> None:
    risk, days, event = np.array([2, 1, 200, 100]), np.array([1, 2, 1, 2]), np.ones(4, bool)
    within = mean_over_groups(concordance_index, (risk, days, event), [0, 0, 1, 1])
    assert within(np.arange(4)) == 1
    assert concordance_index(risk, days, event) < 1
