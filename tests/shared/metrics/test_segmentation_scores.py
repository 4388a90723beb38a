"""DSC, F1 and matching of lesions: by hand, properties, and comparison with other libraries."""

from __future__ import annotations

from collections.abc import Callable

import cc3d
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.meandice import DiceMetric
from numpy.typing import ArrayLike
from surface_distance import compute_dice_coefficient

from shared.conventions import Label, LabelVolume
from shared.metrics.segmentation import (
    Detections,
    LesionPairs,
    Matching,
    Overlap,
    detections,
    dice,
    lesion_pairs,
    overlap,
)

P, N = Label.GTVP, Label.GTVN
EMPTY = np.zeros((1, 1, 4), np.uint8)


def row(text: str) -> LabelVolume:
    """Return a label map of one row: '.' background, 'p' GTVp, 'n' GTVn."""
    return np.array([[[".pn".index(c) for c in text]]], np.uint8)


def lesions_with_ious(
    prediction_voxels: ArrayLike, truth_voxels: ArrayLike, pairs: ArrayLike, iou: ArrayLike
) -> LesionPairs:
    return LesionPairs(
        prediction_voxels=np.asarray(prediction_voxels),
        truth_voxels=np.asarray(truth_voxels),
        pairs=np.asarray(pairs),
        iou=np.asarray(iou),
    )


def random_labels(seed: int) -> LabelVolume:
    """Return a label map of blobs."""
    noise = np.random.default_rng(seed).normal(size=(12, 14, 16))
    for axis in range(3):
        noise = noise + np.roll(noise, 1, axis)
    return np.digitize(noise, [1.5, 4.0]).astype(np.uint8)


def test_dice_by_hand() -> None:
    # 2 voxels are shared, of 3 and 4 voxels: 2 * 2 / 7.
    assert dice(row("ppp..."), row(".pppp."), P) == pytest.approx(4 / 7)


def test_labels_are_scored_separately() -> None:
    assert dice(row("pnn."), row("ppn."), P) == pytest.approx(2 / 3)
    assert dice(row("pnn."), row("ppn."), N) == pytest.approx(2 / 3)


def test_dice_of_an_absent_label() -> None:
    assert dice(EMPTY, EMPTY, P) == 1
    assert dice(row("p..."), EMPTY, P) == 0
    assert dice(EMPTY, row("p..."), P) == 0


def test_empty_cases_are_parameters() -> None:
    assert dice(EMPTY, EMPTY, P, both_empty=0.25) == 0.25
    assert dice(EMPTY, row("p..."), P, one_empty=0.5) == 0.5
    assert dice(row("p..."), EMPTY, P, one_empty=0.5) == 0.5
    assert dice(row("p..."), row(".p.."), P, one_empty=0.5) == 0


def test_defaults_of_the_empty_cases_are_one_and_zero() -> None:
    assert Overlap().dice() == 1
    assert Overlap(0, 5, 0).dice() == Overlap(0, 0, 5).dice() == 0


def test_aggregated_dice_weights_cases_by_their_volume() -> None:
    small = overlap(row("n..."), row("n..."), N, voxel_volume_mm3=1.0)
    large = overlap(row("nnn."), row(".nnn"), N, voxel_volume_mm3=8.0)
    # 2 * (1 + 16) / (2 + 48), not the mean of 1 and 2/3.
    assert sum([small, large], Overlap()).dice() == pytest.approx(34 / 50)


def test_aggregated_dice_counts_false_lesions_of_an_empty_case() -> None:
    empty_case = overlap(row("nn.."), EMPTY, N, voxel_volume_mm3=1.0)
    full_case = overlap(row("nn.."), row("nn.."), N, voxel_volume_mm3=1.0)
    assert (empty_case + full_case).dice() == pytest.approx(4 / 6)


def test_aggregated_dice_of_empty_cases_is_one() -> None:
    assert sum([overlap(EMPTY, EMPTY, N, voxel_volume_mm3=1.0)] * 2, Overlap()).dice() == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("label", [P, N])
