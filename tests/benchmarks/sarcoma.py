"""Real lesions: `python -m tests.benchmarks.sarcoma RUNS`.

The 40 sarcoma patients of `../shared/realdata/sts_petct` (or the folder in HECKTOR_REALDATA) are
put into the challenge's layout with their GTV as label 1, and four folds of Task 1 are trained
(patient STS_0NN is held out in fold NN mod 4), by this training code and by nnU-Net, each within
the same CPU time. The command prints the DSC on the CT's grid: of each patient, segmented by the
fold that held the patient out; of patients whom a fold has seen; of PET thresholds; and the effect
of each rule on lesions and of mirroring. It resumes if it is started again. `--method` runs one of
the two methods, `--baselines-only` none; `--fold K` trains one fold of ours.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import pandas as pd
import SimpleITK as sitk
import typer
from numpy.typing import NDArray

from shared.conventions import Label
from shared.errors import HecktorError
from shared.geometry import Grid, resample
from shared.metrics.segmentation import dice
from shared.models.segmentation import SegmentationModel
from shared.postprocessing.restore import SegmentedRegion, restore
from shared.resources import cpu_seconds, granted_cpus
from tests.benchmarks.sarcoma_nnunet import NnunetFolds
from tests.tree import REALDATA
from training.cohort.cache import PreparedPatient, prepare_cohort
from training.cohort.folds import Fold, HoldOut
from training.cohort.layout import index_cohort
from training.cohort.preparation import read_labels
from training.config import load_configuration
from training.export.record import Provenance
from training.export.run import export_run
from training.studies import ablation
from training.tasks.segmentation import Segmentation, compare_with_truth
from training.train import Options, train_patients

CONFIGURATION: Final = Path(__file__).with_name("sarcoma.toml")
FOLDS: Final = 4
CPU_MINUTES: Final = 30.0
"""CPU time of a fold of nnU-Net by default, about that of ours as configured."""

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
    (folder / "splits.json").write_text(json.dumps(held_out), encoding="utf-8")


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


class OurFolds:
    """The folds of this training code."""

    def __init__(self, runs: Path, folds: Sequence[Fold]) -> None:
        self._runs, self._folds = runs, folds

    def segment(
        self, number: int, patients: Sequence[PreparedPatient]
    ) -> dict[str, SegmentedRegion]:
        """Return what the model of a fold finds in each patient's region, by patient ID."""
        name = self._folds[number].name
        folder = self._runs / f"segmentation/fold{name}/model"
        export_run(Segmentation(), self._runs, folds=[name], model=folder)
        model = SegmentationModel.load(folder)
        return {p.patient_id: model.segment(p.prepared()) for p in patients}


def score(
    method: OurFolds | NnunetFolds, patients: Sequence[PreparedPatient], folds: Sequence[Fold]
) -> pd.DataFrame:
    """Return the DSC on the CT's grid of each patient, a row for each.

    Returns
    -------
    `unseen` by the fold that held the patient out; `seen` by the fold before it, which did not.
    """
    by_id = {patient.patient_id: patient for patient in patients}
    rows: dict[str, dict[str, float]] = {name: {} for name in by_id}
    for number, fold in enumerate(folds):
        following = folds[(number + 1) % len(folds)]
        for column, names in (("unseen", fold.held_out), ("seen", following.held_out)):
            found = method.segment(number, [by_id[name] for name in names])
            for name, segmented in found.items():
                truth = read_labels(by_id[name].patient)
                mask = restore(segmented, by_id[name].undo)
                rows[name][column] = compare_with_truth(mask, truth).gtvp_dice[0]
    return pd.DataFrame.from_dict(rows, orient="index")


