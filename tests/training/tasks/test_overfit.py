"""A network learns two patients by heart; slow: `./run_tests.sh -m slow`."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.synthetic import configuration, patient
from training.loop.fit import RESULT, Hardware, fit
from training.samples.dataset import Sample
from training.tasks.segmentation import Segmentation, SegmentationModule
from training.train import Job


class Records(SegmentationModule):
    """A training that keeps its losses; both patients are one step and one epoch."""

    losses: list[float]

    def loss(self, batch: Sample) -> Tensor:
        loss = super().loss(batch)
        self.losses.append(float(loss))
        return loss


@pytest.mark.slow
def test_two_patients_are_learnt_by_heart(tmp_path: Path) -> None:
    """DSC over 0.9 for GTVp and GTVn of the two patients, augmented as ever, trained on only.

    The mean loss of the last ten epochs is under half that of the first ten.
    """
    warnings.simplefilter("ignore")  # Lightning's and MONAI's
    settings = configuration(
        epochs=300, network={"filters": (8, 16, 16)}, learning_rate=3e-3, validate_every_epochs=50,
        random_crop_probability=0.1,
    )  # fmt: skip
    both = [patient(0), patient(1)]
    job = Job(settings, both, both, (), None, seed=0, workers=0, runs=Path())
    task = Segmentation()
    torch.manual_seed(0)
    made: list[Records] = []

    def recording() -> Records:
        network = task.network(settings, ())
        made.append(Records(network, settings.segmentation, job.seed, 6.0))
        made[-1].losses = []
        return made[-1]

    fit(recording, *task.loaders(job), tmp_path, Hardware(1, accelerator="cpu"))
    losses = made[0].losses
    assert len(losses) == 300
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    best = json.loads((tmp_path / RESULT).read_text())["best"]
    assert best["gtvp_dice"] > 0.9
    assert best["gtvn_aggregated_dice"] > 0.9
    assert best["gtvn_aggregated_f1"] == 1