def test_dice_equals_monai_and_surface_distance(seed: int, label: Label) -> None:
    a, b = random_labels(seed), random_labels(seed + 100)
    ours = dice(a, b, label)
    monai = DiceMetric()(
        torch.from_numpy(a == label)[None, None], torch.from_numpy(b == label)[None, None]
    )
    assert isinstance(monai, torch.Tensor)
    assert ours == pytest.approx(monai.item(), abs=1e-6)
    assert ours == pytest.approx(compute_dice_coefficient(a == label, b == label), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_overlap_equals_simpleitk(seed: int) -> None:
    a, b = random_labels(seed), random_labels(seed + 100)
    measured = sitk.LabelOverlapMeasuresImageFilter()
    measured.Execute(sitk.GetImageFromArray(a), sitk.GetImageFromArray(b))
    for label in (P, N):
        ours = overlap(a, b, label, voxel_volume_mm3=1.0)
        union = ours.prediction_mm3 + ours.truth_mm3 - ours.shared_mm3
        assert ours.dice() == pytest.approx(measured.GetDiceCoefficient(int(label)), abs=1e-6)
        jaccard = measured.GetJaccardCoefficient(int(label))
        assert ours.shared_mm3 / union == pytest.approx(jaccard, abs=1e-6)


def test_the_pair_with_the_highest_iou_comes_first() -> None:
    """All four pairs overlap; after the pair with the highest IoU, only one other pair is left."""
    pairs = lesions_with_ious(
        [9, 9], [9, 9], [(0, 0), (0, 1), (1, 0), (1, 1)], [0.5, 0.35, 0.4, 0.45]
    )
    assert sorted(pairs.matches(min_iou=0.3)) == [(0, 0), (1, 1)]


def test_the_next_iou_decides_between_equal_ones() -> None:
    """Prediction 0 overlaps both lesions equally. The choice leaves an IoU of 0.4 or of 0.35."""
    pairs = lesions_with_ious(
        [9, 9, 9], [9, 9], [(0, 0), (0, 1), (1, 1), (2, 0)], [0.5, 0.5, 0.4, 0.35]
    )
    assert sorted(pairs.matches(min_iou=0.3)) == [(0, 0), (1, 1)]


def test_aggregated_dice_equals_a_direct_sum() -> None:
    rng = np.random.default_rng(7)
    cases = [(random_labels(i), random_labels(i + 100), float(rng.uniform(1, 9))) for i in range(6)]
    total = sum((overlap(a, b, N, voxel_volume_mm3=mm3) for a, b, mm3 in cases), Overlap())
    true_positives = sum(np.sum((a == N) & (b == N)) * mm3 for a, b, mm3 in cases)
    volumes = sum((np.sum(a == N) + np.sum(b == N)) * mm3 for a, b, mm3 in cases)
    assert total.dice() == pytest.approx(2 * true_positives / volumes, abs=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 1000), st.sampled_from([P, N]))
def test_scores_do_not_depend_on_the_order_of_axes(seed_a: int, seed_b: int, label: Label) -> None:
    a, b = random_labels(seed_a), random_labels(seed_b)
    moved_a, moved_b = (np.ascontiguousarray(v.transpose(2, 0, 1)[::-1]) for v in (a, b))
    assert dice(a, b, label) == dice(b, a, label) == dice(moved_a, moved_b, label)
    assert detections(a, b, label) == detections(moved_a, moved_b, label)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 1))
def test_every_lesion_is_counted_once(seed_a: int, seed_b: int, min_iou: float) -> None:
    a, b = random_labels(seed_a), random_labels(seed_b)
    counts = detections(a, b, N, min_iou=min_iou)
    lesions = [cc3d.connected_components(v == N, connectivity=26).max() for v in (a, b)]
    assert counts.true_positives + counts.false_positives == lesions[0]
    assert counts.true_positives + counts.false_negatives == lesions[1]
    swapped = detections(b, a, N, min_iou=min_iou)
    assert swapped.true_positives == counts.true_positives


@pytest.mark.parametrize("seed", range(5))
def test_perfect_prediction_detects_every_lesion(seed: int) -> None:
    labels = random_labels(seed)
    count = cc3d.connected_components(labels == N, connectivity=26).max()
    assert detections(labels, labels, N) == Detections(count, 0, 0)


def test_detections_by_hand() -> None:
    #                detected   false  missed
    prediction = row("nn......nn........")
    truth = row("nnn..........nn....")[..., :18]
    assert detections(prediction, truth, N) == Detections(1, 1, 1)


def test_iou_must_exceed_the_limit() -> None:
    # 3 of 10 voxels: an IoU of exactly 0.3.
    prediction, truth = row("nnnnnn...."), row("...nnnnnnn")
    assert detections(prediction, truth, N, min_iou=0.3) == Detections(0, 1, 1)
    assert detections(prediction, truth, N, min_iou=0.29) == Detections(1, 0, 0)
    assert detections(prediction, truth, N) == Detections(0, 1, 1)
    assert detections(row("nnnnnnn..."), truth, N) == Detections(1, 0, 0), "4 of 10 voxels"


def test_one_part_of_a_split_node_is_detected_and_the_other_is_false() -> None:
    # Both parts have an IoU of 4/9 with the true node; only one can match.
    assert detections(row("nnnn.nnnn"), row("nnnnnnnnn"), N) == Detections(1, 1, 0)


def test_greedy_matching_takes_the_best_pair_first() -> None:
    # IoUs of predicted and true lesions: first and first 3/10, first and second 5/13, second and
    # second 3/9. The pair with 5/13 excludes the two others, which would have given more matches.
    prediction = row(".nnnnnnnnn.nnn")
    truth = row("nnnn.nnnnnnnnn")
    assert detections(prediction, truth, N, min_iou=0.25) == Detections(1, 1, 1)


