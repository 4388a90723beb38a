"""Exports a training run to a model folder: the ensemble of all folds, or some of the models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from torch import Tensor, nn

from shared.clinical import ClinicalFeature
from shared.editions import CURRENT
from shared.errors import HecktorError
from shared.lesions import MEASURES
from shared.models.card import MemberKind, Training
from shared.models.networks.linear import LinearModel
from training.cohort.code_version import REPOSITORY
from training.cohort.folds import Fold, read_folds
from training.config import Configuration, load_configuration
from training.export.model_folder import MemberModel, export
from training.export.record import MEMBER, FoldRecord, RunRecord, read_run
from training.loop.fit import BEST, LAST, LATE, NETWORK, network_weights
from training.records import read_record
from training.tasks.base import MemberStatistics, Served, Task

Checkpoint: TypeAlias = Literal["best", "last", "late"]

CHECKPOINTS: Final[dict[Checkpoint, str]] = {"best": BEST, "last": LAST, "late": LATE}
"""The files of a fold with the weights that can be exported instead of those to serve."""

WEIGHTS: Final[dict[MemberKind, str]] = {"network": NETWORK, "linear": "linear.pt"}


def model_folder(task: Task) -> Path:
    """Return the model folder of a task's own algorithm in the repository."""
    return REPOSITORY / CURRENT.algorithm(task.name).name / "model"


def is_trained(run_folder: Path, fold: Fold) -> bool:
    """Return whether a fold is complete, with its models and its out-of-fold predictions."""
    return (run_folder / f"fold{fold.name}" / MEMBER).is_file()


def export_run(
    task: Task,
    runs: Path,
    *,
    folds: Sequence[str] = (),
    model: Path | None = None,
    configuration: str | None = None,
    kinds: Sequence[MemberKind] = (),
    checkpoint: Checkpoint | None = None,
) -> None:
    """Write a model folder from a training run's models.

    Parameters
    ----------
    folds : names of the folds to export; empty for all folds.
    model : folder to write; None stands for the task's model folder in the repository.
    configuration : name of a configuration with the rules for serving; None stands for the
        configuration of the run.
    kinds : kinds of models to export; empty for those that `Task.served` chooses.
    checkpoint : which weights of the networks to export instead of those to serve: the weights of
        the best or of the last epoch before weight averaging, or the late weights. The folds need
        not be complete.

    Raises
    ------
    HecktorError
        If a fold does not exist, is not trained, or has no model of a kind or no such checkpoint.
    """
    run_folder = runs / task.name
    all_folds, record = read_folds(run_folder), read_run(run_folder)
    chosen = [fold for name in folds for fold in all_folds.choose(name)] or list(all_folds.folds)
    trained_kinds = task.kinds(record.configuration)
    if checkpoint is None:
        _require_trained(run_folder, chosen)
    if kinds or checkpoint is not None:
        served = Served(kinds=tuple(kinds) or trained_kinds)
    else:
        served = task.served(record.configuration, run_folder)
    exported_kinds = served.kinds
    if not set(exported_kinds) <= set(trained_kinds):
        raise HecktorError(
            f"expected kinds of models that {run_folder} has ({' and '.join(trained_kinds)}), "
            f"found {' and '.join(exported_kinds)}; train with another configuration"
        )
    if checkpoint is not None and task.has_statistics:
        raise HecktorError(
            f"expected no checkpoint for {task.name}, because a fold keeps mean and spread of its "
            f"risks for the served weights alone, found {checkpoint!r}; leave it out"
        )
    if checkpoint is not None and exported_kinds != ("network",):
        raise HecktorError(
            f"expected only networks with a checkpoint, found {' and '.join(exported_kinds)}; "
            "choose the kind network"
        )
    members = [
        member
        for kind in exported_kinds
        for member in _members(task, kind, chosen, run_folder, record, checkpoint)
    ]
    patients = {name for fold in chosen for name in fold.training}
    serving = load_configuration(configuration) if configuration else record.configuration
    fields = {
        "configuration": record.name,
        "notice": record.notice,
        "licence": record.licence,
        "preparation": record.configuration.preparation,
        "intensity": record.configuration.intensity,
        "channels": task.channels(record.configuration),
        **({"clinical": record.features} if record.features else {}),
        "training": Training(patients=len(patients), **record.training.model_dump()),
        **task.card(serving, run_folder, exported_kinds),
        **({"choice": served.reason} if served.reason else {}),
    }
    target = model or model_folder(task)
    export(target, task.model_type.card_type, members=members, fields=fields)
    print(f"exported {len(members)} model(s) of {run_folder} to {target}")
    if choice := fields.get("choice"):
        print(choice)
    if weights := fields.get("weights"):
        words = (f"{kind} {weight:.3f}" for kind, weight in weights.items())
        print(f"weights of the kinds, from their out-of-fold outputs: {', '.join(words)}")


def _require_trained(run_folder: Path, folds: Sequence[Fold]) -> None:
    for fold in folds:
        if not is_trained(run_folder, fold):
            raise HecktorError(
                f"expected a trained fold {fold.name} in {run_folder}, found it incomplete; train "
                "it first"
            )


def _members(
    task: Task,
    kind: MemberKind,
    folds: Sequence[Fold],
    run_folder: Path,
    record: RunRecord,
    checkpoint: Checkpoint | None,
) -> list[MemberModel]:
    """Return the models of one kind, one for each fold unless they can be merged."""
    models, statistics = [], []
    for fold in folds:
        folder = run_folder / f"fold{fold.name}"
        model = _empty_model(task, kind, record.configuration, record.features)
        model.load_state_dict(_weights(folder, kind, checkpoint))
        models.append(model)
        statistics.append(
            read_record(FoldRecord, folder / MEMBER).members[kind]
            if checkpoint is None
            else MemberStatistics()
        )
    config = task.network_config(record.configuration) if kind == "network" else None
    suffix = "" if kind == "network" else f"_{kind}"
    if config is not None and len(merged := config.merged(models)) < len(models):
        return [
            MemberModel(name=f"{task.name}{suffix}", model=model, config=config) for model in merged
        ]
    return [
        MemberModel(
            name=f"{task.name}{suffix}"
            if len(folds) == 1
            else f"{task.name}_fold{fold.name}{suffix}",
            model=model,
            config=config,
            **each.model_dump(),
        )
        for fold, model, each in zip(folds, models, statistics, strict=True)
    ]


def _weights(
    fold_folder: Path, kind: MemberKind, checkpoint: Checkpoint | None
) -> dict[str, Tensor]:
    path = fold_folder / (WEIGHTS[kind] if checkpoint is None else CHECKPOINTS[checkpoint])
    if not path.is_file():
        raise HecktorError(
            f"expected weights in {path}, found no such file; train this fold until it writes "
            "them, or export another checkpoint"
        )
    return network_weights(path)


def _empty_model(
    task: Task, kind: MemberKind, configuration: Configuration, features: Sequence[ClinicalFeature]
) -> nn.Module:
    if kind == "linear":
        return LinearModel(len(features), len(MEASURES))
    return task.network(configuration, features)
