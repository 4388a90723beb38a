"""The strong augmentation: by hand, and as properties of many draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training.samples import strong_augmentation as strong
from training.samples.augmentation import Augmentation, Crop
from training.samples.strong_augmentation import StrongAugmentation, draw

SHAPE = (20, 22, 24)
WHOLE: Crop = (slice(0, 20), slice(0, 22), slice(0, 24))
DRAWS = 2000


def sample() -> tuple[Tensor, Tensor]:
    """Return smooth channels, one in [-1, 1] and one in [0, 5], and a label map with a ball."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    image = torch.stack([torch.sin(3 * z + y), 5 * torch.exp(-4 * (x**2 + y**2 + z**2))])
    return image, (x**2 + y**2 + z**2 < 0.3).to(torch.uint8)


def drawn(count: int = DRAWS) -> list[StrongAugmentation]:
    rng = np.random.default_rng(0)
    return [draw(rng) for _ in range(count)]


@given(seed=st.integers(0, 2**31 - 1), move=st.booleans())
def test_shapes_types_and_labels_stay(seed: int, move: bool) -> None:
    affine = Augmentation("affine", angles_degrees=(20.0, -5.0, 9.0), scale=0.8) if move else None
    image, labels = sample()
    image_before, labels_before = image.clone(), labels.clone()
    changed, moved = StrongAugmentation(affine, seed).apply(image, labels, WHOLE)
    assert type(changed) is Tensor
    assert (changed.shape, changed.dtype) == (image.shape, image.dtype)
    assert (moved.shape, moved.dtype) == (labels.shape, labels.dtype)
    assert torch.isfinite(changed).all()
    assert set(moved.unique().tolist()) <= {0, 1}
    assert torch.equal(moved, labels) != move
    assert torch.equal(image, image_before)
    assert torch.equal(labels, labels_before)


def test_an_augmentation_is_deterministic() -> None:
    for augmentation in drawn(20):
        one, other = (augmentation.apply(*sample(), WHOLE) for _ in range(2))
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_rotation_and_scale_move_channels_and_labels_as_in_trivial_augment() -> None:
    """The seed of this test changes no intensity."""
    image, labels = sample()
    still = next(
        seed
        for seed in range(1000)
        if torch.equal(StrongAugmentation(None, seed).apply(image, labels, WHOLE)[0], image)
    )
    affine = Augmentation("affine", angles_degrees=(20.0, -5.0, 9.0), scale=0.8)
    changed, moved = StrongAugmentation(affine, still).apply(image, labels, WHOLE)
    expected, expected_labels = affine.apply(image, labels)
    assert torch.equal(changed, expected)
    assert torch.equal(moved, expected_labels)


def test_a_crop_is_the_crop_of_what_moved() -> None:
    """Noise would differ between the sizes, so only the labels are compared."""
    crop = (slice(4, 12), slice(5, 13), slice(6, 14))
    _, labels = sample()
    for augmentation in drawn(50):
        _, moved = augmentation.apply(*sample(), crop)
        expected = labels[crop]
        if augmentation.affine is not None:
            expected = augmentation.affine.apply(*sample(), crop)[1]
        assert torch.equal(moved, expected)


def test_margins_are_those_of_rotation_and_scale() -> None:
    affine = Augmentation("affine", angles_degrees=(30.0, 0.0, 0.0), scale=0.7)
    expected = affine.source_margin_vox((8, 9, 10))
    assert StrongAugmentation(affine, 0).source_margin_vox((8, 9, 10)) == expected
    assert min(expected) >= 1
    assert StrongAugmentation(None, 0).source_margin_vox((8, 9, 10)) == (0, 0, 0)


def test_a_fifth_is_rotated_and_a_fifth_is_scaled_within_the_ranges() -> None:
    moved = [each.affine for each in drawn() if each.affine is not None]
    rotated = [each.angles_degrees for each in moved if any(each.angles_degrees)]
    scaled = [each.scale for each in moved if each.scale != 1]
    three_sigma = 3 * np.sqrt(0.2 * 0.8 / DRAWS)
    assert len(rotated) / DRAWS == pytest.approx(0.2, abs=three_sigma)
    assert len(scaled) / DRAWS == pytest.approx(0.2, abs=three_sigma)
    assert len(moved) / DRAWS == pytest.approx(1 - 0.8**2, abs=3 * np.sqrt(0.36 * 0.64 / DRAWS))
    angles = np.array(rotated)
    assert (angles.min(axis=0) < -28).all()
    assert (angles.max(axis=0) > 28).all()
    assert np.abs(angles).max() <= strong.MAX_ROTATION_DEGREES == 30
    assert 0.7 <= min(scaled) < 0.72
    assert 1.38 < max(scaled) <= 1.4


def test_channels_change_independently_of_each_other() -> None:
    """With probability q, a channel stays as it is; both stay with probability q squared."""
    image, labels = sample()
    changes = np.array(
        [
            [
                not torch.equal(channel, before)
                for channel, before in zip(
                    StrongAugmentation(None, seed).apply(image, labels, WHOLE)[0],
                    image,
                    strict=True,
                )
            ]
            for seed in range(600)
        ]
    )
    unchanged = 0.9 * 0.9 * 0.85 * 0.85 * 0.875 * 0.9 * 0.7  # a channel that no transform changes
    np.testing.assert_allclose(1 - changes.mean(axis=0), unchanged, atol=0.06)
    assert 1 - changes.any(axis=1).mean() == pytest.approx(unchanged**2, abs=0.05)


def test_intensities_stay_near_their_range() -> None:
    """Brightness adds at most a quarter, and noise a few of its standard deviations."""
    image, labels = sample()
    for augmentation in drawn(300):
        ct, pet = augmentation.apply(image, labels, WHOLE)[0]
        assert float(ct.min()) > -2.2
        assert float(ct.max()) < 2.2
        assert float(pet.min()) > -1.5
        assert float(pet.max()) < 5 * 1.25 + 1.5
