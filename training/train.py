"""A training command from cohort to model folder: the frame that the three tasks fill.

A run is a folder: `folds.json` (who is held out when), `run.json` (what decides it, and what its
cards say of it, of the first start), one folder for each fold with checkpoints, `network.pt` and
`result.json` of its network, `linear.pt` of its linear model, and `member.json` when all is done.

Started again it goes on where it was. It is refused with another configuration, seed, precision or
accumulation of batches, other folds or clinical inputs, or another notice or description of the
data. Devices, machines and workers may change; with the number of processes so does how many
patients a step sees, and with it the number of steps.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.clinical import ClinicalFeature
from shared.errors import HecktorError, InputError
from shared.files import write_first, write_whole
from shared.lesions import MEASURES
from shared.models.card import BaseCard, Kind, Training
from shared.models.networks.base import NetworkConfig
from shared.models.networks.linear import LinearModel
from shared.preprocessing.intensity import Channel
from training.cohort import folds as splits
from training.cohort.cache import REPOSITORY, Cached, build_cache
from training.cohort.folds import Fold, Folds
from training.cohort.layout import read_cohort, usable
from training.config import Configuration, Schedule, load_configuration
from training.export.model_folder import MemberModel, export
from training.loop.fit import NETWORK, Device, Hardware, TrainedModule, fit, save_weights
from training.processes import is_first_process
from training.samples.dataset import Sample

PHANTOM_NOTICE: Final = (
    "NOTICE: these weights were trained on computer-made phantoms. They show that the software "
    "works; they are not for patients and not for submissions."
)
PHANTOM_DATA: Final = "phantoms of training/phantom"
PHANTOM_LICENCE: Final = "Apache-2.0"
RUN: Final = "run.json"
MEMBER: Final = "member.json"
WEIGHTS: Final[dict[Kind, str]] = {"network": NETWORK, "linear": "linear.pt"}


@dataclass(frozen=True)
class Options:
    """What a training command was asked for.

    Attributes
    ----------
    configuration : name in training/configs, or path of a file.
    held_out, folds, by_centre, splits : which patients are held out; `held_out` unless one of the
        others is given.
    fold : the only one to be trained.
    notice, data, licence : what the card says of the weights and of their training data; None is
        what the run says already, or that they are of phantoms.
    model : folder to export to; None is the task's own in the repository.
    """

    configuration: str = "demo"
    held_out: int = 36
    folds: int | None = None
    by_centre: bool = False
    splits: Path | None = None
    fold: str | None = None
    seed: int = 0
    workers: int = 1
    skip_bad: bool = False
    notice: str | None = None
    data: str | None = None
    licence: str | None = None
    model: Path | None = None
    hardware: Hardware = field(default_factory=Hardware)


@dataclass(frozen=True)
class Job:
    """One training: a fold of a task.

    Attributes
    ----------
    features : clinical inputs, scaled.
    without_outcome : patients who are in no fold, since nothing can be learnt from them; later
        tasks may need predictions for them too.
    task1 : weights of the Task 1 network to start from, where the task does that.
    runs : folder of runs, with what the tasks before predicted.
    device : what the trained network predicts on.
    """

    configuration: Configuration
    fitted: Sequence[Cached]
    held_out: Sequence[Cached]
    features: tuple[ClinicalFeature, ...]
    task1: Mapping[str, Tensor] | None
    seed: int
    workers: int
    runs: Path
    without_outcome: Sequence[Cached] = ()
    device: Device = "cpu"


class Task(ABC):
    """What differs between the three trainings."""

    name: ClassVar[Literal["segmentation", "hpv", "survival"]]
    model_folder: ClassVar[str]
    card_type: ClassVar[type[BaseCard]]
    starts_from_task1: ClassVar[bool] = False

    @abstractmethod
    def settings(self, configuration: Configuration) -> Schedule:
        """Return the task's part of a configuration."""

    @abstractmethod
    def seen(self, patient: Cached) -> Cached | None:
        """Return a patient as training sees it; None where it has nothing to learn from."""

    def fed(
        self, patients: Sequence[Cached], runs: Path, configuration: Configuration
    ) -> Sequence[Cached]:
        """Return patients with what the tasks before this one predicted, where that is asked."""
        del runs, configuration
        return patients

    @abstractmethod
    def outcome(self, patient: Cached) -> str:
        """Return what folds are stratified by, beside the centre."""

    @abstractmethod
    def network_config(self, configuration: Configuration) -> NetworkConfig:
        """Return the shape of the network, which also knows the part that serves."""

    @abstractmethod
    def channels(self, configuration: Configuration) -> tuple[Channel, ...]:
        """Return what the network sees, in order."""

    @abstractmethod
    def network(
        self, configuration: Configuration, features: Sequence[ClinicalFeature]
    ) -> nn.Module:
        """Return the network with fresh weights."""

    @abstractmethod
    def module(self, job: Job) -> TrainedModule[Any]:
        """Return the network with its loss and scores."""

    @abstractmethod
    def loaders(self, job: Job) -> tuple[DataLoader[Sample], DataLoader[Sample]]:
        """Return batches to train on, and patients to validate on, one at a time."""

    def features(
        self, configuration: Configuration, patients: Sequence[Cached]
    ) -> tuple[ClinicalFeature, ...]:
        """Return the clinical inputs, scaled on the patients trained on."""
        del configuration, patients
        return ()

    def kinds(self, configuration: Configuration) -> tuple[Kind, ...]:
        """Return what is trained of each fold."""
        del configuration
        return ("network",)

    def fitted(self, job: Job) -> dict[Kind, nn.Module]:
        """Return those models of a fold that are fitted in one go."""
        del job
        return {}

    @abstractmethod
    def card(
        self, configuration: Configuration, run_folder: Path, kinds: Sequence[Kind]
    ) -> dict[str, Any]:
        """Return the fields of the model card that only this task has.

        Parameters
        ----------
        run_folder : of the task, with what was predicted out of fold.
        kinds : those that are exported.
        """

    def check(self, job: Job, fold: Fold) -> None:
        """Raise InputError if nothing could be learnt from a fold, or nothing scored in it."""
        del job, fold

    def members(self, models: Mapping[Kind, nn.Module], job: Job) -> dict[Kind, dict[str, float]]:
        """Return what the card says of each model of a fold alone."""
        del job
        return {kind: {} for kind in models}

    @abstractmethod
    def predict_held_out(
        self,
        models: Mapping[Kind, nn.Module],
        members: Mapping[Kind, Mapping[str, float]],
        job: Job,
        fold: Fold,
        run_folder: Path,
    ) -> None:
        """Write predictions for patients that a fold's models have not seen.

        Parameters
        ----------
        members : what the card says of each model.
        """


