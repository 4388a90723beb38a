"""Real lesions: `python -m tests.benchmarks.sarcoma RUNS`.

The 40 sarcoma patients of `../shared/realdata/sts_petct` (or the folder in HECKTOR_REALDATA) are
put into the challenge's layout with their GTV as label 1, and four folds of Task 1 are trained
(patient STS_0NN is held out in fold NN mod 4). The command prints the mean DSC of all 40
out-of-fold masks on the CT's grid, the mean DSC of PET thresholds on the same grid, and the effect
of each rule on lesions and of mirroring. It resumes if it is started again. `--baselines-only`
needs no training; `--fold K` trains one fold.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import pandas as pd
import SimpleITK as sitk
import typer
from numpy.typing import NDArray

from shared.conventions import Label
from shared.errors import HecktorError
from shared.geometry import Grid, resample
from shared.metrics.segmentation import dice
from tests.tree import REALDATA
from training.cohort.cache import prepare_cohort
from training.cohort.folds import HoldOut
from training.cohort.layout import index_cohort
from training.config import load_configuration
from training.export.record import Provenance
from training.loop.fit import RESULT, FitResult
from training.records import read_record
from training.studies import ablation
from training.tasks.out_of_fold import FOLDER, SCORES
from training.tasks.segmentation import Segmentation
from training.train import Options, train

CONFIGURATION: Final = Path(__file__).with_name("sarcoma.toml")
FOLDS: Final = 4

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
    fold_of = {name: int(name[4:]) % FOLDS for name in names}
    splits = [
        {
            "train": [name for name in names if fold_of[name] != fold],
            "val": [name for name in names if fold_of[name] == fold],
        }
        for fold in range(FOLDS)
    ]
    (folder / "splits.json").write_text(json.dumps(splits), encoding="utf-8")


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


def lesion_shares(runs: Path) -> dict[str, float]:
    """Return the part of each lesion that lies in the region that the networks see."""
    shares = {}
    preparation = load_configuration(str(CONFIGURATION)).preparation
    for patient in prepare_cohort(runs / "cohort", runs / "cache", preparation, workers=1):
        truth = sitk.ReadImage(str(patient.patient.labels), sitk.sitkUInt8)
        inside = np.count_nonzero(patient.labels) * patient.undo.region.voxel_volume_mm3
        whole = np.count_nonzero(sitk.GetArrayViewFromImage(truth))
        share = inside / (whole * Grid.of(truth).voxel_volume_mm3)
        shares[patient.patient_id] = float(share)
    return shares


def line(name: str, dsc: NDArray[np.float64], note: str = "") -> str:
    """Return a row of the table: mean DSC and its standard error."""
    error = dsc.std(ddof=1) / np.sqrt(len(dsc))
    return f"| {name} | {dsc.mean():.3f} ± {error:.3f} | {len(dsc)} | {note} |"


@app.command()
def main(
    runs: Annotated[Path, typer.Argument(help="Folder for cohort, cache, folds and table.")],
    baselines_only: Annotated[
        bool, typer.Option("--baselines-only", help="Only the thresholds, without training.")
    ] = False,
    fold: Annotated[str | None, typer.Option(help="Train only this fold, 0 to 3.")] = None,
    configuration: Annotated[Path, typer.Option(help="Another configuration.")] = CONFIGURATION,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load data.")] = 1,
) -> None:
    """Train on the sarcoma patients, and print the table."""
    rows = ["| method | mean DSC ± standard error | patients | |", "|---|---|---|---|"]
    for name, values in measure_baselines().items():
        rows.append(line(name, values, "PET on the CT grid"))
    if not baselines_only:
        make_cohort(runs / "cohort")
        shares = lesion_shares(runs)
        worst = min(shares, key=lambda name: shares[name])
        print(f"part of a lesion inside its region: at least {shares[worst]:.3f} ({worst})")
        options = Options(
            configuration=str(configuration),
            hold_out=HoldOut(splits=runs / "cohort/splits.json"),
            only_fold=fold,
            workers=workers,
            provenance=Provenance(
                notice="Trained on soft-tissue sarcomas, to measure the method; for no other use.",
                data="40 patients of TCIA Soft-tissue-Sarcoma (CC BY 3.0), as in IBSI",
                licence="CC BY 3.0",
            ),
            model=runs / "model",
        )
        started = time.perf_counter()
        train(Segmentation(), runs / "cohort", runs, options)
        print(f"this run: {(time.perf_counter() - started) / 60:.1f} minutes")
        table = pd.read_csv(runs / "segmentation" / FOLDER / SCORES)
        results = sorted((runs / "segmentation").glob(f"fold*/{RESULT}"))
        minutes = [read_record(FitResult, path).train_seconds / 60 for path in results]
        note = "out of fold; training took " + ", ".join(f"{m:.0f}" for m in minutes) + " minutes"
        rows.append(line("this training code", table["gtvp_dice"].to_numpy(), note))
    if not baselines_only and fold is None:
        served = load_configuration(str(configuration)).segmentation
        settings = ablation.candidate_settings(served, ["x", "xyz"], served.lesions)
        pairs = ablation.by_held_out_models(Segmentation(), index_cohort(runs / "cohort"), runs)
        rows += ["", ablation.markdown(ablation.ablate(pairs, settings)[["gtvp_dice"]])]
    text = "\n".join(rows)
    print(text)
    runs.mkdir(parents=True, exist_ok=True)
    (runs / "table.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
