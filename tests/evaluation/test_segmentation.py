"""Scores of segmentation that can be checked by hand, on a grid of 12×10×8 voxels of 6 mm³."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from evaluation.scoring_rules import ScoringRules
from evaluation.tasks.masks import LabelScores, score_masks
from shared.conventions import Label
from shared.geometry import Grid
from tests.evaluation.submission import GRID, QUICK, Submission, image, labels

P, N = int(Label.GTVP), int(Label.GTVN)
Z = slice(2, 4)
Y = slice(3, 5)
PRIMARY = (P, Z, Y, slice(0, 4))  # 16 voxels
NODE = (N, Z, Y, slice(8, 12))  # 16 voxels
SHIFTED_NODE = (N, Z, Y, slice(7, 11))  # 16 voxels, 12 of them in NODE: IoU 12/20
FALSE_NODE = (N, slice(6, 7), slice(7, 8), slice(2, 4))  # 2 voxels
TRUTH = labels(PRIMARY, NODE)


def test_scores_equal_hand_calculation(submission: Submission) -> None:
    submission.add_truth("MDA-001", image(TRUTH))
    submission.add_truth("CHUP-002", image(labels(NODE)))
    submission.add_mask("MDA-001", image(labels(PRIMARY, SHIFTED_NODE, FALSE_NODE)))
    submission.add_mask("CHUP-002", image(labels()))
    metrics = submission.segmentation()
    second, first = metrics.results
    assert (first.case_id, first.pk, first.centre, first.failure) == (
        "MDA-001", "job-000", "MDA", None,
    )  # fmt: skip
    node = first.labels["GTVn"]
    assert node.dice == pytest.approx(2 * 12 / (18 + 16))
    assert (node.shared_mm3, node.prediction_mm3, node.truth_mm3) == (72, 108, 96)
    assert (node.true_positives, node.false_positives, node.false_negatives) == (1, 1, 0)
    assert node.false_positives_mm3 == (12,)
    assert [(n.volume_mm3, n.iou, n.found) for n in node.lesions] == [(96, 12 / 20, True)]
    assert first.labels["GTVp"].dice == 1
    assert first.labels["GTVp"].hd95_mm == 0
    assert first.labels["GTVp"].surface_dice == 1
    assert second.labels["GTVp"].dice == 1  # absent in both
    assert second.labels["GTVn"].hd95_mm is None
    value = {name: estimate.value for name, estimate in metrics.aggregates.items()}
    assert value["gtvp_dice"] == 1
    assert value["gtvn_aggregated_dice"] == pytest.approx(2 * 12 / (18 + 16 + 16))
    assert value["gtvn_aggregated_f1"] == pytest.approx(2 / (2 + 1 + 1))
    assert value["gtvn_sensitivity"] == 0.5
    assert value["gtvn_false_positives_per_case"] == 0.5
    assert metrics.aggregates["gtvn_hd95_mm"].patients == 1
    assert metrics.ranked == ("gtvp_dice", "gtvn_aggregated_dice", "gtvn_aggregated_f1")
    assert (metrics.cases, metrics.failed) == (2, 0)


def test_groups_contain_only_their_cases(submission: Submission) -> None:
    submission.add_truth("MDA-001", image(TRUTH))
    submission.add_truth("MDA-002", image(TRUTH), CenterID=8, FieldOfView="whole_body")
    submission.add_truth("CHUP-003", image(labels(NODE)))
    for case_id in ("MDA-001", "MDA-002"):
        submission.add_mask(case_id, image(TRUTH))
    submission.add_mask("CHUP-003", image(labels(PRIMARY)))
    groups = submission.segmentation().groups
    assert {name: g.patients for name, g in groups["centre"].items()} == {
        "CHUP": 1, "MDA": 1, "USZ": 1,
    }  # fmt: skip
    assert list(groups["field_of_view"]) == ["head_neck", "whole_body"]
    assert groups["field_of_view"]["head_neck"].patients == 2  # 24 mm long
    assert list(groups["gtvp_volume_ml"]) == ["0", "0-5"]
    assert groups["gtvp_volume_ml"]["0"].aggregates["gtvp_dice"].value == 0
    assert groups["gtvp_volume_ml"]["0-5"].aggregates["gtvp_dice"].value == 1


def test_volume_groups_are_in_order(submission: Submission) -> None:
    for number, edge in enumerate((1.0, 3.0, 5.0, 7.0)):
        grid = Grid(GRID.size_xyz, (edge * 5, edge * 5, edge * 3), GRID.origin_mm)
        mask = image(labels(PRIMARY), grid)  # 1.2, 32, 150 and 412 ml
        submission.add_truth(f"MDA-{number}", mask)
        submission.add_mask(f"MDA-{number}", mask)
    small = Grid(GRID.size_xyz, (5.0, 10.0, 10.0), GRID.origin_mm)  # 8 ml
    submission.add_truth("MDA-9", image(labels(PRIMARY), small))
    groups = submission.segmentation().groups["gtvp_volume_ml"]
    assert {name: group.patients for name, group in groups.items()} == {
        "0-5": 1, "5-20": 1, "20+": 3,
    }  # fmt: skip


def test_lesions_are_counted_by_their_own_volume(submission: Submission) -> None:
    grid = Grid(GRID.size_xyz, (5.0, 10.0, 10.0), GRID.origin_mm)  # voxels of 0.5 ml
    small = (N, slice(0, 1), slice(0, 1), slice(0, 1))  # 0.5 ml
    middle = (N, slice(0, 1), slice(8, 10), slice(0, 1))  # 1 ml, the lower end of its group
    nodes = image(labels(small, middle, NODE), grid)  # NODE has 8 ml
    for case_id, found in (("MDA-1", (NODE, small)), ("MDA-2", (NODE,)), ("MDA-3", ())):
        submission.add_truth(case_id, nodes if found else image(labels(), grid))
        submission.add_mask(case_id, image(labels(*found), grid))
    submission.add_truth("MDA-4", image(labels(small), grid))  # without a job
    lesions = submission.segmentation().lesions_by_volume_ml
    assert lesions["GTVp"] == {}
    assert {
        volume: (group.lesions, group.sensitivity.value, group.sensitivity.patients)
        for volume, group in lesions["GTVn"].items()
    } == {"0-1": (3, 1 / 3, 3), "1-5": (2, 0, 2), "5-20": (2, 1, 2)}


def test_missing_and_failed_cases_score_zero_and_are_named(submission: Submission) -> None:
    for case_id in ("A-1", "A-2", "A-3"):
        submission.add_truth(case_id, image(labels(NODE)))
    submission.add_mask("A-1", image(labels(NODE)))
    submission.add_job("A-2", "segmentation", status="Failed")
    metrics = submission.segmentation()
    assert [result.failure for result in metrics.results] == [
        None,
        "the job ended as 'Failed'",
        "no job has this case",
    ]
    assert [result.pk for result in metrics.results] == ["job-000", "job-001", None]
    assert metrics.failed == 2
    # The truth has no primary. Only A-1 is right, because the other cases have no answer.
    assert [result.labels["GTVp"].dice for result in metrics.results] == [1, 0, 0]
    assert [result.labels["GTVn"].dice for result in metrics.results] == [1, 0, 0]
    assert metrics.aggregates["gtvn_aggregated_dice"].value == pytest.approx(2 / 4)
    assert metrics.aggregates["gtvn_aggregated_f1"].value == pytest.approx(2 / 4)
    assert metrics.alternatives["gtvp_dice"]["absent in both masks: left out"] == 0
    assert metrics.alternatives["gtvp_dice"]["absent in the truth: left out"] is None


def moved(origin_mm: tuple[float, float, float]) -> Grid:
    return Grid(GRID.size_xyz, GRID.spacing_mm, origin_mm)


FLIPPED = Grid(GRID.size_xyz, GRID.spacing_mm, GRID.origin_mm, (-1, 0, 0, 0, 1, 0, 0, 0, 1))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (image(TRUTH, moved((-5, 7.5, 101))), "origin_mm (-5.0, 7.5, 101.0) instead of"),
        (image(TRUTH, FLIPPED), "on the CT's grid, found direction"),
        (image(TRUTH, Grid(GRID.size_xyz, (1, 2, 3.1), GRID.origin_mm)), "found spacing_mm"),
        (image(TRUTH[1:]), "size (x, y, z) (12, 10, 7) instead of (12, 10, 8)"),
        (image(TRUTH)[:, :, 0], "expected a readable 3-D image"),
        (image(TRUTH.astype(np.float32)), ".mha, found float32"),
        (image(TRUTH + 1), "found values from 1 to 3"),
        (image(TRUTH.astype(np.int16) - 1), "found values from -1 to 1"),
        (sitk.JoinSeries([image(TRUTH)] * 2), "expected a readable 3-D image"),
        (sitk.Compose([image(TRUTH)] * 2), "expected a readable 3-D image"),
    ],
    ids=["moved", "flipped", "spacing", "size", "slice", "float", "3", "-1", "4-D", "vector"],
)
def test_invalid_label_map_fails_its_case(
    submission: Submission, mask: sitk.Image, words: str
) -> None:
    submission.add_truth("MDA-001", image(TRUTH))
    submission.add_truth("MDA-002", image(TRUTH))
    submission.add_mask("MDA-001", mask)
    submission.add_mask("MDA-002", image(TRUTH))
    first, second = submission.segmentation().results
    assert words in (first.failure or "")
    assert first.labels["GTVp"].dice == first.labels["GTVn"].dice == 0
    assert first.labels["GTVn"].false_negatives == 1
    assert second.failure is None


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64])
def test_any_integer_type_on_nearly_the_same_grid_is_scored(
    submission: Submission, kind: type[np.generic]
) -> None:
    submission.add_truth("MDA-001", image(TRUTH))
    submission.add_mask("MDA-001", image(TRUTH.astype(kind), moved((-5, 7.5, 100.0005))))
    assert submission.segmentation().results[0].labels["GTVn"].dice == 1


def test_exactly_one_image_is_expected(submission: Submission) -> None:
    submission.add_truth("MDA-001", image(TRUTH))
    folder = submission.add_mask("MDA-001", image(TRUTH), "a.mha")
    sitk.WriteImage(image(TRUTH), str(folder / "b.mha"))
    assert "found a.mha, b.mha" in (submission.segmentation().results[0].failure or "")
    (folder / "a.mha").unlink()
    (folder / "b.mha").unlink()
    assert "found none" in (submission.segmentation().results[0].failure or "")
    folder.rmdir()
    assert "found none" in (submission.segmentation().results[0].failure or "")
    folder.mkdir()
    (folder / "c.mha").mkdir()
    assert "c.mha is a folder, not a file" in (submission.segmentation().results[0].failure or "")
    (folder / "c.mha").rmdir()
    (folder / "c.mha").write_bytes(b"ObjectType = Image\nElementDataFile = LOCAL\n")
    assert "its header has no NDims" in (submission.segmentation().results[0].failure or "")


def test_mask_must_not_refer_to_a_file_of_the_truth(submission: Submission) -> None:
    submission.add_truth("MDA-001", image(TRUTH))
    folder = submission.add_mask("MDA-001", image(labels()))
    secret = submission.root / "secret.raw"
    secret.write_bytes(TRUTH.tobytes())
    header = (folder / "x.mha").read_bytes().split(b"ElementDataFile")[0]
    (folder / "x.mha").write_bytes(header + f"ElementDataFile = {secret}\n".encode())
    result = submission.segmentation().results[0]
    assert "x.mha refers to voxels in another file" in (result.failure or "")
    assert result.labels["GTVp"].dice == 0


def test_broken_truth_is_an_error_of_the_organisers(submission: Submission) -> None:
    submission.add_truth("MDA-001", image(TRUTH + 5))
    submission.add_mask("MDA-001", image(TRUTH))
    with pytest.raises(
        ValueError, match="ground truth of MDA-001: expected only the labels 0, 1, 2"
    ):
        submission.segmentation()


def test_scores_under_other_rules_are_reported(submission: Submission) -> None:
    absent = labels(NODE)
    submission.add_truth("MDA-001", image(absent))
    submission.add_mask("MDA-001", image(absent))
    submission.add_truth("MDA-002", image(TRUTH))
    submission.add_mask("MDA-002", image(labels(NODE)))
    # Two nodes that touch at a corner: one lesion at 26 neighbours, two at 6.
    touching = labels(
        (N, slice(0, 1), slice(0, 1), slice(0, 1)), (N, slice(1, 2), slice(1, 2), slice(1, 2))
    )
    submission.add_truth("MDA-003", image(touching))
    submission.add_mask("MDA-003", image(touching))
    metrics = submission.segmentation()
    assert metrics.aggregates["gtvp_dice"].value == pytest.approx(2 / 3)
    assert metrics.alternatives["gtvp_dice"] == {
        "absent in both masks: 0": 0,
        "absent in both masks: left out": 0,
        "absent in the truth: left out": 0,
    }
    counts = {case.case_id: case.labels["GTVn"].true_positives for case in metrics.results}
    assert counts == {"MDA-001": 1, "MDA-002": 1, "MDA-003": 1}
    assert set(metrics.alternatives["gtvn_aggregated_f1"]) == {
        f"connectivity {c}, matching {m}" for c in (6, 18, 26) for m in ("greedy", "most")
    } - {"connectivity 26, matching greedy"}
    six = submission.segmentation(rules=ScoringRules(connectivity=6, bootstrap_samples=50))
    assert six.results[2].labels["GTVn"].true_positives == 2
    zero = submission.segmentation(rules=ScoringRules(both_empty=0, bootstrap_samples=50))
    assert zero.aggregates["gtvp_dice"].value == 0
    assert zero.alternatives["gtvp_dice"] == {
        "absent in both masks: 1": pytest.approx(2 / 3),
        "absent in both masks: left out": 0,
        "absent in the truth: left out": 0,
    }
    half = submission.segmentation(rules=ScoringRules(one_empty=0.5, bootstrap_samples=50))
    assert half.aggregates["gtvp_dice"].value == pytest.approx(2.5 / 3)
    assert half.alternatives["gtvp_dice"]["absent in one mask: 0"] == pytest.approx(2 / 3)


def test_number_of_processes_does_not_change_the_metrics(submission: Submission) -> None:
    for number in range(3):
        submission.add_truth(f"MDA-{number}", image(np.roll(TRUTH, number, axis=0)))
        submission.add_mask(f"MDA-{number}", image(TRUTH))
    assert submission.segmentation(workers=2) == submission.segmentation(workers=1)


def score_node(prediction: tuple[object, ...], truth: tuple[object, ...]) -> LabelScores:
    scores, _ = score_masks(
        labels(*prediction),  # type: ignore[arg-type]
        labels(*truth),  # type: ignore[arg-type]
        grid=GRID,
        rules=QUICK,
    )
    return scores["GTVn"]


def test_lesions_of_single_voxels_are_scored() -> None:
    voxel = (N, slice(0, 1), slice(0, 1), slice(0, 1))
    same = score_node((voxel,), (voxel,))
    assert (same.dice, same.hd95_mm, same.surface_dice) == (1, 0, 1)
    assert (same.true_positives, same.prediction_mm3) == (1, 6)
    apart = score_node(((N, slice(0, 1), slice(0, 1), slice(11, 12)),), (voxel,))
    assert (apart.dice, apart.hd95_mm, apart.surface_dice) == (0, 11, 0)
    assert (apart.true_positives, apart.false_positives, apart.false_negatives) == (0, 1, 1)


def test_node_split_in_two_is_detected_once_and_its_rest_is_false() -> None:
    left = (N, Z, Y, slice(0, 4))
    right = (N, Z, Y, slice(5, 10))
    whole = (N, Z, Y, slice(0, 10))
    split = score_node((left, right), (whole,))
    assert (split.true_positives, split.false_positives, split.false_negatives) == (1, 1, 0)
    assert split.lesions[0].iou == 5 / 10
    assert split.false_positives_mm3 == (16 * 6,)


def test_two_touching_nodes_are_one_lesion() -> None:
    touching = ((N, Z, Y, slice(0, 4)), (N, Z, slice(5, 7), slice(4, 8)))
    apart = ((N, Z, Y, slice(0, 4)), (N, Z, slice(5, 7), slice(5, 9)))
    assert score_node((), touching).false_negatives == 1
    assert score_node((), apart).false_negatives == 2


def test_two_empty_masks_have_a_dice_of_one() -> None:
    nothing = score_node((), ())
    assert (nothing.dice, nothing.hd95_mm, nothing.lesions) == (1, None, ())
