"""The half of `tests.benchmarks.nnunet` that runs in an environment with nnU-Net.

It imports nothing of this repository, whose dependencies that environment does not have.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

STARTED = time.time()

PATCH = 64
FEATURES = (16, 32, 64, 128, 160)
PLANS = "nnUNetPlans"


def preprocessed_folder(dataset: int) -> Path:
    """Return the folder of a data set in `nnUNet_preprocessed`."""
    from nnunetv2.paths import nnUNet_preprocessed

    return next(Path(nnUNet_preprocessed).glob(f"Dataset{dataset:03d}_*"))


def plan(dataset: int) -> None:
    """Plan and preprocess a data set, with a network that a CPU trains in minutes."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    extract_fingerprints([dataset], num_processes=1, check_dataset_integrity=True)
    plan_experiments([dataset])
    path = preprocessed_folder(dataset) / f"{PLANS}.json"
    plans = json.loads(path.read_text())
    configuration = plans["configurations"]["3d_fullres"]
    arguments = configuration["architecture"]["arch_kwargs"]
    stages = len(FEATURES)
    configuration["patch_size"] = [PATCH] * 3
    configuration["batch_size"] = 2
    arguments |= {
        "n_stages": stages,
        "features_per_stage": list(FEATURES),
        "kernel_sizes": [[3] * 3] * stages,
        "strides": [[1] * 3] + [[2] * 3] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    path.write_text(json.dumps(plans))
    preprocess([dataset], configurations=("3d_fullres",), num_processes=(1,))


def train(dataset: int, fold: int, iterations: int) -> None:
    """Train a fold with nnU-Net's own trainer, for one short epoch after another."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = preprocessed_folder(dataset)
    trainer = nnUNetTrainer(
        plans=json.loads((folder / f"{PLANS}.json").read_text()) | {"continue_training": False},
        configuration="3d_fullres",
        fold=fold,
        dataset_json=json.loads((folder / "dataset.json").read_text()),
        device=torch.device("cpu"),
    )
    trainer.num_iterations_per_epoch = 25
    trainer.num_val_iterations_per_epoch = 2
    trainer.num_epochs = max(iterations // 25, 1)
    trainer.run_training()


if __name__ == "__main__":
    command, *values = sys.argv[1:]
    commands: dict[str, Any] = {"plan": plan, "train": train}
    commands[command](*map(int, values))