def train(task: Task, cohort: Path, runs: Path, options: Options) -> None:
    """Train the folds asked for and, when all are there, export them.

    Raises
    ------
    HecktorError
        If the cohort, the options or the folder of runs do not fit; see `index_cohort`,
        `build_cache`, `folds.keep` and `Task.check`.
    """
    options.hardware.check()
    configuration = load_configuration(options.configuration)
    everyone = prepared(cohort, runs, options)
    fed = task.fed(seen_of(task, cohort, everyone), runs, configuration)
    patients = {patient.files.patient_id: patient for patient in fed}
    without_outcome = [p for p in everyone if p.files.patient_id not in patients]
    folder = runs / task.name
    folds = make_folds(task, patients, options, [p.files.patient_id for p in without_outcome])
    # One scale for all networks of an ensemble, since the card has one.
    fitted_ever = sorted({name for fold in folds.folds for name in fold.fitted})
    features = task.features(configuration, [patients[name] for name in fitted_ever])
    if is_first_process():
        splits.keep(folds, folder)
        _keep_run(folder, configuration, task.settings(configuration), features, options)
    chosen = _chosen(folds, options.fold)
    kinds = task.kinds(configuration)
    starts_from_task1 = task.starts_from_task1 and "network" in kinds
    jobs = {
        fold.name: Job(
            configuration,
            [patients[name] for name in fold.fitted],
            [patients[name] for name in fold.held_out],
            features,
            _task1_weights(runs, fold.name) if starts_from_task1 else None,
            options.seed,
            options.workers,
            runs,
            without_outcome,
            options.hardware.device,
        )
        for fold in chosen
    }
    together = options.hardware.processes
    batch = task.settings(configuration).batch_size * together
    for fold in chosen:
        if "network" in kinds and len(fold.fitted) < batch:
            raise InputError(
                f"fold {fold.name}: expected at least the {batch} patients of a batch to train on, "
                f"found {len(fold.fitted)}; give a larger cohort or a smaller batch"
            )
        if "network" in kinds and len(fold.held_out) < together:
            raise InputError(
                f"fold {fold.name}: expected at least one held-out patient for each of the "
                f"{together} processes, found {len(fold.held_out)}; hold out more, or give fewer "
                "--devices"
            )
        task.check(jobs[fold.name], fold)
    networks = {}
    for fold in chosen if "network" in kinds else ():
        job = jobs[fold.name]
        fold_folder = folder / f"fold{fold.name}"
        lightning.seed_everything(options.seed, verbose=False)
        networks[fold.name] = fit(
            lambda job=job: task.module(job),  # type: ignore[misc]
            *task.loaders(job),
            fold_folder,
            options.hardware,
        )
    if not is_first_process():  # the rest is for one process
        return
    for fold in chosen:
        if _is_trained(folder, fold):
            continue
        job, fold_folder = jobs[fold.name], folder / f"fold{fold.name}"
        models: dict[Kind, nn.Module] = {}
        if fold.name in networks:
            models["network"] = networks[fold.name]
        fold_folder.mkdir(exist_ok=True)
        for kind, model in task.fitted(job).items():
            save_weights(model, fold_folder / WEIGHTS[kind])
            models[kind] = model
        members = task.members(models, job)
        task.predict_held_out(models, members, job, fold, folder)
        write_whole(fold_folder / MEMBER, json.dumps(members))
    if all(_is_trained(folder, fold) for fold in folds.folds):
        export_run(task, runs, model=options.model)
    else:
        print(f"folds are left to train; then: python -m training export {task.name} RUNS")


