"""Which patients a network is trained on and which it never sees, written down before it starts.

One held-out part, K folds or one centre after another, each stratified by centre and outcome; or a
file of splits, this module's own `folds.json` or nnU-Net's `splits_final.json`. A run keeps its
folds in one JSON file, and goes on only with the same ones.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from shared.errors import InputError
from shared.files import write_first

FILE: Final = "folds.json"


@dataclass(frozen=True)
class Fold:
    """One training: patient IDs to train on, and those held out, on which it is validated."""

    name: str
    fitted: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Folds:
    """All trainings of a run.

    Attributes
    ----------
    how : in words, with every number that decided.
    strata : how many patients of each centre and outcome there are.
    """

    how: str
    strata: Mapping[str, int]
    folds: tuple[Fold, ...]


def one_held_out(strata: Mapping[str, str], count: int, seed: int) -> Folds:
    """Hold out `count` patients, with every stratum's share.

    Parameters
    ----------
    strata : centre and outcome of each patient, by ID.

    Raises
    ------
    InputError
        If there are not more patients than that.
    """
    if not 0 < count < len(strata):
        raise InputError(
            f"expected more patients than are held out, found {len(strata)} and {count}; give a "
            "larger cohort or another --held-out"
        )
    order = _spread(strata, seed)
    # Every n-th of an order that goes stratum by stratum takes each one's share.
    places = np.floor((np.arange(count) + 0.5) * len(order) / count).astype(int)
    held_out = {order[place] for place in places}
    how = f"{count} of {len(strata)} held out, stratified by centre and outcome, seed {seed}"
    return Folds(how, _counts(strata), (_fold("0", strata, held_out),))


def k_folds(strata: Mapping[str, str], count: int, seed: int) -> Folds:
    """Hold out each patient once, in one of `count` folds, with every stratum's share in each.

    Raises
    ------
    InputError
        If there are fewer than two folds or fewer patients than folds.
    """
    if not 2 <= count <= len(strata):
        raise InputError(
            f"expected at least 2 folds and as many patients, found {count} folds and "
            f"{len(strata)} patients; give another --folds"
        )
    order = _spread(strata, seed)
    how = f"{count} folds of {len(strata)}, stratified by centre and outcome, seed {seed}"
    folds = (_fold(str(k), strata, set(order[k::count])) for k in range(count))
    return Folds(how, _counts(strata), tuple(folds))


def leave_one_centre_out(strata: Mapping[str, str], centres: Mapping[str, str]) -> Folds:
    """Hold out one centre after another; a fold has its centre's name.

    Raises
    ------
    InputError
        If there is only one centre.
    """
    names = sorted(set(centres.values()))
    if len(names) < 2:
        raise InputError(f"expected patients of at least two centres, found {names}; give --folds")
    how = f"leave one centre out, {len(names)} centres"
    folds = (
        _fold(name, strata, {patient for patient, centre in centres.items() if centre == name})
        for name in names
    )
    return Folds(how, _counts(strata), tuple(folds))


def read_splits(path: Path, strata: Mapping[str, str], others: Collection[str] = ()) -> Folds:
    """Read the folds that a file states; patients that it does not name are in no fold.

    Parameters
    ----------
    path : a `folds.json`, or a list of {"train": [...], "val": [...]} as nnU-Net writes it.
    strata : centre and outcome of the patients that there are, by ID.
    others : IDs of those of the cohort that the task has nothing to learn from; they are left out,
        so that tasks can share folds and no patient is held out from one and seen by another.

    Raises
    ------
    InputError
        If the file is neither, names a patient who is not there, or trains on one who is held out.
    """
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(stated, list):
            folds = tuple(
                Fold(str(k), tuple(split["train"]), tuple(split["val"]))
                for k, split in enumerate(stated)
            )
        else:
            folds = _folds_of(stated)
        folds = tuple(_without(fold, set(others)) for fold in folds)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"expected folds in {path}, {FILE} of a run or a list of 'train' and 'val', but it "
            f"cannot be read as such: {type(error).__name__}: {error}"
        ) from None
    for fold in folds:
        both = set(fold.fitted) & set(fold.held_out)
        unknown = (set(fold.fitted) | set(fold.held_out)) - set(strata)
        if both or unknown or not fold.fitted or not fold.held_out:
            problem = (
                f"{sorted(both)[0]} is in both of its parts"
                if both
                else f"{len(unknown)} patients are not in the cohort, such as {sorted(unknown)[0]}"
                if unknown
                else "a part of it is empty"
            )
            raise InputError(f"fold {fold.name} of {path}: {problem}; correct the file")
    if len({fold.name for fold in folds}) != len(folds) or not folds:
        raise InputError(f"expected folds with names of their own in {path}, found otherwise")
    return Folds(f"read from {path.name}", _counts(strata), folds)


def keep(folds: Folds, folder: Path) -> None:
    """Write the folds of a run, or check that the run was begun with the same ones.

    Raises
    ------
    InputError
        If the folder holds other folds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_first(folder / FILE, json.dumps(asdict(folds), indent=1) + "\n")
    if read_folds(folder).folds != folds.folds:
        raise InputError(
            f"expected the run in {folder} to be of '{folds.how}', found one of "
            f"'{read_folds(folder).how}' or of other patients; give the same options and cohort, "
            "another folder of runs, or delete this run"
        )


def read_folds(folder: Path) -> Folds:
    """Read the folds of a run.

    Raises
    ------
    InputError
        If there are none.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"expected {FILE} in {folder}, found none; train first")
    stated = json.loads(path.read_text(encoding="utf-8"))
    return Folds(stated["how"], stated["strata"], _folds_of(stated))


def _folds_of(stated: dict[str, Any]) -> tuple[Fold, ...]:
    return tuple(
        Fold(str(fold["name"]), tuple(fold["fitted"]), tuple(fold["held_out"]))
        for fold in stated["folds"]
    )


def _without(fold: Fold, others: Set[str]) -> Fold:
    fitted, held_out = (
        tuple(name for name in part if name not in others) for part in (fold.fitted, fold.held_out)
    )
    return Fold(fold.name, fitted, held_out)


def _spread(strata: Mapping[str, str], seed: int) -> list[str]:
    """Return the patients stratum by stratum, in a random order within each.

    Dealing them out in turn gives every fold each stratum's share to within one patient. It is how
    scikit-learn's StratifiedKFold allots, which however refuses strata smaller than the number of
    folds, as those of small centres are.
    """
    rng = np.random.default_rng(seed)
    names = sorted(strata)
    ties = rng.permutation(len(names))
    return [names[i] for i in sorted(range(len(names)), key=lambda i: (strata[names[i]], ties[i]))]


def _fold(name: str, patients: Sequence[str] | Mapping[str, str], held_out: set[str]) -> Fold:
    fitted = sorted(set(patients) - held_out)
    return Fold(name, tuple(fitted), tuple(sorted(held_out)))


def _counts(strata: Mapping[str, str]) -> dict[str, int]:
    return dict(sorted(Counter(strata.values()).items()))
