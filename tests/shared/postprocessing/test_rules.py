"""Rules on lesions, each by hand on a few voxels, and off unless turned on."""

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
    """Return probabilities and SUV of cubes of 4 voxels: label, place along x, probability, SUV.

    What a lesion does not hold for its own label it holds for the other kind of lesion.
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
    return label_map(probabilities, suv, 1.0, sizes, Rules.model_validate(rules))


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
        # Touching parts: a quarter of the volume is under the bound, or not.
        (
            ((P, slice(2, 4), 0.9, 9.0), (N, slice(4, 10), 0.9, 9.0)),
            {"minority_share": 0.3},
            "..NNNNNNNN..............",
        ),
        (
            ((P, slice(2, 4), 0.9, 9.0), (N, slice(4, 10), 0.9, 9.0)),
            {"minority_share": 0.2},
            "..PPNNNNNN..............",
        ),
        # A primary that is not likely enough is what its voxels hold for second likeliest.
        ((PRIMARY, SMALL), {"min_primary_probability": 0.7}, "..PPPP..............NN.."),
        ((PRIMARY, SMALL), {"min_primary_probability": 0.5}, "..PPPP..............PP.."),
        # 4 x 4 x 2 voxels of 0.6 are 19.2 mm³.
        ((PRIMARY, SMALL), {"min_primary_mass_mm3": 19.0}, "..PPPP..............PP.."),
        ((PRIMARY, SMALL), {"min_primary_mass_mm3": 20.0}, "..PPPP..............NN.."),
        ((PRIMARY, SMALL), {"min_primary_suv_max": 4.0}, "..PPPP.................."),
        # 19.2 of 57.6 mm³ is a third.
        ((PRIMARY, SMALL), {"satellite_share": 0.3}, "..PPPP..............PP.."),
        ((PRIMARY, SMALL), {"satellite_share": 0.4}, "..PPPP..............NN.."),
        # Nodes 2 voxels apart, or 4.
        ((NODE, (N, slice(18, 22), 0.9, 6.0)), {"node_gap_mm": 2.0}, "............NNNNNNNNNN.."),
        ((NODE, (N, slice(20, 24), 0.9, 6.0)), {"node_gap_mm": 2.0}, "............NNNN....NNNN"),
        # Nodes 3 voxels apart.
        ((NODE, (N, slice(19, 23), 0.9, 6.0)), {"node_gap_mm": 2.0}, "............NNNN...NNNN."),
        ((NODE, (N, slice(19, 23), 0.9, 6.0)), {"node_gap_mm": 3.0}, "............NNNNNNNNNNN."),
        ((PRIMARY, NODE), {"min_node_suv_max": 6.5}, "..PPPP.................."),
        # A node that was taken for a primary meets the bound of nodes, not that of primaries.
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


def test_a_primary_beside_background_becomes_background() -> None:
    probabilities, suv = scene()
    probabilities[:, 4:8, 4:8, 4:8] = np.array([0.35, 0.5, 0.15])[:, None, None, None]
    labels = label_map(probabilities, suv, 1.0, {}, Rules(min_primary_probability=0.6))
    assert not labels.any()


def test_joining_nodes_leaves_primaries_alone() -> None:
    lesions = (NODE, (P, slice(16, 18), 0.9, 9.0), (N, slice(18, 22), 0.9, 6.0))
    assert along_x(labels_of(lesions, {}, node_gap_mm=4.0)) == "............NNNNPPNNNN.."


@pytest.mark.parametrize(("gap_mm", "joined"), [(2.0, False), (3.9, False), (4.0, True)])
def test_gaps_are_in_mm(gap_mm: float, joined: bool) -> None:
    probabilities, suv = scene(NODE, (N, slice(18, 22), 0.9, 6.0))  # 2 voxels of 2 mm apart
    labels = label_map(probabilities, suv, 2.0, {}, Rules(node_gap_mm=gap_mm))
    assert along_x(labels)[16:18] == ("NN" if joined else "..")


def test_joining_fills_the_way_between_nodes_only() -> None:
    labels = labels_of((NODE, (N, slice(18, 22), 0.9, 6.0)), {}, node_gap_mm=2.0)
    expected = np.zeros_like(labels)
    expected[4:8, 4:8, 12:22] = N
    assert np.array_equal(labels, expected)


def test_small_components_go_last() -> None:
    # The two nodes, 32 mm³ each, are one when their size is judged.
    lesions = ((N, slice(4, 6), 0.9, 6.0), (N, slice(8, 10), 0.9, 6.0))
    assert (
        along_x(labels_of(lesions, {"GTVn": 70.0}, node_gap_mm=2.0)) == "....NNNNNN.............."
    )
    assert not labels_of(lesions, {"GTVn": 70.0}).any()


def test_sizes_are_in_mm3_for_each_label() -> None:
    probabilities, suv = scene(PRIMARY, NODE)  # 64 voxels each
    for spacing_mm, kept in ((1.0, "............NNNN"), (2.0, "..PPPP......NNNN")):
        labels = label_map(probabilities, suv, spacing_mm, {"GTVp": 100.0}, Rules())
        assert along_x(labels).rstrip(".") == kept


@settings(max_examples=25, deadline=None)
@given(arrays(np.float32, (3, 5, 6, 7), elements=st.floats(0, 1, width=16)))
def test_without_rules_it_is_the_likeliest_label(probabilities: Volume) -> None:
    labels = label_map(probabilities, np.zeros((5, 6, 7), np.float32), 2.0, {}, Rules())
    assert np.array_equal(labels, probabilities.argmax(axis=0))


@settings(max_examples=25, deadline=None)
@given(arrays(np.float32, (3, 5, 6, 7), elements=st.floats(0, 1, width=16)), st.integers(0, 99))
def test_rules_only_turn_lesions_into_each_other_or_into_nothing(
    probabilities: Volume, seed: int
) -> None:
    suv = np.random.default_rng(seed).uniform(0, 5, (5, 6, 7)).astype(np.float32)
    before = probabilities.argmax(axis=0)
    rules = Rules(
        minority_share=0.4, min_primary_probability=0.5, min_primary_suv_max=2,
        satellite_share=0.5, min_node_suv_max=3,
    )  # fmt: skip
    labels = label_map(probabilities, suv, 2.0, {"GTVp": 16.0, "GTVn": 16.0}, rules)
    assert set(np.unique(labels)) <= {0, 1, 2}
    assert not labels[before == 0].any()


def test_nothing_found_stays_nothing() -> None:
    probabilities, suv = scene()
    rules = Rules(node_gap_mm=4, min_node_suv_max=3, satellite_share=1)
    assert not label_map(probabilities, suv, 1.0, {"GTVp": 100.0}, rules).any()


@pytest.mark.parametrize(
    "wrong", [{"minority_share": 0.6}, {"node_gap_mm": -1}, {"satellite_share": 2}, {"colour": 1}]
)
def test_impossible_rules_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Rules.model_validate(wrong)
