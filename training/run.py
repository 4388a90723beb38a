"""A training command from cohort to model folder: the frame that the three tasks fill.

A run is a folder: `folds.json` (who is held out when), `run.json` (configuration and seed), one
folder for each fold with checkpoints, `network.pt` and `result.json`. Started again with the same
options it goes on where it was; with others it is refused.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.clinical import ClinicalFeature
from shared.errors import HecktorError, InputError
from shared.models.card import Training
from training import folds as splits
from training.cache import REPOSITORY, Cached, build_cache
from training.config import Configuration, PrognosisSettings, Schedule, load_configuration
from training.data import read_cohort, usable
from training.engine import NETWORK, RESULT, Hardware, TrainedModule, fit
from training.export import Trained, export
from training.folds import Fold, Folds
from training.processes import is_first_process
from training.samples import Sample

PHANTOM_NOTICE: Final = (
    "NOTICE: these weights were trained on computer-made phantoms. They show that the software "
    "works; they are not for patients and not for submissions."
)
RUN: Final = "run.json"
MEMBER: Final = "member.json"


@dataclass(frozen=True)
class Options:
    """What a training command was asked for.

    Attributes
    ----------
    configuration : name in training/configs, or path of a file.
    held_out, folds, by_center, splits : which patients are held out; `held_out` unless one of the
        others is given.
    fold : the only one to be trained.
    model : folder to export to; None is the task's own in the repository.
    """

    configuration: str = "demo"
    held_out: int = 36
    folds: int | None = None
    by_center: bool = False
    splits: Path | None = None
    fold: str | None = None
    seed: int = 0
    workers: int = 1
    skip_bad: bool = False
    notice: str = PHANTOM_NOTICE
    data: str = "phantoms of training/phantom"
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
    """

    configuration: Configuration
    fitted: Sequence[Cached]
    held_out: Sequence[Cached]
    features: tuple[ClinicalFeature, ...]
    task1: Mapping[str, Tensor] | None
    seed: int
    workers: int
    without_outcome: Sequence[Cached] = ()


class Task(ABC):
    """What differs between the three trainings."""

    name: ClassVar[Literal["segmentation", "hpv", "survival"]]
    model_folder: ClassVar[str]
    clinical_keys: ClassVar[tuple[str, ...]] = ()
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
        settings = self.settings(configuration)
        if not isinstance(settings, PrognosisSettings):
            return ()
        return features_of(self.clinical_keys, patients, settings.missing)

    @abstractmethod
    def card(self, configuration: Configuration, run_folder: Path) -> dict[str, Any]:
        """Return the fields of the model card that only this task has.

        Parameters
        ----------
        run_folder : of the task, with what was predicted out of fold.
        """

    def check(self, job: Job, fold: Fold) -> None:
        """Raise InputError if nothing could be learnt from a fold, or nothing scored in it."""
        del job, fold

    def member(self, network: nn.Module, job: Job) -> dict[str, float]:
        """Return what the card says of this network alone."""
        del network, job
        return {}

    def predict_held_out(self, network: nn.Module, job: Job, fold: Fold, run_folder: Path) -> None:
        """Write predictions for patients that a fold's network has not seen, for later tasks."""
        del network, job, fold, run_folder


