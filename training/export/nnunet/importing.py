"""Writes nnU-Net's results as a Task 1 model folder, which all three containers can use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from shared.errors import InputError
from shared.models.card import Training
from shared.models.segmentation import LABELS, SegmentationCard
from shared.preprocessing.region import Preparation
from training.export.model_folder import MemberModel, export
from training.export.nnunet.checkpoint import (
    CheckpointName,
    Header,
    checkpoint_path,
    read_checkpoint,
)
from training.export.nnunet.network import NnunetConfig, load_network
from training.export.nnunet.results import read_results
from training.export.record import Provenance, command, revision

OVERLAP = 0.5
"""Overlap of the windows in nnU-Net's predictor, whose default is a step of half a window."""

NOTICE = (
    "NOTICE: these weights were trained with nnU-Net and imported. This software knows nothing "
    "about their quality; they are not for patients."
)
LICENCE = "not stated"


def import_nnunet(
    results: Path,
    model: Path,
    *,
    folds: Sequence[str] = (),
    checkpoint: CheckpointName = "final",
    preparation: Preparation | None = None,
    provenance: Provenance,
) -> SegmentationCard:
    """Write a model folder from the trained folds of an nnU-Net.

    Parameters
    ----------
    results : nnU-Net's folder `TRAINER__PLANS__CONFIGURATION`.
    model : the model folder to write.
    folds : names of the folds; empty for all that `results` holds.
    checkpoint : "best" takes the weights of the epoch with the best validation, "final" those of
        the last epoch.
    preparation : see `read_results`.
    provenance : texts for the card.

    Raises
    ------
    HecktorError
        If the results are incomplete, contain code, or are not supported, or if an exported graph
        differs from its network. The model folder is then unchanged.
    """
    chosen = list(folds) or _trained_folds(results)
    first, _ = read_checkpoint(checkpoint_path(results, chosen[0], checkpoint))
    known = read_results(results, first.configuration, preparation)
    config = NnunetConfig(residual=known.residual, network=known.network)
    members = []
    for fold in chosen:
        path = checkpoint_path(results, fold, checkpoint)
        header, weights = read_checkpoint(path)
        _require_same(header, first, path)
        name = "segmentation" if len(chosen) == 1 else f"segmentation_fold{fold}"
        network = load_network(config, weights, known.class_order, path)
        members.append(MemberModel(name=name, model=network, config=config))
    fields = {
        "configuration": known.name,
        "notice": NOTICE if provenance.notice is None else provenance.notice,
        "licence": provenance.licence or LICENCE,
        "preparation": known.preparation,
        "intensity": known.intensity,
        "window_zyx": known.window_zyx,
        "channels": known.channels,
        "training": Training(
            data=provenance.data or f"nnU-Net data set {known.dataset}",
            patients=known.patients,
            command=command(),
            revision=revision(),
            seed=None,
        ),
        "overlap": OVERLAP,
        "labels": tuple(LABELS),
        "mirror_axes": first.mirror_axes,
        "tiling": "nnunet",
    }
    card = export(model, SegmentationCard, members=members, fields=fields)
    print(f"exported {len(members)} network(s) of {known.name} to {model}")
    return card


def _trained_folds(results: Path) -> list[str]:
    """Return the folds that the results hold: 0, 1, … without a gap, or else `all`.

    Raises
    ------
    InputError
        If there is no fold, or a number between those of the folds is missing.
    """
    names = [path.name.removeprefix("fold_") for path in results.glob("fold_*") if path.is_dir()]
    numbers = sorted(int(name) for name in names if re.fullmatch(r"\d+", name))
    if not numbers and names == ["all"]:
        return names
    missing = sorted(set(range(max(numbers, default=0) + 1)) - set(numbers))
    if missing:
        raise InputError(
            f"expected the folds 0, 1, … of nnU-Net in {results}, found no fold_{missing[0]}; "
            "train it, or choose the folds with --folds"
        )
    return [str(number) for number in numbers]


def _require_same(header: Header, first: Header, path: Path) -> None:
    if header != first:
        raise InputError(
            f"expected folds of one training, found another configuration or other mirroring axes "
            f"in {path} ({header.configuration}, {header.mirror_axes}) than in the first fold "
            f"({first.configuration}, {first.mirror_axes}); choose the folds with --folds"
        )
