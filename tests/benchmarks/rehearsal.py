"""Dress rehearsal of the paper on a CPU: `python -m tests.benchmarks.rehearsal OUT`.

The networks of `paper` (32 to 320 filters), its preparation (1 mm, 288³, B-spline) and its windows
are the real ones. The cohort has 12 full-size phantoms, and a training has one epoch. The training
crop of Task 1 is smaller, and the precision is bf16, because CPUs do not compute in fp16.

In a copy of the repository, the rehearsal makes the cohort, prints the plan of the training, takes
a step of Task 1 at its true size of 192³ (those of Tasks 2 and 3 have it anyway), trains the three
tasks, builds the three images with the new models, and runs each on a sample case. It
prints the time and the peak memory of each stage, and resumes after an interruption. The scores of
such networks mean nothing.

The images get the tags of the repository's own images; build those again afterwards.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from shared.files import write_whole
from shared.schema import Strict
from tests.tree import copy_tree
from training.config import CONFIGS_DIR
from training.records import read_record

CHANGES: Final = {
    r"^epochs = \d+": "epochs = 1",
    r"^validate_every_epochs = \d+": "validate_every_epochs = 1",
    r"^crop_zyx = \[.*\]": "crop_zyx = [96, 96, 96]\ncheckpoint_levels = 2",
    r"^batch_size = 16": "batch_size = 8",  # Task 2; eight patients are left to train on
    r'^precision = ".*"': 'precision = "bf16-mixed"',
}
"""What the rehearsal changes in the configuration `paper`."""

Engine = Literal["docker", "podman", "native"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Stage(Strict):
    """A stage that is complete; the memory is that of its largest process."""

    name: str
    seconds: float
    peak_memory_gb: float


def shortened_paper() -> str:
    """Return the configuration `paper` with the changes of the rehearsal."""
    text = (CONFIGS_DIR / "paper.toml").read_text(encoding="utf-8")
    for pattern, replacement in CHANGES.items():
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        if not count:
            raise ValueError(f"expected {pattern} in paper.toml, found none")
    return text


def run_stage(name: str, command: list[str], tree: Path, out: Path) -> Stage:
    """Run a command in the copy of the repository, unless an earlier run completed it."""
    record = out / f"{name}.json"
    if record.exists():
        return read_record(Stage, record)
    log = out / f"{name}.log"
    start = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        sys.exit("\n".join([f"{name} failed; the end of {log}:", *lines[-20:]]))
    stage = Stage(
        name=name,
        seconds=time.perf_counter() - start,
        peak_memory_gb=usage.ru_maxrss / 1024**2,
    )
    write_whole(record, stage.model_dump_json() + "\n")
    return stage


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="Folder for the copy, cohort, runs and logs.")],
    patients: Annotated[int, typer.Option(min=8, help="Number of phantoms.")] = 12,
    case: Annotated[
        str, typer.Option(help="Sample case that the images answer.")
    ] = "oblique_flipped",
    engine: Annotated[Engine, typer.Option(help="Container engine.")] = "docker",
    workers: Annotated[int, typer.Option(min=0, help="Processes that load data.")] = 1,
) -> None:
    """Rehearse, and print the table of the stages."""
    out = out.resolve()
    tree, cohort, runs, settings = (out / name for name in ("tree", "cohort", "runs", "rehearsal"))
    if not tree.exists():
        copy_tree(tree)
    settings = settings.with_suffix(".toml")
    write_whole(settings, shortened_paper())
    training = [sys.executable, "-m", "training"]
    chosen = ["--configuration", str(settings)]
    held_out = ["--held-out", "4"]  # so that both parts have patients of both HPV statuses
    stages = {
        "phantoms": [
            *(sys.executable, "-m", "training.phantom", str(cohort)),
            *("--patients", str(patients), "--seed", "8", "--workers", "2"),
            *("--prevalence", "0.6"),
        ],
        "preparation": [*training, "prepare", str(cohort), str(runs), *chosen, "--workers", "2"],
        "plan": [*training, "plan", str(cohort), *chosen, *held_out],
        "step": [  # of Task 1, at the true size of its crops
            *(sys.executable, "-m", "tests.benchmarks.memory", *chosen),
            *("--precision", "bf16-mixed", "--task", "segmentation"),
            *("--side", "192", "--batch-size", "1"),
        ],
        "training": [
            *(*training, "all", str(cohort), str(runs), *chosen),
            *(*held_out, "--accelerator", "cpu", "--workers", str(workers)),
        ],
        "images": [
            *("./test_containers.sh", "--engine", engine, "--case", f"tests/cases/{case}"),
            *("--logs", str(out / "containers"), "--junit", str(out / "containers.xml")),
        ],
    }
    print("| stage | minutes | largest process GB |\n|---|---|---|")
    for name, command in stages.items():
        stage = run_stage(name, command, tree, out)
        print(f"| {name} | {stage.seconds / 60:.1f} | {stage.peak_memory_gb:.1f} |", flush=True)
    print()
    for name in ("plan", "step", "training", "images"):
        print(f"## {name}\n\n{(out / f'{name}.log').read_text(encoding='utf-8')}")


if __name__ == "__main__":
    app()
