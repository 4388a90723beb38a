"""Ranks of several methods, as the challenge makes them.

Task 1: GTVp is ranked by mean DSC, GTVn by the Borda count of aggregated DSC and aggregated F1, and
the two ranks make the task's. Tasks 2 and 3 are ranked by their one score, which is `ranks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata


def ranks(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the rank of each score, 1 for the highest; equal ones share their mean rank.

    Parameters
    ----------
    scores : shape (methods,); higher is better. NaN, for a method without a score, ranks last.
    """
    values = np.asarray(scores, dtype=np.float64)
    ranked: NDArray[np.float64] = rankdata(-np.where(np.isnan(values), -np.inf, values))
    return ranked


def borda_count(criteria: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return the points of each method over several criteria: for each, how many it is ahead of.

    Parameters
    ----------
    criteria : one array of scores, shape (methods,), for each criterion; higher is better. A tie
        counts one half.

    Returns
    -------
    Shape (methods,); higher is better.
    """
    points = [len(np.atleast_1d(scores)) - ranks(scores) for scores in criteria]
    return np.asarray(np.sum(points, axis=0), dtype=np.float64)


def rank_segmentation(methods: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the challenge's rank of each method in Task 1, best first; equal ones share theirs.

    Parameters
    ----------
    methods : by name, the scores `gtvp_dice` (mean), `gtvn_aggregated_dice` and
        `gtvn_aggregated_f1`.

    Notes
    -----
    The organisers do not say how the two ranks make one: here by their mean.
    """
    names = sorted(methods)
    gtvp, gtvn_dice, gtvn_f1 = (
        [methods[name][score] for name in names]
        for score in ("gtvp_dice", "gtvn_aggregated_dice", "gtvn_aggregated_f1")
    )
    both = ranks(gtvp) + ranks(borda_count([gtvn_dice, gtvn_f1]))
    placed = zip(ranks(-both).tolist(), names, strict=True)
    return {name: rank for rank, name in sorted(placed)}
