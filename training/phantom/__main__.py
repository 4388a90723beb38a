"""Command line: `python -m training.phantom FOLDER` makes a cohort of phantom patients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from training.phantom.cohort import make_cohort
from training.phantom.oracle import oracle_scores
from training.phantom.patient import Kind


def main(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder, or an incomplete cohort.")],
    patients: Annotated[int, typer.Option(min=1, help="Number of patients.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives identical files.")] = 0,
    small: Annotated[bool, typer.Option("--small", help="Coarse voxels and small images.")] = False,
    as_cases: Annotated[
        bool, typer.Option("--as-cases", help="Write cases in the platform's layout.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    prevalence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Proportion of HPV-positive patients.")
    ] = None,
    tasks: Annotated[
        str, typer.Option(help="Numbers of the tasks to write, such as 1,2.")
    ] = "1,2,3",
    centres: Annotated[
        Literal["training", "unseen", "all"],
        typer.Option(help="The centres of the training set, two unseen centres, or all centres."),
    ] = "training",
    whole_body: Annotated[
        bool | None,
        typer.Option("--whole-body/--head-neck", help="Field of view; random by default."),
    ] = None,
    primary: Annotated[
        bool | None,
        typer.Option(
            "--primary/--no-primary",
            help="A primary in all patients or in none; random by default.",
        ),
    ] = None,
    anatomy: Annotated[
        Path | None, typer.Option(help="Build patients on the real CTs and labels in this folder.")
    ] = None,
    real_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="With --anatomy: share of patients built on these CTs."),
    ] = 1.0,
) -> None:
    """Make a cohort of phantom patients in FOLDER, or complete an interrupted cohort."""
    kind = Kind(
        small=small, prevalence=prevalence, whole_body=whole_body, centres=centres,
        primary=primary, anatomy=None if anatomy is None else str(anatomy), real_share=real_share,
    )  # fmt: skip
    try:
        numbers = tuple(int(task) for task in tasks.split(","))
        records = make_cohort(
            folder,
            patients,
            seed=seed,
            kind=kind,
            workers=workers,
            tasks=numbers,
            as_cases=as_cases,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    result = {"patients": len(records), "oracle": oracle_scores(records)}
    print(json.dumps({"folder": str(folder), **result}, indent=2))


if __name__ == "__main__":
    typer.run(main)
