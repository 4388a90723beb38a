"""Ranks several methods by the challenge's rules.

Task 1 ranks GTVp by mean DSC and GTVn by the Borda count of aggregated DSC and aggregated F1, then
combines the two ranks. Tasks 2 and 3 have a single score, for which `ranks` is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata


def ranks(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the rank of each score, 1 for the highest; equal scores share their mean rank.

    Parameters
    ----------
    scores : shape (methods,); higher is better. NaN stands for a missing score and ranks last.
    """
    values = np.asarray(scores, dtype=np.float64)
    result: NDArray[np.float64] = rankdata(-np.where(np.isnan(values), -np.inf, values))
    return result


def borda_count(criteria: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return the points of each method, summed over several criteria.

    For each criterion, a method gets a point for each other method with a lower score, and half a
    point for each other method with the same score.

    Parameters
    ----------
    criteria : one array of scores, shape (methods,), for each criterion; higher is better.

    Returns
    -------
    Shape (methods,); higher is better.
    """
    points = [len(np.atleast_1d(scores)) - ranks(scores) for scores in criteria]
    return np.asarray(np.sum(points, axis=0), dtype=np.float64)


def rank_segmentation(methods: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the rank of each method in Task 1, best first; equal methods share their mean rank.

    Parameters
    ----------
    methods : for each method, the scores `gtvp_dice` (mean), `gtvn_aggregated_dice` and
        `gtvn_aggregated_f1`.

    Notes
    -----
    The organisers do not say how the ranks of GTVp and GTVn are combined. Here methods are ranked
    by the sum of the two ranks.
    """
    names = sorted(methods)
    gtvp, gtvn_dice, gtvn_f1 = (
        [methods[name][score] for name in names]
        for score in ("gtvp_dice", "gtvn_aggregated_dice", "gtvn_aggregated_f1")
    )
    rank_sums = ranks(gtvp) + ranks(borda_count([gtvn_dice, gtvn_f1]))
    rows = zip(ranks(-rank_sums).tolist(), names, strict=True)
    return {name: rank for rank, name in sorted(rows)}
