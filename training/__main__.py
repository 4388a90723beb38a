"""Command line of the training: `python -m training COMMAND --help`.

One cohort folder in the challenge's layout, one folder of runs. The three tasks are trained in the
order segmentation, hpv, survival, since each starts from or is fed by the one before.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Final

import typer

from shared.errors import HecktorError
from shared.models.card import Kind
from shared.models.segmentation import SegmentationModel
from training.cohort.cache import REPOSITORY
from training.cohort.layout import PatientFiles, check_images, index_cohort, read_cohort, usable
from training.config import Origin, Precision, load_configuration
from training.loop.fit import Accelerator, Hardware
from training.studies import ablation, baselines
from training.studies import scores as evaluation
from training.studies.platform import write_cases, write_jobs
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival
from training.train import Options, Task, export_run, prepared, train

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False
)

FULL_DISK: Final = (errno.ENOSPC, errno.EDQUOT)

TASKS: Final[dict[str, Task]] = {t.name: t for t in (Segmentation(), Hpv(), Survival())}

CohortArgument = Annotated[Path, typer.Argument(help="Training data in the challenge's layout.")]
RunsArgument = Annotated[Path, typer.Argument(help="Where cache, checkpoints and logs go.")]
ConfigurationOption = Annotated[
    str, typer.Option(help="A name in training/configs, or the path of a .toml file.")
]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that prepare and load data.")]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out patients that cannot be used.")
]
FoldsOption = Annotated[int | None, typer.Option(min=2, help="Folds by centre and outcome.")]
ByCentreOption = Annotated[
    bool, typer.Option("--by-centre", help="Leave one centre out after another.")
]
SplitsOption = Annotated[
    Path | None, typer.Option(help="A folds.json, or nnU-Net's splits_final.json.")
]
ModelOption = Annotated[
    Path | None, typer.Option(help="Model folder to write; the task's own if not given.")
]


def _training_command(task: Task, held_out: int, about: str) -> Callable[..., None]:
    """Return the command that trains a task; the three differ in their defaults only."""

    def command(
        cohort: CohortArgument,
        runs: RunsArgument,
        configuration: ConfigurationOption = "demo",
        held_out: Annotated[
            int, typer.Option(min=1, help="Patients kept for validation; unless in folds.")
        ] = held_out,
        folds: FoldsOption = None,
        by_centre: ByCentreOption = False,
        splits: SplitsOption = None,
        fold: Annotated[
            str | None, typer.Option(help="Train only this one; all if not given.")
        ] = None,
        seed: Annotated[int, typer.Option(help="Folds, weights, order and augmentation.")] = 0,
        workers: WorkersOption = 1,
        skip_bad: SkipBadOption = False,
        notice: Annotated[
            str | None,
            typer.Option(
                help="What users of the weights must know; else that they are of phantoms."
            ),
        ] = None,
        data: Annotated[
            str | None,
            typer.Option(help="The training data, in words, for the card; phantoms if not given."),
        ] = None,
        licence: Annotated[
            str | None,
            typer.Option(help="Of the weights; with --data it must be given, else Apache-2.0."),
        ] = None,
        model: ModelOption = None,
        devices: Annotated[
            int | None, typer.Option(min=1, help="GPUs a machine; all if not given.")
        ] = None,
        nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
        accelerator: Annotated[
            Accelerator, typer.Option(help="auto takes GPUs where there are any.")
        ] = "auto",
        precision: Annotated[
            Precision | None, typer.Option(help="The configuration's if not given.")
        ] = None,
        accumulate: Annotated[
            int | None, typer.Option(min=1, help="Batches to a step; the configuration's.")
        ] = None,
    ) -> None:
        hardware = Hardware(devices, nodes, accelerator, precision, accumulate)
        options = Options(
            configuration, held_out, folds, by_centre, splits, fold, seed, workers, skip_bad,
            notice, data, licence, model, hardware,
        )  # fmt: skip
        train(task, cohort, runs, options)

    command.__doc__ = about
    return command


app.command("segmentation")(
    _training_command(TASKS["segmentation"], 36, "Train Task 1 and write its model folder.")
)
app.command("hpv")(
    _training_command(
        TASKS["hpv"], 60, "Train Task 3 from the weights of Task 1 in RUNS; write its model folder."
    )
)
app.command("survival")(
    _training_command(
        TASKS["survival"],
        60,
        "Train Task 2, on true or predicted masks and HPV status; write its model folder.",
    )
)


@app.command("check")
def check(cohort: CohortArgument, workers: WorkersOption = 1) -> None:
    """List what is wrong with a cohort; changes nothing."""
    found = read_cohort(cohort)
    print(*found.remarks, sep="\n")
    findings = [*found.findings, *check_images(found.patients, workers)]
    left = usable(found.patients, findings, skip_bad=False)
    print(f"{len(left)} patients, nothing wrong with them")


@app.command("prepare")
def prepare_cache(
    cohort: CohortArgument,
    runs: RunsArgument,
    configuration: ConfigurationOption = "demo",
    workers: WorkersOption = 1,
    skip_bad: SkipBadOption = False,
) -> None:
    """Check a cohort and make the cache; training does so too, but only in its first process."""
    options = Options(configuration, workers=workers, skip_bad=skip_bad)
    print(f"{len(prepared(cohort, runs, options))} patients are in the cache")


@app.command("export")
def export_models(
    task: Annotated[str, typer.Argument(help="segmentation, hpv or survival.")],
    runs: RunsArgument,
    fold: Annotated[
        list[str] | None, typer.Option(help="One or several; all, an ensemble, if not given.")
    ] = None,
    model: ModelOption = None,
    configuration: Annotated[
        str | None, typer.Option(help="Take the rules for serving from here, not from the run.")
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(help="Only models of this kind; all that were trained if not given."),
    ] = None,
) -> None:
    """Write a model folder of trained folds: one is a single model, several an ensemble."""
    kinds = (kind,) if kind else ()
    export_run(_task(task), runs, fold or (), model, configuration, kinds)


@app.command("ablate")
def ablate_rules(
    cohort: Annotated[Path, typer.Argument(help="Patients not trained on, challenge's layout.")],
    model: Annotated[Path, typer.Option(help="A segmentation model folder.")] = REPOSITORY
    / "task1_segmentation/model",
    runs: Annotated[
        Path | None,
        typer.Option(help="In place of a model: the folds that held out each patient of COHORT."),
    ] = None,
    configuration: Annotated[
        str, typer.Option(help="Whose sizes, rules and mirroring are tried as a whole.")
    ] = "demo",
    mirror: Annotated[
        list[str] | None, typer.Option(help="Axes to mirror, as in x or xyz; may be repeated.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Also write the table here.")] = None,
    skip_bad: SkipBadOption = False,
) -> None:
    """Print what each rule on lesions and mirroring are worth on a cohort."""
    served = load_configuration(configuration).segmentation
    lines = ablation.settings(served, ["x"] if mirror is None else mirror)
    patients = index_cohort(cohort, skip_bad)
    if runs is None:
        loaded = SegmentationModel.load(model)
        pairs: Iterable[tuple[PatientFiles, SegmentationModel]] = (
            (patient, loaded) for patient in patients
        )
    else:
        pairs = ablation.by_held_out_models(TASKS["segmentation"], patients, runs)
    text = ablation.markdown(ablation.ablate(pairs, lines))
    print(text)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")


@app.command("rivals")
def compare_rivals(
    task: Annotated[str, typer.Argument(help="hpv or survival.")],
    cohort: CohortArgument,
    runs: RunsArgument,
    masks: Annotated[
        Origin, typer.Option(help="Lesions: the true ones, or out-of-fold ones of Task 1.")
    ] = "true",
    configuration: ConfigurationOption = "demo",
    folds: FoldsOption = None,
    by_centre: ByCentreOption = False,
    splits: SplitsOption = None,
    seed: Annotated[int, typer.Option(help="Of --folds.")] = 0,
    unseen: Annotated[
        list[Path] | None, typer.Option(help="A further cohort to score on; may be repeated.")
    ] = None,
    segmentation: Annotated[
        Path, typer.Option(help="Task 1 model folder for the lesions of unseen cohorts.")
    ] = REPOSITORY / "task1_segmentation/model",
    workers: WorkersOption = 1,
    skip_bad: SkipBadOption = False,
    output: Annotated[Path | None, typer.Option(help="Also write the table here.")] = None,
) -> None:
    """Score simple models of record and lesions in the folds of a task's run, or in others."""
    options = Options(
        configuration, folds=folds, by_centre=by_centre, splits=splits, seed=seed,
        workers=workers, skip_bad=skip_bad,
    )  # fmt: skip
    rows = baselines.measure(_task(task), cohort, runs, options, masks, unseen or (), segmentation)
    text = baselines.markdown(rows)
    print(text)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")


