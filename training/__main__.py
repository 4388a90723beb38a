"""Train the networks of the tasks, export them, and measure how good they are.

A command takes a cohort folder in the challenge's layout and a folder of runs. The tasks are
trained in the order segmentation, hpv, survival, because each can use the weights or predictions of
those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
from typer._completion_classes import completion_init

from shared.command_line import run_command_line
from shared.errors import HecktorError
from shared.models.card import MemberKind, load_card
from shared.models.segmentation import SegmentationCard, SegmentationModel
from training.cohort.cache import PreparedPatient, prepare_cohort
from training.cohort.checks import check_images
from training.cohort.code_version import REPOSITORY
from training.cohort.folds import DEFAULT_FOLDS, HoldOut
from training.cohort.layout import Patient, index_cohort, read_cohort
from training.config import Origin, Precision, load_configuration
from training.export.nnunet.checkpoint import CheckpointName
from training.export.nnunet.importing import import_nnunet
from training.export.record import Provenance
from training.export.run import Checkpoint, export_run, model_folder
from training.loop.hardware import Accelerator, Hardware
from training.studies import ablation, baselines, held_out_scores, optimism, serving_precision
from training.studies.adopt import adopt
from training.studies.everything import Everything, run_everything
from training.studies.nnunet_dataset import DatasetName, write_dataset
from training.studies.plan import plan
from training.studies.platform import write_cases, write_jobs
from training.studies.scores import repository_models, score_models
from training.tasks import out_of_fold
from training.tasks.base import Task
from training.tasks.discovery import TASKS
from training.train import Options, train

app = typer.Typer(
    add_completion=False,  # its script fails for `python -m`; completion.sh replaces it
    no_args_is_help=True,
    help=__doc__,
    pretty_exceptions_enable=False,
)

CohortArgument = Annotated[Path, typer.Argument(help="Training data in the challenge's layout.")]
HeldOutCohortArgument = Annotated[
    Path, typer.Argument(help="Patients not trained on, in the challenge's layout.")
]
RunsArgument = Annotated[Path, typer.Argument(help="Folder for cache, checkpoints and logs.")]
TaskArgument = Annotated[str, typer.Argument(help=f"One of {', '.join(TASKS)}.")]
ConfigurationOption = Annotated[
    str, typer.Option(help="A name in training/configs, or the path of a .toml file.")
]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that prepare and load data.")]
PrecisionOption = Annotated[Precision | None, typer.Option(help="By default the configuration's.")]
NoticeOption = Annotated[
    str | None,
    typer.Option(
        help="Warning to the users of the weights; by default that they come from phantoms."
    ),
]
DataOption = Annotated[
    str | None, typer.Option(help="The training data in words, for the card; by default phantoms.")
]
LicenceOption = Annotated[
    str | None, typer.Option(help="Licence of the weights; required with --data, else Apache-2.0.")
]
DevicesOption = Annotated[int | None, typer.Option(min=1, help="GPUs per machine; by default all.")]
AcceleratorOption = Annotated[Accelerator, typer.Option(help="auto uses GPUs if there are any.")]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out patients that cannot be used.")
]
HELD_OUT_HELP: Final = "Hold out this number of patients, in a single fold"
HeldOutOption = Annotated[
    int | None,
    typer.Option(min=0, help=f"{HELD_OUT_HELP}; 0 trains on everybody, without any score."),
]
FoldsOption = Annotated[
    int | None,
    typer.Option(min=2, help="Hold out each patient once, in this number of stratified folds."),
]
ByCentreOption = Annotated[
    bool, typer.Option("--by-centre", help="Hold out one centre after another.")
]
SplitsOption = Annotated[
    Path | None, typer.Option(help="Read the folds: a folds.json, or nnU-Net's splits_final.json.")
]
SeedOption = Annotated[int, typer.Option(help="Seed of folds, weights, order and augmentation.")]
ModelOption = Annotated[
    Path | None, typer.Option(help="Model folder to write; by default the task's own.")
]
SegmentationModelOption = Annotated[Path, typer.Option(help="A Task 1 model folder.")]
TableOption = Annotated[Path | None, typer.Option(help="Also write the table to this file.")]
TASK1_MODEL: Final = model_folder(TASKS["segmentation"])


def _training_command(task: Task) -> Callable[..., None]:
    """Return the command that trains a task."""

    def command(
        cohort: CohortArgument,
        runs: RunsArgument,
        configuration: ConfigurationOption = "demo",
        held_out: HeldOutOption = None,
        folds: FoldsOption = None,
        by_centre: ByCentreOption = False,
        splits: SplitsOption = None,
        fold: Annotated[str | None, typer.Option(help="Train only this fold.")] = None,
        seed: SeedOption = 0,
        workers: WorkersOption = 1,
        skip_bad: SkipBadOption = False,
        notice: NoticeOption = None,
        data: DataOption = None,
        licence: LicenceOption = None,
        model: ModelOption = None,
        devices: DevicesOption = None,
        nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
        accelerator: AcceleratorOption = "auto",
        precision: PrecisionOption = None,
        accumulate: Annotated[
            int | None, typer.Option(min=1, help="Batches per step; by default as configured.")
        ] = None,
        hours: Annotated[
            float | None,
            typer.Option(
                help="Time for the folds of this command: sets the epochs, from a timed step."
            ),
        ] = None,
    ) -> None:
        options = Options(
            configuration=configuration,
            hold_out=HoldOut(count=held_out, folds=folds, by_centre=by_centre, splits=splits),
            only_fold=fold,
            seed=seed,
            workers=workers,
            skip_bad=skip_bad,
            provenance=Provenance(notice=notice, data=data, licence=licence),
            model=model,
            hardware=Hardware(
                devices=devices,
                nodes=nodes,
                accelerator=accelerator,
                precision=precision,
                accumulate_batches=accumulate,
            ),
            hours=hours,
        )
        train(task, cohort, runs, options)

    command.__doc__ = task.about
    return command


for _name, _each in TASKS.items():
    app.command(_name)(_training_command(_each))


@app.command()
def check(cohort: CohortArgument, workers: WorkersOption = 1) -> None:
    """List all problems of a cohort, without changing anything."""
    content = read_cohort(cohort)
    print(*content.remarks, sep="\n")
    content = content.with_findings(check_images(content.patients, workers))
    print(f"{len(content.usable(skip_bad=False))} patients, no findings")


@app.command()
def prepare(
    cohort: CohortArgument,
    runs: RunsArgument,
    configuration: ConfigurationOption = "demo",
    workers: WorkersOption = 1,
    skip_bad: SkipBadOption = False,
) -> None:
    """Check a cohort and fill the cache; the first process of a training run does this too."""
    patients = _prepared(cohort, runs / "cache", configuration, workers, skip_bad)
    print(f"{len(patients)} patients are in the cache")


@app.command("all")
def train_all(
    cohort: CohortArgument,
    runs: RunsArgument,
    configuration: ConfigurationOption = "demo",
    folds: FoldsOption = None,
    held_out: HeldOutOption = None,
    by_centre: ByCentreOption = False,
    seed: SeedOption = 0,
    workers: WorkersOption = 1,
    skip_bad: SkipBadOption = False,
    notice: NoticeOption = None,
    data: DataOption = None,
    licence: LicenceOption = None,
    models: Annotated[
        Path | None,
        typer.Option(help="Folder for the three model folders; by default the tasks' own."),
    ] = None,
    devices: DevicesOption = None,
    accelerator: AcceleratorOption = "auto",
    precision: PrecisionOption = None,
) -> None:
    """Train all tasks in order on one machine, score them out of fold, and write a report.

    By default in five folds. With --held-out 0 there are no scores and no report. The same command
    resumes anywhere.
    """
    if folds is None and held_out is None and not by_centre:
        folds = DEFAULT_FOLDS
    run_everything(
        Everything(
            cohort=cohort,
            runs=runs,
            configuration=configuration,
            hold_out=_words(
                {"--folds": folds, "--held-out": held_out},
                flags={"--by-centre": by_centre},
            ),
            training=_words(
                {
                    "--seed": seed,
                    "--notice": notice,
                    "--data": data,
                    "--licence": licence,
                    "--devices": devices,
                    "--accelerator": accelerator,
                    "--precision": precision,
                }
            ),
            workers=workers,
            skip_bad=skip_bad,
            models=models,
        )
    )


@app.command("plan")
def print_plan(
    cohort: CohortArgument,
    configuration: ConfigurationOption = "demo",
    gpus: Annotated[
        int | None, typer.Option(min=1, help="GPUs of the machine that will train.")
    ] = None,
    folds: FoldsOption = None,
    held_out: HeldOutOption = None,
    workers: WorkersOption = 1,
    precision: PrecisionOption = None,
    timing: Annotated[
        bool, typer.Option(help="Take and time a step of each task on the device at hand.")
    ] = True,
    runs: Annotated[Path, typer.Option(help="Folder of runs, for what it already holds.")] = Path(
        "runs"
    ),
) -> None:
    """Print the memory, disk, steps and hours that the training needs. Nothing is written."""
    settings, patients = load_configuration(configuration), read_cohort(cohort).patients
    for task in TASKS.values():
        each = plan(
            task,
            settings,
            patients,
            runs=runs,
            hold_out=HoldOut(count=held_out, folds=folds),
            workers=workers,
            hardware=Hardware(devices=gpus, precision=precision),
            is_timed=timing,
        )
        print("\n".join(each.lines()), flush=True)


@app.command("adopt")
def adopt_model(
    cohort: CohortArgument,
    runs: RunsArgument,
    model: SegmentationModelOption = TASK1_MODEL,
    configuration: ConfigurationOption = "demo",
    held_out: Annotated[int | None, typer.Option(min=1, help=f"{HELD_OUT_HELP}.")] = None,
    folds: FoldsOption = None,
    by_centre: ByCentreOption = False,
    splits: SplitsOption = None,
    seed: SeedOption = 0,
    workers: WorkersOption = 1,
    skip_bad: SkipBadOption = False,
) -> None:
    """Use a finished Task 1 model for a cohort it was not trained on; Tasks 3 and 2 can follow.

    It segments all patients and writes what a training of Task 1 leaves in RUNS. By default in five
    folds.
    """
    adopt(
        _task("segmentation"),
        _prepared(cohort, runs / "cache", configuration, workers, skip_bad),
        folder=model,
        preparation=load_configuration(configuration).preparation,
        runs=runs,
        hold_out=HoldOut(count=held_out, folds=folds, by_centre=by_centre, splits=splits),
        seed=seed,
    )


@app.command()
def export(
    task: TaskArgument,
    runs: RunsArgument,
    fold: Annotated[
        list[str] | None, typer.Option(help="A fold; may be repeated (default: all folds).")
    ] = None,
    model: ModelOption = None,
    configuration: Annotated[
        str | None, typer.Option(help="Configuration with the rules for serving.")
    ] = None,
    kind: Annotated[
        MemberKind | None, typer.Option(help="Export only models of this kind (default: all).")
    ] = None,
    checkpoint: Annotated[
        Checkpoint | None,
        typer.Option(
            help="Other weights of the network than those to serve, also of an unfinished fold."
        ),
    ] = None,
) -> None:
    """Write a model folder from trained folds: one fold is a single model, several an ensemble."""
    export_run(
        _task(task),
        runs,
        folds=fold or (),
        model=model,
        configuration=configuration,
        kinds=(kind,) if kind else (),
        checkpoint=checkpoint,
    )


@app.command()
def ablate(
    cohort: HeldOutCohortArgument,
    model: SegmentationModelOption = TASK1_MODEL,
    runs: Annotated[
        Path | None,
        typer.Option(help="Use the fold of RUNS that held each patient out, instead of --model."),
    ] = None,
    configuration: Annotated[
        str, typer.Option(help="Configuration whose rules and mirroring make the last row.")
    ] = "demo",
    mirror: Annotated[
        list[str] | None, typer.Option(help="Axes to mirror, such as x or xyz; may be repeated.")
    ] = None,
    output: TableOption = None,
    skip_bad: SkipBadOption = False,
) -> None:
    """Measure the effect of each post-processing rule and of mirroring on a cohort."""
    served = load_configuration(configuration).segmentation
    settings = ablation.candidate_settings(
        served, ["x"] if mirror is None else mirror, served.lesions
    )
    patients = index_cohort(cohort, skip_bad)
    if runs is None:
        segmentation = SegmentationModel.load(model)
        pairs: Iterable[tuple[Patient, SegmentationModel]] = (
            (patient, segmentation) for patient in patients
        )
    else:
        pairs = ablation.by_held_out_models(TASKS["segmentation"], patients, runs)
    _show(ablation.markdown(ablation.ablate(pairs, settings)), output)


@app.command("baselines")
def score_baselines(
    task: TaskArgument,
    cohort: CohortArgument,
    runs: RunsArgument,
    masks: Annotated[
        Origin, typer.Option(help="Lesions: the true ones, or Task 1's out-of-fold predictions.")
    ] = "true",
    configuration: ConfigurationOption = "demo",
    folds: FoldsOption = None,
    by_centre: ByCentreOption = False,
    splits: SplitsOption = None,
    seed: SeedOption = 0,
    unseen: Annotated[
        list[Path] | None, typer.Option(help="A further cohort to score on; may be repeated.")
    ] = None,
    segmentation: SegmentationModelOption = TASK1_MODEL,
    workers: WorkersOption = 1,
    skip_bad: SkipBadOption = False,
    output: TableOption = None,
) -> None:
    """Score simple models of record and lesions, by default in the task's own folds."""
    chosen = _task(task)
    unseen_names = [path.name for path in unseen or ()]
    if len(set(unseen_names)) < len(unseen_names):
        raise HecktorError(
            f"expected unseen cohorts with distinct names, found {', '.join(unseen_names)}; rename "
            "a folder"
        )
    rows = baselines.measure(
        chosen,
        _prepared(cohort, runs / "cache", configuration, workers, skip_bad),
        runs=runs,
        hold_out=HoldOut(folds=folds, by_centre=by_centre, splits=splits),
        seed=seed,
        masks=out_of_fold.masks(runs) if masks == "predicted" else None,
        unseen={
            path.name: _prepared(
                path, runs / "unseen" / path.name / "cache", configuration, workers, skip_bad
            )
            for path in unseen or ()
        },
        unseen_masks=baselines.masks_of_model(
            segmentation, load_configuration(configuration).preparation
        )
        if masks == "predicted" and unseen
        else None,
    )
    _show(baselines.markdown(rows), output)


