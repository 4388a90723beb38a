"""Measure the CPUs and the memory that this process may use, and how much of them it has used."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

_CGROUP_V2 = (Path("/sys/fs/cgroup/cpu.max"),)
_CGROUP_V1 = (
    Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
_CGROUP_MEMORY = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_CPU_INFO = Path("/proc/cpuinfo")
_SHARED_MEMORY = Path("/dev/shm")


def granted_cpus() -> int:
    """Return how many CPUs this process may use by its affinity mask and its cgroup's quota.

    A container that may use 2 of a host's 64 CPUs still sees 64. With 64 threads it would be slow
    and exceed its limit of processes.
    """
    cpus = len(os.sched_getaffinity(0))
    for files in (_CGROUP_V2, _CGROUP_V1):
        try:
            words = [word for file in files for word in file.read_text("ascii").split()]
            quota, period = (float(word.replace("max", "inf")) for word in words)
        except (OSError, ValueError):
            continue
        # Without a quota, cgroups version 1 states -1, and version 2 the word "max".
        return max(1, min(cpus, round(quota / period))) if 0 < quota < float("inf") else cpus
    return cpus


def has_bfloat16() -> bool:
    """Return whether the CPU multiplies in bfloat16 (AVX512-BF16 or AMX; Linux on x86)."""
    flags = _CPU_INFO.read_text("ascii", "replace").split()
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def cpu_seconds() -> float:
    """Return the CPU time of this process so far, with that of its threads and ended children."""
    return sum(os.times()[:4])


def peak_memory_gb() -> float:
    """Return the largest resident set of this process so far, in GB (10^9 bytes; Linux).

    `getrusage` is not used, because it also counts the process that started this process.
    """
    status = Path("/proc/self/status").read_text("ascii", "replace")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def reset_peak_memory() -> None:
    """Reset the peak that `peak_memory_gb` returns, if the system allows it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "ascii")


def available_memory_bytes() -> int:
    """Return how much memory is still available on the machine, or in the cgroup if that is less.

    A container that may use 16 GB of a host's 512 GB still sees 512. Files in the page cache count
    as available, because the system gives them up.
    """
    machine = _machine_memory_bytes()
    for folder, limit, usage in _CGROUP_MEMORY:
        try:
            most = int((folder / limit).read_text("ascii"))  # "max" without a limit
            used = int((folder / usage).read_text("ascii"))
            statistics = (folder / "memory.stat").read_text("ascii").split()
        except (OSError, ValueError):
            continue
        values = dict(zip(statistics[::2], map(int, statistics[1::2]), strict=True))
        return max(0, min(machine, most - used + values.get("inactive_file", 0)))
    return machine


def free_shared_memory_bytes() -> int:
    """Return how much of /dev/shm is free; 0 if there is none."""
    return shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else 0


def _machine_memory_bytes() -> int:
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
