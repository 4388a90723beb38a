"""Samples and batches: their patients and windows, and that a seed reproduces them."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections import Counter
from pathlib import Path
from typing import cast

import lightning
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from shared.clinical import ClinicalRecord
from shared.conventions import Axis, Label, LabelVolume, Volume
from shared.errors import InputError
from shared.geometry import Grid
from shared.preprocessing.intensity import Channel, Intensity, network_channels, scale_images
from shared.preprocessing.pipeline import Undo
from shared.preprocessing.window import lesion_centre, window_box
from training.cohort.cache import PreparedPatient
from training.cohort.layout import Patient
from training.samples import augmentation as augment
from training.samples.augmentation import Augmentation
from training.samples.batches import BalancedBatches, Draw, Share, ShuffledBatches
from training.samples.channels import network_input
from training.samples.crops import JitteredWindow, LesionCrops, no_lesion_centre
from training.samples.dataset import (
    PatientSamples,
    Sample,
    Samples,
    Variation,
    Windows,
    augmented,
    window,
)
from training.samples.loaders import Loading, training_loader

INTENSITY = Intensity(ct_window_hu=(-250, 250), pet_max_suv=25, pet_unit_suv=5)
SHAPE = (20, 24, 28)


def cached(seed: int = 0) -> PreparedPatient:
    """Return a patient with GTVp at (5, 6, 7) and GTVn at (15, 18, 21), 27 voxels each."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:7, 5:8, 6:9], labels[14:17, 17:20, 20:23] = Label.GTVP, Label.GTVN
    image = np.stack([rng.uniform(-250, 250, SHAPE), rng.uniform(0, 25, SHAPE)])
    nowhere = Path("nowhere")
    patient = Patient(
        patient_id="MDA-000", ct=nowhere, pet=nowhere, labels=None, clinical=ClinicalRecord(),
        hpv=True, relapse=None, rfs_days=None,
    )  # fmt: skip
    grid = Grid(SHAPE[::-1], (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    stored = image.astype(np.float16)
    return PreparedPatient(
        patient=patient, image=stored, labels=labels, undo=Undo(grid, grid),
        max_suv=float(stored[1].max()),
    )  # fmt: skip


# Batches


def test_shuffled_batches_hold_every_patient_once() -> None:
    batches = list(ShuffledBatches(12, 3, seed=0))
    assert len(batches) == 4
    assert sorted(i for batch in batches for i, _ in batch) == list(range(12))


def test_incomplete_last_batch_is_left_out() -> None:
    sampler = ShuffledBatches(11, 3, seed=0)
    assert len(sampler) == 3
    assert [len(batch) for batch in sampler] == [3, 3, 3]


def test_cohort_without_a_whole_step_is_refused() -> None:
    with pytest.raises(InputError, match=r"at least 6 training patients .* found 5; hold out few"):
        ShuffledBatches(5, 3, seed=0, batches_per_step=2)
    assert len(ShuffledBatches(6, 3, seed=0, batches_per_step=2)) == 2


CLASSES = [True] * 17 + [False] * 3  # 85 % of one kind, as HPV+ in the challenge


def test_balanced_batches_are_half_and_half() -> None:
    for batch in BalancedBatches(CLASSES, 4, seed=0):
        assert [CLASSES[i] for i, _ in batch] == [True, True, False, False]


def test_an_epoch_shows_the_larger_class_once_and_the_smaller_evenly() -> None:
    sampler = BalancedBatches(CLASSES, 4, seed=0)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 17 // 2
    counts = Counter(i for batch in batches for i, _ in batch)
    larger = [counts[i] for i in range(17)]
    assert max(larger) == 1
    assert sum(larger) == 16
    smaller = [counts[i] for i in (17, 18, 19)]
    assert sum(smaller) == 16
    assert max(smaller) - min(smaller) <= 1


def test_either_class_may_be_the_smaller() -> None:
    batches = BalancedBatches([not value for value in CLASSES], 4, seed=0)
    assert all(i < 17 for batch in batches for i, _ in batch[2:])


@pytest.mark.parametrize(("classes", "size"), [([True] * 4, 4), (CLASSES, 3)])
def test_batches_that_cannot_be_balanced_are_refused(classes: list[bool], size: int) -> None:
    with pytest.raises(InputError, match="even batch size and training patients of both classes"):
        BalancedBatches(classes, size, seed=0)


def samplers() -> list[ShuffledBatches | BalancedBatches]:
    return [ShuffledBatches(12, 3, seed=5), BalancedBatches(CLASSES, 4, seed=5)]


@pytest.mark.parametrize("which", [0, 1], ids=["shuffled", "balanced"])
def test_seed_and_epoch_decide_order_and_samples(which: int) -> None:
    one, other = samplers()[which], samplers()[which]
    first = list(one)
    assert list(one) == first == list(other)
    other.set_epoch(1)
    second = list(other)
    assert second != first
    seeds = [s for batch in first + second for _, s in batch]
    assert len(set(seeds)) == len(seeds)
    other.set_epoch(0)
    assert list(other) == first


@pytest.mark.parametrize("which", [0, 1], ids=["shuffled", "balanced"])
def test_epochs_continue_those_of_a_previous_training(which: int) -> None:
    one, other = samplers()[which], samplers()[which]
    one.first_epoch = 3
    one.set_epoch(2)
    other.set_epoch(5)
    assert list(one) == list(other)


class _Draws(Dataset[Sample]):
    sample_bytes = 16

    """A data set that returns the draws as samples."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, drawn: Draw) -> Sample:
        return {"drawn": torch.tensor(drawn)}


class _Watcher(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(1, 1)
        self.seen: dict[int, list[list[int]]] = {}

    def training_step(self, batch: Sample, _: int) -> Tensor:
        self.seen.setdefault(self.current_epoch, []).extend(batch["drawn"].tolist())
        return self.network(torch.zeros(1, 1)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("which", [0, 1], ids=["shuffled", "balanced"])
def test_lightning_shows_other_samples_in_each_epoch(which: int, tmp_path: Path) -> None:
    watcher = _Watcher()
    trainer = lightning.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning advises more workers
        draws = cast(PatientSamples, _Draws())
        trainer.fit(watcher, training_loader(draws, samplers()[which], 3, Loading()))
    assert len(watcher.seen) == 2
    assert watcher.seen[0] != watcher.seen[1]


# Windows


ANY_CT: Volume = np.zeros((1, 1, 1), np.float32)
"""For crops whose position does not depend on the CT."""


def test_lesion_crops_show_gtvp_and_gtvn_equally_often() -> None:
    labels = np.asarray(cached().labels)
    place = LesionCrops((8, 8, 8), random_probability=0)
    rng = np.random.default_rng(0)
    found: Counter[int] = Counter()
    for _ in range(200):
        crop = labels[place(labels, ANY_CT, rng)]
        assert crop.shape == (8, 8, 8)
        found.update(set(np.unique(crop).tolist()) - {0})
    assert sum(found.values()) == 200  # one crop cannot show both
    assert found[1] == pytest.approx(100, abs=30)


def test_a_lesion_is_not_always_in_the_middle() -> None:
    labels = np.zeros((32, 32, 32), np.uint8)
    labels[16, 16, 16] = Label.GTVP
    place, rng = LesionCrops((8, 8, 8), random_probability=0), np.random.default_rng(0)
    places = {tuple(np.argwhere(labels[place(labels, ANY_CT, rng)])[0]) for _ in range(200)}
    assert len(places) > 50


def test_some_crops_are_anywhere() -> None:
    labels = np.zeros((64, 64, 64), np.uint8)
    labels[5, 5, 5] = Label.GTVN
    rng = np.random.default_rng(0)
    place = LesionCrops((8, 8, 8), random_probability=0.25)
    without = [not labels[place(labels, ANY_CT, rng)].any() for _ in range(400)]
    assert np.mean(without) == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_patient_without_lesions_is_cropped_anywhere(probability: float) -> None:
    labels: LabelVolume = np.zeros((16, 16, 16), np.uint8)
    place, rng = LesionCrops((8, 8, 8), probability), np.random.default_rng(0)
    starts = [[s.start for s in place(labels, ANY_CT, rng)] for _ in range(100)]
    assert np.ptp(starts, axis=0).tolist() == [8, 8, 8]


def test_random_crops_may_be_centred_on_voxels_of_the_body_only() -> None:
    """The body is a slab with a tenth of the region's voxels, above -500 HU."""
    ct = np.full((40, 30, 20), -500, np.float16)
    ct[12:16] = -499
    labels: LabelVolume = np.zeros(ct.shape, np.uint8)
    rng = np.random.default_rng(0)
    in_body, anywhere = (
        np.array(
            [
                [side.start + 2 for side in LesionCrops((4, 4, 4), 1.0, where)(labels, ct, rng)]
                for _ in range(300)
            ]
        )
        for where in ("body", "region")
    )
    assert set(in_body[:, 0]) == {12, 13, 14, 15}
    assert set(in_body[:, 1]) == set(range(2, 29))  # crops stay inside the region
    assert len(set(anywhere[:, 0])) > 30


def test_random_crop_of_a_scan_without_a_body_is_anywhere() -> None:
    ct = np.full((16, 16, 16), -1000, np.float16)
    labels: LabelVolume = np.zeros(ct.shape, np.uint8)
    place, rng = LesionCrops((8, 8, 8), 1.0, "body"), np.random.default_rng(0)
    starts = [[s.start for s in place(labels, ct, rng)] for _ in range(100)]
    assert np.ptp(starts, axis=0).tolist() == [8, 8, 8]


@pytest.mark.parametrize("centre_of", [lesion_centre, lambda _: None])
def test_jittered_window_stays_near_that_of_serving(centre_of: object) -> None:
    labels = np.asarray(cached().labels)
    place = JitteredWindow((6, 6, 6), centre_of, max_shift_vox=2)  # type: ignore[arg-type]
    served = window_box(SHAPE, (6, 6, 6), centre_of(labels))  # type: ignore[operator]
    rng = np.random.default_rng(0)
    shifts = [
        [a.start - b.start for a, b in zip(place(labels, ANY_CT, rng), served, strict=True)]
        for _ in range(200)
    ]
    assert np.min(shifts, axis=0).tolist() == [-2, -2, -2]
    assert np.max(shifts, axis=0).tolist() == [2, 2, 2]


# Samples


def test_window_by_hand() -> None:
    patient = cached()
    box = (slice(2, 8), slice(3, 9), slice(4, 10))
    image, labels = window(patient, box, INTENSITY)
    assert image.dtype == torch.float32
    assert image.shape == (2, 6, 6, 6)
    np.testing.assert_allclose(image[0], patient.image[0][box].astype(np.float32) / 250, atol=1e-6)
    np.testing.assert_allclose(image[1], patient.image[1][box].astype(np.float32) / 5, atol=1e-6)
    assert np.array_equal(labels, patient.labels[box])


IMAGES: tuple[Channel, ...] = ("CT", "PET")
ALL: tuple[Channel, ...] = ("CT", "PET", "GTVp", "GTVn")


def samples(channels: tuple[Channel, ...] = IMAGES) -> Samples:
    return Samples(
        patients=[cached(0), cached(1)],
        intensity=INTENSITY,
        channels=channels,
        place=LesionCrops((8, 8, 8), 0.1),
        targets=[{"hpv": True}, {"hpv": False}],
    )


def test_sample_depends_only_on_its_draw() -> None:
    one, other = samples()[0, 77], samples()[0, 77]
    assert set(one) == {"image", "labels", "hpv"}
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert not torch.equal(one["image"], samples()[0, 78]["image"])
    assert not torch.equal(one["image"], samples()[1, 77]["image"])


def test_sample_is_augmented_exactly_once_and_transforms_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    applied: list[Augmentation] = []
    apply = Augmentation.apply

    def counting(augmentation: Augmentation, *arguments: object) -> tuple[Tensor, Tensor]:
        applied.append(augmentation)
        return apply(augmentation, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Augmentation, "apply", counting)
    data = samples()
    for number in range(60):
        data[number % 2, number]
        assert len(applied) == number + 1
    assert {augmentation.transform for augmentation in applied} == set(augment.TRANSFORMS)
    assert len(set(applied)) == 60


@pytest.mark.parametrize("channels", [IMAGES, ALL])
def test_samples_make_batches(channels: tuple[Channel, ...]) -> None:
    data = training_loader(samples(channels), ShuffledBatches(2, 2, seed=0), 2, Loading())
    (batch,) = list(data)
    assert batch["image"].shape == (2, 2, 8, 8, 8)
    assert batch["image"].dtype == torch.float32
    assert batch["labels"].dtype == torch.uint8
    assert batch["labels"].shape == (2, 1, 8, 8, 8)
    assert sorted(batch["hpv"].tolist()) == [False, True]
    if channels == ALL:  # the lesion channels follow the augmented labels
        for number in (1, 2):
            expected = (batch["labels"][:, 0] == number).float()
            assert torch.equal(network_input(batch, channels)[:, 1 + number], expected)


def test_channels_come_in_the_order_of_the_configuration() -> None:
    def shown(channels: tuple[Channel, ...]) -> Tensor:
        batch = {name: value[None] for name, value in samples(channels)[0, 5].items()}
        return network_input(batch, channels)[0]

    assert torch.equal(shown(("GTVn", "PET")), shown(ALL)[[3, 1]])


@pytest.mark.parametrize(
    ("channels", "needs_labels", "image_type", "expected"),
    [
        (IMAGES, True, torch.float32, 2 * 4 + 1),
        (IMAGES, False, torch.float32, 2 * 4),
        (ALL, False, torch.float16, 2 * 2 + 1),  # Task 2: one byte holds both lesion channels
        (("PET",), False, torch.float16, 2),
    ],
)
def test_a_sample_has_no_byte_too_many(
    channels: tuple[Channel, ...], needs_labels: bool, image_type: torch.dtype, expected: int
) -> None:
    data = dataclasses.replace(samples(channels), needs_labels=needs_labels, image_type=image_type)
    sample = data[0, 5]
    volumes = [value for name, value in sample.items() if name in ("image", "labels")]
    assert sum(v.numel() * v.itemsize for v in volumes) == data.sample_bytes == expected * 8**3
    whole = samples(channels)[0, 5]
    torch.testing.assert_close(sample["image"].float(), whole["image"], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation("affine", angles_degrees=(14, -9, 6), scale=0.9),
        Augmentation("gamma", strength=0.7),
        Augmentation("blur", strength=0.9),
    ],
    ids=lambda d: d.transform,
)
def test_a_sample_is_the_crop_of_the_augmented_region(augmentation: Augmentation) -> None:
    """As in the paper, augmentation comes before cropping; here it is centred on the crop."""
    patient = cached()
    box = (slice(6, 14), slice(8, 16), slice(10, 18))
    everything = (slice(0, 20), slice(0, 24), slice(0, 28))
    image, labels = window(patient, everything, INTENSITY)
    ranges = torch.tensor([[-1.0, 1.0], [0.0, float(image[1].max())]])
    expected = augmentation.apply(image, labels, box, ranges)
    found = augmented(patient, box, intensity=INTENSITY, augmentation=augmentation)
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("which", [0, 1], ids=["shuffled", "balanced"])
def test_processes_share_the_batches_of_one(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(size: int, rank: int, count: int) -> list[list[Draw]]:
        monkeypatch.setattr("training.samples.batches.processes", lambda: (rank, count))
        made = (ShuffledBatches(13, size, 5), BalancedBatches(CLASSES, size, 5))[which]
        found = list(made)
        assert len(found) == len(made)
        return found

    parts = [batches(2, rank, 2) for rank in (0, 1)]
    whole = batches(4, 0, 1)
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(b) for b in whole]
    drawn = [draw for part in parts for batch in part for draw in batch]
    assert len({seed for _, seed in drawn}) == len(drawn)


@pytest.mark.parametrize("which", [0, 1], ids=["shuffled", "balanced"])
def test_accumulated_batches_are_those_of_one_large_batch(which: int) -> None:
    """Also if patients are left over: there are 13, or 17 and 3 of the two classes."""

    def batches(size: int, per_step: int) -> list[list[Draw]]:
        classes = BalancedBatches(CLASSES, size, 5, per_step)
        return list((ShuffledBatches(13, size, 5, per_step), classes)[which])

    parts, whole = batches(2, 4), batches(8, 1)
    assert len(parts) == 4 * len(whole)
    steps = [
        sorted(draw for part in parts[start : start + 4] for draw in part)
        for start in range(0, len(parts), 4)
    ]
    assert steps == [sorted(batch) for batch in whole]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_patient_is_validated_by_one_process(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for rank in range(count):
        monkeypatch.setattr("training.samples.batches.processes", lambda rank=rank: (rank, count))
        seen += list(Share(5))
        assert len(Share(5)) == len(list(Share(5)))
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_validation_sees_the_windows_of_serving() -> None:
    patient = cached()
    whole = Windows(
        patients=[patient],
        intensity=INTENSITY,
        channels=IMAGES,
        window_zyx=SHAPE,
        centre_of=no_lesion_centre,
        targets=[{}],
    )[0]
    prepared = patient.prepared()
    images = scale_images(prepared.ct_hu, prepared.pet_suv, INTENSITY)
    assert np.array_equal(whole["image"], network_channels(images, IMAGES))
    near = Windows(
        patients=[patient],
        intensity=INTENSITY,
        channels=ALL,
        window_zyx=(8, 8, 8),
        centre_of=lesion_centre,
        targets=[{"hpv": True}],
    )[0]
    box = window_box(SHAPE, (8, 8, 8), lesion_centre(patient.labels))
    served = network_channels(images, ALL, patient.labels)[:, *box]
    batch = {name: value[None] for name, value in near.items()}
    assert np.array_equal(network_input(batch, ALL)[0], served)
    assert np.array_equal(near["labels"][0], patient.labels[box])
    assert near["hpv"].item() is True


def varied(clinical_dropout: float = 0.0, mirror: tuple[Axis, ...] = (), seed: int = 0) -> Sample:
    variation = Variation(mirror=mirror, clinical_dropout=clinical_dropout, missing=(-1.0, -2.0))
    sample = {
        "image": torch.arange(24.0).reshape(2, 2, 2, 3),
        "labels": torch.arange(12).reshape(1, 2, 2, 3),
        "clinical": torch.tensor([0.25, 0.5]),
        "hpv": torch.tensor(True),
    }
    return variation(sample, np.random.default_rng(seed))


def test_image_and_labels_are_mirrored_together_in_every_other_sample() -> None:
    flips = 0
    for seed in range(200):
        sample = varied(mirror=("x",), seed=seed)
        is_mirrored = bool(sample["image"][0, 0, 0, 0] == 2)
        assert (sample["labels"][0, 0, 0].tolist() == [2, 1, 0]) == is_mirrored
        assert sample["image"][1, 1, 1].tolist() == ([23, 22, 21] if is_mirrored else [21, 22, 23])
        flips += is_mirrored
    assert 70 < flips < 130


def test_each_axis_is_mirrored_on_its_own() -> None:
    """Two of the three axes give four mirrorings, which are equally frequent."""
    image = varied()["image"]
    seen = dict.fromkeys(itertools.product((False, True), repeat=2), 0)
    for seed in range(400):
        found = varied(mirror=("z", "x"), seed=seed)
        [which] = [
            (z, x)
            for z, x in seen
            if torch.equal(found["image"], image.flip([a for a, on in ((1, z), (3, x)) if on]))
        ]
        seen[which] += 1
    assert min(seen.values()) > 70


def test_without_mirroring_a_sample_without_clinical_values_is_unchanged() -> None:
    sample = {"image": torch.arange(24.0).reshape(2, 2, 2, 3)}
    rng = np.random.default_rng(3)
    assert torch.equal(Variation()(sample, rng)["image"], sample["image"])
    assert rng.random() == np.random.default_rng(3).random(), "no random number is used up"


def test_clinical_values_are_withheld_with_the_given_probability() -> None:
    seen = np.array([varied(0.3, seed=seed)["clinical"].tolist() for seed in range(500)])
    assert set(seen[:, 0]) == {0.25, -1.0}
    assert set(seen[:, 1]) == {0.5, -2.0}
    share = np.mean(seen < 0, axis=0)
    assert np.all((share > 0.24) & (share < 0.36))
    assert np.mean(np.all(seen < 0, axis=1)) < 0.15  # independently of each other


def test_without_variation_samples_are_unchanged() -> None:
    for seed in range(20):
        sample = varied(seed=seed)
        assert sample["clinical"].tolist() == [0.25, 0.5]
        assert sample["image"][0, 0, 0].tolist() == [0, 1, 2]
    assert varied(1.0)["clinical"].tolist() == [-1, -2]