def seen_of(task: Task, cohort: Path, patients: Sequence[Cached]) -> list[Cached]:
    """Return those patients of a cohort that a task learns from, as it sees them.

    Raises
    ------
    InputError
        If there are none.
    """
    found = [patient for patient in map(task.seen, patients) if patient is not None]
    if not found:
        raise InputError(f"expected patients with what {task.name} learns from in {cohort}")
    return found


def prepared(cohort: Path, runs: Path, options: Options) -> list[Cached]:
    """Return the patients of a cohort, checked and prepared into the cache of a folder of runs."""
    found = read_cohort(cohort)
    if is_first_process():
        for remark in found.remarks:
            print(remark)
    patients = usable(found.patients, found.findings, options.skip_bad)
    configuration = load_configuration(options.configuration)
    return build_cache(
        patients, runs / "cache", configuration.preparation, options.workers, options.skip_bad
    )


def export_run(
    task: Task,
    runs: Path,
    folds: Sequence[str] = (),
    model: Path | None = None,
    configuration_name: str | None = None,
    kinds: Sequence[Kind] = (),
) -> None:
    """Write a model folder of a run's models: of all folds an ensemble, of one a single model.

    Parameters
    ----------
    folds : names of those to take; all if empty.
    model : folder to write; None is the task's own in the repository.
    configuration_name : whose rules for serving the card states; None is the run's own.
    kinds : of models, those to take; all that were trained if empty.

    Raises
    ------
    HecktorError
        If a fold is not there or not trained, or has no model of a kind.
    """
    folder = runs / task.name
    stated = splits.read_folds(folder)
    run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    configuration = Configuration.model_validate(run["configuration"])
    features = tuple(ClinicalFeature.model_validate(feature) for feature in run["features"])
    chosen = [fold for name in folds for fold in _chosen(stated, name)] or list(stated.folds)
    trained = task.kinds(configuration)
    exported = tuple(kinds) or trained
    if not set(exported) <= set(trained):
        raise HecktorError(
            f"expected models of the kinds that {folder} has, {' and '.join(trained)}, found "
            f"{' and '.join(exported)}; train with another configuration"
        )
    members = []
    for fold in chosen:
        if not _is_trained(folder, fold):
            raise HecktorError(f"expected fold {fold.name} of {folder} trained; train it first")
        fold_folder = folder / f"fold{fold.name}"
        stated_of = json.loads((fold_folder / MEMBER).read_text(encoding="utf-8"))
        name = task.name if len(chosen) == 1 else f"{task.name}_fold{fold.name}"
        for kind in exported:
            network = _empty_model(task, kind, configuration, features)
            network.load_state_dict(torch.load(fold_folder / WEIGHTS[kind], weights_only=True))
            suffix = "" if kind == "network" else f"_{kind}"
            config = task.network_config(configuration) if kind == "network" else None
            members.append(
                MemberModel(name=f"{name}{suffix}", model=network, config=config, **stated_of[kind])
            )
    patients = {name for fold in chosen for name in fold.fitted}
    training = Training(patients=len(patients), **run["training"])
    serving = load_configuration(configuration_name) if configuration_name else configuration
    fields = {
        "configuration": run["name"],
        "notice": run["notice"],
        "licence": run.get("licence", PHANTOM_LICENCE),  # runs of earlier versions do not say it
        "preparation": configuration.preparation,
        "intensity": configuration.intensity,
        "channels": task.channels(configuration),
        "training": training,
        **({"clinical": features} if features else {}),
        **task.card(serving, folder, exported),
    }
    target = model or REPOSITORY / task.model_folder / "model"
    export(target, task.card_type, members=members, fields=fields)
    print(f"exported {len(members)} model(s) of {folder} to {target}")


