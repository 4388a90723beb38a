"""The half of `tests.benchmarks.nnunet` that runs in an environment with nnU-Net.

It imports nothing of this repository, whose dependencies that environment does not have. Its
arguments are a command and the keyword arguments of its function as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

PATCH = 64
FEATURES = (16, 32, 64, 128, 160)
"""A network that a CPU trains in minutes; nnU-Net plans 128³ and 32 to 320 features."""
ITERATIONS_PER_EPOCH = 25


def preprocessed_folder(dataset: int) -> Path:
    """Return the folder of a data set in `nnUNet_preprocessed`."""
    from nnunetv2.paths import nnUNet_preprocessed

    return next(Path(nnUNet_preprocessed).glob(f"Dataset{dataset:03d}_*"))


def plan(dataset: int) -> None:
    """Plan a data set, make the planned network smaller, and preprocess."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    extract_fingerprints([dataset], num_processes=1, check_dataset_integrity=True)
    plan_experiments([dataset])
    path = preprocessed_folder(dataset) / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    configuration, stages = plans["configurations"]["3d_fullres"], len(FEATURES)
    configuration["patch_size"] = [PATCH] * 3
    configuration["architecture"]["arch_kwargs"] |= {
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
    """Train a fold with nnU-Net's own trainer, in shorter epochs than its 250 iterations."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = preprocessed_folder(dataset)
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    trainer = nnUNetTrainer(
        plans=plans | {"continue_training": False},
        configuration="3d_fullres",
        fold=fold,
        dataset_json=json.loads((folder / "dataset.json").read_text()),
        device=torch.device("cpu"),
    )
    trainer.num_iterations_per_epoch = ITERATIONS_PER_EPOCH
    trainer.num_val_iterations_per_epoch = 2
    trainer.num_epochs = max(iterations // ITERATIONS_PER_EPOCH, 1)
    trainer.run_training()


def predict(
    results: str, files: list[str], output: str, mirror: bool, network: bool, started: float
) -> dict[str, float]:
    """Segment a case with `nnUNetPredictor`, and return the seconds of each stage.

    Parameters
    ----------
    files : CT and PET on one grid.
    output : the mask to write, without its suffix.
    mirror : whether to use the mirroring of the checkpoint.
    network : whether to run the network; otherwise all logits are 0.
    started : when this process was started.
    """
    import torch
    from nnunetv2.inference.export_prediction import export_prediction_from_logits
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(results, use_folds=(0,))
    times = [started, time.time()]
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case(
        files, None, plans, configuration, predictor.dataset_json
    )
    times.append(time.time())
    cpu_seconds = -time.process_time()
    if network:
        logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    else:
        logits = torch.zeros((3, *data.shape[1:]), dtype=torch.half)
    cpu_seconds += time.process_time()
    times.append(time.time())
    export_prediction_from_logits(
        logits, properties, configuration, plans, predictor.dataset_json, output
    )
    times.append(time.time())
    status = Path("/proc/self/status").read_text()
    stages = ("start-up", "preprocessing", "network", "export")
    seconds = {name: b - a for name, a, b in zip(stages, times, times[1:], strict=False)}
    seconds["network CPU"] = cpu_seconds
    return seconds | {"peak_gb": int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9}


if __name__ == "__main__":
    commands: dict[str, Any] = {"plan": plan, "train": train, "predict": predict}
    print(json.dumps(commands[sys.argv[1]](**json.loads(sys.argv[2]))))
