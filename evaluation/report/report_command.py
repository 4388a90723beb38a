"""The command `python -m evaluation report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evaluation.report.page import FIGURES, write_report
from evaluation.report.task_section import Sources
from evaluation.running.ground_truth import GROUND_TRUTH


def report(
    results: Annotated[Path, typer.Argument(help="Results folder, already scored.")],
    out: Annotated[Path, typer.Argument(help="Folder for report.html and figures/.")],
    title: Annotated[str, typer.Option(help="Title of the page.")] = "HECKTOR evaluation",
    cases: Annotated[
        Path | None, typer.Option(help="Folder of the cases (default: the one that `run` used).")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Ground truth (default: RESULTS/ground_truth).")
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Number of worst cases, and of best cases, with pictures.")
    ] = 3,
) -> None:
    """Write the results as a self-contained HTML page, with its figures as PNG files."""
    sources = Sources(results=results, cases=cases, truth=truth or results / GROUND_TRUTH)
    page = write_report(sources, out, title=title, count=pictures)
    print(json.dumps({"page": str(page), "figures": str(out / FIGURES)}))
