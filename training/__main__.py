"""Command line of the training: `python -m training COMMAND --help`.

One cohort folder in the challenge's layout, one folder of runs. The three tasks are trained in the
order segmentation, hpv, survival, since each starts from or is fed by the one before.
"""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import lightning
import numpy as np
import torch
import typer
from sklearn.model_selection import train_test_split

from shared.clinical import ClinicalFeature
from shared.conventions import Label
from shared.errors import HecktorError
from shared.models.card import Training
from shared.models.networks.dynunet import build
from training import evaluate as evaluation
from training import hpv, segmentation, survival
from training.config import Configuration, Name, load_configuration
from training.data import Cached, build_cache, index_cohort
from training.export import Trained, export

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

REPOSITORY: Final = Path(__file__).resolve().parent.parent
PHANTOM_NOTICE: Final = (
    "NOTICE: these weights were trained on computer-made phantoms. They show that the software "
    "works; they are not for patients and not for submissions."
)

CohortArgument = Annotated[Path, typer.Argument(help="Training data in the challenge's layout.")]
RunsArgument = Annotated[Path, typer.Argument(help="Where cache, checkpoints and logs go.")]
ConfigurationOption = Annotated[Name, typer.Option(help="Which file of training/configs.")]
HeldOutOption = Annotated[int, typer.Option(min=1, help="Patients kept for validation.")]
SeedOption = Annotated[int, typer.Option(help="Split, weights, order and augmentation.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that load data.")]
NoticeOption = Annotated[str, typer.Option(help="What users of the weights must know.")]
DataOption = Annotated[str, typer.Option(help="The training data, in words, for the card.")]


@app.command("segmentation")
def train_segmentation(
    cohort: CohortArgument,
    runs: RunsArgument,
    configuration: ConfigurationOption = "demo",
    held_out: HeldOutOption = 36,
    seed: SeedOption = 0,
    workers: WorkersOption = 1,
    notice: NoticeOption = PHANTOM_NOTICE,
    data: DataOption = "phantoms of training/phantom",
) -> None:
    """Train Task 1 and write task1_segmentation/model."""
    settings = load_configuration(configuration)
    patients = _cached(cohort, runs, settings, workers)
    has_primary = [bool(np.any(patient.labels == Label.GTVP)) for patient in patients]
    fitted, validation = _split(patients, held_out, seed, has_primary)
    lightning.seed_everything(seed, verbose=False)
    folder = runs / "segmentation"
    network = segmentation.train(settings, fitted, validation, folder, seed, workers)
    torch.save(network.state_dict(), folder / "network.pt")
    fields = _card_fields(settings, configuration, settings.segmentation.window_zyx, notice) | {
        "overlap": settings.segmentation.overlap,
        "channels": ("CT", "PET"),
        "labels": ("background", "GTVp", "GTVn"),
        "min_component_mm3": settings.segmentation.min_component_mm3,
        "training": _training(data, len(fitted), seed),
    }
    export(
        REPOSITORY / "task1_segmentation/model",
        "segmentation",
        [Trained(network, "segmentation")],
        fields,
    )


@app.command("hpv")
def train_hpv(
    cohort: CohortArgument,
    runs: RunsArgument,
    configuration: ConfigurationOption = "demo",
    held_out: HeldOutOption = 60,
    seed: SeedOption = 0,
    workers: WorkersOption = 1,
    notice: NoticeOption = PHANTOM_NOTICE,
    data: DataOption = "phantoms of training/phantom",
) -> None:
    """Train Task 3 from the weights of Task 1 in RUNS and write task3_hpv/model."""
    settings = load_configuration(configuration)
    patients = [p for p in _cached(cohort, runs, settings, workers) if p.files.hpv is not None]
    statuses = [bool(patient.files.hpv) for patient in patients]
    fitted, validation = _split(patients, held_out, seed, statuses)
    features = _features(hpv.CLINICAL_KEYS, fitted)
    lightning.seed_everything(seed, verbose=False)
    task1 = build(segmentation.network_config(settings.segmentation))
    task1.load_state_dict(torch.load(runs / "segmentation/network.pt", weights_only=True))
    network = hpv.train(settings, fitted, validation, features, task1, runs / "hpv", seed, workers)
    fields = _card_fields(settings, configuration, settings.hpv.window_zyx, notice) | {
        "channels": ("CT", "PET"),
        "clinical": features,
        "threshold": 0.5,
        "training": _training(data, len(fitted), seed),
    }
    export(REPOSITORY / "task3_hpv/model", "hpv", [Trained(network, "hpv")], fields)


