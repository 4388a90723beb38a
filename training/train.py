"""Carries out one training run, from a cohort to a model folder.

A training run is the folder RUNS/TASK. It holds `folds.json` (the patients of each fold),
`run.json` (everything that decides the result, and texts for the cards) and a folder for each fold.
The folder of a fold has the network's checkpoints, weights to serve (`network.pt`), weights that
predict the held-out patients (`late.pt`) and scores (`result.json`), the weights of the linear
model (`linear.pt`), and `member.json` once the fold is complete. Restarting resumes the run.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import lightning
from torch import nn

from shared.errors import HecktorError
from shared.files import locked, write_whole
from shared.models.card import MemberKind
from training.cohort import folds as folds_module
from training.cohort.cache import PreparedPatient, prepare_cohort
from training.cohort.folds import HoldOut
from training.cohort.layout import read_cohort
from training.config import Configuration, load_configuration
from training.export.record import MEMBER, RUN, FoldRecord, Provenance, RunRecord, read_run
from training.export.run import WEIGHTS, export_run, is_trained
from training.loop.fit import RESULT, FitResult, Fitted, fit, save_weights
from training.loop.hardware import Hardware, TrainingError
from training.processes import is_first_process
from training.records import read_record
from training.tasks import requirements
from training.tasks.base import FoldTraining, Task, TrainedFold
from training.tasks.hours import check_hours, fit_to_hours, with_schedule_of
from training.tasks.planning import Plan, check_accumulation, check_out_of_fold, plan_training

SCHEDULE: Final = "schedule"
"""Name of the lock that a command holds while it begins a run with a budget in hours."""
LONGEST_WAIT_SECONDS: Final = 1800.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a training command.

    Attributes
    ----------
    configuration : name in training/configs, or path of a .toml file.
    hold_out : the way to hold out patients; by default Task 1's folds are used, if there are any.
    only_fold : the fold to train now; None trains all folds.
    seed : seed of folds, weights, order and augmentation.
    workers : number of processes that prepare and load data.
    skip_bad : whether to leave out patients who cannot be used; otherwise the command stops.
    provenance : texts for the cards about weights and training data.
    model : folder to export to; None stands for the task's model folder in the repository.
    hardware : the processes and devices to train on.
    hours : the time for all folds that this command trains; it sets the number of epochs. None
        leaves the number of epochs as configured. A resumed run keeps the schedule with which it
        began.
    """

    configuration: str = "demo"
    hold_out: HoldOut = field(default_factory=HoldOut)
    only_fold: str | None = None
    seed: int = 0
    workers: int = 1
    skip_bad: bool = False
    provenance: Provenance = field(default_factory=Provenance)
    model: Path | None = None
    hardware: Hardware = field(default_factory=Hardware)
    hours: float | None = None


def train(task: Task, cohort: Path, runs: Path, options: Options) -> None:
    """Check and prepare a cohort, train on it, and export the models.

    Raises
    ------
    HecktorError
        If the machine, the cohort, the options or the folder of runs cannot be used.
    """
    options.hardware.check()
    configuration = load_configuration(options.configuration)
    check_accumulation(task, configuration, options.hardware)
    check_out_of_fold(task, configuration, hold_out=options.hold_out, runs=runs)
    check_hours(task, configuration, options.hours)
    if is_first_process():
        _require_machine(task, cohort, configuration, runs=runs, options=options)
    patients = prepare_cohort(
        cohort,
        runs / "cache",
        configuration.preparation,
        workers=options.workers,
        skip_bad=options.skip_bad,
        # Label maps and tables decide whether the cohort can be trained on.
        review=lambda unprepared: _plan(task, unprepared, configuration, runs, options),
    )
    train_patients(task, patients, configuration, runs=runs, options=options)


def _require_machine(
    task: Task, cohort: Path, configuration: Configuration, *, runs: Path, options: Options
) -> None:
    """Print what the training needs of this machine; raise TrainingError if it lacks something."""
    patients = read_cohort(cohort).patients
    folds = requirements.count_folds(
        task, patients, hold_out=options.hold_out, only_fold=options.only_fold, runs=runs
    )
    needed = requirements.needs(
        task,
        configuration,
        patients=patients,
        runs=runs,
        folds=folds,
        workers=options.workers,
        hardware=options.hardware,
    )
    requirements.require_machine(
        needed, runs=runs, workers=options.workers, hardware=options.hardware
    )


def train_patients(
    task: Task,
    patients: Sequence[PreparedPatient],
    configuration: Configuration,
    *,
    runs: Path,
    options: Options,
) -> None:
    """Train the chosen folds on prepared patients; when all folds are complete, export the models.

    Raises
    ------
    HecktorError
        If the patients, the options or the folder of runs cannot be used.
    """
    options.hardware.check()
    check_hours(task, configuration, options.hours)
    run_folder = runs / task.name
    with _alone(run_folder) if options.hours is not None else nullcontext():
        plan = _begin(task, patients, configuration, runs, options)
    networks = {
        training.fold.name: fit_network(task, training, run_folder / f"fold{training.fold.name}")
        for training in plan.trainings
        if "network" in task.kinds(configuration)
    }
    if not is_first_process():
        return  # The first process does the rest.
    for training in plan.trainings:
        if not is_trained(run_folder, training.fold):
            _complete(task, training, run_folder, networks.get(training.fold.name))
    if all(is_trained(run_folder, fold) for fold in plan.folds.folds):
        _export(task, runs, options.model)
    else:
        print(
            "some folds are left to train; after that, run "
            f"`python -m training export {task.name} RUNS`"
        )


