"""What an engine is, and what a run leaves behind."""

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
    """A run was stopped because its caller stops; it says nothing about the algorithm."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run left behind.

    Attributes
    ----------
    exit_code : None if the run was stopped.
    stdout, stderr : what it printed.
    seconds : from start to end, starting the container included.
    note : why it was stopped or killed, if known.
    """

    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Image:
    """An image as built."""

    name: str
    identifier: str
    size_bytes: int


class Engine(Protocol):
    """A way to run programs."""

    @property
    def description(self) -> str:
        """One line: what runs the programs, and what this way leaves out."""

    def prepare(self, program: Program, log: Path) -> Image | None:
        """Make a program ready to run; return its image, if any."""

    def identify(self, program: Program) -> str:
        """Return a text that differs if the code or the models of a prepared program differ."""

    def prepare_machine(self, program: Program) -> None:
        """Make another machine ready for a prepared program; it has the image or our files."""

    def leave_machine(self) -> None:
        """Remove what `prepare_machine` made, in the process that called it."""

    def run(
        self,
        program: Program,
        *,
        case: Path,
        output: Path,
        logs: Path,
        uploaded: Path | None = None,
        cpus: frozenset[int] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Run:
        """Run a program once.

        Parameters
        ----------
        case : the staged input.
        output : a folder to be made; it must not exist.
        logs : folder for `stdout.txt` and `stderr.txt`; used by one run at a time.
        uploaded : what the platform unpacks separately from the image: a model folder to use
            instead of the algorithm's own; for the evaluation, the ground truth.
        cpus : the CPUs of this machine that the run may use; a container may use as many.
        cancelled : stops the run once it is set.

        Raises
        ------
        EngineError
            If the run could not be started.
        Cancelled
            If `cancelled` was set before the end.
        """

    def close(self) -> None:
        """Remove what `prepare` made in addition to the image."""
