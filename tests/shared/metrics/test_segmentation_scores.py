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


def random_labels(seed: int) -> LabelVolume:
    """Return a label map of blobs."""
    noise = np.random.default_rng(seed).normal(size=(12, 14, 16))
    for axis in range(3):
        noise = noise + np.roll(noise, 1, axis)
    return np.digitize(noise, [1.5, 4.0]).astype(np.uint8)


def test_dice_by_hand() -> None:
    # 2 voxels shared, 3 and 4 voxels in all: 2 * 2 / 7.
    assert dice(row("ppp..."), row(".pppp."), P) == pytest.approx(4 / 7)


def test_each_label_is_scored_alone() -> None:
    assert dice(row("pnn."), row("ppn."), P) == pytest.approx(2 / 3)
    assert dice(row("pnn."), row("ppn."), N) == pytest.approx(2 / 3)


def test_dice_of_an_absent_label() -> None:
    assert dice(EMPTY, EMPTY, P) == 1
    assert dice(row("p..."), EMPTY, P) == 0
    assert dice(EMPTY, row("p..."), P) == 0


def test_the_empty_cases_are_parameters() -> None:
    assert dice(EMPTY, EMPTY, P, both_empty=0.25) == 0.25
    assert dice(EMPTY, row("p..."), P, one_empty=0.5) == 0.5
    assert dice(row("p..."), row(".p.."), P, one_empty=0.5) == 0


def test_aggregated_dice_weighs_cases_by_their_volume_in_mm3() -> None:
    small = overlap(row("n..."), row("n..."), N, voxel_volume_mm3=1.0)
    large = overlap(row("nnn."), row(".nnn"), N, voxel_volume_mm3=8.0)
    # 2 * (1 + 16) / (2 + 48), not the mean of 1 and 2/3.
    assert sum([small, large], Overlap()).dice() == pytest.approx(34 / 50)


def test_aggregated_dice_counts_a_false_finding_of_an_empty_case() -> None:
    missed = overlap(row("nn.."), EMPTY, N, 1.0)
    found = overlap(row("nn.."), row("nn.."), N, 1.0)
    assert (missed + found).dice() == pytest.approx(4 / 6)


def test_aggregated_dice_of_nothing_is_one() -> None:
    assert sum([overlap(EMPTY, EMPTY, N, 1.0)] * 2, Overlap()).dice() == 1


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
        ours = overlap(a, b, label, 1.0)
        union = ours.prediction_mm3 + ours.truth_mm3 - ours.shared_mm3
        assert ours.dice() == pytest.approx(measured.GetDiceCoefficient(int(label)), abs=1e-6)
        jaccard = measured.GetJaccardCoefficient(int(label))
        assert ours.shared_mm3 / union == pytest.approx(jaccard, abs=1e-6)


def test_aggregated_dice_equals_a_direct_sum() -> None:
    rng = np.random.default_rng(7)
    cases = [(random_labels(i), random_labels(i + 100), float(rng.uniform(1, 9))) for i in range(6)]
    total = sum((overlap(a, b, N, mm3) for a, b, mm3 in cases), Overlap())
    true_positives = sum(np.sum((a == N) & (b == N)) * mm3 for a, b, mm3 in cases)
    volumes = sum((np.sum(a == N) + np.sum(b == N)) * mm3 for a, b, mm3 in cases)
    assert total.dice() == pytest.approx(2 * true_positives / volumes, abs=1e-6)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 1000), st.sampled_from([P, N]))
def test_scores_do_not_depend_on_the_voxel_order(seed_a: int, seed_b: int, label: Label) -> None:
    a, b = random_labels(seed_a), random_labels(seed_b)
    moved_a, moved_b = (np.ascontiguousarray(v.transpose(2, 0, 1)[::-1]) for v in (a, b))
    assert dice(a, b, label) == dice(b, a, label) == dice(moved_a, moved_b, label)
    assert detections(a, b, label) == detections(moved_a, moved_b, label)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 1))
def test_every_lesion_is_counted_once(seed_a: int, seed_b: int, min_iou: float) -> None:
    a, b = random_labels(seed_a), random_labels(seed_b)
    found = detections(a, b, N, min_iou)
    lesions = [cc3d.connected_components(v == N, connectivity=26).max() for v in (a, b)]
    assert found.true_positives + found.false_positives == lesions[0]
    assert found.true_positives + found.false_negatives == lesions[1]
    swapped = detections(b, a, N, min_iou)
    assert swapped.true_positives == found.true_positives