def test_most_matches_as_many_pairs_as_possible() -> None:
    # The masks are as above, but now the first lesions match, and the second ones.
    prediction = row(".nnnnnnnnn.nnn")
    truth = row("nnnn.nnnnnnnnn")
    assert detections(prediction, truth, N, min_iou=0.25, matching="most") == Detections(2, 0, 0)
    assert detections(EMPTY, EMPTY, N, matching="most") == Detections()


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 0.9))
def test_most_matches_at_least_as_many_pairs_as_greedy(
    seed_a: int, seed_b: int, min_iou: float
) -> None:
    pairs = lesion_pairs(random_labels(seed_a), random_labels(seed_b), N)
    greedy, most = pairs.matches(min_iou, "greedy"), pairs.matches(min_iou, "most")
    assert len(greedy) <= len(most) <= 2 * len(greedy)
    eligible = {(f, t) for (f, t), iou in zip(pairs.pairs.tolist(), pairs.iou, strict=True)
            if iou > min_iou}  # fmt: skip
    for matches in (greedy, most):
        assert set(matches) <= eligible
        assert len({f for f, _ in matches}) == len({t for _, t in matches}) == len(matches)


@pytest.mark.parametrize("other", [0, 1])
def test_among_equal_ious_greedy_leaves_the_most_pairs(other: int) -> None:
    # Both lesions of the prediction have an IoU of 0.4 with the first true lesion; one of them also
    # has 0.35 with the second.
    pairs = lesions_with_ious([9, 9], [9, 9], [[0, 0], [1, 0], [other, 1]], [0.4, 0.4, 0.35])
    assert pairs.detections() == Detections(2, 0, 0)


def test_greedy_prefers_a_higher_iou_even_if_two_pairs_share_it() -> None:
    # The first predicted lesion overlaps two true lesions equally. Each of these also overlaps
    # another predicted lesion, but less.
    pairs = lesions_with_ious(
        [9, 9, 9], [9, 9], [[0, 0], [0, 1], [1, 0], [2, 1]], [0.4, 0.4, 0.35, 0.35]
    )
    assert 0 in {prediction for prediction, _ in pairs.matches()}


def test_lesions_that_all_overlap_equally_match_once_each() -> None:
    pairs = lesions_with_ious([9, 9], [9, 9], [[0, 0], [0, 1], [1, 0], [1, 1]], [0.4] * 4)
    assert pairs.detections() == Detections(2, 0, 0)


@pytest.mark.parametrize("matching", ["greedy", "most"])
@pytest.mark.parametrize("sizes", [(5, 8), (8, 5)])
def test_among_equal_pairs_the_larger_lesion_matches(
    sizes: tuple[int, int], matching: Matching
) -> None:
    pairs = lesions_with_ious([6], sizes, [[0, 0], [0, 1]], [0.4, 0.4])
    assert pairs.matches(matching=matching) == [(0, sizes.index(8))]


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from(["greedy", "most"]))
def test_counts_do_not_depend_on_the_numbering_of_the_lesions(
    seed: int, matching: Matching
) -> None:
    rng = np.random.default_rng(seed)
    edges = np.argwhere(rng.random((5, 5)) < 0.4)
    iou = rng.integers(1, 4, len(edges)) / 4  # many are equal
    sizes = np.full(5, 9)
    expected = lesions_with_ious(sizes, sizes, edges, iou).detections(0.1, matching)
    for _ in range(3):
        renumbered = np.stack([rng.permutation(5)[side] for side in edges.T], axis=1)
        order = rng.permutation(len(edges))
        pairs = lesions_with_ious(sizes, sizes, renumbered[order], iou[order])
        assert pairs.detections(0.1, matching) == expected


def test_sensitivity_counts_true_lesions_only() -> None:
    assert Detections(2, 5, 1).sensitivity() == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="at least one true lesion"):
        Detections(0, 3, 0).sensitivity()


def test_connectivity_is_a_parameter() -> None:
    diagonal = np.zeros((2, 2, 2), np.uint8)
    diagonal[0, 0, 0] = diagonal[1, 1, 1] = N
    assert detections(diagonal, diagonal, N) == Detections(1, 0, 0)
    assert detections(diagonal, diagonal, N, connectivity=6) == Detections(2, 0, 0)


def test_aggregated_f1_sums_counts_over_cases() -> None:
    total = sum([Detections(2, 1, 0), Detections(0, 0, 1)], Detections())
    assert total.f1() == pytest.approx(4 / 6)


def test_f1_without_any_lesion_is_a_parameter() -> None:
    nothing = detections(EMPTY, EMPTY, N)
    assert nothing == Detections()
    assert nothing.f1() == 1
    assert nothing.f1(no_lesions=0.0) == 0


@pytest.mark.parametrize("score", [dice, detections])
def test_label_maps_of_different_shapes_are_rejected(score: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 4\) and \(1, 1, 5\)"):
        score(EMPTY, row("....."), P)
