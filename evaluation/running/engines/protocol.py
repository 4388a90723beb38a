"""The protocol of all engines, and the result of a run."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from evaluation.running.programs import Program
from shared.errors import HecktorError


class EngineError(HecktorError):
    """An image cannot be made or an engine cannot be used; the message states the next step."""


class Cancelled(Exception):  # noqa: N818  # not an error: the caller asked for it
    """The caller stopped a run; this says nothing about the algorithm."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The result of a run.

    Attributes
    ----------
    exit_code : exit code of the program; None if the run was stopped.
    stdout, stderr : what the program printed.
    seconds : duration; in exec mode including the start of the container, in invoke mode only of
        the call.
    note : why the run was stopped or killed, if known.
    stop_seconds : in invoke mode, from SIGTERM to the end of the program; None if only SIGKILL
        ended it.
    peak_gpu_memory_gb : peak of the memory in use on all GPUs of the machine; None without a GPU.
    """

    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    note: str = ""
    stop_seconds: float | None = None
    peak_gpu_memory_gb: float | None = None


@dataclass(frozen=True)
class Image:
    """A built image."""

    name: str
    identifier: str
    size_bytes: int


class Engine(Protocol):
    """A way to run programs."""

    @property
    def description(self) -> str:
        """One line that says how the programs run, and what differs from the platform."""

    @property
    def tmpfs_options(self) -> frozenset[str]:
        """Names of the options that `run` accepts for `output_tmpfs`; empty if it accepts none."""

    def prepare(self, program: Program, log: Path) -> Image | None:
        """Prepare a program, and return its image, if any."""

    def identify(self, program: Program) -> str:
        """Return a text that differs if the code or the models of a prepared program differ."""

    def prepare_machine(self, program: Program) -> None:
        """Prepare another machine for a prepared program.

        The machine must already have the image, or see the checkout and the results folder.

        Raises
        ------
        EngineError
            If the machine cannot run the program.
        """

    def leave_machine(self) -> None:
        """Remove what `prepare_machine` created; called in the same process."""

    def run(
        self,
        program: Program,
        *,
        case: Path,
        output: Path,
        logs: Path,
        uploaded: Path | None = None,
        output_tmpfs: str | None = None,
        cpus: frozenset[int] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Run:
        """Run a program once.

        Parameters
        ----------
        case : the staged input.
        output : folder to create; it must not exist.
        logs : folder for `stdout.txt` and `stderr.txt`; used by one run at a time.
        uploaded : what the platform unpacks separately from the image: a model folder to use
            instead of the algorithm's own; for the evaluation, the ground truth.
        output_tmpfs : mount option, such as `ro` or `size=4k`, of an empty tmpfs that replaces the
            output folder during the run. What the program writes there is lost.
        cpus : CPUs of this machine that the run may use, as far as its limits allow. A container
            may use the same number of CPUs, but not only these.
        cancelled : stops the run once it is set.

        Raises
        ------
        EngineError
            If the run could not be started.
        Cancelled
            If `cancelled` was set before the end.
        """

    def close(self) -> None:
        """Remove what `prepare` created in addition to the image."""