def _empty_model(
    task: Task, kind: Kind, configuration: Configuration, features: Sequence[ClinicalFeature]
) -> nn.Module:
    if kind == "linear":
        return LinearModel(len(features), len(MEASURES))
    return task.network(configuration, features)


def make_folds(
    task: Task, patients: Mapping[str, Cached], options: Options, others: Collection[str]
) -> Folds:
    """Return the folds that options ask for, of patients by their IDs.

    Parameters
    ----------
    others : IDs of the other patients of the cohort, whom the task has nothing to learn from.

    Raises
    ------
    HecktorError
        If the options ask for several ways to hold out, or the patients do not allow theirs.
    """
    centres = {name: patient.files.centre for name, patient in patients.items()}
    strata = {name: f"{centres[name]}: {task.outcome(p)}" for name, p in patients.items()}
    ways = [options.folds is not None, options.by_centre, options.splits is not None]
    if sum(ways) > 1:
        raise HecktorError("expected one of --folds, --by-centre and --splits, found several")
    if options.splits is not None:
        return splits.read_splits(options.splits, strata, others)
    if options.by_centre:
        return splits.leave_one_centre_out(strata, centres)
    if options.folds is not None:
        return splits.k_folds(strata, options.folds, options.seed)
    return splits.one_held_out(strata, options.held_out, options.seed)


def _chosen(folds: Folds, name: str | None) -> list[Fold]:
    found = [fold for fold in folds.folds if name in (None, fold.name)]
    if not found:
        names = ", ".join(fold.name for fold in folds.folds)
        raise HecktorError(f"expected one of the folds {names}, found {name!r}")
    return found


def _is_trained(folder: Path, fold: Fold) -> bool:
    return (folder / f"fold{fold.name}" / MEMBER).is_file()


def _task1_weights(runs: Path, fold: str) -> dict[str, Tensor]:
    """Return the weights of Task 1's fold of that name, or of its only one."""
    places = [runs / "segmentation" / f"fold{name}" / NETWORK for name in (fold, "0")]
    for path in places:
        if path.is_file():
            weights: dict[str, Tensor] = torch.load(path, weights_only=True)
            return weights
    raise HecktorError(f"expected a Task 1 network in {places[0]}, found none; train it first")


def _keep_run(
    folder: Path,
    configuration: Configuration,
    schedule: Schedule,
    features: Sequence[ClinicalFeature],
    options: Options,
) -> None:
    """Write what decides a run and what is said of it, or check that it was begun with the same.

    Raises
    ------
    HecktorError
        If it was begun with something else.
    """
    hardware = options.hardware
    decides = {
        "configuration": configuration.model_dump(mode="json"),
        "seed": options.seed,
        "precision": hardware.precision or schedule.precision,
        "accumulate_batches": hardware.accumulate_batches or schedule.accumulate_batches,
        "features": [feature.model_dump(mode="json") for feature in features],
    }
    path = folder / RUN
    if options.data is not None and options.licence is None and not path.exists():
        raise HecktorError(
            f"expected --licence, since the weights are of {options.data!r} and not of phantoms, "
            "found none; say under which terms they may be used"
        )
    says = {
        "name": Path(options.configuration).stem,
        "notice": PHANTOM_NOTICE if options.notice is None else options.notice,
        "licence": PHANTOM_LICENCE if options.licence is None else options.licence,
        "training": _training(PHANTOM_DATA if options.data is None else options.data, options.seed),
    }
    write_first(path, json.dumps(says | decides, indent=1) + "\n")
    found = json.loads(path.read_text(encoding="utf-8"))
    # Runs of earlier versions do not state all of it.
    differing = [name for name, value in decides.items() if found.get(name, value) != value]
    if differing:
        raise HecktorError(
            f"expected the run in {folder} to go on as it began, found another "
            f"{' and '.join(differing)}; give the same options, another folder of runs, or "
            "delete this run"
        )
    for option, given, stated in (
        ("--notice", options.notice, found["notice"]),
        ("--data", options.data, found["training"]["data"]),
        ("--licence", options.licence, found.get("licence", PHANTOM_LICENCE)),
    ):
        if given not in (None, stated):
            raise HecktorError(
                f"expected {option} {stated!r}, with which the run in {folder} began, found "
                f"{given!r}; leave it out, or give another folder of runs"
            )


def _training(data: str, seed: int) -> dict[str, Any]:
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    # Paths of the training machine tell a reader nothing; their names do.
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    command = shlex.join(["python", "-m", "training", *words])
    return {"data": data, "command": command, "revision": revision or "unknown", "seed": seed}
