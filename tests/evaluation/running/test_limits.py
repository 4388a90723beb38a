"""Profiles of the platform's limits, and how much of them cases use."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.running.job_store import JobRecord
from evaluation.running.limit_use import limit_uses
from evaluation.running.limits import PROFILES, Limits, current_profile, read_profile
from shared.editions import CURRENT
from shared.errors import InputError

LIMITS = Limits(mode="exec", time_s=600, memory_gib=15, cpus=4, gpu=True)


def record(case: str, seconds: float, peak_memory_gb: float | None) -> JobRecord:
    return JobRecord(
        case=case,
        status="Succeeded",
        reason=None,
        seconds=seconds,
        peak_memory_gb=peak_memory_gb,
    )


def test_profile_of_2025_has_a_limit_for_each_task() -> None:
    profile = current_profile()
    assert profile.name == CURRENT.name == "HECKTOR 2025"
    assert profile.of("task1_segmentation") == LIMITS
    assert profile.of("task2_survival").time_s == 900
    assert profile.of("task2_survival").memory_gib == 15
    assert not profile.of("evaluation").gpu


def test_profile_of_2026_gives_25_minutes_for_everything() -> None:
    profile = read_profile(PROFILES / "hecktor2026.toml")
    assert profile.name == "HECKTOR 2026"
    assert {profile.of(each.name).time_s for each in CURRENT.algorithms} == {25 * 60}


def test_containers_are_containers_of_the_repository() -> None:
    names = {"evaluation", *(each.name for each in CURRENT.algorithms)}
    for path in PROFILES.glob("*.toml"):
        assert set(read_profile(path).containers) <= names, path.name


def test_limits_in_words() -> None:
    assert str(LIMITS) == "exec mode, 600 s, 15 GiB of memory, 4 CPUs, a GPU"
    assert LIMITS.memory_bytes == 15 * 2**30


GOOD = (PROFILES / "hecktor2025.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("time_s = 600", "time_s = -1"), "limits.time_s: Input should be greater"),
        (GOOD.replace('"exec"', '"http"'), "limits.mode: Input should be 'exec' or 'invoke'"),
        (GOOD.replace("cpus = 4", "cores = 4"), "limits.cpus: Field required"),
        (GOOD + "memory = 3\n", "containers.evaluation.memory: Extra inputs are not permitted"),
        ("name = ", "Invalid value"),
    ],
)
def test_wrong_profile_is_one_line_that_names_the_mistake(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"expected a profile of limits in \S+limits.toml") as end:
        read_profile(path)
    assert words in str(end.value)
    assert "\n" not in str(end.value)


def test_missing_profile_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found No such file or directory; correct the file"):
        read_profile(tmp_path / "limits.toml")


def test_use_of_limits_by_hand() -> None:
    records = [record("a", 6, 0.5), record("b", 60, 1.0), record("c", 12, None)]
    time, memory = limit_uses(records, LIMITS)
    assert str(time) == "time: at most 60.0 s of 600 s (10 %), in the case b"
    assert time.median == "12.0 s"
    # 15 GiB are 16.1 GB, and 1.0 GB is 6.2 % of them.
    assert str(memory) == "memory: at most 1.00 GB of 16.11 GB (6 %), in the case b"
    assert memory.median == "0.75 GB"
    assert time.warning is None
    assert memory.warning is None


def test_warning_begins_at_half_of_a_limit() -> None:
    records = [record("a", 299.9, 8.05), record("b", 300, 8.06), record("c", 700, None)]
    time, memory = limit_uses(records, LIMITS)
    assert time.warning == "2 cases used half of the time limit or more: b, c"
    assert memory.warning == "1 case used half of the memory limit or more: b"


def test_warning_names_a_few_cases() -> None:
    (time,) = limit_uses([record(str(i), 600, None) for i in range(7)], LIMITS)
    assert time.warning == "7 cases used half of the time limit or more: 0, 1, 2, 3, 4, …"


def test_use_of_cpus_and_gpu_by_hand() -> None:
    records = [
        JobRecord(
            case=case,
            status="Succeeded",
            reason=None,
            seconds=10,
            peak_memory_gb=None,
            cpu_seconds=cpu_s,
            peak_gpu_memory_gb=gpu_gb,
        )
        for case, cpu_s, gpu_gb in (("a", 38, 8.58), ("b", 10, 8.60), ("c", None, None))
    ]
    _, cpus, gpu_memory = limit_uses(records, LIMITS)
    assert str(cpus) == "CPU: at most 3.8 CPUs of 4 CPUs (95 %), in the case a"
    assert cpus.median == "2.4 CPUs"
    assert cpus.warning is None  # a case should use its CPUs
    # 16 GiB are 17.18 GB.
    assert str(gpu_memory) == "GPU memory: at most 8.60 GB of 17.18 GB (50 %), in the case b"
    assert gpu_memory.warning == "1 case used half of the GPU memory limit or more: b"


def test_case_without_duration_uses_no_cpus() -> None:
    instant = record("a", 0, None).model_copy(update={"cpu_seconds": 1.0})
    assert [use.limit for use in limit_uses([instant], LIMITS)] == ["time"]


def test_no_cases_use_no_limit() -> None:
    assert limit_uses([], LIMITS) == []
