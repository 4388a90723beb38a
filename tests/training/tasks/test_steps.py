"""One step in parts: the same gradient from accumulated batches, and from checkpointed levels."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from shared.clinical import ClinicalFeature
from tests.training.synthetic import configuration, fold_training, make_patient, without_labels
from training.cohort.cache import PreparedPatient
from training.config import Configuration, Precision
from training.loop.hardware import Hardware, TrainingError
from training.loop.memory import autocast
from training.tasks.base import Task
from training.tasks.hpv import Hpv
from training.tasks.planning import check_accumulation
from training.tasks.segmentation import Segmentation, segmentation_loss
from training.tasks.survival import Survival

PATIENTS = [make_patient(n, hpv=n % 2 == 0, relapse=True, days=9.0 + n) for n in range(6)]
FEATURES = (ClinicalFeature(key="age", mean=50.0, std=10.0),)
CPU = Hardware(devices=1, accelerator="cpu")


def with_settings(task: Task, settings: Configuration, **changes: Any) -> Configuration:
    content = settings.model_dump()
    content[task.name] |= changes
    return Configuration.model_validate(content)


def gradient(
    task: Task, settings: Configuration, patients: list[PreparedPatient]
) -> tuple[Tensor, Tensor]:
    """Return loss and gradient of the first step of a training."""
    training = fold_training(settings, patients, patients, features=FEATURES, hardware=CPU, seed=4)
    torch.manual_seed(0)
    module = task.module(training).eval()  # without dropout
    parts = task.settings(settings).accumulate_batches
    losses = []
    for batch, _ in zip(task.loaders(training)[0], range(parts), strict=False):
        loss = module.loss(batch) / parts  # as Lightning does
        loss.backward()
        losses.append(loss.detach())
    assert len(losses) == parts
    gradients = [p.grad.flatten() for p in module.network.parameters() if p.grad is not None]
    return torch.stack(losses).sum(), torch.cat(gradients)


@pytest.mark.parametrize("task", [Segmentation(), Hpv()], ids=["segmentation", "hpv"])
def test_accumulated_batches_have_the_gradient_of_one_large_batch(task: Task) -> None:
    """They agree to 1e-5 of the largest entry; in Task 3, one patient has no label map."""
    settings = configuration(batch_dice=False, network={"filters": (4, 8, 8)})
    first = without_labels(PATIENTS[0]) if task.name == "hpv" else PATIENTS[0]
    patients = [first, *PATIENTS[1:]]
    whole = gradient(task, with_settings(task, settings, batch_size=4), patients)
    parts = gradient(
        task, with_settings(task, settings, batch_size=2, accumulate_batches=2), patients
    )
    tolerance = 1e-5 * float(whole[1].abs().max())
    assert tolerance > 1e-9
    torch.testing.assert_close(parts[0], whole[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(parts[1], whole[1], atol=tolerance, rtol=0)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("task", [Segmentation(), Hpv(), Survival()], ids=lambda task: task.name)
def test_images_of_16_bits_change_no_loss_in_16_bits(task: Task, precision: Precision) -> None:
    """A step rounds its images to the type of the samples anyway."""
    hardware = dataclasses.replace(CPU, precision=precision)
    training = fold_training(
        configuration(), PATIENTS, PATIENTS, features=FEATURES, hardware=hardware
    )
    module = task.module(training).eval()
    (batch, *_), validation = map(list, task.loaders(training))
    whole = {**batch, "image": batch["image"].float()}
    assert batch["image"].itemsize == 2
    with torch.no_grad(), autocast("cpu", precision):
        assert torch.equal(module.loss(batch), module.loss(whole))
        module.validate(validation[0])


@pytest.mark.parametrize(
    ("task", "batch_dice", "reason"),
    [
        (Survival(), False, "Cox's likelihood and batch norm compare"),
        (Segmentation(), True, "batch_dice counts the voxels of the whole batch"),
        (Hpv(), True, "batch_dice counts the voxels"),
    ],
    ids=lambda value: value.name if isinstance(value, Task) else "",
)
def test_batches_whose_losses_do_not_add_up_are_not_accumulated(
    task: Task, batch_dice: bool, reason: str
) -> None:
    settings = configuration(batch_dice=batch_dice)
    check_accumulation(task, settings, CPU)
    with pytest.raises(
        TrainingError, match=rf"{task.name}: .* because {reason}.*, found 2 batches"
    ):
        check_accumulation(task, settings, dataclasses.replace(CPU, accumulate_batches=2))


NETWORKS: dict[str, dict[str, Any]] = {
    "dynunet": {"filters": (4, 8, 8)},
    "segresnet": {
        "architecture": "segresnet", "filters": 8, "blocks_down": (1, 1, 1), "blocks_up": (1, 1),
    },
    "resenc": {
        "architecture": "resenc_unet", "filters": (4, 8, 8), "blocks_down": (1, 1, 1),
    },
}  # fmt: skip


@pytest.mark.parametrize("task", [Segmentation(), Hpv()], ids=["segmentation", "hpv"])
@pytest.mark.parametrize("network", NETWORKS)
def test_checkpointed_levels_have_the_same_gradient(
    task: Task, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each checkpointed block runs twice."""
    runs: list[object] = []
    forward = torch.nn.Conv3d.forward

    def counted(self: torch.nn.Conv3d, image: Tensor) -> Tensor:
        runs.append(self)
        return forward(self, image)

    monkeypatch.setattr(torch.nn.Conv3d, "forward", counted)
    plain = gradient(task, configuration(network=NETWORKS[network]), PATIENTS)
    count = len(runs)
    less = gradient(task, configuration(network=NETWORKS[network], checkpoint_levels=2), PATIENTS)
    torch.testing.assert_close(less, plain, atol=0, rtol=0)
    assert count < len(runs) - count < 2 * count


def test_dice_says_nothing_about_a_crop_without_a_primary() -> None:
    """With Dice of each crop, the primary has no gradient there; with Dice of the batch, it has."""
    labels = torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8)
    labels[0, 0, :4], labels[1, 0, :4] = 1, 2  # the second crop has nodes only

    def of_second_crop(batch_dice: bool) -> float:
        dice = segmentation_loss(batch_dice).dice
        dice.softmax = False
        generator = torch.Generator().manual_seed(0)
        probabilities = torch.rand(2, 3, 8, 8, 8, generator=generator).requires_grad_()
        dice(probabilities, labels).backward()
        assert probabilities.grad is not None
        return float(probabilities.grad[1, 1].abs().max())

    assert of_second_crop(batch_dice=False) < 1e-4 * of_second_crop(batch_dice=True)
