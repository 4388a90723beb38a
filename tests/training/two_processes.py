"""A step of each task on two processes over gloo, and on one with the same samples."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from shared.clinical import ClinicalFeature
from tests.training.synthetic import configuration, fold_training, make_patient
from training.config import Configuration
from training.processes import gathered, processes
from training.tasks.base import Task
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival

TASKS: tuple[Task, ...] = (Segmentation(), Hpv(), Survival())
PATIENTS = [make_patient(n, hpv=n % 2 == 0, relapse=True, days=9.0 + n) for n in range(7)]
FEATURES = (ClinicalFeature(key="age", mean=50.0, std=10.0),)


def run_on_two(folder: Path) -> None:
    """Write `one.pt` and `two.pt` with gradient, scores and counts of validated patients.

    For Tasks 1 and 3, the single process has a batch of four. For Task 2, whose loss compares the
    patients of a batch, it takes the mean over the batches of the two processes. `two.pt` also
    states whether each process has a gradient of NaN if the loss of one of them is not finite.
    """
    multiprocessing.spawn(_one_of_two, (str(folder),), nprocs=2)
    one = {task.name: _step(task, 2 if task.name == "survival" else 4) for task in TASKS}
    torch.save(one, folder / "one.pt")


def _one_of_two(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    result = {task.name: _step(task, 2) for task in TASKS}
    result["nan"] = gathered([bool(_step(TASKS[0], 2, rank == 0)["gradient"].isnan().any())])
    if rank == 0:
        torch.save(result, f"{folder}/two.pt")
    distributed.destroy_process_group()


def _settings(task: Task, batch_size: int) -> Configuration:
    network = {"filters": (4, 8, 8), "deep_supervision_heads": 0}
    content = configuration(batch_dice=False, network=network).model_dump()
    content[task.name]["batch_size"] = batch_size
    for name in ("hpv", "survival"):
        content[name]["network"]["dropout"] = 0.0
        content[name]["clinical"] = ["age"]
    return Configuration.model_validate(content)


def _step(task: Task, batch_size: int, is_nan: bool = False) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    settings = _settings(task, batch_size)
    training = fold_training(settings, PATIENTS[:4], PATIENTS[4:], seed=5, features=FEATURES)
    torch.manual_seed(0)
    module = task.module(training)
    network = module.network
    if distributed.is_initialized():
        module.network = DistributedDataParallel(network)
    batches, validation = task.loaders(training)
    losses: list[Tensor] = [module.loss(batch) for batch in batches]
    assert len(losses) == 4 // (batch_size * processes()[1])
    (torch.stack(losses).mean() * (float("nan") if is_nan else 1.0)).backward()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    module.network = network.eval()
    with torch.inference_mode():
        observations = [module.validate(batch) for batch in validation]
    return {
        "gradient": gradient,
        "scores": {n: float(v) for n, v in module.scores(gathered(observations)).items()},
        "counts": sorted(gathered([len(observations)])),
    }
