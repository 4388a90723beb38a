"""How scores are called and written, and where on the page they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from evaluation.schema import Estimate

ABSENT: Final = "–"
"""Stands for a score that cannot be computed."""

Better: TypeAlias = Literal["higher", "lower"]
Path: TypeAlias = tuple[str | int, ...]
"""Keys that lead from a run's folder to a number: the task, then those in its metrics.json."""


@dataclass(frozen=True)
class Measure:
    """What a score is called.

    Attributes
    ----------
    name : in words.
    better : which end is the good one.
    digits : decimals that are shown.
    scale : the ends of an axis; None where there is no upper end.
    """

    name: str
    better: Better = "higher"
    digits: int = 3
    scale: tuple[float, float] | None = (0.0, 1.0)


MEASURES: Final = {
    "dice": Measure("Mean DSC"),
    "aggregated_dice": Measure("Aggregated DSC"),
    "aggregated_f1": Measure("Aggregated F1"),
    "sensitivity": Measure("Sensitivity"),
    "false_positives_per_case": Measure("False lesions a case", "lower", 2, None),
    "hd95_mm": Measure("HD95, mm", "lower", 1, None),
    "surface_dice": Measure("Surface DSC"),
    "c_index": Measure("C-index"),
    "auc_2_years": Measure("AUC at 2 years"),
    "auc_5_years": Measure("AUC at 5 years"),
    "balanced_accuracy": Measure("Balanced accuracy"),
    "specificity": Measure("Specificity"),
    "auc": Measure("AUC"),
    "brier": Measure("Brier score", "lower"),
    "calibration_error": Measure("Calibration error", "lower"),
}
LABELS: Final = {"gtvp": "GTVp", "gtvn": "GTVn"}


def measure(score: str) -> Measure:
    """Return what a score of `metrics.json` is called: `gtvp_dice` is "GTVp mean DSC"."""
    label, _, rest = score.partition("_")
    if label in LABELS:
        plain = label_measure(rest)
        name = plain.name if plain.name[1].isupper() else plain.name[0].lower() + plain.name[1:]
        return replace(plain, name=f"{LABELS[label]} {name}")
    return MEASURES.get(score, Measure(score.replace("_", " "), scale=None))


def label_measure(score: str) -> Measure:
    """Return what a score of one label is called, without the label's name."""
    return Measure("Lesion sensitivity") if score == "sensitivity" else measure(score)


@dataclass(frozen=True)
class Number:
    """A number on the page.

    Attributes
    ----------
    path : where it stands.
    value : as it stands there.
    text : as it is shown.
    """

    path: Path
    value: float | None
    text: str


@dataclass(frozen=True)
class Shown:
    """A score with its interval, as the page shows it."""

    value: Number
    low: Number
    high: Number
    patients: int

    @property
    def has_interval(self) -> bool:
        """Whether there is one."""
        return self.low.value is not None and self.high.value is not None


def show(estimate: Estimate, path: Path, digits: int) -> Shown:
    """Return a score as it is shown; `path` leads to the estimate."""
    value, low, high = (
        Number((*path, name), found, write(found, digits))
        for name, found in (
            ("value", estimate.value),
            ("low", estimate.low),
            ("high", estimate.high),
        )
    )
    return Shown(value, low, high, estimate.patients)


def write(value: float | None, digits: int) -> str:
    """Return a number in words: fixed decimals, a true minus, a dash where there is none."""
    return ABSENT if value is None else f"{value:.{digits}f}".replace("-", "−")


def natural_list(words: Sequence[str]) -> str:
    """Return "a, b and c"."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
