"""TrivialAugment: one random transform per sample, for image and labels together."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from training.samples import augmentation as augment
from training.samples.augmentation import Augmentation, draw

SHAPE = (24, 24, 24)


def ball(radius: float = 7, centre: tuple[float, float, float] = (11.5, 11.5, 11.5)) -> Tensor:
    z, y, x = np.indices(SHAPE)
    squared = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    return torch.from_numpy((squared < radius**2).astype(np.int64))


def sample(labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return an image whose two channels are the labels and their negative, and the labels."""
    labels = ball() if labels is None else labels
    image = torch.stack([labels.float(), -labels.float()])
    return image, labels


@pytest.fixture(scope="module")
def augmentations() -> list[Augmentation]:
    rng = np.random.default_rng(0)
    return [draw(rng) for _ in range(4000)]


def test_transforms_are_drawn_equally_often(augmentations: list[Augmentation]) -> None:
    counts = Counter(d.transform for d in augmentations)
    assert set(counts) == {"affine", "gamma", "noise", "blur"}
    for count in counts.values():
        assert count == pytest.approx(1000, abs=120)  # 4.4 standard deviations


def spans(values: list[float], low: float, high: float) -> bool:
    """Return whether values reach both ends of a range and their mean is in its middle."""
    width = high - low
    near = 0.05 * width
    return (
        low <= min(values) < low + near
        and high - near < max(values) <= high
        and abs(np.mean(values) - (low + high) / 2) < near
    )


def test_strengths_are_drawn_uniformly_from_their_ranges(augmentations: list[Augmentation]) -> None:
    by = {name: [d for d in augmentations if d.transform == name] for name in augment.TRANSFORMS}
    for axis in range(3):
        assert spans([d.angles_degrees[axis] for d in by["affine"]], -15, 15)
    assert spans([d.scale for d in by["affine"]], 0.9, 1.2)
    assert spans([d.strength for d in by["gamma"]], *augment.GAMMA_RANGE)
    assert spans([d.strength for d in by["noise"]], 0, augment.MAX_NOISE_STD)
    assert spans([d.strength for d in by["blur"]], 0, augment.MAX_BLUR_SIGMA_VOX)


def test_parameters_of_other_transforms_are_not_drawn(augmentations: list[Augmentation]) -> None:
    for d in augmentations:
        assert (d.transform == "affine") == (d.angles_degrees != (0.0, 0.0, 0.0))
        assert (d.transform == "affine") == (d.scale != 1.0)
        assert d.transform != "affine" or d.strength == 0
        assert d.transform == "noise" or d.seed == 0


def test_draws_depend_only_on_the_generator() -> None:
    one, other = (np.random.default_rng(3) for _ in range(2))
    assert [draw(one) for _ in range(20)] == [draw(other) for _ in range(20)]


EXAMPLES = [
    Augmentation("affine", angles_degrees=(12, -8, 5), scale=1.1),
    Augmentation("gamma", strength=0.7),
    Augmentation("noise", strength=0.1, seed=1),
    Augmentation("blur", strength=0.9),
]


@pytest.mark.parametrize("augmentation", EXAMPLES, ids=lambda d: d.transform)
def test_shapes_and_types_are_kept_and_arguments_not_modified(augmentation: Augmentation) -> None:
    labels = ball()
    image = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    image_before, labels_before = image.clone(), labels.clone()
    changed, moved = augmentation.apply(image, labels)
    assert (changed.shape, changed.dtype) == (image.shape, image.dtype)
    assert (moved.shape, moved.dtype) == (labels.shape, labels.dtype)
    assert not torch.equal(changed, image_before)
    assert torch.equal(image, image_before)
    assert torch.equal(labels, labels_before)


@pytest.mark.parametrize("augmentation", EXAMPLES, ids=lambda d: d.transform)
def test_transform_is_deterministic(augmentation: Augmentation) -> None:
    one, other = augmentation.apply(*sample()), augmentation.apply(*sample())
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("augmentation", EXAMPLES[1:], ids=lambda d: d.transform)
def test_intensity_transforms_do_not_change_labels(augmentation: Augmentation) -> None:
    image, labels = sample()
    assert torch.equal(augmentation.apply(image, labels)[1], labels)


@pytest.mark.parametrize("seed", range(6))
def test_channels_and_labels_move_together(seed: int) -> None:
    rng = np.random.default_rng(seed)
    augmentation = Augmentation(
        "affine", angles_degrees=tuple(rng.uniform(-15, 15, 3)), scale=rng.uniform(0.9, 1.2)
    )
    image, labels = sample(ball(5, (8.0, 13.0, 10.0)))
    moved_image, moved_labels = augmentation.apply(image, labels)
    torch.testing.assert_close(moved_image[0], -moved_image[1])
    agree = ((moved_image[0] > 0.5) == (moved_labels == 1)).float().mean()
    assert agree > 0.995


