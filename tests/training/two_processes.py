"""One step of Task 1 on two processes over gloo, and on one process with twice the batch size."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from tests.training.synthetic import configuration, fold_training, make_patient
from training.processes import gathered
from training.tasks.segmentation import Segmentation


def run_on_two(folder: Path) -> None:
    """Write `one.pt` and `two.pt`: gradient, scores, and how many patients each validated."""
    multiprocessing.spawn(_one_of_two, (str(folder),), nprocs=2)
    torch.save(_step(batch_size=4), folder / "one.pt")


def _one_of_two(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    result = _step(batch_size=2)
    if rank == 0:
        torch.save(result, f"{folder}/two.pt")
    distributed.destroy_process_group()


def _step(batch_size: int) -> dict[str, object]:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    settings = configuration(
        batch_size=batch_size,
        batch_dice=False,
        network={"filters": (4, 8, 8), "deep_supervision_heads": 0},
    )
    patients = [make_patient(number) for number in range(7)]
    training = fold_training(settings, patients[:4], patients[4:], seed=5)
    task = Segmentation()
    torch.manual_seed(0)
    module = task.module(training)
    network = module.network
    if distributed.is_initialized():
        module.network = DistributedDataParallel(network)
    batches, validation = task.loaders(training)
    module.loss(next(iter(batches))).backward()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    module.network = network.eval()
    with torch.inference_mode():
        observations = [module.validate(batch) for batch in validation]
    return {
        "gradient": gradient,
        "scores": module.scores(gathered(observations)),
        "counts": sorted(gathered([len(observations)])),
    }