def train(task: Task, cohort: Path, runs: Path, options: Options) -> None:
    """Train the folds asked for and, when all are there, export them.

    Raises
    ------
    HecktorError
        If the cohort, the options or the folder of runs do not fit; see `index_cohort`,
        `build_cache`, `folds.keep` and `Task.check`.
    """
    configuration = load_configuration(options.configuration)
    everyone = prepared(cohort, runs, options)
    fed = task.fed(seen_of(task, cohort, everyone), runs, configuration)
    patients = {patient.files.patient_id: patient for patient in fed}
    without_outcome = [p for p in everyone if p.files.patient_id not in patients]
    folder = runs / task.name
    folds = make_folds(task, patients, options)
    # One scale for all networks of an ensemble, since the card has one.
    fitted_ever = sorted({name for fold in folds.folds for name in fold.fitted})
    features = task.features(configuration, [patients[name] for name in fitted_ever])
    if is_first_process():
        splits.keep(folds, folder)
        _keep_run(folder, configuration, features, options)
    chosen = _chosen(folds, options.fold)
    jobs = {
        fold.name: Job(
            configuration,
            [patients[name] for name in fold.fitted],
            [patients[name] for name in fold.held_out],
            features,
            _task1_weights(runs, fold.name) if task.starts_from_task1 else None,
            options.seed,
            options.workers,
            without_outcome,
        )
        for fold in chosen
    }
    together = (options.hardware.devices or 1) * options.hardware.nodes
    batch = task.settings(configuration).batch_size * together
    for fold in chosen:
        if len(fold.fitted) < batch:
            raise InputError(
                f"fold {fold.name}: expected at least the {batch} patients of a batch to train on, "
                f"found {len(fold.fitted)}; give a larger cohort or a smaller batch"
            )
        task.check(jobs[fold.name], fold)
    networks = {}
    for fold in chosen:
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
        job, network = jobs[fold.name], networks[fold.name]
        task.predict_held_out(network, job, fold, folder)
        stated = json.dumps(task.member(network, job))
        (folder / f"fold{fold.name}" / MEMBER).write_text(stated, encoding="utf-8")
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
) -> None:
    """Write a model folder of a run's networks: of all folds an ensemble, of one a single model.

    Parameters
    ----------
    folds : names of those to take; all if empty.
    model : folder to write; None is the task's own in the repository.
    configuration_name : whose rules for serving the card states; None is the run's own.

    Raises
    ------
    HecktorError
        If a fold is not there or not trained.
    """
    folder = runs / task.name
    stated = splits.read_folds(folder)
    run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    configuration = Configuration.model_validate(run["configuration"])
    features = tuple(ClinicalFeature.model_validate(feature) for feature in run["features"])
    chosen = [fold for name in folds for fold in _chosen(stated, name)] or list(stated.folds)
    members = []
    for fold in chosen:
        if not _is_trained(folder, fold):
            raise HecktorError(f"expected fold {fold.name} of {folder} trained; train it first")
        network = task.network(configuration, features)
        weights = torch.load(folder / f"fold{fold.name}" / NETWORK, weights_only=True)
        network.load_state_dict(weights)
        member = json.loads((folder / f"fold{fold.name}" / MEMBER).read_text(encoding="utf-8"))
        name = task.name if len(chosen) == 1 else f"{task.name}_fold{fold.name}"
        members.append(Trained(network, name, **member))
    patients = {name for fold in chosen for name in fold.fitted}
    training = Training(patients=len(patients), **run["training"])
    serving = load_configuration(configuration_name) if configuration_name else configuration
    fields = {
        "configuration": run["name"],
        "notice": run["notice"],
        "licence": "Apache-2.0",
        "preparation": configuration.preparation,
        "intensity": configuration.intensity,
        "clinical": features,
        "training": training,
        **task.card(serving, folder),
    }
    target = model or REPOSITORY / task.model_folder / "model"
    export(target, task.name, members, fields)
    print(f"exported {len(members)} network(s) of {folder} to {target}")


def features_of(
    keys: Sequence[str], patients: Sequence[Cached], missing: Literal["minus one", "mean"]
) -> tuple[ClinicalFeature, ...]:
    """Return how clinical values reach a network: age z-normalised on the patients, as the paper.

    Parameters
    ----------
    missing : the code for missing: -1, or the mean of the patients whose value is known (-1 where
        nobody's is).
    """
    features = []
    for key in keys:
        known = [v for p in patients if (v := getattr(p.files.clinical, key)) is not None]
        feature = ClinicalFeature(key=key)
        if known and key == "age":
            mean, std = float(np.mean(known)), float(np.std(known)) or 1.0
            feature = ClinicalFeature(key=key, mean=mean, std=std)
        if known and missing == "mean":
            code = (float(np.mean(known)) - feature.mean) / feature.std
            feature = feature.model_copy(update={"missing": code})
        features.append(feature)
    return tuple(features)


def make_folds(task: Task, patients: Mapping[str, Cached], options: Options) -> Folds:
    """Return the folds that options ask for, of patients by their IDs.

    Raises
    ------
    HecktorError
        If the options ask for several ways to hold out, or the patients do not allow theirs.
    """
    centers = {name: patient.files.center for name, patient in patients.items()}
    strata = {name: f"{centers[name]}: {task.outcome(p)}" for name, p in patients.items()}
    ways = [options.folds is not None, options.by_center, options.splits is not None]
    if sum(ways) > 1:
        raise HecktorError("expected one of --folds, --by-center and --splits, found several")
    if options.splits is not None:
        return splits.read_splits(options.splits, strata)
    if options.by_center:
        return splits.leave_one_center_out(strata, centers)
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
    return all((folder / f"fold{fold.name}" / name).is_file() for name in (RESULT, MEMBER))


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
    features: Sequence[ClinicalFeature],
    options: Options,
) -> None:
    """Write what decides a run, or check that it was begun with the same."""
    path = folder / RUN
    decides = {"configuration": configuration.model_dump(mode="json"), "seed": options.seed}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name, value in decides.items() if found[name] != value]
        if differing:
            raise HecktorError(
                f"expected the run in {folder} to go on as it began, found another "
                f"{' and '.join(differing)}; give the same options, another folder of runs, or "
                "delete this run"
            )
    says = {
        "name": Path(options.configuration).stem,
        "notice": options.notice,
        "features": [feature.model_dump(mode="json") for feature in features],
        "training": _training(options.data, options.seed),
    }
    text = json.dumps(says | decides, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


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
