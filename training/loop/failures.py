"""Explains in one line why a training failed: a loading process died, or memory is full."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from shared.resources import available_memory_bytes, free_shared_memory_bytes
from training.loop.hardware import TrainingError


@contextmanager
def explained_failures() -> Iterator[None]:
    """Name the likely cause of a failure of the machine.

    Raises
    ------
    TrainingError
        If a loading process died, or the memory of the GPU or of the machine is full.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "expected a training step to fit the GPU's memory, found it full "
            f"({_first_line(error)}); see `python -m training plan`, and accumulate batches of a "
            "smaller size, or set checkpoint_levels in the configuration"
        ) from error
    except RuntimeError as error:
        # PyTorch names the signal in the cause of "exited unexpectedly".
        cause = likely_cause(f"{error} {error.__cause__ or ''}")
        if cause is None:
            raise
        raise TrainingError(cause) from error


def likely_cause(message: str) -> str | None:
    """Return why a loading process or an allocation failed, in one line; None for other errors.

    Parameters
    ----------
    message : the text of PyTorch's RuntimeError.
    """
    killed = re.search(r"DataLoader worker \(pid \d+\) is killed by signal: ([^.]+?)\.", message)
    signal = killed[1].strip() if killed else ""
    shared = (
        f"probably because /dev/shm is full ({free_shared_memory_bytes() / 1e9:.2f} GB are free "
        "now); start the container with a larger --shm-size, or use fewer --workers. The same "
        "command resumes"
    )
    memory = (
        f"probably because the memory is full ({available_memory_bytes() / 1e9:.1f} GB are "
        "available now); use fewer --workers, or a machine with more memory. The same command "
        "resumes"
    )
    if signal == "Bus error" or re.search(r"torch_\S*>?: No space left|shared memory", message):
        return f"a loading process found no shared memory, {shared}"
    if signal == "Killed":
        return f"a loading process was killed by the system, {memory}"
    if "can't allocate memory" in message:
        return f"expected memory for a training step, found none, {memory}"
    if signal:
        return f"a loading process died of the signal {signal}; the same command resumes"
    if "DataLoader worker" in message and "exited unexpectedly" in message:
        return f"a loading process ended without a message, {memory}"
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].split(". ")[0]
