"""Segmented regions on the CT's own grid; tests/shared/preprocessing has round trips of cases."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.conventions import LabelVolume, Volume
from shared.geometry import Grid, resample
from shared.metrics.segmentation import dice
from shared.postprocessing.restore import SegmentedRegion, restore
from shared.preprocessing.pipeline import Undo
from tests.shared.postprocessing.segmented import certain

TURNED_AND_FLIPPED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def most_probable(lesions: Volume) -> SegmentedRegion:
    """Return a region from probabilities of GTVp and GTVn, shape (2, z, y, x)."""
    lesions = lesions.astype(np.float32)
    probabilities = np.concatenate([1 - lesions.sum(axis=0, keepdims=True), lesions])
    labels = probabilities.argmax(axis=0).astype(np.uint8)
    return SegmentedRegion(labels=labels, probabilities=probabilities)


def restored(segmented: SegmentedRegion, region: Grid, ct: Grid) -> LabelVolume:
    mask: LabelVolume = sitk.GetArrayFromImage(restore(segmented, Undo(region, ct)))
    return mask


def cube(grid: Grid, first: int, stop: int) -> LabelVolume:
    labels = np.zeros(grid.shape_zyx, np.uint8)
    labels[first:stop, first:stop, first:stop] = 2
    return labels


# By hand, along one line of voxels. The region's voxels of 4 mm have centres at 10, 14, … mm.

CT_LINE = Grid((14, 1, 1), (2.0, 2.0, 2.0), (1.0, 0.0, 0.0))  # centres at 1, 3, … 27 mm


def line(*lesions: tuple[float, float], labels: str | None = None) -> str:
    """Restore a line of probabilities of GTVp and GTVn, and return the labels as text.

    `labels` are the labels after the rules; by default, no rule has changed any.
    """
    segmented = most_probable(np.array(lesions).T[:, None, None, :])
    if labels is not None:
        changed = np.array([[["_PN".index(label) for label in labels]]], np.uint8)
        segmented = SegmentedRegion(labels=changed, probabilities=segmented.probabilities)
    region = Grid((len(lesions), 1, 1), (4.0, 4.0, 4.0), (10.0, 0.0, 0.0))
    return "".join("_PN"[label] for label in restored(segmented, region, CT_LINE).ravel())


NONE, SOME, MANY = (0.0, 0.0), (0.4, 0.0), (0.9, 0.0)


def test_outlines_by_hand() -> None:
    assert line((1.0, 0.0), (0.0, 1.0)) == "____PPNN______"
    assert line(NONE, (1.0, 0.0), (1.0, 0.0), NONE) == "______PPPP____"
    # The lesion is 8 mm long. Its field, the probability of the lesion minus that of background, is
    # -0.2, 0.8, 0.1 and -1 at 10, 14, 18 and 22 mm, so it is 0.05 at 11 mm and -0.175 at 19 mm: the
    # outline moves towards the more probable neighbour.
    assert line(SOME, MANY, (0.55, 0.0), NONE) == "_____PPPP_____"


def test_removed_lesion_stays_removed() -> None:
    assert line(NONE, MANY, MANY, NONE, labels="____") == "_" * 14
    assert line(MANY, NONE, MANY, labels="P__") == "____PP________"


def test_relabelled_lesion_takes_the_label_of_the_rule() -> None:
    assert line(NONE, MANY, MANY, NONE, labels="_NN_") == "______NNNN____"
    assert line((0.9, 0.0), (0.9, 0.0), labels="PN") == "____PPNN______"


def test_joined_gap_becomes_a_lesion() -> None:
    assert line((0.0, 0.9), NONE, (0.0, 0.9), labels="NNN") == "____NNNNNN____"


def test_equal_probabilities_keep_the_label() -> None:
    tie = (0.5, 0.0)
    assert line(tie, tie, labels="PP") == "____PPPP______"
    assert line(tie, tie, labels="__") == "_" * 14
    assert line((0.5, 0.5), (0.5, 0.5), labels="NN") == "____NNNN______"
    assert line((0.5, 0.5), (0.5, 0.5), labels="PP") == "____PPPP______"


def test_label_that_no_neighbour_has_does_not_appear() -> None:
    # At 12 mm the means are 0.275 for background, 0.45 for GTVp and 0.275 for GTVn.
    assert line((0.45, 0.05), (0.45, 0.5)) == "______NN______"


@pytest.mark.parametrize("probability", [0.51, 1.0])
def test_lesion_of_a_single_voxel_keeps_its_volume(probability: float) -> None:
    region = Grid((5, 5, 5), (4.0, 4.0, 4.0), (2.0, 2.0, 2.0))
    ct = Grid((20, 20, 20), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
    lesions = np.zeros((2, 5, 5, 5))
    lesions[1, 2, 2, 2] = probability
    voxels = np.argwhere(restored(most_probable(lesions), region, ct) == 2)
    assert len(voxels) == pytest.approx(4**3, abs=8)  # eight voxels are equally probable
    np.testing.assert_allclose(voxels.mean(axis=0), 9.5)
    assert np.abs(voxels - 9.5).max() < 4


def test_lesions_do_not_change_each_other() -> None:
    region = Grid((24, 12, 12), (4.0, 4.0, 4.0), (2.0, 2.0, 2.0))
    ct = Grid((96, 48, 48), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
    left, right = np.zeros((2, *region.shape_zyx), np.uint8)
    left[2:10, 2:10, 2:10], right[5, 5, 12] = 1, 1
    both = restored(certain(left + right), region, ct)
    alone = [restored(certain(labels), region, ct) for labels in (left, right)]
    assert np.array_equal(both, alone[0] + alone[1])


# Geometry


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), TURNED_AND_FLIPPED])
def test_mask_has_the_geometry_of_the_ct_and_the_position_of_the_region(
    direction: tuple[float, ...],
) -> None:
    ct = Grid((40, 36, 30), (1.5, 2.0, 2.5), (-20.0, 5.0, 70.0), direction)
    middle = ct.world_mm(np.array([[20.0, 18.0, 15.0]]))[0]
    region = Grid((16, 16, 16), (2.0, 2.0, 2.0), tuple((middle - 15).tolist()))
    mask = restore(certain(cube(region, 4, 12)), Undo(region, ct))
    assert Grid.of(mask) == ct
    assert mask.GetPixelID() == sitk.sitkUInt8
    lesion = np.argwhere(sitk.GetArrayFromImage(mask) == 2)[:, ::-1].astype(float)
    np.testing.assert_allclose(lesion.mean(axis=0), (20, 18, 15), atol=0.5)
    assert len(lesion) * ct.voxel_volume_mm3 == pytest.approx(16**3, rel=0.2)


def test_region_larger_than_the_ct_is_cropped() -> None:
    ct = Grid((5, 5, 5), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    region = Grid((20, 20, 20), (2.0, 2.0, 2.0), (-16.0, -16.0, -16.0))
    assert restored(certain(cube(region, 0, 20)), region, ct).all()


def test_lesion_that_the_ct_does_not_show_is_left_out() -> None:
    ct = Grid((5, 5, 5), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    region = Grid((20, 20, 20), (2.0, 2.0, 2.0), (-16.0, -16.0, -16.0))
    assert not restored(certain(cube(region, 0, 3)), region, ct).any()


def test_region_outside_the_ct_gives_background() -> None:
    ct = Grid((5, 6, 7), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    region = Grid((3, 3, 3), (2.0, 2.0, 2.0), (500.0, 0.0, 0.0))
    mask = restore(certain(cube(region, 0, 3)), Undo(region, ct))
    assert Grid.of(mask) == ct
    assert not sitk.GetArrayFromImage(mask).any()


def test_region_without_lesions_gives_background() -> None:
    grid = Grid((5, 6, 7), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    assert not restored(certain(cube(grid, 0, 0)), grid, grid).any()


# Properties

REGION = Grid((8, 7, 6), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
OBLIQUE = Grid(
    (24, 20, 18), (1.3, 1.9, 2.4), (-3.1, -1.2, -6.3),
    (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0),
)  # fmt: skip
LABELS = arrays(np.uint8, REGION.shape_zyx, elements=st.sampled_from([0, 0, 1, 2]))
SEEDS = st.integers(0, 999)


def random_probabilities(seed: int) -> Volume:
    probabilities = np.random.default_rng(seed).dirichlet([0.5] * 3, REGION.shape_zyx)
    return np.moveaxis(probabilities, -1, 0).astype(np.float32)


@settings(max_examples=30)
@given(LABELS, SEEDS)
def test_on_the_region_itself_labels_stay_whatever_the_probabilities_are(
    labels: LabelVolume, seed: int
) -> None:
    segmented = SegmentedRegion(labels=labels, probabilities=random_probabilities(seed))
    assert np.array_equal(restored(segmented, REGION, REGION), labels)


@settings(max_examples=30)
@given(LABELS, SEEDS)
def test_label_needs_a_neighbour_that_has_it(labels: LabelVolume, seed: int) -> None:
    segmented = SegmentedRegion(labels=labels, probabilities=random_probabilities(seed))
    mask = restored(segmented, REGION, OBLIQUE)
    for label in (1, 2):
        has_neighbour = sitk.GetArrayFromImage(
            resample(
                REGION.image((labels == label).astype(np.float32)),
                OBLIQUE,
                interpolation="linear",
                outside=0,
            )
        )
        assert not np.any((mask == label) & (has_neighbour == 0))


def blobs(*places: tuple[int, float, float, float]) -> SegmentedRegion:
    """Return spheres of 10 mm with soft outlines; each has a label and a position x, y, z in mm."""
    z, y, x = np.meshgrid(*(4.0 * np.arange(size) for size in REGION.shape_zyx), indexing="ij")
    lesions = np.zeros((2, *REGION.shape_zyx))
    for label, *centre in places:
        distance = np.sqrt(sum((a - c) ** 2 for a, c in zip((x, y, z), centre, strict=True)))
        lesions[label - 1] += 1 / (1 + np.exp((distance - 10) / 2))
    return most_probable(lesions / np.maximum(lesions.sum(axis=0), 1))


@pytest.mark.parametrize(
    "places",
    [
        # No position is symmetric to the voxels, so that no two values of a field are equal.
        [(1, 14.3, 11.2, 10.7)],
        [(2, 0.3, 0.7, 0.2)],  # at the region's corner
        [(1, 4.3, 12.2, 10.7), (2, 22.2, 12.9, 10.3)],  # touching
        [(1, 2.1, 4.3, 4.8), (2, 27.3, 20.1, 18.6)],
    ],
)
def test_each_lesion_has_the_voxels_with_the_highest_field(
    places: list[tuple[int, float, float, float]],
) -> None:
    """Compare with a version without boxes: fields on the whole region, all CT voxels in order."""
    segmented = blobs(*places)
    labels, (background, primary, node) = segmented.labels, segmented.probabilities
    field = on_oblique(np.maximum(primary, node) - background, outside=-9.0)
    is_primary = on_oblique(np.where(labels > 0, primary - node, 0), outside=0.0) >= 0
    nearest = sitk.GetArrayFromImage(
        resample(REGION.image(labels), OBLIQUE, interpolation="nearest", outside=0)
    )
    expected = np.zeros(OBLIQUE.shape_zyx, np.uint8)
    for label, side in ((1, is_primary), (2, ~is_primary)):
        is_near = on_oblique(labels == label, outside=0.0) > 0
        candidates = np.flatnonzero(is_near & side & (field > -9))
        count = np.count_nonzero(nearest == label)
        highest = candidates[np.argsort(-field.ravel()[candidates])[:count]]
        expected.ravel()[highest] = label
    assert np.any(expected)
    assert np.array_equal(restored(segmented, REGION, OBLIQUE), expected)


def on_oblique(volume: np.ndarray, outside: float) -> Volume:
    image = REGION.image(volume.astype(np.float32))
    values: Volume = sitk.GetArrayFromImage(
        sitk.Resample(
            image, OBLIQUE.filled(0, sitk.sitkFloat32), sitk.Transform(), sitk.sitkLinear, outside
        )
    )
    return values


def test_probabilities_at_4_mm_keep_a_lesion_of_the_ct() -> None:
    ct = Grid((64, 64, 24), (1.0, 1.0, 3.0), (0.5, 0.5, 1.5))
    region = Grid((16, 16, 18), (4.0, 4.0, 4.0), (2.0, 2.0, 2.0))
    fine = Grid((64, 64, 72), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))

    def ellipsoid(grid: Grid) -> LabelVolume:
        index = np.moveaxis(np.indices(grid.size_xyz), 0, -1).reshape(-1, 3).astype(float)
        inside = np.sum(((grid.world_mm(index) - (33, 30, 37)) / (20, 15, 25)) ** 2, axis=1) < 1
        return inside.reshape(grid.size_xyz).T.astype(np.uint8)

    truth = ellipsoid(ct)
    share = ellipsoid(fine).reshape(18, 4, 16, 4, 16, 4).mean(axis=(1, 3, 5))
    segmented = most_probable(np.stack([share, 0 * share]))
    steps = resample(region.image(segmented.labels), ct, interpolation="nearest", outside=0)
    assert dice(sitk.GetArrayFromImage(steps), truth, 1) < 0.95
    assert dice(restored(segmented, region, ct), truth, 1) > 0.98
