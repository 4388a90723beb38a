"""The command `python -m evaluation report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evaluation.report.page import FIGURES, PAGE, write_report
from evaluation.report.task_section import Sources
from evaluation.report.viewer.pages import VIEWER, Viewers
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
    viewer: Annotated[
        bool, typer.Option(help="Write an interactive page for each case, in OUT/viewer.")
    ] = True,
    view: Annotated[
        list[str] | None,
        typer.Option(help="Write it only for the case of this name; repeat it for several."),
    ] = None,
) -> None:
    """Write the results as an HTML page, with figures as PNG files and a viewer for each case."""
    sources = Sources(results=results, cases=cases, truth=truth or results / GROUND_TRUTH)
    viewers = Viewers(out=out, page=PAGE, chosen=view) if viewer else None
    page = write_report(sources, out, title=title, count=pictures, viewers=viewers)
    folders = {"figures": str(out / FIGURES)}
    if viewers:
        folders["viewer"] = str(out / VIEWER)
    print(json.dumps({"page": str(page), **folders}))
