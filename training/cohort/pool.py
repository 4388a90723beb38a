"""Processes that read and prepare patients.

They are spawned, because a process that is forked from a process with threads can hang for ever. A
spawned process usually imports the main program again. These processes do not, so they start
sooner. A script may therefore call `train` without `if __name__ == "__main__":`. If the processes
imported the script, each of them would begin to train too.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Final

MAIN: Final = "__main__"


class _Process(SpawnProcess):
    """A process that does not import the main program."""

    def start(self) -> None:
        """Start the process; meanwhile an empty module replaces the main program."""
        program = sys.modules[MAIN]
        sys.modules[MAIN] = ModuleType(MAIN)
        try:
            super().start()
        finally:
            sys.modules[MAIN] = program


class _Context(SpawnContext):
    Process = _Process


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of at least one process; it runs only functions of imported modules."""
    return ProcessPoolExecutor(max(workers, 1), mp_context=_Context())
