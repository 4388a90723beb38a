"""The post-processing rules: each by hand on a few voxels and at its limit; off by default."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from shared.conventions import Label, LabelVolume, Volume
from shared.postprocessing.rules import Rules, label_map

P, N = Label.GTVP, Label.GTVN
SHAPE = (12, 12, 24)


def scene(*lesions: tuple[Label, slice, float, float]) -> tuple[Volume, Volume]:
    """Return probabilities and SUV of lesions: boxes of 4 x 4 voxels and a range along x.

    Each lesion is given by label, range, probability and SUV. The rest of its probability belongs
    to the other label.
    """
    probabilities = np.zeros((3, *SHAPE), np.float32)
    probabilities[0] = 1
    suv = np.zeros(SHAPE, np.float32)
    for label, along_x, probability, uptake in lesions:
        box = (slice(4, 8), slice(4, 8), along_x)
        other = N if label == P else P
        probabilities[0][box] = 0
        probabilities[label][box], probabilities[other][box] = probability, 1 - probability
        suv[box] = uptake
    return probabilities, suv


def labels_of(
    lesions: tuple[tuple[Label, slice, float, float], ...], sizes: dict[str, float], **rules: float
) -> LabelVolume:
    probabilities, suv = scene(*lesions)
    return label_map(
        probabilities,
        suv,
        spacing_mm=1.0,
        min_component_mm3=sizes,
        rules=Rules.model_validate(rules),
    )


def along_x(labels: LabelVolume) -> str:
    """Return the middle line as text."""
    return "".join(".PN"[value] for value in labels[5, 5])


PRIMARY = (P, slice(2, 6), 0.9, 9.0)
NODE = (N, slice(12, 16), 0.9, 6.0)
SMALL = (P, slice(20, 22), 0.6, 3.0)


@pytest.mark.parametrize(
    ("lesions", "rules", "expected"),
    [
        ((PRIMARY, NODE), {}, "..PPPP......NNNN........"),
        # Parts that touch: the smaller one, a quarter, is below the limit, equal to it or above it.
        (
            ((P, slice(2, 4), 0.9, 9.0), (N, slice(4, 10), 0.9, 9.0)),
            {"minority_share": 0.3},
            "..NNNNNNNN..............",
        ),
        (
            ((P, slice(2, 4), 0.9, 9.0), (N, slice(4, 10), 0.9, 9.0)),
            {"minority_share": 0.25},
            "..PPNNNNNN..............",
        ),
        (
            ((P, slice(2, 4), 0.9, 9.0), (N, slice(4, 10), 0.9, 9.0)),
            {"minority_share": 0.2},
            "..PPNNNNNN..............",
        ),
        (
            ((P, slice(2, 8), 0.9, 9.0), (N, slice(8, 10), 0.9, 9.0)),
            {"minority_share": 0.3},
            "..PPPPPPPP..............",
        ),
        # A primary with a low probability gets the second most probable label.
        ((PRIMARY, SMALL), {"min_primary_probability": 0.7}, "..PPPP..............NN.."),
        ((PRIMARY, SMALL), {"min_primary_probability": 0.5}, "..PPPP..............PP.."),
        # The mass of 4 x 4 x 2 voxels with a probability of 0.6 is 19.2 mm³.
        ((PRIMARY, SMALL), {"min_primary_mass_mm3": 19.0}, "..PPPP..............PP.."),
        ((PRIMARY, SMALL), {"min_primary_mass_mm3": 20.0}, "..PPPP..............NN.."),
        ((PRIMARY, SMALL), {"min_primary_suv_max": 4.0}, "..PPPP.................."),
        # Its mass is a third of that of the other primary, 57.6 mm³.
        ((PRIMARY, SMALL), {"satellite_share": 0.3}, "..PPPP..............PP.."),
        ((PRIMARY, SMALL), {"satellite_share": 0.4}, "..PPPP..............NN.."),
        # Two nodes with a gap of 2 or 4 voxels.
        ((NODE, (N, slice(18, 22), 0.9, 6.0)), {"node_gap_mm": 2.0}, "............NNNNNNNNNN.."),
        ((NODE, (N, slice(20, 24), 0.9, 6.0)), {"node_gap_mm": 2.0}, "............NNNN....NNNN"),
        # Two nodes with a gap of 3 voxels.
        ((NODE, (N, slice(19, 23), 0.9, 6.0)), {"node_gap_mm": 2.0}, "............NNNN...NNNN."),
        ((NODE, (N, slice(19, 23), 0.9, 6.0)), {"node_gap_mm": 3.0}, "............NNNNNNNNNNN."),
        ((PRIMARY, NODE), {"min_node_suv_max": 6.5}, "..PPPP.................."),
        # A relabelled primary must meet the SUV limit of nodes, not that of primaries.
        (
            (PRIMARY, SMALL),
            {"min_primary_probability": 0.7, "min_primary_suv_max": 4.0, "min_node_suv_max": 3.0},
            "..PPPP..............NN..",
        ),
        ((PRIMARY, NODE), {"min_node_suv_max": 6.0}, "..PPPP......NNNN........"),
    ],
)
def test_rule_by_hand(
    lesions: tuple[tuple[Label, slice, float, float], ...], rules: dict[str, float], expected: str
) -> None:
    assert along_x(labels_of(lesions, {}, **rules)) == expected


def test_every_rule_is_off_by_default() -> None:
    assert set(Rules().model_dump().values()) == {0.0}
    assert not Rules().judge_primaries


# Powers of two, so that no rounding decides at the limit: a mass of 64 * 0.75 = 48 mm³ and of
# 32 * 0.75 = 24 mm³.
HEAVY, LIGHT = (P, slice(2, 6), 0.75, 8.0), (P, slice(20, 22), 0.75, 2.0)


@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        ("min_primary_probability", 0.75),
        ("min_primary_mass_mm3", 24.0),
        ("min_primary_suv_max", 2.0),
        ("satellite_share", 0.5),
    ],
)
def test_primary_at_the_limit_stays(rule: str, limit: float) -> None:
    assert along_x(labels_of((HEAVY, LIGHT), {}, **{rule: limit})) == "..PPPP..............PP.."
    above = along_x(labels_of((HEAVY, LIGHT), {}, **{rule: limit * 1.01}))
    assert "P" not in above[20:], "beyond the limit it is a node or background"


def test_lesion_with_equal_shares_of_both_labels_stays_split() -> None:
    lesions = ((P, slice(2, 6), 0.9, 9.0), (N, slice(6, 10), 0.9, 9.0))
    assert along_x(labels_of(lesions, {}, minority_share=0.5)) == "..PPPPNNNN.............."


def test_improbable_primary_with_equal_probabilities_of_node_and_background_is_removed() -> None:
    probabilities, suv = scene()
    probabilities[:, 4:8, 4:8, 4:8] = np.array([0.25, 0.5, 0.25])[:, None, None, None]
    rules = Rules(min_primary_probability=0.6)
    labels = label_map(probabilities, suv, spacing_mm=1.0, min_component_mm3={}, rules=rules)
    assert not labels.any()


@pytest.mark.parametrize(("limit_mm3", "stays"), [(384, True), (385, False)])
def test_mass_is_in_mm3(limit_mm3: float, stays: bool) -> None:
    probabilities, suv = scene(HEAVY)  # 64 voxels of 8 mm³ and a probability of 0.75
    labels = label_map(
        probabilities,
        suv,
        spacing_mm=2.0,
        min_component_mm3={},
        rules=Rules(min_primary_mass_mm3=limit_mm3),
    )
    assert (Label.GTVP in labels) == stays


def test_rules_apply_to_a_lesion_that_fills_the_whole_volume() -> None:
    probabilities = np.zeros((3, 4, 4, 4), np.float32)
    probabilities[N] = 1
    labels = label_map(
        probabilities,
        np.ones((4, 4, 4), np.float32),
        spacing_mm=1.0,
        min_component_mm3={},
        rules=Rules(min_node_suv_max=2),
    )
    assert not labels.any()


def test_lesions_with_overlapping_boxes_are_told_apart() -> None:
    probabilities, suv = scene()
    # An L of uptake 9 around a node of uptake 2: the box of the L contains the other node.
    place = np.zeros(SHAPE, bool)
    place[4:10, 4, 4:10] = place[4, 4:10, 4:10] = place[8:10, 8:10, 8:10] = True
    probabilities[0][place], probabilities[N][place] = 0, 1
    suv[place] = 9
    suv[8:10, 8:10, 8:10] = 2
    labels = label_map(
        probabilities, suv, spacing_mm=1.0, min_component_mm3={}, rules=Rules(min_node_suv_max=4)
    )
    assert np.array_equal(labels == N, suv == 9)


def test_improbable_primary_becomes_background_if_that_is_more_probable_than_node() -> None:
    probabilities, suv = scene()
    probabilities[:, 4:8, 4:8, 4:8] = np.array([0.35, 0.5, 0.15])[:, None, None, None]
    labels = label_map(
        probabilities,
        suv,
        spacing_mm=1.0,
        min_component_mm3={},
        rules=Rules(min_primary_probability=0.6),
    )
    assert not labels.any()


def test_joining_nodes_does_not_change_primaries() -> None:
    lesions = (NODE, (P, slice(16, 18), 0.9, 9.0), (N, slice(18, 22), 0.9, 6.0))
    assert along_x(labels_of(lesions, {}, node_gap_mm=4.0)) == "............NNNNPPNNNN.."


@pytest.mark.parametrize(("gap_mm", "joined"), [(2.0, False), (3.9, False), (4.0, True)])
def test_gaps_are_in_mm(gap_mm: float, joined: bool) -> None:
    probabilities, suv = scene(NODE, (N, slice(18, 22), 0.9, 6.0))  # 2 voxels of 2 mm apart
    labels = label_map(
        probabilities, suv, spacing_mm=2.0, min_component_mm3={}, rules=Rules(node_gap_mm=gap_mm)
    )
    assert along_x(labels)[16:18] == ("NN" if joined else "..")


def test_joining_fills_only_the_gap_between_nodes() -> None:
    labels = labels_of((NODE, (N, slice(18, 22), 0.9, 6.0)), {}, node_gap_mm=2.0)
    expected = np.zeros_like(labels)
    expected[4:8, 4:8, 12:22] = N
    assert np.array_equal(labels, expected)


def test_small_components_are_removed_last() -> None:
    # Each node has 32 mm³; they are joined before their size is checked.
    lesions = ((N, slice(4, 6), 0.9, 6.0), (N, slice(8, 10), 0.9, 6.0))
    assert (
        along_x(labels_of(lesions, {"GTVn": 70.0}, node_gap_mm=2.0)) == "....NNNNNN.............."
    )
    assert not labels_of(lesions, {"GTVn": 70.0}).any()


def test_sizes_are_in_mm3_for_each_label() -> None:
    probabilities, suv = scene(PRIMARY, NODE)  # 64 voxels each
    for spacing_mm, expected in ((1.0, "............NNNN"), (2.0, "..PPPP......NNNN")):
        labels = label_map(
            probabilities,
            suv,
            spacing_mm=spacing_mm,
            min_component_mm3={"GTVp": 100.0},
            rules=Rules(),
        )
        assert along_x(labels).rstrip(".") == expected


@settings(max_examples=25)
@given(arrays(np.float32, (3, 5, 6, 7), elements=st.floats(0, 1, width=16)))
def test_without_rules_the_most_probable_label_counts(probabilities: Volume) -> None:
    labels = label_map(
        probabilities,
        np.zeros((5, 6, 7), np.float32),
        spacing_mm=2.0,
        min_component_mm3={},
        rules=Rules(),
    )
    assert np.array_equal(labels, probabilities.argmax(axis=0))


@settings(max_examples=25)
@given(arrays(np.float32, (3, 5, 6, 7), elements=st.floats(0, 1, width=16)), st.integers(0, 99))
def test_rules_never_turn_background_into_a_lesion(probabilities: Volume, seed: int) -> None:
    suv = np.random.default_rng(seed).uniform(0, 5, (5, 6, 7)).astype(np.float32)
    before = probabilities.argmax(axis=0)
    rules = Rules(
        minority_share=0.4, min_primary_probability=0.5, min_primary_suv_max=2,
        satellite_share=0.5, min_node_suv_max=3,
    )  # fmt: skip
    labels = label_map(
        probabilities,
        suv,
        spacing_mm=2.0,
        min_component_mm3={"GTVp": 16.0, "GTVn": 16.0},
        rules=rules,
    )
    assert set(np.unique(labels)) <= {0, 1, 2}
    assert not labels[before == 0].any()


def test_rules_keep_an_empty_label_map_empty() -> None:
    probabilities, suv = scene()
    rules = Rules(node_gap_mm=4, min_node_suv_max=3, satellite_share=1)
    assert not label_map(
        probabilities, suv, spacing_mm=1.0, min_component_mm3={"GTVp": 100.0}, rules=rules
    ).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"minority_share": 0.51},
        {"minority_share": -0.01},
        {"min_primary_probability": 1.01},
        {"min_primary_probability": -0.01},
        {"min_primary_mass_mm3": -0.01},
        {"min_primary_suv_max": -0.01},
        {"satellite_share": 1.01},
        {"satellite_share": -0.01},
        {"node_gap_mm": -0.01},
        {"min_node_suv_max": -0.01},
        {"colour": 1},
    ],
)
def test_values_out_of_range_are_rejected(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Rules.model_validate(wrong)
