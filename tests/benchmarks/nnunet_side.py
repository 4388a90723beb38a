"""The part of the benchmarks that runs in an environment with nnU-Net.

It imports nothing of this repository, whose dependencies that environment does not have. Its
arguments are a command and the keyword arguments of its function as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

PATCH = 64
FEATURES = (16, 32, 64, 128, 160)
"""A network that a CPU trains in minutes; nnU-Net plans 128³ and 32 to 320 features."""
ITERATIONS_PER_EPOCH = 25
STEPS_PER_EPOCH = 10
"""For `train_within`: small, so that the number of epochs follows a budget closely."""


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


def plan_as_it_is(dataset: int, features: int) -> None:
    """Plan with nnU-Net's own planner, with so many features at the first level; preprocess."""
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        preprocess,
    )

    processes = len(os.sched_getaffinity(0))
    extract_fingerprints([dataset], num_processes=processes, check_dataset_integrity=True)
    planner = ExperimentPlanner(dataset)
    planner.UNet_base_num_features = features
    planner.plan_experiment()
    preprocess([dataset], configurations=("3d_fullres",), num_processes=(processes,))


def trainer_of(dataset: int, fold: int, epochs: int, iterations: int, device: str = "cpu") -> Any:
    """Return nnU-Net's own trainer, with other epochs than its 1000 of 250 iterations."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = preprocessed_folder(dataset)
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    trainer = nnUNetTrainer(
        plans=plans | {"continue_training": False},
        configuration="3d_fullres",
        fold=fold,
        dataset_json=json.loads((folder / "dataset.json").read_text()),
        device=torch.device(device),
    )
    trainer.num_iterations_per_epoch = iterations
    trainer.num_val_iterations_per_epoch = max(iterations // 10, 1)
    trainer.num_epochs = epochs
    return trainer


def train(dataset: int, fold: int, iterations: int) -> None:
    """Train a fold for so many iterations."""
    epochs = max(iterations // ITERATIONS_PER_EPOCH, 1)
    trainer_of(dataset, fold, epochs, ITERATIONS_PER_EPOCH).run_training()


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children, running or not."""
    import psutil

    process = psutil.Process()
    own = process.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in process.children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return float(total)


def peak_gb() -> float:
    """Return the largest resident set of this process so far, in GB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def epochs_within(dataset: int, fold: int, cpu_seconds_left: float) -> int:
    """Time a few steps on the CPU, and return how many epochs fit into a budget with them."""
    started, timed = cpu_seconds(), 5
    trainer = trainer_of(dataset, fold, 1, STEPS_PER_EPOCH)
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    before = cpu_seconds()
    for _ in range(timed):
        trainer.train_step(next(trainer.dataloader_train))
    step = (cpu_seconds() - before) / timed
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        loader._finish()
    left = cpu_seconds_left - (cpu_seconds() - started)
    # An epoch's validation has a tenth of its steps, and a forward pass is a third of a step.
    return int(left / (step * STEPS_PER_EPOCH * (1 + 1 / 30)))


def train_within(
    dataset: int, fold: int, seed: int, cpu_minutes: float, steps: int | None, device: str
) -> dict[str, float]:
    """Train a fold within a budget, and return what was used.

    Parameters
    ----------
    cpu_minutes : the budget. The steps that are timed to find the number of epochs, and with it the
        schedule of the learning rate, are part of it.
    steps : the budget in steps, instead of minutes.
    device : of torch.
    """
    import numpy as np
    import torch

    torch.manual_seed(seed)
    np.random.seed(seed)
    started = cpu_seconds()
    if steps is None:
        epochs = epochs_within(dataset, fold, 60 * cpu_minutes)
    else:
        epochs = steps // STEPS_PER_EPOCH
    trainer = trainer_of(dataset, fold, max(epochs, 1), STEPS_PER_EPOCH, device)
    trainer.run_training()
    return {
        "steps": trainer.num_epochs * STEPS_PER_EPOCH,
        "cpu_minutes": (cpu_seconds() - started) / 60,
        "peak_gb": peak_gb(),
    }


def segment(model: str, fold: int, cases: list[list[str]], outputs: list[str], device: str) -> None:
    """Write the label maps and the probabilities of cases, by a fold's last weights.

    Parameters
    ----------
    model : the folder with the folds.
    cases : the files of each case's channels.
    outputs : the path of each case's result, without suffix.
    device : of torch.
    """
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device(device), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(model, use_folds=(fold,))
    predictor.predict_from_files_sequential(cases, outputs, save_probabilities=True)


def predict(
    model: str, files: list[str], output: str, mirror: bool, network: bool, started: float
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
    predictor.initialize_from_trained_model_folder(model, use_folds=(0,))
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
    stages = ("start-up", "preprocessing", "network", "export")
    seconds = {name: b - a for name, a, b in zip(stages, times, times[1:], strict=False)}
    seconds["network CPU"] = cpu_seconds
    return seconds | {"peak_gb": peak_gb()}


if __name__ == "__main__":
    commands: dict[str, Any] = {
        each.__name__: each for each in (plan, plan_as_it_is, train, train_within, predict, segment)
    }
    print(json.dumps(commands[sys.argv[1]](**json.loads(sys.argv[2]))))
