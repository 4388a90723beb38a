"""Training of Task 3's head on the lesions, with cached features and with predicted masks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from shared.clinical import ClinicalFeature
from shared.errors import InputError
from shared.models.networks.hpv_lesions import LesionHpvNetwork
from tests.training.synthetic import configuration, fold_training, make_patient, without_labels
from training.cohort.cache import PreparedPatient
from training.config import Configuration
from training.samples.dataset import Sample
from training.tasks import out_of_fold
from training.tasks.base import FoldTraining, MemberStatistics, StartingWeights, TrainedFold
from training.tasks.hpv import Hpv

PATIENTS = [make_patient(n, hpv=n % 2 == 0) for n in range(6)]
FEATURES = (ClinicalFeature(key="age", mean=50.0, std=10.0),)


def on_lesions(encoder: str = "frozen", **changes: Any) -> Configuration:
    content = configuration().model_dump()
    content["hpv"]["network"] = {
        "head": "lesions", "encoder": encoder, "strides": (1, 2), "views": 3, "clinical_width": 4,
    }  # fmt: skip
    content["hpv"] |= {"mirror": ["x"], "batch_size": 4, **changes}
    return Configuration.model_validate(content)


def training_of(settings: Configuration, **changes: Any) -> FoldTraining:
    return fold_training(settings, PATIENTS[:4], PATIENTS[4:], features=FEATURES, **changes)


def numbers_of(sample: Sample) -> tuple[float, ...]:
    return tuple(float(value) for value in sample["pooled"])


def test_the_first_cached_view_is_the_window_as_served() -> None:
    task, training = Hpv(), training_of(on_lesions())
    torch.manual_seed(0)
    module = task.module(training).eval()
    task.module = lambda _: module  # type: ignore[method-assign]
    _, validation = task.loaders(training)
    windows = task.windows(training.held_out, training)
    for index, batch in enumerate(validation):
        window = {name: value[None] for name, value in windows[index].items()}
        with torch.no_grad():
            torch.testing.assert_close(module.logits(batch), module.logits(window))
            assert module.validate(batch)[1] == module.validate(window)[1]
        assert "image" not in batch


def test_cached_and_uncached_batches_have_the_same_loss_and_gradient() -> None:
    task, training = Hpv(), training_of(on_lesions())
    module = task.module(training)
    network = cast(LesionHpvNetwork, module.network)
    windows = task.windows(training.patients, training)
    samples = [windows[index] for index in range(4)]
    uncached = {name: torch.stack([s[name] for s in samples]) for name in samples[0]}
    pooled = task._store.features(network, windows, device="cpu")
    cached = {
        "pooled": torch.stack([views[0] for views in pooled]),
        "clinical": uncached["clinical"],
        "hpv": uncached["hpv"],
    }
    gradients = []
    for batch in (uncached, cached):
        network.zero_grad()
        loss = module.loss(batch)
        loss.backward()
        gradients.append([loss.detach(), *(w.grad.clone() for w in network.head.parameters())])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)
    assert all(weight.grad is None for weight in network.encoder.parameters())


def test_views_are_seeded_by_patient_and_shared_by_folds_with_one_encoder() -> None:
    task, settings = Hpv(), on_lesions()
    start = task.module(training_of(settings)).network.encoder.state_dict()
    first = training_of(settings, start=StartingWeights(part="encoder", weights=start))
    second = dataclasses.replace(first, patients=PATIENTS[2:], held_out=PATIENTS[:2])
    batches, _ = task.loaders(first)
    views = {numbers_of(batches.dataset[0, seed]) for seed in range(20)}
    assert len(views) == 3, "one as served and two augmented"
    count = len(task._store._kept)
    assert count == 4 * 3 + 2
    again, _ = task.loaders(second)
    assert len(task._store._kept) == count + 2 * 2, "only further views of the two new patients"
    third = {numbers_of(batches.dataset[2, seed]) for seed in range(20)}
    assert {numbers_of(again.dataset[0, seed]) for seed in range(20)} == third
    fresh, _ = Hpv().loaders(first)
    assert {numbers_of(fresh.dataset[0, seed]) for seed in range(20)} == views


def test_a_trained_encoder_sees_windows() -> None:
    task, training = Hpv(), training_of(on_lesions("trained"))
    batches, validation = task.loaders(training)
    batch = next(iter(batches))
    assert batch["image"].shape == (4, 2, 16, 16, 16)
    assert batch["labels"].any()
    module = task.module(training)
    module.loss(batch).backward()
    encoder = cast(LesionHpvNetwork, module.network).encoder
    assert any(w.grad is not None and w.grad.any() for w in encoder.parameters())
    assert "image" in next(iter(validation))


@pytest.mark.parametrize("masks", ["true", "predicted"])
def test_a_head_on_the_lesions_learns_from_the_masks_of_task_1(tmp_path: Path, masks: str) -> None:
    task, settings = Hpv(), on_lesions(masks=masks)
    folder = tmp_path / "segmentation" / out_of_fold.FOLDER
    folder.mkdir(parents=True)
    for patient in PATIENTS:
        predicted = np.roll(patient.labels, 2, axis=0)
        np.savez(
            folder / f"{patient.patient_id}.npz",
            labels=predicted, probabilities=np.zeros((2, 24, 24, 24), np.uint8), fold="0",
        )  # fmt: skip
    seen = task.with_inputs(PATIENTS, tmp_path, settings)
    for patient, original in zip(seen, PATIENTS, strict=True):
        shift = 2 if masks == "predicted" else 0
        assert np.array_equal(patient.labels, np.roll(original.labels, shift, axis=0))


def test_patients_without_status_are_predicted_on_the_masks_of_task_1(tmp_path: Path) -> None:
    task, settings = Hpv(), on_lesions(masks="predicted")
    folder = tmp_path / "segmentation" / out_of_fold.FOLDER
    folder.mkdir(parents=True)
    unknown: PreparedPatient = without_labels(make_patient(9))
    np.savez(
        folder / "MDA-009.npz",
        labels=PATIENTS[0].labels, probabilities=np.zeros((2, 24, 24, 24), np.uint8), fold="0",
    )  # fmt: skip
    training = training_of(settings, runs=tmp_path, without_outcome=[unknown])
    network = task.module(training).network
    task.predict_held_out(
        TrainedFold(
            training=training, models={"network": network},
            statistics={"network": MemberStatistics()},
        )
    )  # fmt: skip
    with_mask = dataclasses.replace(unknown, labels=PATIENTS[0].labels)
    (expected,) = task.outputs({"network": network}, [with_mask], training)["network"]
    folder = tmp_path / "hpv" / out_of_fold.FOLDER
    (probability,) = out_of_fold.read_hpv_probabilities(folder, ["MDA-009"])
    assert probability == pytest.approx(1 / (1 + np.exp(-expected)))


def test_bottleneck_needs_a_whole_task_1_network() -> None:
    settings = configuration()
    start = StartingWeights(part="encoder", weights={})
    with pytest.raises(InputError, match=r'fold 0: .* found an adopted model, .* "lesions"'):
        Hpv().module(training_of(settings, start=start))


def test_an_encoder_of_another_network_is_refused() -> None:
    start = StartingWeights(part="encoder", weights={"0.weight": torch.zeros(1)})
    with pytest.raises(InputError, match=r"fold 0: expected weights of \[segmentation.network\]"):
        Hpv().module(training_of(on_lesions(), start=start))


def test_batch_norm_forbids_accumulated_batches() -> None:
    assert "batch norm" in str(Hpv().not_additive(on_lesions()))
