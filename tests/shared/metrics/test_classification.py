"""Balanced accuracy: by hand, errors, and comparison with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from shared.metrics.classification import balanced_accuracy


def test_by_hand() -> None:
    truth = [True, True, True, False]
    # Correct: two of three positive patients, and the negative one.
    assert balanced_accuracy([True, True, False, False], truth) == pytest.approx((2 / 3 + 1) / 2)


def test_constant_decision_is_at_chance_level() -> None:
    assert balanced_accuracy([True] * 10, [True] * 9 + [False]) == 0.5


@pytest.mark.parametrize(("truth", "counts"), [(True, "3 positive and 0"), (False, "0 positive")])
def test_single_class_has_no_score(truth: bool, counts: str) -> None:
    with pytest.raises(ValueError, match=counts):
        balanced_accuracy([True, False, True], [truth] * 3)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(1,\) and \(2,\)"):
        balanced_accuracy([True], [True, False])


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
