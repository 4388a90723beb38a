"""Ranks of methods: by hand and properties of any scores."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.metrics.ranking import borda_count, rank_segmentation, ranks


def test_ranks_by_hand() -> None:
    assert ranks([0.5, 0.9, 0.7]).tolist() == [3, 1, 2]
    assert ranks([0.5, 0.9, 0.9, 0.1]).tolist() == [3, 1.5, 1.5, 4]
    assert ranks([0.5, float("nan"), 0.7]).tolist() == [2, 3, 1]


def test_borda_count_by_hand() -> None:
    # Points by the first criterion: 0, 2, 1; by the second: 2, 1, 0.
    assert borda_count([[0.5, 0.9, 0.7], [0.8, 0.7, 0.6]]).tolist() == [2, 3, 1]
    assert borda_count([[0.5, 0.5]]).tolist() == [0.5, 0.5]


def method(gtvp: float, dice: float, f1: float) -> dict[str, float]:
    return {"gtvp_dice": gtvp, "gtvn_aggregated_dice": dice, "gtvn_aggregated_f1": f1}


def test_rank_segmentation_by_hand() -> None:
    methods = {
        "a": method(0.70, 0.80, 0.50),  # GTVp 3; GTVn 2 + 0 points, rank 2.5
        "b": method(0.75, 0.70, 0.70),  # GTVp 1; GTVn 0 + 2 points, rank 2.5
        "c": method(0.72, 0.79, 0.69),  # GTVp 2; GTVn 1 + 1 points, rank 2.5
    }
    # Points for GTVn are equal: 2 + 0, 0 + 2, 1 + 1.
    assert rank_segmentation(methods) == {"b": 1, "c": 2, "a": 3}
    methods["d"] = method(0.60, 0.81, 0.71)
    # GTVp: b, c, a, d. Points for GTVn: d 3 + 3, a 2 + 0, b 0 + 2, c 1 + 1, so d ranks 1, the
    # others 3. Sums of ranks: a 3 + 3, b 1 + 3, c 2 + 3, d 4 + 1.
    assert rank_segmentation(methods) == {"b": 1, "c": 2.5, "d": 2.5, "a": 4}
    assert list(rank_segmentation(methods)) == ["b", "c", "d", "a"]


scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=8)


@given(scores)
def test_ranks_depend_only_on_the_order_of_scores(values: list[float]) -> None:
    n = len(values)
    result = ranks(values)
    assert result.sum() == n * (n + 1) / 2
    assert np.array_equal(ranks(values[::-1]), result[::-1])
    assert np.array_equal(ranks(np.exp(values)), result)
    assert borda_count([values, values]).sum() == n * (n - 1)
