"""Hostile model folders: changed cards, graphs, file names and kinds of files.

An untouched folder must load. An altered folder must either load, if the change allows that, or be
refused with one printable line.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from shared.errors import ModelError
from shared.models.hpv import HpvModel
from shared.models.survival import SurvivalModel
from tests.fuzz._model_changes import CHANGES
from tests.fuzz.core import REPOSITORY, FuzzCase, Verdict

MODELS: dict[str, type[SurvivalModel] | type[HpvModel]] = {
    "task2_survival": SurvivalModel,
    "task3_hpv": HpvModel,
}
MAX_LINE = 2000


def make(rng: np.random.Generator, folder: Path) -> FuzzCase:
    """Copy the model folder of Task 2 or 3, then alter it in one way."""
    name = sorted(MODELS)[rng.integers(len(MODELS))]
    model = folder / "model"
    shutil.copytree(REPOSITORY / name / "model", model)
    what, expected = CHANGES[rng.integers(len(CHANGES))](rng, model)
    return FuzzCase(folder=folder, what=f"{name}: {what}", expected=expected, more={"name": name})


def judge(case: FuzzCase) -> Verdict:
    """Load the folder with all its members, and compare what happens with what must happen."""
    try:
        model = MODELS[case.more["name"]].load(case.folder / "model")
        for _ in model.for_each(lambda network: None):
            pass
        lines = model.describe()
    except ModelError as error:
        lines = [str(error)]
        verdict = Verdict.of(case, "refused", lines[0])
    else:
        verdict = Verdict.of(case, "answered", "loaded")
    for line in lines:
        if not line.isprintable() or len(line) > max(MAX_LINE, len(str(case.folder)) + MAX_LINE):
            return Verdict("defect", f"expected one line of printable text, found {line!a}")
    return verdict
