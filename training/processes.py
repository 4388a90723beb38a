"""The processes of one training, one for each GPU: who is first, and what they have together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

One = TypeVar("One")


def is_first_process() -> bool:
    """Whether this process writes and prints for all; known before they are connected."""
    # Lightning reads it from the variables of torchrun, Slurm and its own launcher.
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def processes() -> tuple[int, int]:
    """Return this process's number and how many there are; 0 and 1 while they are not connected."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gathered(own: Sequence[One]) -> list[One]:
    """Return what all processes have, in the same order in each of them."""
    _, count = processes()
    if count == 1:
        return list(own)
    parts: list[Any] = [None] * count
    distributed.all_gather_object(parts, list(own))
    return [one for part in parts for one in part]
