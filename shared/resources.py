"""What the machine grants to this process, and what the process has used."""

import os
import resource
from pathlib import Path

_CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def granted_cpus() -> int:
    """Return how many CPUs this process may use, by its affinity mask and its cgroup's quota.

    A container that may use 2 of a host's 64 CPUs sees all 64; as many threads would exhaust its
    process limit and slow it down.
    """
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = _CGROUP_CPU_MAX.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, round(int(quota) / int(period))))


def peak_memory_gb() -> float:
    """Return the largest resident set of this process so far, in GB (10^9 bytes; Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
