"""Keeps the jobs of one algorithm, laid out as an evaluation container receives them.

::

    RESULTS/task1_segmentation/
      predictions.json        the jobs, as the platform lists them; written at the end of a run
      origin.json             where the jobs come from
      <case>/                 one job; the name of the folder is the job's pk
        output/               what the algorithm wrote
        stdout.txt stderr.txt job.json
      .work/                  unfinished jobs

A job is run below `.work` and its folder is then moved in one step, so a job folder is either
complete or absent, even if the run was killed. Two runs may share one folder; a lock for each case
keeps them from running the same case.
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
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from pydantic import NonNegativeFloat, ValidationError

from evaluation.jobs import SUCCEEDED
from evaluation.predictions import PREDICTIONS
from evaluation.running.case_folders import CaseFolder
from evaluation.running.limits import Limits
from shared.editions import CURRENT, Edition
from shared.errors import InputError
from shared.files import locked, write_whole
from shared.schema import Strict
from shared.tasks import Algorithm, Output

JOB: Final = "job.json"
ORIGIN: Final = "origin.json"
APPLICATION: Final = "app-"


class JobRecord(Strict):
    """How a job ended.

    Attributes
    ----------
    case : name of the case.
    status : the status in the platform's words.
    reason : why the job failed: the limit that it exceeded, the last line on stderr, the exit code
        or the missing output; null on success.
    seconds : duration; in exec mode including the start of the container, in invoke mode only of
        the call.
    peak_memory_gb : the peak memory that the log states; null if it states none.
    cpu_seconds : the CPU time that the log states; null if it states none.
    peak_gpu_memory_gb : the peak memory of the GPU; null without a GPU.
    """

    case: str
    status: Literal["Succeeded", "Failed"]
    reason: str | None
    seconds: NonNegativeFloat
    peak_memory_gb: NonNegativeFloat | None
    cpu_seconds: NonNegativeFloat | None = None
    peak_gpu_memory_gb: NonNegativeFloat | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the job succeeded, so that the platform would keep its outputs."""
        return self.status.lower() == SUCCEEDED


class JobsOrigin(Strict):
    """Where the jobs of a folder come from; all must share algorithm, source, cases and limits.

    Attributes
    ----------
    algorithm : name of the algorithm.
    source : the image's identifier, or a digest of the code and the models.
    engine : description of the engine.
    cases : folder of the cases.
    limits : the limits under which the jobs ran; None if they come from elsewhere.
    """

    algorithm: str
    source: str
    engine: str
    cases: str
    limits: Limits | None = None