@app.command("survival")
def train_survival(
    cohort: CohortArgument,
    runs: RunsArgument,
    configuration: ConfigurationOption = "demo",
    held_out: HeldOutOption = 60,
    seed: SeedOption = 0,
    workers: WorkersOption = 1,
    notice: NoticeOption = PHANTOM_NOTICE,
    data: DataOption = "phantoms of training/phantom",
) -> None:
    """Train Task 2 on true masks and HPV status, as the paper, and write task2_survival/model."""
    settings = load_configuration(configuration)
    patients = [
        _with_true_hpv(p)
        for p in _cached(cohort, runs, settings, workers)
        if p.files.relapse is not None and p.files.rfs_days is not None
    ]
    events = [bool(patient.files.relapse) for patient in patients]
    fitted, validation = _split(patients, held_out, seed, events)
    features = _features(survival.CLINICAL_KEYS, fitted)
    lightning.seed_everything(seed, verbose=False)
    network = survival.train(
        settings, fitted, validation, features, runs / "survival", seed, workers
    )
    mean, std = survival.risk_scale(network, settings, fitted, features)
    fields = _card_fields(settings, configuration, settings.survival.window_zyx, notice) | {
        "channels": ("CT", "PET", "GTVp", "GTVn"),
        "clinical": features,
        "training": _training(data, len(fitted), seed),
    }
    member = Trained(network, "survival", risk_mean=mean, risk_std=std)
    export(REPOSITORY / "task2_survival/model", "survival", [member], fields)


@app.command("evaluate")
def evaluate_models(
    cohort: Annotated[Path, typer.Argument(help="Patients not trained on, challenge's layout.")],
    name: Annotated[str, typer.Option(help="The cohort, in words, for the cards.")],
    write: Annotated[bool, typer.Option(help="Write the scores into the model cards.")] = False,
) -> None:
    """Score the three model folders of the repository as the containers run them."""
    evaluation.evaluate(REPOSITORY, index_cohort(cohort), name, write)


def _cached(cohort: Path, runs: Path, settings: Configuration, workers: int) -> list[Cached]:
    return build_cache(index_cohort(cohort), runs / "cache", settings.preparation, max(workers, 1))


def _split(
    patients: Sequence[Cached], held_out: int, seed: int, strata: Sequence[bool]
) -> tuple[list[Cached], list[Cached]]:
    """Return patients to train on and patients held out, both with the same share of a stratum."""
    try:
        fitted, validation = train_test_split(
            list(patients), test_size=held_out, random_state=seed, stratify=strata
        )
    except ValueError as error:
        raise HecktorError(
            f"expected more than {held_out} patients, at least two of each of two kinds, found "
            f"{len(patients)}, {sum(strata)} of one kind ({error}); give a larger cohort or "
            "another --held-out"
        ) from None
    return fitted, validation


def _features(keys: Sequence[str], patients: Sequence[Cached]) -> tuple[ClinicalFeature, ...]:
    """Return the paper's encoding: missing is -1, age is z-normalised on the training patients."""
    ages = [p.files.clinical.age for p in patients if p.files.clinical.age is not None]
    scaled = {"age": ClinicalFeature(key="age", mean=float(np.mean(ages)), std=float(np.std(ages)))}
    return tuple(scaled.get(key, ClinicalFeature(key=key)) for key in keys)


def _with_true_hpv(patient: Cached) -> Cached:
    status = patient.files.hpv
    known = dataclasses.replace(
        patient.files.clinical, hpv=None if status is None else float(status)
    )
    return dataclasses.replace(patient, files=dataclasses.replace(patient.files, clinical=known))


def _card_fields(
    settings: Configuration, configuration: Name, window_zyx: Sequence[int], notice: str
) -> dict[str, Any]:
    return {
        "configuration": configuration,
        "notice": notice,
        "licence": "Apache-2.0",
        "preparation": settings.preparation,
        "intensity": settings.intensity,
        "window_zyx": tuple(window_zyx),
    }


def _training(data: str, patients: int, seed: int) -> Training:
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
    return Training(
        data=data, patients=patients, command=command, revision=revision or "unknown", seed=seed
    )


def main() -> int:
    """Run the command line; an error meant for the user is one line."""
    try:
        app(standalone_mode=True)
    except HecktorError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
