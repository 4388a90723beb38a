"""Processes that read and prepare patients.

They are spawned, because a process that is forked from one with threads can stop for ever. A
spawned process usually imports the program that runs once more. These do not: they start sooner,
and a script may call `train` without `if __name__ == "__main__":`, without which each process would
begin to train too.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Final

MAIN: Final = "__main__"


class _Process(SpawnProcess):
    """A process that knows nothing of the program that runs."""

    def start(self) -> None:
        """Start the process; while it is described, an empty program stands for the real one."""
        program = sys.modules[MAIN]
        sys.modules[MAIN] = ModuleType(MAIN)
        try:
            super().start()
        finally:
            sys.modules[MAIN] = program


class _Context(SpawnContext):
    Process = _Process


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of processes, at least one; its tasks must be functions of imported modules."""
    return ProcessPoolExecutor(max(workers, 1), mp_context=_Context())
