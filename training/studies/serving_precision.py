"""Measures time, memory and scores for each precision, and chooses the precision of a card.

The precisions can also be combined with other overlaps and mirrorings. A Task 1 model is served in
bfloat16 only if each of its DSCs on held-out patients is less than `MAX_FALL` below that in
float32. The card then states the scores in both precisions.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tqdm import tqdm

from shared.errors import HecktorError
from shared.models.card import Precision, load_card, write_card
from shared.models.segmentation import PrecisionCheck, SegmentationCard, SegmentationModel
from shared.postprocessing.restore import restore
from shared.preprocessing.pipeline import prepare
from shared.resources import has_bfloat16, peak_memory_gb, reset_peak_memory
from training.cohort.layout import Patient
from training.cohort.preparation import read_case, read_labels
from training.tasks.segmentation import Totals, compare_with_truth

MAX_FALL: Final = 0.002
"""Each DSC must fall by less than this for bfloat16 to be chosen."""

CHECKED: Final = ("gtvp_dice", "gtvn_aggregated_dice")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to run a model."""

    precision: Precision
    overlap: float
    mirror_axes: tuple[str, ...]


@dataclass(kw_only=True)
class Measurement:
    """Seconds and peak memory of `SegmentationModel.segment`, and the scores, for one variant."""

    seconds: list[float] = field(default_factory=list)
    peak_gb: list[float] = field(default_factory=list)
    totals: list[Totals] = field(default_factory=list)

    def scores(self) -> dict[str, float]:
        """Return the challenge's Task 1 scores."""
        return Totals.of(self.totals).scores()


def variants(
    card: SegmentationCard, overlaps: Sequence[float], mirrors: Sequence[str]
) -> list[Variant]:
    """Return the combinations to measure: the card's own first, in float32 and in bfloat16.

    Parameters
    ----------
    overlaps : further overlaps; empty for that of the card.
    mirrors : further mirrorings, such as "xy", or "none"; empty for those of the card.
    """
    own = (card.overlap, tuple(card.mirror_axes))
    axes_of = [() if axes == "none" else tuple(axes) for axes in mirrors] or [own[1]]
    others = [(overlap, axes) for overlap in overlaps or [own[0]] for axes in axes_of]
    ways = dict.fromkeys([own, *others])
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    return [
        Variant(precision=precision, overlap=overlap, mirror_axes=axes)
        for overlap, axes in ways
        for precision in precisions
    ]


def measure(
    folder: Path, patients: Sequence[Patient], chosen: Iterable[Variant]
) -> dict[Variant, Measurement]:
    """Segment patients with each variant, and compare the masks with the truth on the CT's grid.

    Raises
    ------
    HecktorError
        If this CPU does not compute in bfloat16, or a patient has no label map.
    """
    if not has_bfloat16():
        raise HecktorError(
            "expected a CPU that computes in bfloat16 (AVX512-BF16 or AMX), found none; run this "
            "command on another machine, or serve the model in float32"
        )
    measured = {variant: Measurement() for variant in chosen}
    card = load_card(folder, SegmentationCard)
    with tempfile.TemporaryDirectory() as name:
        draft = Path(name) / "model"
        shutil.copytree(folder, draft)
        for patient in tqdm(patients, desc="segmenting", unit="patient"):
            prepared, truth = prepare(read_case(patient), card.preparation), read_labels(patient)
            for variant, measurement in measured.items():
                write_card(draft, _changed(card, variant))
                model = SegmentationModel.load(draft)
                reset_peak_memory()
                started = time.perf_counter()
                segmented = model.segment(prepared)
                measurement.seconds.append(time.perf_counter() - started)
                measurement.peak_gb.append(peak_memory_gb())
                mask = restore(segmented, prepared.undo)
                measurement.totals.append(compare_with_truth(mask, truth))
    return measured


def check_of(measured: dict[Variant, Measurement], cohort: str) -> PrecisionCheck:
    """Return the scores with the card's own overlap and mirroring, in both precisions."""
    float32, bfloat16 = list(measured.values())[:2]
    return PrecisionCheck(
        float32=float32.scores(),
        bfloat16=bfloat16.scores(),
        patients=len(float32.totals),
        cohort=cohort,
    )


def precision_of(check: PrecisionCheck) -> Precision:
    """Return the precision that a check allows."""
    falls = [check.float32[name] - check.bfloat16[name] for name in CHECKED]
    return "bfloat16" if max(falls) < MAX_FALL else "float32"


def write_precision(folder: Path, check: PrecisionCheck) -> None:
    """Write a check, and the precision that it allows, to the card of a model folder."""
    card = load_card(folder, SegmentationCard)
    changes = {"precision": precision_of(check), "precision_check": check}
    write_card(folder, card.model_copy(update=changes))


def markdown(measured: dict[Variant, Measurement]) -> str:
    """Return a table in Markdown with a row for each variant."""
    lines = [
        "| mirroring | overlap | precision | seconds | memory | GTVp DSC | aggregated GTVn DSC "
        "| aggregated GTVn F1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant, measurement in measured.items():
        scores = " | ".join(f"{value:.4f}" for value in measurement.scores().values())
        lines.append(
            f"| {''.join(variant.mirror_axes) or 'none'} | {variant.overlap:g} "
            f"| {variant.precision} | {min(measurement.seconds):.1f} "
            f"| {max(measurement.peak_gb):.2f} GB | {scores} |"
        )
    return "\n".join(lines)


def _changed(card: SegmentationCard, variant: Variant) -> SegmentationCard:
    """Return a card for one variant; its check is a placeholder that bfloat16 needs."""
    check = PrecisionCheck(float32={}, bfloat16={}, patients=1, cohort="being measured")
    return card.model_copy(
        update={
            "precision": variant.precision,
            "precision_check": check,
            "overlap": variant.overlap,
            "mirror_axes": variant.mirror_axes,
        }
    )
