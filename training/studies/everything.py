"""The whole method in one command: three trainings, a report, their scores, and what to do next.

Each step is a command that a user can also type. It runs in its own process, so that each training
can start its own processes on several GPUs. A step that was completed before takes little time, so
the whole command resumes anywhere.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from shared.editions import CURRENT
from shared.errors import HecktorError
from training.config import load_configuration
from training.export.run import model_folder
from training.tasks.discovery import TASKS
from training.tasks.planning import check_without_held_out

Command: TypeAlias = tuple[str, ...]
"""The words after `python -m`."""


@dataclass(frozen=True, kw_only=True)
class Everything:
    """The options of the whole method.

    Attributes
    ----------
    hold_out : options of Task 1 that choose its folds; the other tasks share them. If they hold
        nobody out, there is nothing to score, and only the trainings are run.
    training : further options of all three trainings.
    models : folder for the three model folders; None stands for the tasks' own model folders in the
        repository.
    """

    cohort: Path
    runs: Path
    configuration: str
    hold_out: Command
    training: Command = ()
    workers: int = 1
    skip_bad: bool = False
    models: Path | None = None

    cases: Path = field(init=False)
    jobs: Path = field(init=False)
    report: Path = field(init=False)

    def __post_init__(self) -> None:
        """Set the folders of cases, jobs and report."""
        for name in ("cases", "jobs", "report"):
            object.__setattr__(self, name, self.runs / name)

    @property
    def holds_out(self) -> bool:
        """Whether patients are held out."""
        return self.hold_out != ("--held-out", "0")

    def commands(self) -> list[Command]:
        """Return all steps in their order."""
        cohort, runs, cases, jobs = map(str, (self.cohort, self.runs, self.cases, self.jobs))
        bad = ("--skip-bad",) if self.skip_bad else ()
        common = ("--configuration", self.configuration, "--workers", str(self.workers), *bad)
        trainings = [
            (
                *("training", name, cohort, runs, *common, *self.training),
                *(self.hold_out if name == "segmentation" else ()),
                *(("--model", str(self.models / name)) if self.models else ()),
            )
            for name in TASKS
        ]
        if not self.holds_out:
            return trainings
        return [
            *trainings,
            ("training", "cases", cohort, cases, *bad),
            ("training", "jobs", cohort, runs, cases, jobs, *common),
            ("evaluation", "score", jobs),
            ("evaluation", "report", jobs, str(self.report), "--title", "Out-of-fold predictions"),
            ("training", "scores", runs),
        ]

    def model_folders(self) -> list[Path]:
        """Return the folders to which the trainings export."""
        return [
            self.models / name if self.models else model_folder(task)
            for name, task in TASKS.items()
        ]


def run_everything(wanted: Everything) -> None:
    """Run all steps and print where the results are.

    Raises
    ------
    HecktorError
        If a step fails, which has then printed the reason, or if nobody is to be held out and a
        task needs out-of-fold predictions.
    """
    if not wanted.holds_out:
        for task in TASKS.values():
            check_without_held_out(task, load_configuration(wanted.configuration), TASKS)
    steps = wanted.commands()
    for number, step in enumerate(steps, start=1):
        print(f"\nstep {number} of {len(steps)}: python -m {shlex.join(step)}", flush=True)
        _run(step)
    models = ", ".join(str(folder) for folder in wanted.model_folders())
    print(f"\nmodel folders: {models}")
    if wanted.holds_out:
        print(f"scores and pictures of the worst cases: {wanted.report / 'report.html'}")
    if wanted.models is None:
        reading = "reading the report and " if wanted.holds_out else ""
        print(f"next, after {reading}./test_containers.sh:")
        for algorithm in CURRENT.algorithms:
            print(f"  {algorithm.name}/do_save.sh")
    else:
        print("next: copy these to the model folders of the tasks, and run their do_save.sh")


def _run(step: Sequence[str]) -> None:
    status = subprocess.run([sys.executable, "-m", *step], check=False).returncode
    if status:
        raise HecktorError(
            f"expected `python -m {step[0]} {step[1]}` to complete, found the exit status "
            f"{status}; its message is above. Afterwards, the same command resumes"
        )
