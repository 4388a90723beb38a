"""Scores of segmentation: mean GTVp DSC, aggregated GTVn DSC and F1, and scores that explain them.

A failed or missing case is scored as if its mask were empty. Its DSC is 0 even for a label that the
truth does not have, so no algorithm gains by failing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
from pydantic import NonNegativeInt

from evaluation.images import read_grid, read_labels
from evaluation.isolation import Lost, call_isolated
from evaluation.schema import CaseResult, Estimate, TaskMetrics
from evaluation.scoring import GroupOf, Scores, mean, of_columns
from evaluation.scoring_rules import ScoringRules
from evaluation.tasks.base import Entry, Submission, TaskScoring
from evaluation.tasks.masks import LabelScores, LesionCounts, dice_under, read_mask, score_masks
from evaluation.truth import CaseTruth
from shared.conventions import LESIONS
from shared.editions import Edition
from shared.errors import InputError
from shared.metrics.segmentation import (
    Detections,
    Overlap,
)
from shared.schema import Strict

VOLUME_EDGES_ML: Final = (5.0, 20.0)
"""Limits between small, medium and large for the total volume of a patient's lesions. Spheres of
these volumes have diameters of 2.1 and 3.4 cm."""
LESION_EDGES_ML: Final = (1.0, *VOLUME_EDGES_ML)
"""Limits for the volume of one lesion. Many nodes are small, so there is one more limit, the volume
of a sphere with a diameter of 1.2 cm."""


class SegmentationCase(CaseResult):
    """Result of a case for segmentation; `labels` has the scores of GTVp and GTVn."""

    labels: dict[str, LabelScores]


class LesionGroup(Strict):
    """The true lesions of one range of volumes, from all cases.

    Attributes
    ----------
    lesions : number of lesions.
    sensitivity : fraction of these lesions that is detected; its `patients` is the number of
        patients with such a lesion.
    """

    lesions: NonNegativeInt
    sensitivity: Estimate


class SegmentationMetrics(TaskMetrics):
    """Metrics of segmentation.

    Attributes
    ----------
    lesions_by_volume_ml : the lesions by label, then by the volume of the lesion; ranges without a
        lesion are left out. (`groups` uses the total volume of all lesions of a patient.)
    """

    task: Literal["segmentation"] = "segmentation"
    lesions_by_volume_ml: dict[str, dict[str, LesionGroup]]
    results: tuple[SegmentationCase, ...]


def alternatives(
    results: Sequence[SegmentationCase], counts: Sequence[LesionCounts], rules: ScoringRules
) -> dict[str, dict[str, float | None]]:
    """Return the scores under alternative rules, which the organisers might choose.

    Parameters
    ----------
    counts : lesion counts of each case under each alternative rule.
    rules : the rules of the main scores; scores under these rules are left out.
    """
    totals = {rule: sum((each[rule] for each in counts), Detections()) for rule in counts[0]}
    gtvp = [(result.labels["GTVp"], result.failure is not None) for result in results]

    def dice(both_empty: float, one_empty: float) -> float | None:
        scores = [
            dice_under(s, failed, both_empty=both_empty, one_empty=one_empty) for s, failed in gtvp
        ]
        return mean(scores).value()

    # A failed case scores 0 even if both masks are empty, so it is not left out.
    not_empty = [s.dice for s, failed in gtvp if failed or s.truth_mm3 or s.prediction_mm3]
    in_truth = [s.dice for s, _ in gtvp if s.truth_mm3]
    return {
        "gtvp_dice": {
            **{
                f"absent in both masks: {value}": dice(value, rules.one_empty)
                for value in (0, 1)
                if value != rules.both_empty
            },
            **({"absent in one mask: 0": dice(rules.both_empty, 0)} if rules.one_empty else {}),
            "absent in both masks: left out": mean(not_empty).value(),
            "absent in the truth: left out": mean(in_truth).value(),
        },
        "gtvn_aggregated_f1": {rule: total.f1() for rule, total in totals.items()},
    }


def lesions_by_volume(
    results: Sequence[SegmentationCase], rules: ScoringRules
) -> dict[str, dict[str, LesionGroup]]:
    """Return the number of true lesions and the detected fraction, by label and lesion volume."""
    volumes = [_volume_name(lowest_ml, LESION_EDGES_ML) for lowest_ml in (0.0, *LESION_EDGES_ML)]
    groups = {}
    for name in LESIONS:
        counts: dict[str, list[tuple[int, int]]] = {volume: [] for volume in volumes}
        for result in results:
            detected: dict[str, list[bool]] = {}
            for lesion in result.labels[name].lesions:
                volume = _volume_name(lesion.volume_mm3 / 1000, LESION_EDGES_ML)
                detected.setdefault(volume, []).append(lesion.found)
            for volume, each in detected.items():
                counts[volume].append((sum(each), len(each)))
        groups[name] = {
            volume: LesionGroup(
                lesions=sum(lesions for _, lesions in patients),
                sensitivity=of_columns(
                    lambda detected, lesions: float(detected.sum() / lesions.sum()), patients
                ).estimate(rules.bootstrap_samples),
            )
            for volume, patients in counts.items()
            if patients
        }
    return groups


def _label_scores(labels: Sequence[LabelScores]) -> Scores:
    volumes = [(s.shared_mm3, s.prediction_mm3, s.truth_mm3) for s in labels]
    counts = [(s.true_positives, s.false_positives, s.false_negatives) for s in labels]
    return {
        "dice": mean([s.dice for s in labels]),
        "aggregated_dice": of_columns(lambda *mm3: Overlap(*map(np.sum, mm3)).dice(), volumes),
        "aggregated_f1": of_columns(lambda *n: Detections(*map(np.sum, n)).f1(), counts),
        "sensitivity": of_columns(lambda *n: Detections(*map(np.sum, n)).sensitivity(), counts),
        "false_positives_per_case": mean([s.false_positives for s in labels]),
        "hd95_mm": mean([s.hd95_mm for s in labels]),
        "surface_dice": mean([s.surface_dice for s in labels]),
    }


def _by_volume(name: str) -> GroupOf[SegmentationCase]:
    def group_of(result: SegmentationCase) -> str:
        volume_mm3 = result.labels[name].truth_mm3
        return _volume_name(volume_mm3 / 1000, VOLUME_EDGES_ML) if volume_mm3 else "0"

    return group_of


def _volume_name(volume_ml: float, edges_ml: Sequence[float]) -> str:
    """Return the name of the range that holds a volume; a range includes its lower end."""
    above = [edge for edge in edges_ml if edge > volume_ml]
    lower = edges_ml[len(edges_ml) - len(above) - 1] if len(above) < len(edges_ml) else 0
    return f"{lower:g}-{above[0]:g}" if above else f"{lower:g}+"


class SegmentationScoring(TaskScoring[Path, SegmentationCase]):
    """Scoring of segmentation; the truth is the path of a label map."""

    task = "segmentation"
    metrics = SegmentationMetrics
    ranked = ("gtvp_dice", "gtvn_aggregated_dice", "gtvn_aggregated_f1")
    failure_rule = (
        "as if its mask were empty; the DSC is 0 even for a label that the truth does not have"
    )
    group_kinds: ClassVar = {f"{name.lower()}_volume_ml": _by_volume(name) for name in LESIONS}

    def truth_of(self, case: CaseTruth) -> Path | None:
        """Return the path of the true label map."""
        return case.mask

    def score(self, entries: Sequence[Entry[Path]], submission: Submission) -> SegmentationMetrics:
        """Return the metrics; each process keeps only the masks of one case in memory.

        Each case is scored in a process with limits on memory and time. If a mask makes this
        process end, its case fails.

        Raises
        ------
        InputError
            If a true label map cannot be read.
        """
        rules = submission.rules
        results, counts = zip(*_score_cases(entries, submission), strict=True)
        return SegmentationMetrics(
            alternatives=alternatives(results, counts, rules),
            lesions_by_volume_ml=lesions_by_volume(results, rules),
            results=results,
            **self.common_parts(results, submission),
        )

    def scores_of(self, results: Sequence[SegmentationCase]) -> Scores:
        """Return the scores for each label."""
        return {
            f"{name.lower()}_{score}": value
            for name in LESIONS
            for score, value in _label_scores([r.labels[name] for r in results]).items()
        }

    def rank(self, methods: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Return the rank of each method from its ranks in GTVp and GTVn."""
        from shared.metrics.ranking import rank_segmentation

        return rank_segmentation(methods)