def comparison(ours: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[str]:
    """Yield a table of both methods: each patient, the means, and the paired difference."""
    yield "| patient | this training code | nnU-Net |"
    yield "|---|---|---|"
    for name in sorted(ours.index):
        yield f"| {name} | {ours.unseen[name]:.3f} | {theirs.unseen[name]:.3f} |"
    for column in ("unseen", "seen"):
        values = (mean_and_error(table[column].to_numpy()) for table in (ours, theirs))
        yield f"| all, {column} | " + " | ".join(values) + " |"
    difference = (ours.unseen - theirs.unseen).to_numpy()
    yield ""
    yield (
        f"this training code minus nnU-Net, paired: {mean_and_error(difference)}; better in "
        f"{np.count_nonzero(difference > 0)} of {len(difference)} patients"
    )


def mean_and_error(values: NDArray[np.float64]) -> str:
    """Return the mean and its standard error in words."""
    return f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def line(name: str, dsc: NDArray[np.float64], note: str = "") -> str:
    """Return a row of the table: mean DSC and its standard error."""
    return f"| {name} | {mean_and_error(dsc)} | {len(dsc)} | {note} |"


@app.command()
def main(
    runs: Annotated[Path, typer.Argument(help="Folder for cohort, cache, folds and table.")],
    baselines_only: Annotated[
        bool, typer.Option("--baselines-only", help="Only the thresholds, without training.")
    ] = False,
    method: Annotated[
        Literal["ours", "nnunet", "both"], typer.Option(help="Whose folds to train and score.")
    ] = "both",
    fold: Annotated[str | None, typer.Option(help="Train only this fold of ours, 0 to 3.")] = None,
    configuration: Annotated[Path, typer.Option(help="Another configuration.")] = CONFIGURATION,
    cpu_minutes: Annotated[
        float | None,
        typer.Option(help="CPU time of a fold's training; ours as configured by default."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of both methods; each has its own runs.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load data.")] = 1,
) -> None:
    """Train on the sarcoma patients, and print the tables."""
    rows = ["| method | mean DSC ± standard error | patients | |", "|---|---|---|---|"]
    for name, values in measure_baselines().items():
        rows.append(line(name, values, "PET on the CT grid"))
    if not baselines_only:
        make_cohort(runs / "cohort")
        preparation = load_configuration(str(configuration)).preparation
        prepared = prepare_cohort(runs / "cohort", runs / "cache", preparation, workers=workers)
        shares = lesion_shares(prepared)
        worst = min(shares, key=lambda name: shares[name])
        print(f"part of a lesion inside its region: at least {shares[worst]:.3f} ({worst})")
        folds = splits()
        scores: dict[str, pd.DataFrame] = {}
        if method != "nnunet":
            own = runs / f"seed{seed}"
            note = train_ours(
                prepared,
                own,
                configuration,
                fold=fold,
                cpu_minutes=cpu_minutes,
                seed=seed,
                workers=workers,
            )
            if fold is None:
                scores["this training code"] = score(OurFolds(own, folds), prepared, folds)
                rows.append(line("this training code", unseen(scores["this training code"]), note))
        if method != "ours":
            nnunet = NnunetFolds(
                runs / "nnunet", prepared, folds, cpu_minutes=cpu_minutes or CPU_MINUTES, seed=seed
            )
            scores["nnU-Net"] = score(nnunet, prepared, folds)
            minutes = ", ".join(f"{used['cpu_minutes']:.0f}" for used in nnunet.used)
            rows.append(line("nnU-Net", unseen(scores["nnU-Net"]), f"{minutes} CPU minutes"))
        if len(scores) == 2:
            rows += ["", *comparison(scores["this training code"], scores["nnU-Net"])]
        if "this training code" in scores:
            served = load_configuration(str(configuration)).segmentation
            settings = ablation.candidate_settings(served, ["x", "xyz"], served.lesions)
            pairs = ablation.by_held_out_models(Segmentation(), index_cohort(runs / "cohort"), own)
            rows += ["", ablation.markdown(ablation.ablate(pairs, settings)[["gtvp_dice"]])]
    text = "\n".join(rows)
    print(text)
    runs.mkdir(parents=True, exist_ok=True)
    (runs / "table.md").write_text(text + "\n", encoding="utf-8")


def train_ours(
    patients: Sequence[PreparedPatient],
    runs: Path,
    configuration: Path,
    *,
    fold: str | None,
    cpu_minutes: float | None,
    seed: int,
    workers: int,
) -> str:
    """Train the folds of this training code, and return the CPU time in words."""
    count = FOLDS if fold is None else 1
    options = Options(
        configuration=str(configuration),
        hold_out=HoldOut(splits=runs.parent / "cohort/splits.json"),
        only_fold=fold,
        seed=seed,
        workers=workers,
        provenance=Provenance(
            notice="Trained on soft-tissue sarcomas, to measure the method; for no other use.",
            data="40 patients of TCIA Soft-tissue-Sarcoma (CC BY 3.0), as in IBSI",
            licence="CC BY 3.0",
        ),
        model=runs / "model",
        hours=None if cpu_minutes is None else count * cpu_minutes / 60 / granted_cpus(),
    )
    started = cpu_seconds()
    settings = load_configuration(str(configuration))
    train_patients(Segmentation(), patients, settings, runs=runs, options=options)
    return f"{(cpu_seconds() - started) / 60 / count:.0f} CPU minutes a fold in this run"


def unseen(scores: pd.DataFrame) -> NDArray[np.float64]:
    """Return the DSC of each patient by the fold that held the patient out."""
    return scores.unseen.to_numpy(dtype=np.float64)


if __name__ == "__main__":
    app()