def centroid(labels: Tensor) -> np.ndarray:
    return torch.argwhere(labels > 0).double().mean(dim=0).numpy()


@pytest.mark.parametrize("scale", [0.9, 1.2])
def test_scale_changes_the_volume(scale: float) -> None:
    image, labels = sample()
    _, moved = Augmentation("affine", scale=scale).apply(image, labels)
    assert float(moved.sum() / labels.sum()) == pytest.approx(scale**3, rel=0.08)


@pytest.mark.parametrize(
    ("angles", "axis"), [((15, 0, 0), 0), ((0, 15, 0), 1), ((0, 0, 15), 2)], ids=["z", "y", "x"]
)
def test_rotation_is_about_the_given_axis_through_the_centre(
    angles: tuple[float, float, float], axis: int
) -> None:
    off_axis = np.array([11.5, 11.5, 11.5]) + 6
    image, labels = sample(ball(4, tuple(off_axis)))
    _, moved = Augmentation("affine", angles_degrees=angles).apply(image, labels)
    before, after = centroid(labels) - 11.5, centroid(moved) - 11.5
    assert after[axis] == pytest.approx(before[axis], abs=0.2)
    others = [a for a in range(3) if a != axis]
    cosine = (
        before[others]
        @ after[others]
        / np.prod([np.linalg.norm(v[others]) for v in (before, after)])
    )
    assert np.degrees(np.arccos(cosine)) == pytest.approx(15, abs=2)
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), abs=0.3)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation("affine"),
        Augmentation("gamma", 1.0),
        Augmentation("noise", 0.0),
        Augmentation("blur", 0.0),
    ],
)
def test_transform_without_strength_is_the_identity(augmentation: Augmentation) -> None:
    image, labels = sample()
    changed, moved = augmentation.apply(image, labels)
    torch.testing.assert_close(changed, image, atol=1e-5, rtol=0)
    assert torch.equal(moved, labels)


def test_gamma_by_hand() -> None:
    image = torch.tensor([[[[-1.0, 0.0, 3.0]]], [[[0.0, 5.0, 10.0]]]])
    changed, _ = Augmentation("gamma", 2.0).apply(image, torch.zeros(1, 1, 3))
    torch.testing.assert_close(changed, torch.tensor([[[[-1.0, -0.75, 3.0]]], [[[0, 2.5, 10]]]]))


def test_gamma_of_a_constant_image_is_the_identity() -> None:
    image = torch.full((2, 4, 4, 4), -1.0)
    changed, _ = Augmentation("gamma", 0.7).apply(image, torch.zeros(4, 4, 4))
    torch.testing.assert_close(changed, image)


def test_noise_has_the_drawn_strength() -> None:
    image = torch.zeros(2, *SHAPE)
    noisy, _ = Augmentation("noise", 0.08, seed=5).apply(image, torch.zeros(SHAPE))
    assert noisy.std().item() == pytest.approx(0.08, rel=0.03)
    assert noisy.mean().item() == pytest.approx(0, abs=0.003)
    assert abs(np.corrcoef(noisy.flatten(1).numpy())[0, 1]) < 0.05


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_blur_is_a_gaussian_of_the_drawn_sigma(sigma: float) -> None:
    image = torch.zeros(2, *SHAPE)
    image[0, 12, 12, 12], image[1] = 1, 3
    blurred, _ = Augmentation("blur", sigma).apply(image, torch.zeros(SHAPE))
    assert blurred[0].sum().item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(blurred[1], image[1])  # the edges are not darkened
    ratio = blurred[0, 12, 12, 13] / blurred[0, 12, 12, 12]
    assert ratio.item() == pytest.approx(np.exp(-0.5 / sigma**2), rel=1e-3)
    for z, y, x in ((13, 12, 12), (12, 13, 12)):
        torch.testing.assert_close(blurred[0, z, y, x], blurred[0, 12, 12, 13])


