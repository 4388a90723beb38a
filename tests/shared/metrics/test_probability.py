"""Scores of probabilities: by hand, errors, and comparison with SciPy and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.calibration import calibration_curve

from shared.metrics.calibration import calibration, calibration_error
from shared.metrics.classification import balanced_accuracy
from shared.metrics.probability import best_threshold, brier_score, roc_auc


def random_patients(seed: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Return probabilities and truths of 80 patients; some probabilities are equal."""
    rng = np.random.default_rng(seed)
    probability = np.round(rng.random(80), 2)
    return probability, rng.random(80) < probability


def test_auc_by_hand() -> None:
    # Two pairs: 0.9 > 0.4 counts one, 0.4 = 0.4 counts one half.
    assert roc_auc([0.9, 0.4, 0.4], [True, True, False]) == 0.75


def test_brier_by_hand() -> None:
    assert brier_score([0.9, 0.2], [True, False]) == pytest.approx((0.01 + 0.04) / 2)
    assert brier_score([1.0, 1.0], [True, True]) == 0


def test_calibration_by_hand() -> None:
    bins = calibration([0.1, 0.2, 0.8, 0.9], [False, True, True, True], bins=2)
    low, high = bins
    assert (low.patients, low.observed_fraction) == (2, 0.5)
    assert low.mean_probability == pytest.approx(0.15)
    assert (high.patients, high.observed_fraction) == (2, 1)
    error = calibration_error([0.1, 0.2, 0.8, 0.9], [False, True, True, True], bins=2)
    assert error == pytest.approx((0.35 + 0.15) / 2)


def test_default_is_five_bins() -> None:
    probability, truth = random_patients(0)
    assert len(calibration(probability, truth)) == 5
    expected = calibration_error(probability, truth, bins=5)
    assert calibration_error(probability, truth) == expected
    assert calibration_error(probability, truth, bins=4) != expected


def test_equal_probabilities_share_a_bin() -> None:
    (only,) = calibration([0.7] * 10, [True] * 7 + [False] * 3)
    assert (only.patients, only.observed_fraction) == (10, 0.7)
    assert calibration_error([0.7] * 10, [True] * 7 + [False] * 3) == pytest.approx(0)


@pytest.mark.parametrize("score", [roc_auc, brier_score, calibration, calibration_error])
def test_columns_are_checked(score: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"\(1,\) and \(2,\)"):
        score([0.5], [True, False])
    with pytest.raises(ValueError, match=r"\(0,\) and \(0,\)"):
        score([], [])
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1, found other values"):
            score([0.5, wrong], [True, False])


@pytest.mark.parametrize("truth", [True, False])
def test_single_class_has_no_auc(truth: bool) -> None:
    with pytest.raises(ValueError, match="both classes, found only one class"):
        roc_auc([0.1, 0.2], [truth, truth])


@pytest.mark.parametrize("seed", range(10))
def test_equals_scipy_and_scikit_learn(seed: int) -> None:
    probability, truth = random_patients(seed)
    pairs = truth.sum() * (~truth).sum()
    expected = mannwhitneyu(probability[truth], probability[~truth]).statistic / pairs
    assert roc_auc(probability, truth) == pytest.approx(expected, abs=1e-6)
    observed, predicted = calibration_curve(truth, probability, n_bins=5, strategy="quantile")
    bins = calibration(probability, truth, bins=5)
    assert [b.observed_fraction for b in bins] == pytest.approx(list(observed), abs=1e-6)
    assert [b.mean_probability for b in bins] == pytest.approx(list(predicted), abs=1e-6)
    assert sum(b.patients for b in bins) == 80


@given(st.integers(0, 10_000))
def test_scores_are_bounded_and_symmetric(seed: int) -> None:
    probability, truth = random_patients(seed)
    order = np.random.default_rng(seed).permutation(80)
    auc, brier = roc_auc(probability, truth), brier_score(probability, truth)
    assert 0 <= auc <= 1
    assert 0 <= brier <= 1
    assert 0 <= calibration_error(probability, truth) <= 1
    assert roc_auc(1 - probability, ~truth) == pytest.approx(auc)
    assert brier_score(1 - probability, ~truth) == pytest.approx(brier)
    assert roc_auc(probability[order], truth[order]) == pytest.approx(auc)
    shuffled = calibration_error(probability[order], truth[order])
    assert shuffled == pytest.approx(calibration_error(probability, truth))


def test_threshold_by_hand() -> None:
    # Threshold 0.4: sensitivity 2/2, specificity 2/3. Threshold 0.7: 1/2 and 3/3.
    probabilities, truths = np.array([0.9, 0.4, 0.5, 0.2, 0.1]), np.array([1, 1, 0, 0, 0], bool)
    assert best_threshold(probabilities, truths) == pytest.approx((0.4 + 0.2) / 2)
    same = np.full(5, 0.5)
    assert best_threshold(same, truths) == 0.5


def test_threshold_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="both classes, found only one class"):
        best_threshold([0.2, 0.8], [True, True])


@given(
    st.lists(
        st.tuples(st.integers(0, 100).map(lambda hundredths: hundredths / 100), st.booleans()),
        min_size=2,
        max_size=12,
    ).filter(lambda rows: len({truth for _, truth in rows}) == 2)
)
def test_no_other_threshold_is_better(rows: list[tuple[float, bool]]) -> None:
    probability, truth = np.array(rows).T
    chosen = balanced_accuracy(probability >= best_threshold(probability, truth), truth)
    others = [balanced_accuracy(probability >= bound, truth) for bound in probability]
    assert chosen >= max(others) - 1e-12
