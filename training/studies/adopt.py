"""Adopts a finished Task 1 model for a cohort that it was not trained on.

Tasks 2 and 3 can then be trained as if Task 1 had been trained here: the folder of runs gets the
folds, the model's masks with their scores, and the encoder weights of the model's first network.
Because the model was trained on no patient of the cohort, all its masks count as out of fold. The
encoder is recognised by the names of its weights (`PREFIX`). A graph without such names gives only
masks, and Task 3's network needs an encoder with the architecture of its configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from shared.errors import InputError
from shared.preprocessing.region import Preparation
from training.cohort import folds as folds_module
from training.cohort.cache import PreparedPatient
from training.cohort.folds import HoldOut
from training.export.record import RUN
from training.loop.fit import save_weights
from training.tasks import out_of_fold
from training.tasks.base import Task
from training.tasks.planning import ENCODER, learnable, make_folds
from training.tasks.segmentation import model_for

PREFIX: Final = "encoder."
"""Prefix of the names of the encoder's weights in a graph of `EncoderDecoder`."""
PATIENTS_AT_ONCE: Final = 20
"""Scores are written after each group of this number of patients; a stopped command repeats at most
one group."""


def adopt(
    task: Task,
    patients: Sequence[PreparedPatient],
    *,
    folder: Path,
    preparation: Preparation,
    runs: Path,
    hold_out: HoldOut,
    seed: int,
) -> None:
    """Write the files of Task 1 that the other tasks read; a repeated call resumes.

    Parameters
    ----------
    task : Task 1.
    patients : all patients of the cohort. The caller must be sure that the model was trained on
        none of them.
    folder : the model folder.
    preparation : how the patients were prepared.
    runs : the folder of runs; the files are written to its folder of Task 1.
    hold_out : the way to form the folds of Tasks 2 and 3; by default `DEFAULT_FOLDS` folds.
    seed : seed of the folds.

    Raises
    ------
    InputError
        If the model needs another preparation, `runs` has a training run or other folds of Task 1,
        or the patients do not allow the folds.
    ModelError
        If the model folder cannot be used.
    """
    model, run_folder = model_for(folder, preparation), runs / task.name
    if (run_folder / RUN).is_file():
        raise InputError(
            f"expected no training run of Task 1 in {run_folder}, found one; give another folder "
            "of runs"
        )
    by_id = {p.patient_id: p for p in learnable(task, patients)}
    others = [p for p in patients if p.patient_id not in by_id]
    folds = make_folds(
        task,
        list(by_id.values()),
        others,
        hold_out=hold_out.or_default_folds(),
        shared=run_folder,
        seed=seed,
    )
    folds_module.keep(folds, run_folder)
    encoder = encoder_weights(folder / model.card.members[0].file)
    predictions = run_folder / out_of_fold.FOLDER
    for number, fold in enumerate(folds.folds):
        # Patients without a label map are in no fold; the first fold writes their masks too.
        of_fold = [by_id[name] for name in fold.held_out] + (others if number == 0 else [])
        new = out_of_fold.not_written(predictions, of_fold)
        for start in range(0, len(new), PATIENTS_AT_ONCE):
            out_of_fold.write(
                predictions,
                fold.name,
                new[start : start + PATIENTS_AT_ONCE],
                predict=model.predict_probabilities,
                min_component_mm3=model.card.min_component_mm3,
                rules=model.card.rules,
            )
        fold_folder = run_folder / f"fold{fold.name}"
        fold_folder.mkdir(exist_ok=True)
        if encoder:
            save_weights(encoder, fold_folder / ENCODER)


def encoder_weights(graph: Path) -> dict[str, Tensor]:
    """Return the weights of the encoder in a graph that this repository exported.

    Returns
    -------
    The `state_dict` of the encoder; empty if no weight has the prefix.
    """
    return {
        weight.name.removeprefix(PREFIX): torch.from_numpy(numpy_helper.to_array(weight).copy())
        for weight in onnx.load(graph).graph.initializer
        if weight.name.startswith(PREFIX)
    }
