"""The folder of a run: the jobs of one task, laid out as an evaluation container receives them.

::

    RUN/task1_segmentation/
      predictions.json        the jobs, as the platform lists them; written when all have ended
      run.json                what made them
      <case>/                 one job; the name is the platform's pk
        output/               what the algorithm has written
        stdout.txt stderr.txt job.json
      .work/                  what is not finished

A job is made below `.work` and moved in whole, so a job folder is complete or not there, whenever
the run was killed. A lock for each case keeps two runs of one folder from doing a case twice; they
share the work.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import NonNegativeFloat, ValidationError

from evaluation.jobs import SUCCEEDED
from evaluation.running.cases import Case
from evaluation.running.tasks import Task
from shared.errors import InputError
from shared.files import locked, write_whole
from shared.schema import Strict
from shared.tasks import CURRENT

PREDICTIONS: Final = "predictions.json"
OUTPUT: Final = "output"
JOB: Final = "job.json"
CARD: Final = "run.json"
APPLICATION: Final = "app-"


class JobRecord(Strict):
    """How a job has ended.

    Attributes
    ----------
    case : its name.
    status : by the platform's words.
    reason : of a failure, the last line on stderr, else what is known; null where it succeeded.
    seconds : from start to end, starting the container included.
    peak_memory_gb : as the log states it.
    """

    case: str
    status: Literal["Succeeded", "Failed"]
    reason: str | None
    seconds: NonNegativeFloat
    peak_memory_gb: NonNegativeFloat | None

    @property
    def succeeded(self) -> bool:
        """Whether the platform would keep its outputs."""
        return self.status.lower() == SUCCEEDED


class RunCard(Strict):
    """What made the jobs of a folder: they are of one algorithm, or comparing them is vain.

    Attributes
    ----------
    task : name.
    made_by : the image's identifier, or a digest of the code and the models.
    engine : in words.
    cases : the folder that the cases came from.
    """

    task: str
    made_by: str
    engine: str
    cases: str


class RunStore:
    """The jobs of one task in a folder.

    Attributes
    ----------
    folder : of the run.
    application : where this process may lay out the application of a native run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.work = self.folder / ".work"
        self.application = self.work / f"{APPLICATION}{socket.gethostname()}-{os.getpid()}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder, or go on with one of an earlier run, whose leftovers go.

        Raises
        ------
        InputError
            If it holds something else.
        """
        ours = (self.folder / CARD).exists() or self.work.exists()
        if not ours and self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(
                f"expected a new folder or one of an earlier run, found {self.folder} with other "
                "files; give another one"
            )
        self.work.mkdir(parents=True, exist_ok=True)
        # Read and written: NFS grants no shared lock on a file that is only written.
        with (self.work / "runs.lock").open("a+") as shared:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(shared, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for folder in self.work.glob(f"{APPLICATION}*"):  # nobody else's: we are alone
                    shutil.rmtree(folder)
            fcntl.flock(shared, fcntl.LOCK_SH)
            yield

    def claim(self, card: RunCard) -> None:
        """Note what makes the jobs, or see that it made the earlier ones too.

        Raises
        ------
        InputError
            If they are of another algorithm or of other cases.
        """
        path = self.folder / CARD
        if not path.exists():
            write_whole(path, card.model_dump_json(indent=2) + "\n")
        found = self.card()
        differing = [
            name
            for name in ("task", "made_by", "cases")
            if getattr(found, name) != getattr(card, name)
        ]
        if differing:
            raise InputError(
                f"expected {self.folder} to be of this run, found another {', '.join(differing)} "
                f"({', '.join(str(getattr(found, name)) for name in differing)}); give a new folder"
            )

    def card(self) -> RunCard:
        """Return what made the jobs.

        Raises
        ------
        InputError
            If the folder is not of a run.
        """
        path = self.folder / CARD
        try:
            return RunCard.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            raise InputError(
                f"expected {path} of `python -m evaluation run`, found none; give its folder"
            ) from None

    def record(self, case: str) -> JobRecord | None:
        """Return how a case has ended, or None where it has not."""
        path = self.folder / case / JOB
        return JobRecord.model_validate_json(path.read_bytes()) if path.is_file() else None

    def records(self) -> list[JobRecord]:
        """Return how the cases have ended, by name; those that have not are left out."""
        found = (self.record(path.parent.name) for path in sorted(self.folder.glob(f"*/{JOB}")))
        return [record for record in found if record is not None]

    def forget_failures(self) -> None:
        """Remove the failed jobs, for them to be run again."""
        for record in self.records():
            if not record.succeeded:
                self._discard(self.folder / record.case)

    def locked(self, case: str) -> AbstractContextManager[None]:
        """Keep every other run, thread and machine from a case; a lock ends with its process."""
        return locked(self.work / case)

    def draft(self, case: str) -> Path:
        """Return a new folder to make a job in; the case's lock is held."""
        folder = self.work / case
        if folder.exists():
            self._sweep(folder)
        folder.mkdir()
        return folder

    def move_in(self, draft: Path, record: JobRecord) -> None:
        """Make a draft the job of its case, at once and whole; the case's lock is held."""
        (draft / JOB).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.rename(self.folder / record.case)

    def write_predictions(self, task: Task, cases: Iterable[Case]) -> Path:
        """Write `predictions.json` of the cases that have ended, and return its path."""
        jobs = []
        for case in cases:
            record = self.record(case.name)
            if record is not None:
                jobs.append(_prediction(task, case, record))
        path = self.folder / PREDICTIONS
        write_whole(path, json.dumps(jobs, indent=2, allow_nan=False) + "\n")
        return path

    def _sweep(self, folder: Path) -> None:
        """Clear the way of what a killed run left, and delete of it what may be deleted.

        A container's files are its user's, and no other user but root may delete them.
        """
        aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.left-", dir=self.work))
        folder.rename(aside / folder.name)
        _make_writable(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _discard(self, job: Path) -> None:
        trash = self.work / f"{job.name}.failed"
        self.work.mkdir(exist_ok=True)
        shutil.rmtree(trash, ignore_errors=True)
        job.rename(trash)
        shutil.rmtree(trash)


def _prediction(task: Task, case: Case, record: JobRecord) -> dict[str, Any]:
    """Return a job as the platform lists it.

    A case goes by the name of its CT there; here by its folder's, whatever the file is called.
    """
    edition = CURRENT
    inputs = [
        {
            "socket": {"slug": socket.slug, "relative_path": socket.path},
            "image": None if socket == edition.ehr else {"name": f"{case.name}.mha"},
        }
        for socket in (edition.ct, edition.pet, edition.ehr)
    ]
    # An image's socket names its folder, for the platform chooses the file's name.
    relative = str(Path(task.output).parent) if task.kind == "mask" else task.output
    output = {
        "socket": {"slug": Path(relative).stem, "relative_path": relative},
        "image": {"name": Path(task.output).name} if task.kind == "mask" else None,
    }
    return {
        "pk": record.case,
        "status": record.status,
        "inputs": inputs,
        "outputs": [output],
        "exec_duration": f"PT{record.seconds:.3f}S",
    }


def _make_writable(folder: Path) -> None:
    """Let us delete a case that a killed run left read-only, as far as it is ours."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            with contextlib.suppress(OSError):
                path.chmod(path.stat().st_mode | 0o200)