@app.command()
def evaluate(
    cohort: HeldOutCohortArgument,
    name: Annotated[str, typer.Option(help="The cohort in words, for the cards.")],
    write: Annotated[bool, typer.Option(help="Write the scores into the model cards.")] = False,
) -> None:
    """Score the model folders of the repository in the same way as in the containers."""
    score_models(repository_models(REPOSITORY), index_cohort(cohort), name, write=write)


@app.command("precision")
def check_precision(
    cohort: HeldOutCohortArgument,
    name: Annotated[str, typer.Option(help="The cohort in words, for the card.")],
    model: SegmentationModelOption = TASK1_MODEL,
    overlap: Annotated[
        list[float] | None, typer.Option(help="A further overlap to measure; may be repeated.")
    ] = None,
    mirror: Annotated[
        list[str] | None, typer.Option(help="Axes to mirror, such as none or xyz; repeatable.")
    ] = None,
    write: Annotated[
        bool, typer.Option(help="Write the precision and its check into the card.")
    ] = False,
    output: TableOption = None,
) -> None:
    """Compare float32 with bfloat16 on held-out patients, and let the card choose.

    With --overlap and --mirror, other ways to run the model are measured too.
    """
    card = load_card(model, SegmentationCard)
    ways = serving_precision.variants(card, overlap or (), mirror or ())
    measured = serving_precision.measure(model, index_cohort(cohort), ways)
    _show(serving_precision.markdown(measured), output)
    check = serving_precision.check_of(measured, name)
    print(f"the check allows {serving_precision.precision_of(check)}")
    if write:
        serving_precision.write_precision(model, check)


