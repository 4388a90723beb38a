from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from shared.metrics.classification import balanced_accuracy, best_threshold


def test_by_hand() -> None:
    truth = [True, True, True, False]
    # Two of three positives and the one negative are right.
    assert balanced_accuracy([True, True, False, False], truth) == pytest.approx((2 / 3 + 1) / 2)


def test_always_saying_yes_is_chance() -> None:
    assert balanced_accuracy([True] * 10, [True] * 9 + [False]) == 0.5


@pytest.mark.parametrize(("truth", "counts"), [(True, "3 positive and 0"), (False, "0 positive")])
def test_one_class_alone_has_no_score(truth: bool, counts: str) -> None:
    with pytest.raises(ValueError, match=counts):
        balanced_accuracy([True, False, True], [truth] * 3)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(1,\) and \(2,\)"):
        balanced_accuracy([True], [True, False])


@settings(derandomize=True)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2))
def test_equals_scikit_learn_and_is_symmetric_in_the_classes(
    pairs: list[tuple[bool, bool]],
) -> None:
    decision, truth = np.array(pairs).T
    assume(truth.any() and not truth.all())
    score = balanced_accuracy(decision, truth)
    assert score == pytest.approx(balanced_accuracy_score(truth, decision), abs=1e-9)
    assert balanced_accuracy(~decision, ~truth) == pytest.approx(score)
    assert balanced_accuracy(~decision, truth) == pytest.approx(1 - score)


def test_the_threshold_by_hand() -> None:
    # From 0.4 on: both positive right, one of three negative wrong. From 0.7 on: 1/2 and 3/3.
    probabilities, truths = np.array([0.9, 0.4, 0.5, 0.2, 0.1]), np.array([1, 1, 0, 0, 0], bool)
    assert best_threshold(probabilities, truths) == pytest.approx((0.4 + 0.2) / 2)
    same = np.full(5, 0.5)
    assert best_threshold(same, truths) == 0.5


def test_a_threshold_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="both classes"):
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
