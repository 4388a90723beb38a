"""A loading process that dies is named with its likely cause."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.loop.failures import explained_failures, likely_cause
from training.loop.hardware import TrainingError


class _Dying(Dataset[Tensor]):
    """A data set whose loading process receives a signal."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Tensor:
        os.kill(os.getpid(), self.number)
        return torch.zeros(1)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGBUS, r"^a loading process found no shared memory, .*--shm-size"),
        (signal.SIGKILL, r"^a loading process was killed by the system, .* memory is full"),
    ],
)
def test_loading_process_that_dies_is_named_with_its_likely_cause(
    number: signal.Signals, message: str
) -> None:
    with pytest.raises(TrainingError, match=message) as error, explained_failures():
        list(DataLoader(_Dying(number), num_workers=1))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("unable to write to file </torch_1_2_3>: No space left on device (28)", "--shm-size"),
        ("unable to allocate shared memory(shm) for file </torch_1>", "--shm-size"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "ended without a message"),
        ("DataLoader worker (pid 7) is killed by signal: Segmentation fault. ", "Segmentation f"),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9", "fewer --workers"),
    ],
)
def test_other_failures_of_the_machine(message: str, expected: str) -> None:
    cause = likely_cause(message)
    assert cause is not None
    assert expected in cause


def test_full_gpu_is_one_line() -> None:
    with (
        pytest.raises(TrainingError, match=r"found it full .* checkpoint_levels"),
        explained_failures(),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), explained_failures():
        raise RuntimeError("shapes differ")