SCORING: Final = SegmentationScoring()


def _score_case(
    entry: Entry[Path], *, edition: Edition, rules: ScoringRules
) -> tuple[SegmentationCase, LesionCounts]:
    """Score the label map of a case; also return the lesion counts under alternative rules."""
    try:
        grid, truth = read_grid(entry.truth), read_labels(entry.truth)
    except InputError as error:
        raise InputError(f"ground truth of {entry.case.case_id}: {error}") from None
    mask, failure = entry.read(partial(read_mask, edition=edition, truth=grid))
    labels, counts = score_masks(
        np.zeros_like(truth) if mask is None else mask,
        truth,
        grid=grid,
        rules=rules,
        failed=mask is None,
    )
    return SegmentationCase(labels=labels, **entry.common_fields(failure)), counts


def _score_cases(
    entries: Sequence[Entry[Path]], submission: Submission
) -> list[tuple[SegmentationCase, LesionCounts]]:
    """Return the results of each entry, in order."""
    score = partial(_score_case, edition=submission.edition, rules=submission.rules)
    score_isolated = partial(call_isolated, score, workers=submission.workers)
    outcomes = list(score_isolated(entries))
    # These cases are scored again without their masks, because the result of a failed case also
    # contains the volumes and the lesions of the truth.
    failed = [
        replace(entry, failure=f"scoring the output {outcome.cause}")
        for entry, outcome in zip(entries, outcomes, strict=True)
        if isinstance(outcome, Lost)
    ]
    outcomes_of_failed = iter(list(score_isolated(failed)))
    results = []
    for entry, outcome in zip(entries, outcomes, strict=True):
        final = next(outcomes_of_failed) if isinstance(outcome, Lost) else outcome
        if isinstance(final, Lost):
            raise InputError(
                f"expected a ground truth of {entry.case.case_id} that can be scored, but this "
                f"{final.cause}; check {entry.truth.name}"
            )
        results.append(final)
    return results
