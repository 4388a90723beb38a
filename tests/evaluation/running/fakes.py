"""An engine that runs nothing: it records each call and behaves as the case's record says."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from evaluation.running.case_folders import CaseFolder
from evaluation.running.engines.protocol import Cancelled, EngineError, Run
from evaluation.running.programs import Program
from shared.editions import CURRENT

ALGORITHM = CURRENT.algorithm("survival")
"""An algorithm whose output is one number."""


@dataclass(frozen=True)
class RecordingEngine:
    """Writes a line to `calls` when a run starts and another when it ends.

    A case's `ehr.json` says what happens: `{"seconds": 0.1, "fault": "exit"}`.
    """

    calls: Path

    @property
    def description(self) -> str:
        return "engine of the tests"

    @property
    def tmpfs_options(self) -> frozenset[str]:
        return frozenset()

    def prepare(self, program: Program, log: Path) -> None:
        self._note("prepare")

    def identify(self, program: Program) -> str:
        return "0123"

    def prepare_machine(self, program: Program) -> None:
        self._note(f"machine {os.getpid()}")

    def leave_machine(self) -> None:
        self._note(f"left {os.getpid()}")

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
        behaviour = json.loads((case / "ehr.json").read_bytes())
        name = behaviour["name"]
        output.mkdir()
        self._note(f"start {name}")
        ends = time.monotonic() + behaviour.get("seconds", 0)
        while time.monotonic() < ends:
            if cancelled is not None and cancelled.is_set():
                self._note(f"cancelled {name}")
                raise Cancelled
            time.sleep(0.01)
        fault = behaviour.get("fault")
        if fault == "kills its worker":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "engine":
            raise EngineError("the daemon\ndoes not answer")
        if fault != "no output":
            (output / ALGORITHM.outputs[0].path).write_text("0.5")
        self._note(f"end {name}")
        stderr = "a warning\nexpected exactly one .mha, found 2\n\n" if fault == "exit" else ""
        return Run(
            exit_code=int(fault == "exit"),
            stdout="done in 0.1 s, peak memory 0.50 GB\n",
            stderr=stderr,
            seconds=0.1234,
        )

    def close(self) -> None:
        self._note("close")

    def notes(self, word: str) -> list[str]:
        """Return the texts that follow a word in the calls, in order."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line.split(" ", 1)[1] for line in lines if line.startswith(f"{word} ")]

    def _note(self, line: str) -> None:
        # A short line is written at once, so it does not mix with those of other processes.
        with self.calls.open("a") as file:
            file.write(line + "\n")


def make_cases(folder: Path, count: int, **behaviour: object) -> list[CaseFolder]:
    """Write cases without images; `behaviour` goes into each record."""
    cases = []
    for index in range(count):
        name = f"MDA-{index:03}"
        source = folder / name / "input"
        source.mkdir(parents=True)
        (source / "ehr.json").write_text(json.dumps({"name": name, "CenterID": 5, **behaviour}))
        cases.append(CaseFolder(name, source, None))
    return cases


def set_behaviour(case: CaseFolder, **behaviour: object) -> None:
    """Change what happens when a case is run."""
    path = case.input / "ehr.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **behaviour}))
