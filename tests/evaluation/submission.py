"""Writes what the platform gives an evaluation: jobs with their outputs, and the ground truth."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from evaluation.evaluate import evaluate
from evaluation.metrics_io import MetricsFile, SubmissionMetrics
from evaluation.schema import TaskMetrics
from evaluation.scoring_rules import ScoringRules
from evaluation.tasks.hpv import HpvMetrics
from evaluation.tasks.segmentation import SegmentationMetrics
from evaluation.tasks.survival import SurvivalMetrics
from shared.editions import CURRENT
from shared.geometry import Grid
from shared.tasks import TaskName

GRID = Grid((12, 10, 8), (1.0, 2.0, 3.0), (-5.0, 7.5, 100.0))
"""Voxels of 6 mm³."""
SLUGS = {
    "segmentation": ("tumor-lymph-node-segmentation", "images/tumor-lymph-node-segmentation"),
    "survival": ("rfs", "rfs.json"),
    "hpv": ("hpv-status", "hpv-status.json"),
}
QUICK = ScoringRules(bootstrap_samples=50)


def labels(*boxes: tuple[int, slice, slice, slice]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a label map on `GRID`; each box is a label and the slices along z, y and x."""
    volume = np.zeros(GRID.shape_zyx, np.uint8)
    for label, *where in boxes:
        volume[tuple(where)] = label
    return volume


def image(values: np.ndarray[Any, Any], grid: Grid = GRID) -> sitk.Image:
    """Return an image on a grid."""
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)
    return image


@dataclass
class Submission:
    """A submission that grows job by job.

    Attributes
    ----------
    root : folder that holds `input` and `ground_truth`.
    jobs, rows : the entries of `predictions.json`, and the rows of the table.
    socket : the key under which the platform stores a socket.
    """

    root: Path
    jobs: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, object]] = field(default_factory=list)
    socket: str = "socket"

    @property
    def input(self) -> Path:
        return self.root / "input"

    @property
    def truth(self) -> Path:
        return self.root / "ground_truth"

    def add_job(
        self, case_id: str, task: TaskName, status: str = "Succeeded", suffix: str = ".mha"
    ) -> Path:
        """Add a job without outputs, and return the folder for them."""
        pk = f"job-{len(self.jobs):03}"
        slug, relative_path = SLUGS[task]
        ct = {"slug": "ct-image", "relative_path": "images/ct", "kind": "Image"}
        self.jobs.append(
            {
                "pk": pk,
                "status": status,
                "inputs": [
                    {self.socket: ct, "image": {"name": case_id + suffix, "pk": "x"}, "value": None}
                ],
                "outputs": [{self.socket: {"slug": slug, "relative_path": relative_path}}],
                "started_at": "2025-07-01T00:00:00Z",
            }
        )
        output = self.input / pk / "output"
        output.mkdir(parents=True)
        return output

    def add_value(self, case_id: str, task: TaskName, value: object) -> Path:
        """Add a job with a JSON output; a string is written as it is."""
        output = self.add_job(case_id, task)
        text = value if isinstance(value, str) else json.dumps(value)
        (output / SLUGS[task][1]).write_text(text)
        return output

    def add_mask(self, case_id: str, mask: sitk.Image, name: str = "x.mha") -> Path:
        """Add a job with a label map."""
        folder = self.add_job(case_id, "segmentation") / SLUGS["segmentation"][1]
        folder.mkdir(parents=True)
        sitk.WriteImage(mask, str(folder / name))
        return folder

    def add_truth(self, case_id: str, mask: sitk.Image | None = None, **columns: object) -> None:
        """Add a patient to the truth; `HPV_Status` stands for the column 'HPV Status'."""
        if mask is not None:
            (self.truth / "masks").mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(mask, str(self.truth / "masks" / f"{case_id}.nii.gz"))
        if columns:
            row = {name.replace("_", " "): value for name, value in columns.items()}
            self.rows.append({"PatientID": case_id, **row})

    def write(self) -> None:
        """Write `predictions.json` and the table."""
        self.input.mkdir(exist_ok=True)
        self.truth.mkdir(exist_ok=True)
        (self.input / "predictions.json").write_text(json.dumps(self.jobs))
        if self.rows:
            columns = list(dict.fromkeys(name for row in self.rows for name in row))
            with (self.truth / "patients.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(self.rows)

    def evaluate_file(
        self, task: TaskName | None = None, rules: ScoringRules = QUICK, workers: int = 1
    ) -> MetricsFile:
        """Write and evaluate the submission."""
        self.write()
        return evaluate(self.input, self.truth, CURRENT, task=task, rules=rules, workers=workers)

    def evaluate(self, **options: Any) -> TaskMetrics:
        """Write and evaluate a submission that answers one task."""
        metrics = self.evaluate_file(**options)
        assert not isinstance(metrics, SubmissionMetrics)
        return metrics

    def segmentation(self, **options: Any) -> SegmentationMetrics:
        metrics = self.evaluate(**options)
        assert isinstance(metrics, SegmentationMetrics)
        return metrics

    def survival(self) -> SurvivalMetrics:
        metrics = self.evaluate()
        assert isinstance(metrics, SurvivalMetrics)
        return metrics

    def hpv(self) -> HpvMetrics:
        metrics = self.evaluate()
        assert isinstance(metrics, HpvMetrics)
        return metrics
