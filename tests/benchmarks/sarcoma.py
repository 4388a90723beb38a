"""Real lesions: `python -m tests.benchmarks.sarcoma RUNS`.

The 40 sarcoma patients of `../shared/realdata/sts_petct` (or the folder in HECKTOR_REALDATA) are
put into the challenge's layout with their GTV as label 1, and four folds of Task 1 are trained
(patient STS_0NN is held out in fold NN mod 4), by this training code and by nnU-Net. This training
code trains as configured, `--networks` networks for each fold, whose probabilities are averaged.
nnU-Net trains one network for `--cpu-minutes` of CPU time. A GPU cannot count CPU minutes: there,
`--nnunet-steps` states the steps that a CPU takes in this time. Both methods get the same rules on
lesions.

The command prints the DSC on the CT's grid: of each patient, segmented by the fold that held the
patient out; of patients whom a fold has seen; and of PET thresholds. It writes the table after each
fold, and resumes if it is started again. `--method` runs one of the two methods, `--baselines-only`
none.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import numpy as np
import pandas as pd
import SimpleITK as sitk
import torch
import typer
from numpy.typing import NDArray

from shared.conventions import Label, Volume
from shared.errors import HecktorError
from shared.files import write_whole
from shared.geometry import Grid, resample
from shared.metrics.segmentation import dice
from shared.postprocessing.restore import restore
from shared.resources import cpu_seconds, granted_cpus, peak_memory_gb
from shared.schema import Strict
from tests.benchmarks.sarcoma_nnunet import Budget, NnunetFold, make_dataset
from tests.tree import REALDATA
from training.cohort.cache import PreparedPatient, prepare_cohort
from training.cohort.folds import Fold, HoldOut
from training.cohort.preparation import read_labels
from training.config import Configuration, load_configuration
from training.loop.hardware import Accelerator, Hardware
from training.records import read_record
from training.tasks.planning import plan_training
from training.tasks.segmentation import Segmentation, compare_with_truth, predictor, segment
from training.tasks.timing import steps_of_epoch
from training.train import fit_network

CONFIGURATION: Final = Path(__file__).with_name("sarcoma.toml")
FOLDS: Final = 4
FOLDS_FILE: Final = "splits.json"
SCORES: Final = "scores.json"
COLUMNS: Final = ("unseen", "seen")

Method: TypeAlias = Literal["ours", "nnunet"]
OURS: Final = "ours"
NNUNET: Final = "nnunet"
NAMES: Final[dict[Method, str]] = {OURS: "this training code", NNUNET: "nnU-Net"}

Predict: TypeAlias = Callable[[Sequence[PreparedPatient]], dict[str, Volume]]
"""Returns the probabilities of patients' regions, shape (3, z, y, x), by patient ID."""
Used: TypeAlias = dict[str, float]