@pytest.mark.parametrize("seed", range(8))
def test_crop_contains_no_padding_inside_the_volume(seed: int) -> None:
    """`source_margin_vox` is enough: a wider margin does not change the crop."""
    rng = np.random.default_rng(seed)
    augmentation = draw(rng)
    image = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(seed))
    labels = ball()
    crop = (slice(8, 16), slice(9, 15), slice(8, 14))
    margin = augmentation.source_margin_vox((8, 6, 6))
    source = tuple(slice(s.start - m, s.stop + m) for s, m in zip(crop, margin, strict=True))
    inner = tuple(slice(m, m + s.stop - s.start) for s, m in zip(crop, margin, strict=True))
    ranges = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    near = augmentation.apply(image[:, *source], labels[source], inner, ranges)
    far = augmentation.apply(image, labels, crop, ranges)
    torch.testing.assert_close(near[0], far[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(near[1], far[1])
    assert near[0].shape == (2, 8, 6, 6)


def test_ranges_are_those_of_the_paper_and_of_nnu_net() -> None:
    assert augment.MAX_ROTATION_DEGREES == 15
    assert augment.SCALE_RANGE == (0.9, 1.2)
    assert augment.GAMMA_RANGE == (0.7, 1.5)
    assert augment.MAX_NOISE_STD == 0.1
    assert augment.MAX_BLUR_SIGMA_VOX == 1


def test_seeds_of_the_noise_have_31_bits(augmentations: list[Augmentation]) -> None:
    seeds = [d.seed for d in augmentations if d.transform == "noise"]
    assert min(seeds) < 2**24
    assert 2**30 < max(seeds) < 2**31
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        # The half sides of 4, 9.5 and 14.5 voxels double, and one voxel is added.
        (0.5, (5, 11, 16)),
        (1.0, (1, 1, 1)),
        (2.0, (0, 0, 0)),
    ],
)
def test_source_margin_of_a_scale_by_hand(scale: float, expected: tuple[int, int, int]) -> None:
    assert Augmentation("affine", scale=scale).source_margin_vox((9, 20, 30)) == expected


def test_source_margin_of_intensity_transforms() -> None:
    assert Augmentation("blur", strength=1.0).source_margin_vox((9, 20, 30)) == (3, 3, 3)
    assert Augmentation("gamma", strength=1.0).source_margin_vox((9, 20, 30)) == (0, 0, 0)
    assert Augmentation("noise", strength=0.1).source_margin_vox((9, 20, 30)) == (0, 0, 0)


def test_unknown_transform_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "TRANSFORMS", ("flip",))
    flip = Augmentation("flip")  # type: ignore[arg-type]
    for call in (
        lambda: draw(np.random.default_rng(0)),
        lambda: flip.apply(*sample()),
        lambda: flip.source_margin_vox(SHAPE),
    ):
        with pytest.raises(ValueError, match="found flip"):
            call()


@pytest.mark.parametrize(
    ("angles", "axes"),
    [((180.0, 0.0, 0.0), (1, 2)), ((0.0, 180.0, 0.0), (0, 2)), ((0.0, 0.0, 180.0), (0, 1))],
)
def test_half_turn_is_exactly_about_the_centre_of_the_crop(
    angles: tuple[float, float, float], axes: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, *SHAPE, generator=generator)
    labels = torch.randint(0, 3, SHAPE, generator=generator)
    for crop in (None, (slice(3, 12), slice(2, 20), slice(5, 13))):
        z, y, x = crop or (slice(None),) * 3
        turned, turned_labels = Augmentation("affine", angles_degrees=angles).apply(
            image, labels, crop
        )
        expected = image[:, z, y, x].flip(*(axis + 1 for axis in axes))
        torch.testing.assert_close(turned, expected, atol=1e-4, rtol=0)
        assert torch.equal(turned_labels, labels[z, y, x].flip(*axes))


def test_gamma_of_a_narrow_range_by_hand() -> None:
    image = torch.tensor([[[[0.0, 0.25, 0.5]]]])
    changed, _ = Augmentation("gamma", 2.0).apply(image, torch.zeros(1, 1, 3))
    torch.testing.assert_close(changed, torch.tensor([[[[0.0, 0.125, 0.5]]]]))


def test_gamma_clips_to_the_stated_range() -> None:
    image = torch.tensor([[[[-0.1, 0.5, 1.1]]]])
    ranges = torch.tensor([[0.0, 1.0]])
    changed, _ = Augmentation("gamma", 2.0).apply(image, torch.zeros(1, 1, 3), ranges=ranges)
    torch.testing.assert_close(changed, torch.tensor([[[[0.0, 0.25, 1.0]]]]))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blur_is_symmetric_also_at_the_borders(axis: int) -> None:
    image = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    blur = Augmentation("blur", 1.0)
    blurred, _ = blur.apply(image, torch.zeros(SHAPE))
    mirrored, _ = blur.apply(image.flip(axis + 1), torch.zeros(SHAPE))
    torch.testing.assert_close(mirrored.flip(axis + 1), blurred)
