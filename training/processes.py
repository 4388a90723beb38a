"""The processes of one training run, one per GPU: their ranks, and the exchange of data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

Item = TypeVar("Item")


def is_first_process() -> bool:
    """Return whether this is the first process, which writes files and prints for all.

    This also works before the processes are connected.
    """
    # Lightning reads the rank from the variables of torchrun, Slurm and its own launcher.
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def processes() -> tuple[int, int]:
    """Return this process's rank and the number of processes; (0, 1) until they are connected."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gathered(items: Sequence[Item]) -> list[Item]:
    """Return the items of all processes, in the same order in each process."""
    _, count = processes()
    if count == 1:
        return list(items)
    parts: list[Any] = [None] * count
    distributed.all_gather_object(parts, list(items))
    return [item for part in parts for item in part]