class JobStore:
    """The jobs of one algorithm in a folder.

    Attributes
    ----------
    folder : where the jobs are kept.
    application : folder where this process may lay out the application of a native run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.work = self.folder / ".work"
        self.application = self.work / f"{APPLICATION}{socket.gethostname()}-{os.getpid()}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Create the folder, or reopen the folder of an earlier run and remove its leftovers.

        Raises
        ------
        InputError
            If the folder holds something else.
        """
        is_ours = (self.folder / ORIGIN).exists() or self.work.exists()
        if not is_ours and self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(
                f"expected a new folder or one from an earlier run, found other files in "
                f"{self.folder}; name another folder"
            )
        self.work.mkdir(parents=True, exist_ok=True)
        # Opened for reading and writing: NFS grants no shared lock on a file open for writing only.
        with (self.work / "runs.lock").open("a+") as lock:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for folder in self.work.glob(f"{APPLICATION}*"):  # no other run uses them
                    shutil.rmtree(folder)
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def claim(self, origin: JobsOrigin) -> None:
        """Record the origin of the jobs, or check that earlier jobs have the same origin.

        Raises
        ------
        InputError
            If the earlier jobs have another algorithm, source, folder of cases or limits.
        """
        path = self.folder / ORIGIN
        if not path.exists():
            write_whole(path, origin.model_dump_json(indent=2) + "\n")
        earlier = self.origin()
        differences = [
            f"{name} {getattr(earlier, name)} instead of {getattr(origin, name)}"
            for name in ("algorithm", "source", "cases", "limits")
            if getattr(earlier, name) != getattr(origin, name)
        ]
        if differences:
            raise InputError(
                f"expected jobs of the same origin in {self.folder}, found "
                f"{', '.join(differences)}; name a new folder"
            )

    def origin(self) -> JobsOrigin:
        """Return where the jobs come from.

        Raises
        ------
        InputError
            If the folder holds no jobs.
        """
        path = self.folder / ORIGIN
        try:
            return JobsOrigin.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            raise InputError(
                f"expected {path}, which `python -m evaluation run` writes, found no valid file; "
                "name the folder that this command wrote to"
            ) from None

    def record(self, case: str) -> JobRecord | None:
        """Return how the job of a case ended, or None if it has not ended."""
        path = self.folder / case / JOB
        return JobRecord.model_validate_json(path.read_bytes()) if path.is_file() else None

    def records(self) -> list[JobRecord]:
        """Return the records of all jobs that have ended, sorted by the name of the case."""
        records = (self.record(path.parent.name) for path in sorted(self.folder.glob(f"*/{JOB}")))
        return [record for record in records if record is not None]

    def forget_failures(self) -> None:
        """Remove the failed jobs, so that they run again."""
        for record in self.records():
            if not record.succeeded:
                self._discard(self.folder / record.case)

    def locked(self, case: str) -> AbstractContextManager[None]:
        """Lock a case against other runs, threads and machines; the lock ends with its process."""
        return locked(self.work / case)

    def draft(self, case: str) -> Path:
        """Return a new folder to make a job in; the caller must hold the lock of the case."""
        folder = self.work / case
        if folder.exists():
            self._sweep(folder)
        folder.mkdir()
        return folder

    def move_in(self, draft: Path, record: JobRecord) -> None:
        """Turn a draft into the job of its case in one step; the caller must hold the lock."""
        (draft / JOB).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.rename(self.folder / record.case)

    def write_predictions(
        self, algorithm: Algorithm, cases: Iterable[CaseFolder], edition: Edition = CURRENT
    ) -> Path:
        """Write `predictions.json` of the cases that have ended, and return its path."""
        jobs = []
        for case in cases:
            record = self.record(case.name)
            if record is not None:
                jobs.append(_prediction(algorithm, case=case, record=record, edition=edition))
        path = self.folder / PREDICTIONS
        write_whole(path, json.dumps(jobs, indent=2, allow_nan=False) + "\n")
        return path

    def _sweep(self, folder: Path) -> None:
        """Move the leftovers of a killed run aside, and delete as much of them as possible.

        Some files may belong to a container's user; only that user or root may delete them.
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


def _prediction(
    algorithm: Algorithm, *, case: CaseFolder, record: JobRecord, edition: Edition
) -> dict[str, Any]:
    """Return a job as the platform lists it.

    On the platform, a case has the name of its CT. Here it has the name of its case folder, even if
    the CT has another name.
    """
    inputs = [
        {
            "socket": {"slug": socket.slug, "relative_path": socket.path},
            "image": None if socket == edition.ehr else {"name": f"{case.name}.mha"},
        }
        for socket in (edition.ct, edition.pet, edition.ehr)
    ]
    return {
        "pk": record.case,
        "status": record.status,
        "inputs": inputs,
        "outputs": [_output_value(output) for output in algorithm.outputs],
        "exec_duration": f"PT{record.seconds:.3f}S",
    }


def _output_value(output: Output) -> dict[str, Any]:
    name = PurePosixPath(output.path).name
    return {
        "socket": {"slug": output.slug, "relative_path": output.socket_path},
        "image": {"name": name} if output.is_image else None,
    }


def _make_writable(folder: Path) -> None:
    """Make our own files in a folder writable, so that we can delete them."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            with contextlib.suppress(OSError):
                path.chmod(path.stat().st_mode | 0o200)
