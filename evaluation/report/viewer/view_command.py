"""The command `python -m evaluation view`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evaluation.images import grid_difference, read_grid, read_labels
from evaluation.report.viewer.niivue import read_niivue
from evaluation.report.viewer.page import ViewedCase, render_case
from evaluation.running.case_folders import open_case
from evaluation.scoring_rules import ScoringRules
from evaluation.tasks.masks import read_mask
from shared.conventions import LabelVolume
from shared.editions import CURRENT
from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge.inputs import read_case


def view(
    case: Annotated[
        Path, typer.Argument(help="Case folder, with input/ in the platform's layout.")
    ],
    output: Annotated[
        Path, typer.Argument(help="Folder of the job's outputs, with the predicted label map.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Page to write (default: CASE.html in this folder).")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="True label map (default: CASE/truth.nii.gz, if present).")
    ] = None,
) -> None:
    """Write one case as an interactive page: one HTML file that any browser opens from disk."""
    folder = open_case(case)
    niivue = read_niivue()
    images = read_case(folder.input, CURRENT)
    grid = Grid.of(images.ct_hu)
    if not output.is_dir():
        raise InputError(
            f"expected the folder of a job's outputs at {output}, found none; "
            "name the folder that holds images/"
        )
    true_path = truth or folder.truth
    viewed = ViewedCase(
        name=folder.name,
        case=images,
        prediction=read_mask(output, CURRENT, grid),
        truth=None if true_path is None else _read_truth(true_path, grid),
        rules=ScoringRules(),
    )
    page = out or Path(f"{folder.name}.html")
    text = render_case(viewed, niivue=niivue)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")
    print(json.dumps({"page": str(page)}))


def _read_truth(path: Path, grid: Grid) -> LabelVolume:
    if problem := grid_difference(read_grid(path), grid):
        raise InputError(f"expected the truth {path} on the CT's grid, found {problem}")
    return read_labels(path)
