"""Watches how much memory of the GPUs is in use, by asking `nvidia-smi`.

The result includes the memory of other programs, so nothing else should use the GPUs during a run.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

INTERVAL_S: Final = 0.5
_COMMAND: Final = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")


@dataclass
class GpuMemory:
    """The peak so far in GB; None if it is unknown."""

    peak_gb: float | None = None


@contextlib.contextmanager
def watched_gpu_memory(*, is_used: bool) -> Iterator[GpuMemory]:
    """Watch the memory of the GPUs until the end of the block.

    Parameters
    ----------
    is_used : whether a GPU is used; otherwise the peak stays None.
    """
    memory, ended = GpuMemory(), threading.Event()

    def watch() -> None:
        while not ended.wait(INTERVAL_S):
            if (used := _used_gb()) is not None:
                memory.peak_gb = max(used, memory.peak_gb or 0.0)

    if not is_used:
        yield memory
        return
    thread = threading.Thread(target=watch, name="GPU memory")
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


def _used_gb() -> float | None:
    """Return the memory in use on all GPUs, or None if it cannot be read."""
    try:
        output = subprocess.run(_COMMAND, capture_output=True, text=True, timeout=10).stdout
        used_mib = [int(line) for line in output.split()]
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return sum(used_mib) * 2**20 / 1e9 if used_mib else None
