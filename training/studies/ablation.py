"""What each rule on lesions, and mirroring, is worth: one table over a cohort.

A network that has not seen a patient runs once on it (and once more for each set of mirrorings);
the rules are then tried on its probabilities, one at a time on top of the paper's own (components
under 100 mm³ removed), and those of a configuration as a whole. Scores are the challenge's, on the
CT's own grid.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import SimpleITK as sitk
from tqdm import tqdm

from shared.case import Case
from shared.conventions import LESIONS, Label
from shared.errors import InputError
from shared.geometry import Grid
from shared.models.segmentation import SegmentationModel
from shared.postprocessing.restore import restore
from shared.postprocessing.rules import Rules, label_map
from shared.preprocessing.pipeline import prepare
from training.cohort.folds import read_folds
from training.cohort.layout import PatientFiles
from training.config import SegmentationSettings
from training.tasks.segmentation import Totals
from training.train import Task, export_run

PAPER: Final = dict.fromkeys(LESIONS, 100.0)
"""Components under 100 voxels of 1 mm removed."""

CANDIDATES: Final[Mapping[str, Sequence[Rules]]] = {
    "touching parts of both labels: the majority's": [
        Rules(minority_share=share) for share in (0.2, 0.35, 0.5)
    ],
    "primary by mean probability": [
        Rules(min_primary_probability=bound) for bound in (0.6, 0.7, 0.8)
    ],
    "primary by mass": [Rules(min_primary_mass_mm3=mass) for mass in (200.0, 500.0, 1000.0)],
    "primary by uptake": [Rules(min_primary_suv_max=suv) for suv in (2.5, 4.0)],
    "small second primary: a node": [Rules(satellite_share=share) for share in (0.1, 0.3, 1.0)],
    "near parts of a node joined": [Rules(node_gap_mm=gap) for gap in (2.0, 4.0)],
    "node by uptake": [Rules(min_node_suv_max=suv) for suv in (2.0, 2.5, 3.0)],
}


@dataclass(frozen=True)
class Setting:
    """One line of the table: how probabilities become a label map."""

    name: str
    min_component_mm3: Mapping[str, float] = field(default_factory=lambda: PAPER)
    rules: Rules = field(default_factory=Rules)
    mirror_axes: tuple[str, ...] = ()


def settings(
    served: SegmentationSettings,
    mirrorings: Sequence[str],
    lesions: Collection[str] = tuple(LESIONS),
) -> list[Setting]:
    """Return the lines of the table.

    Parameters
    ----------
    served : a configuration's, tried as a whole.
    mirrorings : sets of axes, such as "x" or "xyz".
    lesions : whose components are removed by other sizes.
    """
    lines = [Setting("nothing", {}), Setting("paper: components under 100 mm³")]
    for label in lesions:
        lines += [
            Setting(f"{label} components under {size:g} mm³", {**PAPER, label: size})
            for size in (50.0, 200.0, 400.0)
        ]
    for name, candidates in CANDIDATES.items():
        for rules in candidates:
            (value,) = rules.model_dump(exclude_defaults=True).values()
            lines.append(Setting(f"{name}, {value:g}", rules=rules))
    lines += [Setting(f"mirrored along {axes}", mirror_axes=tuple(axes)) for axes in mirrorings]
    whole = Setting("as configured", served.min_component_mm3, served.rules, served.mirror_axes)
    return [*lines, whole]


def by_held_out_models(
    task: Task, patients: Sequence[PatientFiles], runs: Path
) -> Iterator[tuple[PatientFiles, SegmentationModel]]:
    """Yield patients, each with the model of the fold that held it out; those in no fold are not.

    Parameters
    ----------
    task : Task 1.
    runs : folder of runs; each fold's model is exported below its folder.
    """
    known = {patient.patient_id: patient for patient in patients}
    for fold in read_folds(runs / task.name).folds:
        folder = runs / task.name / f"fold{fold.name}" / "model"
        export_run(task, runs, [fold.name], folder)
        model = SegmentationModel.load(folder)
        for name in fold.held_out:
            if name in known:
                yield known[name], model


def ablate(
    patients: Iterable[tuple[PatientFiles, SegmentationModel]], lines: Sequence[Setting]
) -> pd.DataFrame:
    """Return the scores of each setting, one row each.

    Columns are the challenge's three scores, their sum, and the share of the patients without a
    primary in whom none was found (NaN if all have one).

    Parameters
    ----------
    patients : each with the model that segments it.

    Raises
    ------
    InputError
        If a patient has no labels.
    """
    totals = [Totals() for _ in lines]
    none_found: list[list[bool]] = [[] for _ in lines]
    for patient, model in tqdm(patients, desc="ablating", unit="patient"):
        if patient.labels is None:
            raise InputError(f"expected labels for patient {patient.patient_id}, found none")
        case = Case(
            ct_hu=sitk.ReadImage(str(patient.ct)),
            pet=sitk.ReadImage(str(patient.pet)),
            clinical=patient.clinical,
        )
        prepared = prepare(case, model.card.preparation)
        image = sitk.ReadImage(str(patient.labels), sitk.sitkUInt8)
        truth, voxel_mm3 = sitk.GetArrayFromImage(image), Grid.of(image).voxel_volume_mm3
        probabilities = {
            axes: model.predict_probabilities(prepared, axes)
            for axes in {line.mirror_axes for line in lines}
        }
        for number, line in enumerate(lines):
            labels = label_map(
                probabilities[line.mirror_axes],
                prepared.pet_suv,
                spacing_mm=model.card.preparation.spacing_mm,
                min_component_mm3=line.min_component_mm3,
                rules=line.rules,
            )
            found = sitk.GetArrayFromImage(restore(labels, prepared.undo))
            totals[number].add(found, truth, voxel_mm3)
            if not np.any(truth == Label.GTVP):
                none_found[number].append(not np.any(found == Label.GTVP))
    rows = []
    for line, total, absent in zip(lines, totals, none_found, strict=True):
        scores = total.scores()
        rows.append(
            {
                "setting": line.name,
                **scores,
                "sum": sum(scores.values()),
                "no_primary_found": float(np.mean(absent)) if absent else float("nan"),
            }
        )
    return pd.DataFrame(rows).set_index("setting")


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown, each score to three digits."""
    header = ["setting", *table.columns]
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    for name, row in table.iterrows():
        values = ("–" if np.isnan(value) else f"{value:.3f}" for value in row)
        lines.append(" | ".join([str(name), *values]))
    return "\n".join(f"| {line} |" for line in lines)
