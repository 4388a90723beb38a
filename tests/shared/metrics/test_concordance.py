"""C-index: by hand, ties, errors, and comparison with lifelines and scikit-survival."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines.utils import concordance_index as lifelines_index
from numpy.typing import NDArray
from sksurv.metrics import concordance_index_censored

from shared.metrics.survival import concordance_index

FloatArray: TypeAlias = NDArray[np.float64]
NAN = float("nan")


def random_patients(seed: int, ties: bool) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return risks, times in days and events of 60 patients."""
    rng = np.random.default_rng(seed)
    risks = rng.integers(0, 8, 60).astype(float) if ties else rng.normal(size=60)
    times = rng.integers(1, 20, 60).astype(float) if ties else rng.exponential(1000, 60)
    return risks, times, rng.random(60) < 0.3


def test_by_hand() -> None:
    # Comparable pairs: (1,2), (1,3), (1,4), (3,4). Patient 2 is censored before 3 and 4.
    times = [100, 200, 300, 400]
    events = [True, False, True, False]
    assert concordance_index([4, 3, 2, 1], times, events) == 1
    assert concordance_index([1, 2, 3, 4], times, events) == 0
    # Concordant: (1,2), (1,4), (3,4); discordant: (1,3).
    assert concordance_index([3, 2, 4, 1], times, events) == 3 / 4


def test_equal_risks_count_one_half() -> None:
    assert concordance_index([1, 1], [100, 200], [True, True]) == 0.5


def test_pairs_with_a_missing_risk_count_one_half() -> None:
    # Patient 2 has no risk; the pair (1,3) is concordant.
    assert concordance_index([3, NAN, 1], [1, 2, 3], [True, True, True]) == pytest.approx(2 / 3)


def test_equal_times_are_comparable_if_exactly_one_patient_had_the_event() -> None:
    assert concordance_index([2, 1], [100, 100], [True, False]) == 1
    assert concordance_index([2, 1], [100, 100], [False, True]) == 0


@pytest.mark.parametrize(
    ("times", "events"),
    [
        ([100, 100], [True, True]),
        ([100, 200], [False, False]),
        ([100, 200], [False, True]),
        ([], []),
    ],
)
def test_without_a_comparable_pair_there_is_no_score(times: list[int], events: list[bool]) -> None:
    with pytest.raises(ValueError, match="at least one comparable pair"):
        concordance_index(times, times, events)


def test_times_must_be_finite() -> None:
    with pytest.raises(ValueError, match="finite times"):
        concordance_index([1, 2], [NAN, 3], [True, True])


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\) and \(2,\)"):
        concordance_index([1, 2], [1, 2, 3], [True, True])


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("ties", [False, True])
def test_equals_lifelines(seed: int, ties: bool) -> None:
    risks, times, events = random_patients(seed, ties)
    expected = lifelines_index(times, -risks, events)
    assert concordance_index(risks, times, events) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("ties", [False, True])
def test_equals_scikit_survival(seed: int, ties: bool) -> None:
    risks, times, events = random_patients(seed, ties)
    expected = concordance_index_censored(events, times, risks)[0]
    assert concordance_index(risks, times, events) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 10_000), st.booleans())
def test_only_the_order_of_risks_matters(seed: int, ties: bool) -> None:
    risks, times, events = random_patients(seed, ties)
    score = concordance_index(risks, times, events)
    assert concordance_index(np.exp(risks) * 3 - 7, times, events) == score
    assert concordance_index(-risks, times, events) == pytest.approx(1 - score)


@given(st.integers(0, 10_000))
def test_order_of_patients_does_not_matter(seed: int) -> None:
    risks, times, events = random_patients(seed, ties=True)
    order = np.random.default_rng(seed).permutation(len(risks))
    assert concordance_index(risks[order], times[order], events[order]) == concordance_index(
        risks, times, events
    )
