"""Output folders to which no answer can be written: each run must end with one line about it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evaluation.running.engines.protocol import Engine
from evaluation.running.programs import Program
from tests.containers import checks
from tests.containers.report import Group

PAGE_BYTES: Final = 4096
"""Smallest size of a tmpfs. Writing a larger answer fails in the middle of its file. For a smaller
answer, the tmpfs is one in which no file can be created."""


@dataclass(frozen=True)
class OutputFolder:
    """An output folder that cannot be written to.

    Attributes
    ----------
    name : what is wrong with it.
    tmpfs : the mount option that makes it so.
    words : words that the line on stderr must contain.
    """

    name: str
    tmpfs: str
    words: str


def unusable_folders(answer_bytes: int) -> tuple[OutputFolder, ...]:
    """Return a full and a read-only output folder.

    Parameters
    ----------
    answer_bytes : size of the largest file of the answer, which must not fit into the full folder.
    """
    full = f"size={PAGE_BYTES}" if answer_bytes > PAGE_BYTES else "nr_inodes=1"
    return (
        OutputFolder("a full /output", full, "space"),
        OutputFolder("a read-only /output", "ro", "mount it so that it can be written to"),
    )


def check_output_folders(
    engine: Engine,
    program: Program,
    *,
    case: Path,
    answer: Path,
    logs: Path,
    uploaded: Path | None = None,
) -> Group | None:
    """Run a prepared program with each unusable output folder.

    Parameters
    ----------
    case : an input folder that the program can answer.
    answer : the output folder of a run on this case.
    uploaded : see `Engine.run`.

    Returns
    -------
    The checks; None if the engine cannot provide such folders.
    """
    start = time.perf_counter()
    answer_bytes = max(path.stat().st_size for path in answer.rglob("*") if path.is_file())
    results = []
    for folder in unusable_folders(answer_bytes):
        if folder.tmpfs.partition("=")[0] not in engine.tmpfs_options:
            continue
        run_logs = logs / folder.name.replace(" ", "_").replace("/", "")
        run_logs.mkdir(parents=True)
        output = run_logs / "output"
        run = engine.run(
            program,
            case=case,
            output=output,
            logs=run_logs,
            uploaded=uploaded,
            output_tmpfs=folder.tmpfs,
        )
        results.append(checks.check_rejection(folder.name, run, output, folder.words))
    if not results:
        return None
    return Group(
        container=program.name,
        name="output folder",
        checks=results,
        seconds=time.perf_counter() - start,
        note="exit code 1, one line",
        logs=logs,
    )