@app.command("scores")
def show_scores(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs; those with --by-centre come first.")
    ],
    output: TableOption = None,
) -> None:
    """Score training runs on held-out patients who have not chosen the epoch."""
    _show(held_out_scores.markdown(held_out_scores.held_out_scores(runs)), output)


@app.command("optimism")
def simulate_optimism(
    positive: Annotated[int, typer.Option(min=1, help="HPV-positive patients.")] = 484,
    negative: Annotated[int, typer.Option(min=1, help="HPV-negative patients.")] = 58,
    folds: Annotated[int, typer.Option(min=1)] = 5,
    validations: Annotated[int, typer.Option(min=1)] = 100,
    accuracy: Annotated[
        float, typer.Option(min=0.5, max=0.99, help="True balanced accuracy of every epoch.")
    ] = 0.75,
    patient_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the noise that all epochs have alike.")
    ] = 0.7,
    repeats: Annotated[int, typer.Option(min=2, help="Simulated studies.")] = 300,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Simulate how optimistic Task 3's score is if the scored patients choose the epoch."""
    setting = optimism.Setting(
        positive=positive,
        negative=negative,
        folds=folds,
        validations=validations,
        accuracy=accuracy,
        patient_share=patient_share,
        repeats=repeats,
        seed=seed,
    )
    print(optimism.__doc__)
    print(optimism.markdown(setting))