@app.command("evaluate")
def evaluate_models(
    cohort: Annotated[Path, typer.Argument(help="Patients not trained on, challenge's layout.")],
    name: Annotated[str, typer.Option(help="The cohort, in words, for the cards.")],
    write: Annotated[bool, typer.Option(help="Write the scores into the model cards.")] = False,
) -> None:
    """Score the three model folders of the repository as the containers run them."""
    evaluation.evaluate(REPOSITORY, index_cohort(cohort), name, write)


@app.command("cases")
def convert_to_cases(
    cohort: CohortArgument,
    cases: Annotated[Path, typer.Argument(help="Where the cases go, in the platform's layout.")],
    skip_bad: SkipBadOption = False,
) -> None:
    """Write a cohort as cases that the containers run on, with their truth."""
    write_cases(index_cohort(cohort, skip_bad), cases)


@app.command("jobs")
def convert_to_jobs(
    cohort: CohortArgument,
    runs: RunsArgument,
    cases: Annotated[Path, typer.Argument(help="What `cases` has made of the cohort.")],
    run: Annotated[Path, typer.Argument(help="New folder, for `python -m evaluation score`.")],
    configuration: ConfigurationOption = "demo",
    workers: WorkersOption = 1,
    skip_bad: SkipBadOption = False,
) -> None:
    """Write out-of-fold predictions as the platform's jobs, to be scored by the evaluation."""
    options = Options(configuration, workers=workers, skip_bad=skip_bad)
    done = write_jobs(prepared(cohort, runs, options), runs, cases, run)
    print(f"jobs of {', '.join(done)} in {run}; next: python -m evaluation score {run}")


def _task(name: str) -> Task:
    if name not in TASKS:
        raise HecktorError(f"expected a task, one of {', '.join(TASKS)}, found {name!r}")
    return TASKS[name]


def main() -> int:
    """Run the command line; an error meant for the user, and a full disk, are one line."""
    try:
        app(standalone_mode=True)
    except HecktorError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        where = f" for {error.filename}" if error.filename else ""
        print(
            f"expected room on the disk{where}, found none ({error.strerror}); make some and start "
            "the same command again: it goes on where it was",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