@pytest.mark.parametrize("seed", range(5))
def test_a_prediction_that_is_the_truth_finds_every_lesion(seed: int) -> None:
    labels = random_labels(seed)
    count = cc3d.connected_components(labels == N, connectivity=26).max()
    assert detections(labels, labels, N) == Detections(count, 0, 0)


def test_found_invented_and_missed_lesions_by_hand() -> None:
    #                 found   invented  missed
    prediction = row("nn......nn........")
    truth = row("nnn..........nn....")[..., :18]
    assert detections(prediction, truth, N) == Detections(1, 1, 1)


def test_iou_must_exceed_the_limit() -> None:
    # 3 of 10 voxels: an IoU of exactly 0.3.
    prediction, truth = row("nnnnnn...."), row("...nnnnnnn")
    assert detections(prediction, truth, N, min_iou=0.3) == Detections(0, 1, 1)
    assert detections(prediction, truth, N, min_iou=0.29) == Detections(1, 0, 0)


def test_split_node_is_found_once_and_its_rest_is_false() -> None:
    # IoU 4/9 and 4/9 with the one true node, of which only one may match.
    assert detections(row("nnnn.nnnn"), row("nnnnnnnnn"), N) == Detections(1, 1, 0)


def test_matching_takes_the_best_pair_first() -> None:
    # IoU: first with first 3/10, first with second 5/13, second with second 3/9. Taking 5/13 leaves
    # no partner for the others, though 3/10 and 3/9 together would have matched more.
    prediction = row(".nnnnnnnnn.nnn")
    truth = row("nnnn.nnnnnnnnn")
    assert detections(prediction, truth, N, min_iou=0.25) == Detections(1, 1, 1)


def test_matching_may_find_as_many_as_possible() -> None:
    # As above, but now the first goes with the first and the second with the second.
    prediction = row(".nnnnnnnnn.nnn")
    truth = row("nnnn.nnnnnnnnn")
    assert detections(prediction, truth, N, min_iou=0.25, matching="most") == Detections(2, 0, 0)
    assert detections(EMPTY, EMPTY, N, matching="most") == Detections()


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 0.9))
def test_most_are_at_least_as_many_as_greedy_finds(
    seed_a: int, seed_b: int, min_iou: float
) -> None:
    pairs = lesion_pairs(random_labels(seed_a), random_labels(seed_b), N)
    greedy, most = pairs.matches(min_iou, "greedy"), pairs.matches(min_iou, "most")
    assert len(greedy) <= len(most) <= 2 * len(greedy)
    able = {(f, t) for (f, t), iou in zip(pairs.pairs.tolist(), pairs.iou, strict=True)
            if iou > min_iou}  # fmt: skip
    for matched in (greedy, most):
        assert set(matched) <= able
        assert len({f for f, _ in matched}) == len({t for _, t in matched}) == len(matched)


@pytest.mark.parametrize("other", [0, 1])
def test_of_equal_ious_those_count_that_leave_more_pairs(other: int) -> None:
    # Both found lesions have IoU 0.4 with the first true one; one of them 0.35 with the second too.
    pairs = LesionPairs(
        np.array([9, 9]),
        np.array([9, 9]),
        np.array([[0, 0], [1, 0], [other, 1]]),
        np.array([0.4, 0.4, 0.35]),
    )
    assert pairs.detections() == Detections(2, 0, 0)


@pytest.mark.parametrize("matching", ["greedy", "most"])
@pytest.mark.parametrize("sizes", [(5, 8), (8, 5)])
def test_of_equal_pairs_the_larger_lesion_counts(
    sizes: tuple[int, int], matching: Matching
) -> None:
    pairs = LesionPairs(np.array([6]), np.array(sizes), np.array([[0, 0], [0, 1]]), np.full(2, 0.4))
    assert pairs.matches(matching=matching) == [(0, sizes.index(8))]


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.sampled_from(["greedy", "most"]))
def test_counts_do_not_depend_on_the_numbers_of_lesions(seed: int, matching: Matching) -> None:
    rng = np.random.default_rng(seed)
    edges = np.argwhere(rng.random((5, 5)) < 0.4)
    iou = rng.integers(1, 4, len(edges)) / 4  # many are equal
    sizes = np.full(5, 9)
    expected = LesionPairs(sizes, sizes, edges, iou).detections(0.1, matching)
    for _ in range(3):
        renumbered = np.stack([rng.permutation(5)[side] for side in edges.T], axis=1)
        order = rng.permutation(len(edges))
        pairs = LesionPairs(sizes, sizes, renumbered[order], iou[order])
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
def test_label_maps_of_different_shape_are_refused(score: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 4\) and \(1, 1, 5\)"):
        score(EMPTY, row("....."), P)