@contextmanager
def _alone(run_folder: Path) -> Iterator[None]:
    """Let one command at a time begin a run, so that commands for its folds share a schedule.

    The other processes of a command wait until its first process has written the run's record.

    Raises
    ------
    TrainingError
        If the first process does not write the record.
    """
    if is_first_process():
        run_folder.mkdir(parents=True, exist_ok=True)
        with locked(run_folder / SCHEDULE):
            yield
        return
    started = time.monotonic()
    while not (run_folder / RUN).is_file():
        if time.monotonic() - started > LONGEST_WAIT_SECONDS:
            raise TrainingError(
                f"expected {run_folder / RUN} from the first process within "
                f"{LONGEST_WAIT_SECONDS:.0f} s, found none; see why it stopped"
            )
        time.sleep(1)
    yield


def _begin(
    task: Task,
    patients: Sequence[PreparedPatient],
    configuration: Configuration,
    runs: Path,
    options: Options,
) -> Plan:
    """Plan a run and write its records, or check that an earlier start wrote the same records."""
    run_folder = runs / task.name
    is_resumed = (run_folder / RUN).is_file()
    if options.hours is not None and is_resumed:
        configuration = with_schedule_of(task, configuration, read_run(run_folder).configuration)
    plan = _plan(task, patients, configuration, runs, options)
    if options.hours is not None and not is_resumed:
        configuration = fit_to_hours(task, configuration, plan.trainings, options.hours)
        trainings = (replace(each, configuration=configuration) for each in plan.trainings)
        plan = replace(plan, trainings=tuple(trainings))
    if is_first_process():
        folds_module.keep(plan.folds, run_folder)
        RunRecord.first(
            Path(options.configuration).stem,
            configuration,
            schedule=task.settings(configuration),
            features=plan.features,
            hardware=options.hardware,
            seed=options.seed,
            provenance=options.provenance,
            hours=options.hours,
        ).keep(run_folder, options.provenance)
        if not plan.folds.holds_out:
            print(_without_held_out(task, configuration))
    return plan


def _plan(
    task: Task,
    patients: Sequence[PreparedPatient],
    configuration: Configuration,
    runs: Path,
    options: Options,
) -> Plan:
    return plan_training(
        task,
        patients,
        configuration,
        runs=runs,
        hold_out=options.hold_out,
        only_fold=options.only_fold,
        seed=options.seed,
        workers=options.workers,
        hardware=options.hardware,
    )


def _export(task: Task, runs: Path, model: Path | None) -> None:
    try:
        export_run(task, runs, model=model)
    except HecktorError as error:
        words = ["python", "-m", "training", "export", task.name, str(runs)]
        words += [] if model is None else ["--model", str(model)]
        raise type(error)(
            f"{error}; the trained weights are in {runs / task.name}, nothing has to be trained "
            f"again: export them with `{shlex.join(words)}`"
        ) from None


def fit_network(task: Task, training: FoldTraining, folder: Path) -> Fitted:
    """Train a fold's network with its seed, or resume it from its folder; see `fit`."""
    lightning.seed_everything(training.seed, verbose=False)
    batches, validation = task.loaders(training)
    return fit(lambda: task.module(training), batches, validation, folder, training.hardware)


def _complete(task: Task, training: FoldTraining, run_folder: Path, fitted: Fitted | None) -> None:
    """Fit a fold's linear models, predict its held-out patients, and mark it as complete."""
    folder = run_folder / f"fold{training.fold.name}"
    folder.mkdir(exist_ok=True)
    served: dict[MemberKind, nn.Module] = {} if fitted is None else {"network": fitted.network}
    unchosen: dict[MemberKind, nn.Module] = {} if fitted is None else {"network": fitted.late}
    for kind, model in task.fit_linear(training).items():
        save_weights(model.state_dict(), folder / WEIGHTS[kind])
        served[kind] = unchosen[kind] = model
    task.predict_held_out(
        TrainedFold(
            training=training, models=unchosen, statistics=task.statistics(unchosen, training)
        )
    )
    statistics = task.statistics(served, training)
    write_whole(folder / MEMBER, FoldRecord(members=statistics).model_dump_json())
    if fitted is not None:
        _print_scores(task, training, read_record(FitResult, folder / RESULT))


def _without_held_out(task: Task, configuration: Configuration) -> str:
    """Return a message that says what is served if nobody is held out."""
    text = f"{task.name}: nobody is held out, so nothing is scored"
    if "network" not in task.kinds(configuration):
        return text
    settings = task.settings(configuration)
    ignored = ['checkpoint = "best"'] if settings.checkpoint == "best" else []
    served = "the late weights are served"
    if settings.averaging is not None:
        ignored += ['keep = "better"'] if settings.averaging.keep == "better" else []
        served = "the mean of weight averaging is served"
    instead = f" instead of {' and '.join(ignored)}" if ignored else ""
    return f"{text}, and no epoch is chosen: {served}{instead}"


def _print_scores(task: Task, training: FoldTraining, result: FitResult) -> None:
    """Print the scores on the held-out patients, and the optimism of the best epoch's scores."""
    for name in sorted(set(result.late) - {"score"}):
        print(
            f"{task.name}, fold {training.fold.name}, {len(training.held_out)} held-out patients: "
            f"{name} {result.late[name]:.3f}; {result.best[name]:.3f} at the epoch that these "
            f"patients chose, an optimism of {result.optimism[name]:+.3f}"
        )