BASELINES: Final[dict[str, Callable[[NDArray[np.float32]], NDArray[np.bool_]]]] = {
    "SUV >= 41 % of the maximum": lambda suv: suv >= 0.41 * suv.max(),
    "SUV >= 4": lambda suv: suv >= 4,
    "SUV >= 2.5": lambda suv: suv >= 2.5,
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def patients() -> list[Path]:
    """Return the patients' folders."""
    folders = sorted(path for path in (REALDATA / "sts_petct").glob("STS_*") if path.is_dir())
    if len(folders) != 40:
        raise HecktorError(
            f"expected 40 patients in {REALDATA / 'sts_petct'}, found {len(folders)}; set "
            "HECKTOR_REALDATA to the folder of the real data"
        )
    return folders


def make_cohort(folder: Path) -> None:
    """Write the patients in the challenge's layout, images as links, and the folds."""
    task = folder / "Task 1"
    for source in patients():
        target = task / source.name
        target.mkdir(parents=True, exist_ok=True)
        for name, suffix in (("CT_image", "__CT"), ("PET_image", "__PT"), ("CT_mask", "")):
            link = target / f"{source.name}{suffix}.nii.gz"
            if not link.exists():
                link.symlink_to((source / f"{name}.nii.gz").resolve())
    names = [source.name for source in patients()]
    with (task / "HECKTOR_2025_Training_Task_1.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["PatientID"], *[[name] for name in names]])
    held_out = [{"train": f.training, "val": f.held_out} for f in splits()]
    (folder / FOLDS_FILE).write_text(json.dumps(held_out), encoding="utf-8")


def splits() -> list[Fold]:
    """Return the folds: patient STS_0NN is held out in fold NN mod 4."""
    names = [folder.name for folder in patients()]
    fold_of = {name: int(name[4:]) % FOLDS for name in names}
    return [
        Fold(
            name=str(fold),
            training=tuple(name for name in names if fold_of[name] != fold),
            held_out=tuple(name for name in names if fold_of[name] == fold),
        )
        for fold in range(FOLDS)
    ]


def measure_baselines() -> dict[str, NDArray[np.float64]]:
    """Return the DSC of each threshold for each patient; PET is interpolated to the CT's grid."""
    scores: dict[str, list[float]] = {name: [] for name in BASELINES}
    for folder in patients():
        truth = sitk.ReadImage(str(folder / "CT_mask.nii.gz"), sitk.sitkUInt8)
        pet = sitk.ReadImage(str(folder / "PET_image.nii.gz"))
        suv = sitk.GetArrayFromImage(
            resample(pet, Grid.of(truth), interpolation="linear", outside=0.0)
        )
        mask = (sitk.GetArrayFromImage(truth) > 0).astype(np.uint8)
        for name, baseline in BASELINES.items():
            scores[name].append(dice(baseline(suv).astype(np.uint8), mask, Label.GTVP))
    return {name: np.asarray(values) for name, values in scores.items()}


def lesion_shares(patients: Sequence[PreparedPatient]) -> dict[str, float]:
    """Return the part of each lesion that lies in the region that the networks see."""
    shares = {}
    for patient in patients:
        truth = sitk.ReadImage(str(patient.patient.labels), sitk.sitkUInt8)
        inside = np.count_nonzero(patient.labels) * patient.undo.region.voxel_volume_mm3
        whole = np.count_nonzero(sitk.GetArrayViewFromImage(truth))
        share = inside / (whole * Grid.of(truth).voxel_volume_mm3)
        shares[patient.patient_id] = float(share)
    return shares


class FoldScores(Strict):
    """What one fold of a method did with one seed.

    Attributes
    ----------
    unseen : DSC on the CT's grid of the patients whom the fold held out, by patient ID.
    seen : that of the next fold's patients, on whom this fold was trained.
    steps : of the training of all networks.
    cpu_minutes : CPU time of the training of all networks, with its loaders.
    peak_gb : memory of the training's largest process.
    """

    unseen: dict[str, float]
    seen: dict[str, float]
    steps: float
    cpu_minutes: float
    peak_gb: float


@dataclass(frozen=True, kw_only=True)
class FoldOfMethod:
    """One fold of one method with one seed: everything that a process needs for it.

    Attributes
    ----------
    number : of the fold, from 0.
    networks : how many networks of ours to train and to average.
    budget : what nnU-Net may use.
    workers : processes that load data for a training of ours.
    threads : threads of each training on a CPU.
    """

    runs: Path
    method: Method
    seed: int
    number: int
    configuration: Path
    networks: int
    budget: Budget
    workers: int
    hardware: Hardware
    threads: int

    @property
    def folder(self) -> Path:
        """The folder of our training, and of the scores of either method."""
        return self.runs / self.method / f"seed{self.seed}" / f"fold{self.number}"

    def scores(self) -> FoldScores | None:
        """Return the scores, or None if the fold is not finished."""
        path = self.folder / SCORES
        return read_record(FoldScores, path) if path.exists() else None


def train_and_score(fold: FoldOfMethod) -> None:
    """Train a fold of a method, segment patients with its last weights, and write the scores."""
    torch.set_num_threads(fold.threads)
    configuration = load_configuration(str(fold.configuration))
    patients = {each.patient_id: each for each in prepare(fold.runs, configuration)}
    if fold.method == OURS:
        predict, used = train_ours(fold, configuration, list(patients.values()))
    else:
        nnunet = NnunetFold(
            fold.runs / NNUNET,
            fold.number,
            seed=fold.seed,
            device=fold.hardware.device,
            threads=fold.threads,
        )
        predict, used = nnunet.predict, nnunet.train(fold.budget)
    folds = splits()
    scores: dict[str, dict[str, float]] = {}
    for column, number in (("unseen", fold.number), ("seen", (fold.number + 1) % len(folds))):
        predictions = predict([patients[name] for name in folds[number].held_out])
        scores[column] = {
            name: score(patients[name], probabilities, configuration)
            for name, probabilities in predictions.items()
        }
    result = FoldScores.model_validate(scores | used)
    fold.folder.mkdir(parents=True, exist_ok=True)
    write_whole(fold.folder / SCORES, result.model_dump_json() + "\n")


def train_ours(
    fold: FoldOfMethod, configuration: Configuration, patients: Sequence[PreparedPatient]
) -> tuple[Predict, Used]:
    """Train the networks of a fold; return their mean prediction, and what the training used."""
    task, started, steps = Segmentation(), cpu_seconds(), 0
    predictors = []
    for number in range(fold.networks):
        (training,) = plan_training(
            task,
            patients,
            configuration,
            runs=fold.folder,
            hold_out=HoldOut(splits=fold.runs / "cohort" / FOLDS_FILE),
            only_fold=splits()[fold.number].name,
            seed=fold.seed * fold.networks + number,
            workers=fold.workers,
            hardware=fold.hardware,
        ).trainings
        fitted = fit_network(task, training, fold.folder / f"network{number}")
        steps += configuration.segmentation.epochs * steps_of_epoch(task, training)
        predictors.append(predictor(fitted.late, configuration, training.device))
    used = {
        "steps": steps,
        "cpu_minutes": (cpu_seconds() - started) / 60,
        "peak_gb": peak_memory_gb(),
    }

    def predict(chosen: Sequence[PreparedPatient]) -> dict[str, Volume]:
        cases = {patient.patient_id: patient.prepared() for patient in chosen}
        return {
            name: np.mean([each(case) for each in predictors], axis=0)
            for name, case in cases.items()
        }

    return predict, used


def score(patient: PreparedPatient, probabilities: Volume, configuration: Configuration) -> float:
    """Return a patient's DSC on the CT's grid, after the rules of the configuration."""
    mask = restore(segment(probabilities, patient.prepared(), configuration), patient.undo)
    return compare_with_truth(mask, read_labels(patient.patient)).gtvp_dice[0]


def prepare(runs: Path, configuration: Configuration) -> list[PreparedPatient]:
    """Return the prepared patients of the cohort in RUNS."""
    return prepare_cohort(
        runs / "cohort", runs / "cache", configuration.preparation, workers=granted_cpus()
    )


def report(folds: Sequence[FoldOfMethod]) -> Iterator[str]:
    """Yield the table of the finished folds: each method, and both compared.

    Methods are compared on the patients of the folds and seeds that both have finished; of several
    seeds, a patient's DSC is the mean.
    """
    finished = {
        method: {
            (each.seed, each.number): scores
            for each in folds
            if each.method == method and (scores := each.scores()) is not None
        }
        for method in NAMES
    }
    yield "| method, seed | folds | DSC unseen | DSC seen | steps | CPU minutes | peak GB |"
    yield "|---|---|---|---|---|---|---|"
    for method, by_fold in finished.items():
        for seed in sorted({seed for seed, _ in by_fold}):
            of_seed = [scores for key, scores in by_fold.items() if key[0] == seed]
            cells = [mean_and_error(patient_scores(of_seed, c).to_numpy()) for c in COLUMNS]
            for name in ("steps", "cpu_minutes", "peak_gb"):
                values = [getattr(scores, name) for scores in of_seed]
                low, high = (f"{value:.{1 if name == 'peak_gb' else 0}f}" for value in
                             (min(values), max(values)))  # fmt: skip
                cells.append(low if low == high else f"{low} to {high}")
            yield f"| {NAMES[method]}, {seed} | {len(of_seed)} | {' | '.join(cells)} |"
    shared = sorted(set.intersection(*(set(by_fold) for by_fold in finished.values())))
    if shared:
        yield ""
        yield from comparison(
            *(
                pd.DataFrame(
                    {
                        column: patient_scores([by_fold[key] for key in shared], column)
                        for column in COLUMNS
                    }
                )
                for by_fold in finished.values()
            )
        )


def patient_scores(folds: Sequence[FoldScores], column: str) -> pd.Series[float]:
    """Return each patient's DSC, the mean over the seeds, with patient IDs as the index."""
    parts = [pd.Series(getattr(scores, column), dtype=float) for scores in folds]
    return pd.concat(parts).groupby(level=0).mean()


def comparison(ours: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[str]:
    """Yield a table of both methods: each patient, the means, and the paired difference."""
    yield f"| patient | {' | '.join(NAMES.values())} |"
    yield "|---|---|---|"
    for name in sorted(ours.index):
        yield f"| {name} | {ours.unseen[name]:.3f} | {theirs.unseen[name]:.3f} |"
    for column in COLUMNS:
        values = (mean_and_error(table[column].to_numpy()) for table in (ours, theirs))
        yield f"| all, {column} | " + " | ".join(values) + " |"
    difference = (ours.unseen - theirs.unseen).to_numpy()
    yield ""
    yield (
        f"{NAMES[OURS]} minus {NAMES[NNUNET]}, paired: {mean_and_error(difference)}; better in "
        f"{np.count_nonzero(difference > 0)} of {len(difference)} patients"
    )


def mean_and_error(values: NDArray[np.float64]) -> str:
    """Return the mean and its standard error in words."""
    return f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


@app.command()
def main(
    runs: Annotated[Path, typer.Argument(help="Folder for cohort, cache, folds and table.")],
    baselines_only: Annotated[
        bool, typer.Option("--baselines-only", help="Only the thresholds, without training.")
    ] = False,
    method: Annotated[
        Literal["ours", "nnunet", "both"], typer.Option(help="Whose folds to train and score.")
    ] = "both",
    configuration: Annotated[Path, typer.Option(help="Another configuration.")] = CONFIGURATION,
    networks: Annotated[int, typer.Option(min=1, help="Networks of ours for each fold.")] = 2,
    cpu_minutes: Annotated[
        float, typer.Option(min=0.1, help="CPU time of a fold's training by nnU-Net.")
    ] = 30.0,
    nnunet_steps: Annotated[
        int | None, typer.Option(min=1, help="Instead, its steps; required on a GPU.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds of each method.")] = 1,
    parallel: Annotated[int, typer.Option(min=1, help="Folds at the same time.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load data, for each.")] = 1,
    accelerator: Annotated[Accelerator, typer.Option()] = "cpu",
) -> None:
    """Train on the sarcoma patients, and print the tables."""
    rows = ["| threshold, PET on the CT's grid | mean DSC ± standard error |", "|---|---|"]
    rows += [f"| {name} | {mean_and_error(dsc)} |" for name, dsc in measure_baselines().items()]
    if baselines_only:
        print("\n".join(rows))
        return
    hardware = Hardware(devices=1, accelerator=accelerator)
    if hardware.device == "cuda" and method != "ours" and nnunet_steps is None:
        sys.exit("expected --nnunet-steps on a GPU, found none; give the steps of its CPU minutes")
    make_cohort(runs / "cohort")
    prepared = prepare(runs, load_configuration(str(configuration)))
    shares = lesion_shares(prepared)
    worst = min(shares, key=lambda name: shares[name])
    print(f"part of a lesion inside its region: at least {shares[worst]:.3f} ({worst})")
    methods: list[Method] = [OURS, NNUNET] if method == "both" else [method]
    if NNUNET in methods:
        make_dataset(runs / NNUNET, prepared, splits())
    folds = [
        FoldOfMethod(
            runs=runs,
            method=each,
            seed=seed,
            number=number,
            configuration=configuration,
            networks=networks,
            budget=Budget(cpu_minutes=cpu_minutes, steps=nnunet_steps),
            workers=workers,
            hardware=hardware,
            threads=max(1, granted_cpus() // parallel),
        )
        for seed in range(seeds)
        for number in range(FOLDS)
        for each in methods
    ]
    spawn = multiprocessing.get_context("spawn")  # a forked process cannot use a GPU
    # A process for each fold, whose peak memory is its own.
    with ProcessPoolExecutor(parallel, mp_context=spawn, max_tasks_per_child=1) as pool:
        missing = [pool.submit(train_and_score, each) for each in folds if each.scores() is None]
        for finished in as_completed(missing):
            finished.result()
            write_whole(runs / "table.md", "\n".join([*rows, "", *report(folds)]) + "\n")
    print("\n".join([*rows, "", *report(folds)]))


if __name__ == "__main__":
    app()