@app.command()
def cases(
    cohort: CohortArgument,
    folder: Annotated[Path, typer.Argument(help="Folder for the cases, in the platform's layout.")],
    skip_bad: SkipBadOption = False,
) -> None:
    """Write a cohort as cases for the containers, with their ground truth."""
    write_cases(index_cohort(cohort, skip_bad), folder)


@app.command()
def jobs(
    cohort: CohortArgument,
    runs: RunsArgument,
    cases: Annotated[Path, typer.Argument(help="Folder that the command `cases` wrote.")],
    folder: Annotated[Path, typer.Argument(help="New folder, for `python -m evaluation score`.")],
    configuration: ConfigurationOption = "demo",
    workers: WorkersOption = 1,
    skip_bad: SkipBadOption = False,
) -> None:
    """Write out-of-fold predictions as the platform's jobs, for the evaluation to score."""
    patients = _prepared(cohort, runs / "cache", configuration, workers, skip_bad)
    names = write_jobs(patients, runs, cases=cases, folder=folder)
    print(f"jobs of {', '.join(names)} in {folder}; next: python -m evaluation score {folder}")


@app.command("nnunet-dataset")
def write_nnunet_dataset(
    cohort: CohortArgument,
    raw: Annotated[Path, typer.Argument(help="nnU-Net's folder of raw data sets, nnUNet_raw.")],
    configuration: ConfigurationOption = "demo",
    runs: Annotated[
        Path, typer.Option(help="Folder of runs, for the cache and for Task 1's folds.")
    ] = Path("runs"),
    number: Annotated[
        int, typer.Option(min=1, max=999, help="The number of the data set in nnU-Net.")
    ] = 25,
    name: Annotated[str, typer.Option(help="The name of the data set.")] = "HECKTOR",
    folds: FoldsOption = None,
    by_centre: ByCentreOption = False,
    splits: SplitsOption = None,
    seed: SeedOption = 0,
    workers: WorkersOption = 1,
    skip_bad: SkipBadOption = False,
) -> None:
    """Write the prepared regions of a cohort as a raw data set of nnU-Net v2."""
    folder = write_dataset(
        _prepared(cohort, runs / "cache", configuration, workers, skip_bad),
        raw,
        DatasetName(number=number, name=name),
        preparation=load_configuration(configuration).preparation,
        runs=runs,
        hold_out=HoldOut(folds=folds, by_centre=by_centre, splits=splits),
        seed=seed,
        workers=workers,
    )
    print(f"wrote {folder}; next: see docs/nnunet.md")


