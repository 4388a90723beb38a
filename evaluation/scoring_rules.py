"""The scoring rules that the organisers have left open; `rules.json` can change them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveInt, TypeAdapter

from evaluation import strict_json
from shared.metrics.segmentation import MIN_IOU, Connectivity, Matching
from shared.metrics.surface import TOLERANCE_MM
from shared.metrics.uncertainty import SAMPLES
from shared.schema import Strict

RULES: Final = "rules.json"
"""Name of the file in the folder of the ground truth."""
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class ScoringRules(Strict):
    """The scoring rules, with this project's defaults.

    Attributes
    ----------
    both_empty, one_empty : DSC of a label that is in neither mask, and DSC of a label that is in
        only one of them.
    min_iou : a predicted lesion detects a true lesion if their intersection over union exceeds this
        value. The challenge states the default value.
    connectivity : number of neighbours that connect the voxels of a lesion.
    matching : how lesions are paired if several pairings are possible.
    tolerance_mm : tolerance of the surface DSC.
    bootstrap_samples : number of resamples for each interval.
    """

    both_empty: Fraction = 1.0
    one_empty: Fraction = 0.0
    min_iou: Fraction = MIN_IOU
    connectivity: Connectivity = 26
    matching: Matching = "greedy"
    tolerance_mm: NonNegativeFloat = TOLERANCE_MM
    bootstrap_samples: PositiveInt = SAMPLES


_RULES: TypeAdapter[ScoringRules] = TypeAdapter(ScoringRules)


def read_rules(path: Path) -> ScoringRules:
    """Read a JSON object with some of the fields of `ScoringRules`; the others keep their defaults.

    Raises
    ------
    InputError
        If the file is missing, is not a JSON object, or has an unknown or invalid field.
    """
    return strict_json.read(
        path, _RULES, f"a JSON object with some of {', '.join(ScoringRules.model_fields)}"
    )


def rules_of(truth_dir: Path) -> ScoringRules:
    """Return the rules in a ground truth's `rules.json`, or the defaults if there is none."""
    path = truth_dir / RULES
    return read_rules(path) if path.is_file() else ScoringRules()
