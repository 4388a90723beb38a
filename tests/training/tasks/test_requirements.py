"""What a training needs, and the error if the machine lacks it."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.synthetic import configuration, make_patient
from training.cohort.folds import HoldOut
from training.config import load_configuration
from training.loop.hardware import Hardware, TrainingError
from training.tasks import requirements
from training.tasks.base import Task
from training.tasks.hpv import Hpv
from training.tasks.requirements import Needs, checkpoint_bytes, count_folds, count_weights, needs
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival

CPU = Hardware(devices=1, accelerator="cpu")
PATIENTS = [
    make_patient(n, "MDA" if n % 3 else "USZ", hpv=n % 2 == 0, relapse=True, days=1.0).patient
    for n in range(6)
]
NEEDS = Needs(batch=10**9, shared_memory=6 * 10**9, memory=8 * 10**9, cache=10**9, checkpoints=0)


@pytest.mark.parametrize(
    ("task", "expected_gb"),
    [(Segmentation(), 0.119), (Hpv(), 0.071), (Survival(), 0.566)],
    ids=lambda value: value.name if isinstance(value, Task) else "",
)
def test_batches_of_the_paper_are_small(task: Task, expected_gb: float) -> None:
    """By hand: 5 bytes per voxel. For Task 1, a region of 288³ is larger than two crops of 192³."""
    paper = load_configuration("paper")
    needed = needs(
        task,
        paper,
        patients=(),
        runs=Path("runs"),
        folds=1,
        workers=8,
        hardware=Hardware(devices=2),
    )
    assert needed.batch / 1e9 == pytest.approx(expected_gb, abs=1e-3)
    assert needed.shared_memory == 2 * (8 + 2) * needed.batch


def test_needs_of_a_cohort(tmp_path: Path) -> None:
    settings = configuration()
    arguments = {"patients": PATIENTS, "runs": tmp_path, "folds": 2, "workers": 0, "hardware": CPU}
    needed = needs(Segmentation(), settings, **arguments)  # type: ignore[arg-type]
    assert needed.shared_memory == needed.memory == 0
    assert needed.cache == 6 * 24**3 * 5
    assert needed.checkpoints == checkpoint_bytes(Segmentation(), settings, 2)
    stored = tmp_path / "segmentation" / "fold0"
    stored.mkdir(parents=True)
    (stored / "last.ckpt").write_bytes(bytes(1000))
    again = needs(Segmentation(), settings, **arguments)  # type: ignore[arg-type]
    assert again.checkpoints == needed.checkpoints - 1000


def test_weights_of_the_paper() -> None:
    paper = load_configuration("paper")
    assert count_weights(Segmentation(), paper) / 1e6 == pytest.approx(16.5, abs=0.1)
    linear = paper.model_copy(
        update={"survival": paper.survival.model_copy(update={"models": "linear"})}
    )
    assert checkpoint_bytes(Survival(), linear, 5) == 0


def test_folds_are_counted(tmp_path: Path) -> None:
    def count(hold_out: HoldOut, task: Task | None = None, only_fold: str | None = None) -> int:
        return count_folds(
            task or Segmentation(), PATIENTS, hold_out=hold_out, only_fold=only_fold, runs=tmp_path
        )

    assert (
        count(HoldOut()) == count(HoldOut(count=3)) == count(HoldOut(folds=5), only_fold="1") == 1
    )
    assert count(HoldOut(folds=5)) == 5
    assert count(HoldOut(by_centre=True)) == 2
    splits = tmp_path / "splits_final.json"
    splits.write_text('[{"train": [], "val": []}, {"train": [], "val": []}]')
    assert count(HoldOut(splits=splits)) == 2
    assert count(HoldOut(), Hpv()) == 1


@pytest.mark.parametrize(
    ("shared", "memory", "disk", "message"),
    [
        (0.06, 64, 64, r"expected 6.0 GB of shared memory .* found 0.1 GB free in /dev/shm; start "
         r"the container with --shm-size=8g, or use --workers 0"),
        (5, 64, 64, r"--shm-size=8g, or use --workers 3"),
        (64, 7, 64, r"expected 8.0 GB of memory for 4 workers .*, found 7.0 GB available; use f"),
        (64, 64, 0.5, r"expected 1.0 GB free in .*, found 0.5 GB; free some space"),
    ],
)  # fmt: skip
def test_machine_that_lacks_something_is_refused(
    machine: Callable[..., None], shared: float, memory: float, disk: float, message: str
) -> None:
    machine(shared, memory, disk)
    with pytest.raises(TrainingError, match=message) as error:
        requirements.require_machine(NEEDS, runs=Path("runs"), workers=4, hardware=CPU)
    assert "\n" not in str(error.value)


def test_needs_are_printed(
    machine: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    machine(6, 8, 1)
    needed = dataclasses.replace(NEEDS, cache=5 * 10**8)
    requirements.require_machine(needed, runs=Path("runs"), workers=4, hardware=CPU)
    assert capsys.readouterr().out == (
        "needed and free: shared memory 6.0 GB of 6.0 GB, memory of 4 workers 8.0 GB of 8.0 GB, "
        "disk 0.5 GB of 1.0 GB\n"
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets how much is free, in GB."""

    def has(shared_gb: float, memory_gb: float, disk_gb: float) -> None:
        usage = namedtuple("usage", "free")(int(disk_gb * 1e9))
        monkeypatch.setattr(requirements, "free_shared_memory_bytes", lambda: int(shared_gb * 1e9))
        monkeypatch.setattr(requirements, "available_memory_bytes", lambda: int(memory_gb * 1e9))
        monkeypatch.setattr(requirements.shutil, "disk_usage", lambda _: usage)

    return has
