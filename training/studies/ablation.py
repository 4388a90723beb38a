"""Ablation of the post-processing rules and of mirroring: one table for a cohort.

For each patient, a network that was not trained on the patient runs once, and once more for each
set of mirror axes. Each rule is then applied to the probabilities in addition to the paper's own
rule, which removes components under 100 mm³. The last row has all rules of a configuration. Scores
are the challenge's, on the CT's own grid.
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

from shared.conventions import LESIONS, Label
from shared.errors import InputError
from shared.geometry import Grid
from shared.models.chain import Chain
from shared.models.segmentation import SegmentationModel
from shared.postprocessing.restore import SegmentedRegion, restore
from shared.postprocessing.rules import Rules, label_map
from training.cohort.folds import read_folds
from training.cohort.layout import Patient
from training.cohort.preparation import read_case, read_labels
from training.config import SegmentationSettings
from training.export.run import export_run
from training.tasks.base import Task
from training.tasks.segmentation import Totals

PAPER: Final = dict.fromkeys(LESIONS, 100.0)
"""The paper's rule: components under 100 voxels of 1 mm are removed."""

CANDIDATES: Final[Mapping[str, Sequence[Rules]]] = {
    "touching parts of both labels become one, minority share {:g}": [
        Rules(minority_share=share) for share in (0.2, 0.35, 0.5)
    ],
    "least mean probability of a primary, {:g}": [
        Rules(min_primary_probability=bound) for bound in (0.6, 0.7, 0.8)
    ],
    "least mass of a primary, {:g} mm³": [
        Rules(min_primary_mass_mm3=mass) for mass in (200.0, 500.0, 1000.0)
    ],
    "least SUVmax of a primary, {:g}": [Rules(min_primary_suv_max=suv) for suv in (2.5, 4.0)],
    "a small second primary becomes a node, share {:g}": [
        Rules(satellite_share=share) for share in (0.1, 0.3, 1.0)
    ],
    "near parts of a node are joined, gap {:g} mm": [Rules(node_gap_mm=gap) for gap in (2.0, 4.0)],
    "least SUVmax of a node, {:g}": [Rules(min_node_suv_max=suv) for suv in (2.0, 2.5, 3.0)],
}
"""The rules to try. The key is the name of the row, which shows the value of the rule."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The settings with which one row of the table turns probabilities into a label map."""

    name: str
    min_component_mm3: Mapping[str, float] = field(default_factory=lambda: PAPER)
    rules: Rules = field(default_factory=Rules)
    mirror_axes: tuple[str, ...] = ()


def candidate_settings(
    served: SegmentationSettings,
    mirrorings: Sequence[str],
    lesions: Collection[str] = tuple(LESIONS),
) -> list[Setting]:
    """Return the rows of the table.

    Parameters
    ----------
    served : settings of a configuration, all of which apply in the last row.
    mirrorings : sets of axes, such as "x" or "xyz".
    lesions : labels for which other minimum sizes of a component are tried too.
    """
    settings = [
        Setting(name="nothing", min_component_mm3={}),
        Setting(name="paper: components under 100 mm³"),
    ]
    for label in lesions:
        settings += [
            Setting(
                name=f"{label} components under {size:g} mm³",
                min_component_mm3={**PAPER, label: size},
            )
            for size in (50.0, 200.0, 400.0)
        ]
    for name, candidates in CANDIDATES.items():
        for rules in candidates:
            (value,) = rules.model_dump(exclude_defaults=True).values()
            settings.append(Setting(name=name.format(value), rules=rules))
    settings += [
        Setting(name=f"mirrored along {axes}", mirror_axes=tuple(axes)) for axes in mirrorings
    ]
    configured = Setting(
        name="as configured",
        min_component_mm3=served.min_component_mm3,
        rules=served.rules,
        mirror_axes=served.mirror_axes,
    )
    return [*settings, configured]


def by_held_out_models(
    task: Task, patients: Sequence[Patient], runs: Path
) -> Iterator[tuple[Patient, SegmentationModel]]:
    """Yield the patients of all folds, each with the model of the fold that held the patient out.

    Parameters
    ----------
    task : Task 1.
    patients : the patients; those in no fold are left out.
    runs : folder of runs; the model of each fold is exported to the fold's folder.

    Raises
    ------
    InputError
        If nobody was held out.
    """
    by_id = {patient.patient_id: patient for patient in patients}
    folds = read_folds(runs / task.name)
    if not folds.holds_out:
        raise InputError(
            f"expected held-out patients in {runs / task.name}, found a training on everybody; "
            "give a cohort that it was not trained on and --model"
        )
    for fold in folds.folds:
        folder = runs / task.name / f"fold{fold.name}" / "model"
        export_run(task, runs, folds=[fold.name], model=folder)
        model = SegmentationModel.load(folder)
        for name in fold.held_out:
            if name in by_id:
                yield by_id[name], model


def ablate(
    patients: Iterable[tuple[Patient, SegmentationModel]], settings: Sequence[Setting]
) -> pd.DataFrame:
    """Return the scores, with one row for each setting.

    Columns are the challenge's three scores, their sum, and the share of the patients without a
    primary for whom no primary was predicted (NaN if all patients have a primary).

    Parameters
    ----------
    patients : the patients, each with the model that segments the patient's images.

    Raises
    ------
    InputError
        If a patient has no label map.
    """
    totals = [Totals() for _ in settings]
    absent_primaries: list[list[bool]] = [[] for _ in settings]
    for patient, model in tqdm(patients, desc="ablating", unit="patient"):
        truth_image = read_labels(patient)
        truth = sitk.GetArrayFromImage(truth_image)
        voxel_mm3 = Grid.of(truth_image).voxel_volume_mm3
        prepared = Chain(segmentation=model).prepare(read_case(patient))
        probabilities = {
            axes: model.predict_probabilities(prepared, axes)
            for axes in {setting.mirror_axes for setting in settings}
        }
        for number, setting in enumerate(settings):
            region_probabilities = probabilities[setting.mirror_axes]
            labels = label_map(
                region_probabilities,
                prepared.pet_suv,
                spacing_mm=model.card.preparation.spacing_mm,
                min_component_mm3=setting.min_component_mm3,
                rules=setting.rules,
            )
            segmented = SegmentedRegion(labels=labels, probabilities=region_probabilities)
            prediction = sitk.GetArrayFromImage(restore(segmented, prepared.undo))
            totals[number].add(prediction, truth, voxel_mm3)
            if not np.any(truth == Label.GTVP):
                absent_primaries[number].append(not np.any(prediction == Label.GTVP))
    rows = []
    for setting, total, absent in zip(settings, totals, absent_primaries, strict=True):
        scores = total.scores()
        rows.append(
            {
                "setting": setting.name,
                **scores,
                "sum": sum(scores.values()),
                "no_primary_found": float(np.mean(absent)) if absent else float("nan"),
            }
        )
    return pd.DataFrame(rows).set_index("setting")


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown, with scores to three digits."""
    header = ["setting", *table.columns]
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    for name, row in table.iterrows():
        values = ("–" if np.isnan(value) else f"{value:.3f}" for value in row)
        lines.append(" | ".join([str(name), *values]))
    return "\n".join(f"| {line} |" for line in lines)
