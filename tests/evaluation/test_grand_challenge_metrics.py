"""Scores agree with `grand-challenge-metrics` if both have the same definition.

The evaluation uses the package's confusion matrix, so it is not tested here. The tests also show
why the evaluation does not use its other metrics. In the names, "their" means the package's.
"""

from __future__ import annotations

import numpy as np
import pytest
from grand_challenge_metrics.roc import get_bootstrapped_roc_ci_curves
from grand_challenge_metrics.stats import (
    accuracies_from_confusion_matrix,
    calculate_confusion_matrix,
    dice_from_confusion_matrix,
    jaccard_from_confusion_matrix,
    percentile_hausdorff_distance,
)
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from evaluation.scoring import of_columns
from shared.conventions import Label, LabelVolume
from shared.metrics.probability import roc_auc
from shared.metrics.segmentation import dice, lesion_pairs
from shared.metrics.surface import surface_distances

LABELS = [int(label) for label in Label]


def blobs(seed: int) -> tuple[LabelVolume, LabelVolume]:
    """Return a prediction and a truth with overlapping lesions of both labels."""
    rng = np.random.default_rng(seed)
    common, *own = gaussian_filter(rng.normal(size=(3, 20, 24, 16)), (0, 2, 2, 2))
    prediction, truth = (
        np.digitize((common + 0.5 * noise) / common.std(), [0.5, 1.2]).astype(np.uint8)
        for noise in own
    )
    return prediction, truth


@pytest.mark.parametrize("seed", range(5))
def test_dice_equals_theirs_to_the_precision_of_32_bits(seed: int) -> None:
    prediction, truth = blobs(seed)
    theirs = dice_from_confusion_matrix(calculate_confusion_matrix(truth, prediction, LABELS))
    for label in (Label.GTVP, Label.GTVN):
        ours = dice(prediction, truth, label)
        assert 0 < ours < 1
        assert ours == pytest.approx(float(theirs[label]), abs=1e-6)


def test_their_dice_of_two_empty_masks_is_nan_and_ours_follows_the_rule() -> None:
    empty = np.zeros((4, 4, 4), np.uint8)
    # lifelines turns NumPy's warnings off for the whole process.
    warn_again = np.errstate(invalid="warn")
    with warn_again, pytest.warns(RuntimeWarning, match="invalid value"):
        theirs = dice_from_confusion_matrix(calculate_confusion_matrix(empty, empty, LABELS))
    assert np.isnan(theirs[Label.GTVP])
    assert dice(empty, empty, Label.GTVP, both_empty=0.0) == 0
    assert dice(empty, empty, Label.GTVP) == 1


def test_iou_of_a_lesion_equals_their_jaccard_score() -> None:
    prediction, truth = np.zeros((2, 6, 6, 6), np.uint8)
    prediction[1:4, 1:4, 1:4] = truth[2:5, 1:4, 1:4] = Label.GTVN
    labels = [int(Label.BACKGROUND), int(Label.GTVN)]
    theirs = jaccard_from_confusion_matrix(calculate_confusion_matrix(truth, prediction, labels))
    (iou,) = lesion_pairs(prediction, truth, Label.GTVN).iou
    assert iou == pytest.approx(18 / 36)
    assert iou == pytest.approx(float(theirs[1]), abs=1e-6)


def ball(centre: float, radius: float) -> NDArray[np.bool_]:
    axes = np.indices((40, 40, 40)) - np.reshape([20, 20, centre], (3, 1, 1, 1))
    mask: NDArray[np.bool_] = np.sqrt((axes**2).sum(axis=0)) <= radius
    return mask


@pytest.mark.parametrize(("shift", "radius"), [(0, 7), (4, 10), (8, 8)])
def test_hd95_is_within_a_voxel_of_theirs(shift: int, radius: float) -> None:
    prediction, truth = ball(16 + shift, radius), ball(16, 10)
    ours = surface_distances(prediction, truth, (1.0, 1.0, 1.0)).hd95_mm()
    theirs = percentile_hausdorff_distance(prediction, truth, 0.95, voxelspacing=(1, 1, 1))
    assert ours > 2
    assert ours == pytest.approx(theirs, abs=1)


def test_their_percentile_counts_voxels_and_ours_weighs_areas() -> None:
    plate = np.zeros((12, 12, 12), bool)
    plate[5, 1:11, 1:11] = True
    spike = plate.copy()
    spike[6:11, 5, 5] = True  # 5 of 105 voxels, but a larger part of the area of the surface
    ours = surface_distances(spike, plate, (1.0, 1.0, 1.0)).hd95_mm()
    theirs = percentile_hausdorff_distance(spike, plate, 0.95, voxelspacing=(1, 1, 1))
    assert theirs == 0
    assert ours == 1


def test_their_accuracies_are_floored_so_balanced_accuracy_is_computed_here() -> None:
    truth, decision = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    matrix = calculate_confusion_matrix(truth, decision, [0, 1])
    assert matrix.tolist() == [[2, 1], [0, 1]]
    assert accuracies_from_confusion_matrix(matrix).tolist() == [0, 0]


def test_interval_of_the_auc_is_close_to_theirs() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(400) < 0.4
    probability = 1 / (1 + np.exp(-rng.normal(loc=np.where(truth, 0.8, -0.4))))
    ours = of_columns(roc_auc, list(zip(probability.tolist(), truth.tolist(), strict=True)))
    estimate = ours.estimate(1000)
    theirs = get_bootstrapped_roc_ci_curves(probability, truth, num_bootstraps=1000)
    assert estimate.low == pytest.approx(theirs.low_az_val, abs=0.01)
    assert estimate.high == pytest.approx(theirs.high_az_val, abs=0.01)


def test_their_bootstrap_never_draws_the_last_patient() -> None:
    truth = np.array([True, False, True, False])
    first_three_right = np.array([0.9, 0.1, 0.8, 1.0])  # the last one, negative, is ranked highest
    theirs = get_bootstrapped_roc_ci_curves(first_three_right, truth, num_bootstraps=200)
    assert theirs.low_az_val == 1
    assert roc_auc(first_three_right, truth) == 0.5
