"""How many CPUs this process may use, and how much memory it has used."""

import os
from contextlib import suppress
from pathlib import Path

_CGROUP_V2 = (Path("/sys/fs/cgroup/cpu.max"),)
_CGROUP_V1 = (
    Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


def granted_cpus() -> int:
    """Return how many CPUs this process may use: its affinity mask and its cgroup's quota decide.

    A container that may use 2 of a host's 64 CPUs still sees 64. With 64 threads it would be slow
    and reach its limit of processes.
    """
    cpus = len(os.sched_getaffinity(0))
    for files in (_CGROUP_V2, _CGROUP_V1):
        try:
            words = [word for file in files for word in file.read_text("ascii").split()]
            quota, period = (float(word.replace("max", "inf")) for word in words)
        except (OSError, ValueError):
            continue
        # Without a quota, version 1 of cgroups writes -1, version 2 the word "max".
        return max(1, min(cpus, round(quota / period))) if 0 < quota < float("inf") else cpus
    return cpus


def peak_memory_gb() -> float:
    """Return the largest resident set of this process so far, in GB (10^9 bytes; Linux).

    It is not taken from `getrusage`, which also counts the process that started this one.
    """
    status = Path("/proc/self/status").read_text("ascii", "replace")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def reset_peak_memory() -> None:
    """Let `peak_memory_gb` count from now on, if the system allows it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "ascii")
