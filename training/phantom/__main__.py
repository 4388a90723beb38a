"""Command line: `python -m training.phantom FOLDER`; pictures: `... -m training.phantom.render`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from training.phantom.cohort import make_cohort
from training.phantom.oracle import oracle_scores
from training.phantom.patient import Kind


def main(
    folder: Annotated[Path, typer.Argument(help="New, empty, or a cohort to be completed.")],
    patients: Annotated[int, typer.Option(min=1, help="How many in the end.")] = 20,
    seed: Annotated[int, typer.Option(help="One seed, one cohort, bit for bit.")] = 0,
    small: Annotated[bool, typer.Option("--small", help="Coarse voxels, small matrices.")] = False,
    as_cases: Annotated[bool, typer.Option("--as-cases", help="Grand Challenge cases.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    prevalence: Annotated[float | None, typer.Option(min=0, max=1, help="HPV positive.")] = None,
    tasks: Annotated[str, typer.Option(help="Whose folders to write, as in 1,2.")] = "1,2,3",
    centres: Annotated[
        Literal["training", "unseen", "all"],
        typer.Option(help="Hospitals of the training set, two others, or both."),
    ] = "training",
    whole_body: Annotated[
        bool | None, typer.Option("--whole-body/--head-neck", help="Force the scan.")
    ] = None,
    primary: Annotated[
        bool | None, typer.Option("--primary/--no-primary", help="Force whether there is one.")
    ] = None,
    anatomy: Annotated[
        Path | None, typer.Option(help="Build patients on the CTs and labels of this folder.")
    ] = None,
    real_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the patients on these CTs; others synthetic.")
    ] = 1.0,
) -> None:
    """Make a cohort of phantom patients in FOLDER, or complete one that was stopped."""
    kind = Kind(
        small=small, prevalence=prevalence, whole_body=whole_body, centres=centres,
        primary=primary, anatomy=None if anatomy is None else str(anatomy), real_share=real_share,
    )  # fmt: skip
    try:
        numbers = tuple(int(task) for task in tasks.split(","))
        records = make_cohort(folder, patients, seed, kind, workers, numbers, as_cases)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    result = {"patients": len(records), "oracle": oracle_scores(records)}
    print(json.dumps({"folder": str(folder), **result}, indent=2))


if __name__ == "__main__":
    typer.run(main)
