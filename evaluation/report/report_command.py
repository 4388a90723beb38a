"""The command `python -m evaluation report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evaluation.report.page import FIGURES, Sources, write_report
from evaluation.running.truth import GROUND_TRUTH


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run that has been scored.")],
    out: Annotated[Path, typer.Argument(help="Folder for report.html and figures/.")],
    title: Annotated[str, typer.Option(help="Of the page.")] = "HECKTOR evaluation",
    cases: Annotated[
        Path | None, typer.Option(help="Folder of the cases (default: where the run found them).")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Ground truth (default: ground_truth in the run's folder).")
    ] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Worst cases shown, and best ones.")] = 3,
) -> None:
    """Write one self-contained HTML page about a run, and its figures as PNG."""
    sources = Sources(run, cases, truth or run / GROUND_TRUTH)
    page = write_report(sources, out, title, pictures)
    print(json.dumps({"page": str(page), "figures": str(out / FIGURES)}))
