"""The number of CPUs by affinity mask and cgroup quota, CPU time and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import resources
from shared.resources import (
    available_memory_bytes,
    cpu_seconds,
    free_shared_memory_bytes,
    granted_cpus,
    has_bfloat16,
    peak_memory_gb,
)


@pytest.mark.parametrize(
    ("version_2", "version_1", "expected"),
    [
        ("max 100000", None, 8),
        ("200000 100000", None, 2),
        ("150000 100000", None, 2),
        ("120000 100000", None, 1),
        ("50000 100000", None, 1),  # at least one
        ("6400000 100000", None, 8),  # at most those of the affinity mask
        ("1 100000", None, 1),
        ("0 100000", None, 8),  # the kernel grants no quota of 0
        ("nonsense", None, 8),
        (None, ("300000", "100000"), 3),
        (None, ("-1", "100000"), 8),
        (None, None, 8),
    ],
)
def test_cpus_are_limited_by_quota_and_affinity(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version_2: str | None,
    version_1: tuple[str, str] | None,
    expected: int,
) -> None:
    paths = [tmp_path / name for name in ("cpu.max", "quota", "period")]
    for path, text in zip(paths, (version_2, *(version_1 or (None, None))), strict=True):
        if text is not None:
            path.write_text(text + "\n")
    monkeypatch.setattr(resources, "_CGROUP_V2", tuple(paths[:1]))
    monkeypatch.setattr(resources, "_CGROUP_V1", tuple(paths[1:]))
    monkeypatch.setattr(os, "sched_getaffinity", {0: set(range(8))}.__getitem__)
    assert granted_cpus() == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512_bf16 fma", True),
        ("fpu amx_bf16", True),
        ("fpu avx512f bf16", False),
        ("", False),
    ],
)
def test_bfloat16_needs_an_instruction_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(resources, "_CPU_INFO", path)
    assert has_bfloat16() is expected


def test_cpu_time_counts_this_process_and_its_ended_children() -> None:
    before = cpu_seconds()
    while cpu_seconds() < before + 0.05:
        pass
    loop = "import time\nwhile time.process_time() < 0.05: pass"
    subprocess.run([sys.executable, "-S", "-c", loop], check=True)
    assert before + 0.08 <= cpu_seconds() <= before + 5


def test_peak_memory_grows_with_an_allocation() -> None:
    before = peak_memory_gb()
    size = int((before + 0.05) * 1e9)
    memory = bytearray(os.urandom(1)) * size
    assert size / 1e9 <= peak_memory_gb() <= size / 1e9 + before + 0.05
    assert len(memory) == size


@pytest.mark.parametrize(
    ("version_2", "version_1", "expected"),
    [
        (("max", "5"), None, 8000),
        (("5000", "3000"), None, 2500),  # 500 bytes of cached files can be freed
        (("5000", "6000"), None, 0),
        (("50000", "3000"), None, 8000),  # at most that of the machine
        (None, ("5000", "4000"), 1500),
        (None, None, 8000),
    ],
)
def test_available_memory_is_limited_by_the_cgroup(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version_2: tuple[str, str] | None,
    version_1: tuple[str, str] | None,
    expected: int,
) -> None:
    places = []
    for name, values in (("v2", version_2), ("v1", version_1)):
        folder = tmp_path / name
        folder.mkdir()
        places.append((folder, "limit", "usage"))
        if values is not None:
            for file, text in zip(("limit", "usage"), values, strict=True):
                (folder / file).write_text(text + "\n")
            (folder / "memory.stat").write_text("anon 7\ninactive_file 500\n")
    monkeypatch.setattr(resources, "_CGROUP_MEMORY", tuple(places))
    monkeypatch.setattr(resources, "_machine_memory_bytes", lambda: 8000)
    assert available_memory_bytes() == expected


def test_machine_has_memory() -> None:
    assert 10**7 < available_memory_bytes() < 10**14
    assert free_shared_memory_bytes() >= 0
