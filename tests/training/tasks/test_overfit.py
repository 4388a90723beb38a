"""A network overfits two patients; slow: `./run_tests.sh -m slow`."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.synthetic import configuration, fold_training, make_patient
from training.loop.fit import RESULT, FitResult, fit
from training.loop.hardware import Hardware
from training.records import read_record
from training.samples.dataset import Sample
from training.tasks.segmentation import Segmentation, SegmentationModule


class LossRecorder(SegmentationModule):
    """A module that records its losses; both patients together are one step and one epoch."""

    losses: list[float]

    def loss(self, batch: Sample) -> Tensor:
        loss = super().loss(batch)
        self.losses.append(float(loss))
        return loss


@pytest.mark.slow
def test_network_overfits_two_patients(tmp_path: Path) -> None:
    """DSC over 0.9 for GTVp and GTVn of the two patients, who are augmented as usual.

    The mean loss of the last ten epochs is under half that of the first ten.
    """
    warnings.simplefilter("ignore")  # Lightning's and MONAI's
    settings = configuration(
        epochs=300, network={"filters": (8, 16, 16)}, learning_rate=3e-3, validate_every_epochs=50,
        random_crop_probability=0.1,
    )  # fmt: skip
    patients = [make_patient(0), make_patient(1)]
    training = fold_training(settings, patients, patients)
    task = Segmentation()
    torch.manual_seed(0)
    modules: list[LossRecorder] = []

    def make() -> LossRecorder:
        network = task.network(settings, ())
        modules.append(LossRecorder(network, settings.segmentation, training.seed, 6.0))
        modules[-1].losses = []
        return modules[-1]

    fit(make, *task.loaders(training), tmp_path, Hardware(devices=1, accelerator="cpu"))
    losses = modules[0].losses
    assert len(losses) == 300
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    best = read_record(FitResult, tmp_path / RESULT).best
    assert best["gtvp_dice"] > 0.9
    assert best["gtvn_aggregated_dice"] > 0.9
    assert best["gtvn_aggregated_f1"] == 1