@app.command("import-nnunet")
def import_nnunet_results(
    results: Annotated[
        Path,
        typer.Argument(help="nnU-Net's folder TRAINER__PLANS__3d_fullres in nnUNet_results."),
    ],
    folds: Annotated[
        str | None, typer.Option(help="Folds, such as 0,1,2; by default all that are there.")
    ] = None,
    checkpoint: Annotated[
        CheckpointName, typer.Option(help="The epoch with the best validation, or the last one.")
    ] = "final",
    configuration: Annotated[
        str | None,
        typer.Option(help="Configuration of the regions, if nnU-Net's data set does not say."),
    ] = None,
    notice: Annotated[str | None, typer.Option(help="Warning to the users of the weights.")] = None,
    data: Annotated[str | None, typer.Option(help="The training data in words.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
    model: ModelOption = None,
) -> None:
    """Write a Task 1 model folder from a trained nnU-Net v2."""
    import_nnunet(
        results,
        TASK1_MODEL if model is None else model,
        folds=folds.split(",") if folds else (),
        checkpoint=checkpoint,
        preparation=load_configuration(configuration).preparation if configuration else None,
        provenance=Provenance(notice=notice, data=data, licence=licence),
    )


def _prepared(
    cohort: Path, cache: Path, configuration: str, workers: int, skip_bad: bool
) -> list[PreparedPatient]:
    preparation = load_configuration(configuration).preparation
    return prepare_cohort(cohort, cache, preparation, workers=workers, skip_bad=skip_bad)


def _task(name: str) -> Task:
    tasks: dict[str, Task] = dict(TASKS.items())
    if name not in tasks:
        raise HecktorError(f"expected a task, one of {', '.join(tasks)}, found {name!r}")
    return tasks[name]


def _words(values: Mapping[str, object], flags: Mapping[str, bool] = {}) -> tuple[str, ...]:
    """Return options as words of a command, without those that are None or false."""
    pairs = [(name, str(value)) for name, value in values.items() if value is not None]
    names = [name for name, is_set in flags.items() if is_set]
    return (*(word for pair in pairs for word in pair), *names)


def _show(table: str, output: Path | None) -> None:
    print(table)
    if output is not None:
        output.write_text(table + "\n", encoding="utf-8")


def main() -> int:
    """Run the command line and return its exit code."""
    completion_init()  # Typer calls it only with `add_completion`.
    return run_command_line(
        app, interrupted="what is finished is kept; the same command continues with the rest"
    )


if __name__ == "__main__":
    raise SystemExit(main())
