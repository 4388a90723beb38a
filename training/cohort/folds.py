"""Decides, before a training run starts, which patients each fold trains on and holds out.

There are four ways: one held-out part, K folds, one centre after another, or a file (a `folds.json`
of this module or nnU-Net's `splits_final.json`). The first two are stratified by centre and
outcome. With 0 patients held out, a run is trained on everybody: nothing is validated, and there
are no out-of-fold predictions. A training run writes its folds to `folds.json` and resumes only
with the same folds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import ValidationError

from shared.errors import InputError
from shared.files import write_first
from shared.schema import Strict
from training.records import first_problem, read_training_record

FOLDS: Final = "folds.json"
DEFAULT_FOLDS: Final = 5
"""As in Task 3 of the paper; nnU-Net also trains five folds."""
LEAVE_ONE_CENTRE_OUT: Final = "leave one centre out"
"""The words with which `Folds.how` begins for such folds."""


class Fold(Strict):
    """One fold: the IDs of the patients to train on, and of those held out for validation.

    `held_out` is empty if the models are trained on everybody.
    """

    name: str
    training: tuple[str, ...]
    held_out: tuple[str, ...]


class Folds(Strict):
    """`folds.json`: all folds of a training run.

    Attributes
    ----------
    how : how the patients were divided, in words, with the numbers and the seed.
    strata : the number of patients in each stratum; a stratum is a centre with an outcome.
    """

    how: str
    strata: dict[str, int]
    folds: tuple[Fold, ...]

    @property
    def holds_out(self) -> bool:
        """Whether a fold holds a patient out; otherwise the only fold trains on everybody."""
        return any(fold.held_out for fold in self.folds)

    def choose(self, name: str | None) -> list[Fold]:
        """Return the fold with a name, or all folds for None.

        Raises
        ------
        InputError
            If no fold has this name.
        """
        chosen = [fold for fold in self.folds if name in (None, fold.name)]
        if not chosen:
            names = ", ".join(fold.name for fold in self.folds)
            raise InputError(f"expected one of the folds {names}, found {name!r}")
        return chosen


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """The way to hold out patients; at most one of the four fields is set.

    Attributes
    ----------
    count : hold out this number of patients, in a single fold; 0 trains on everybody.
    folds : hold out each patient once, in this number of folds.
    by_centre : hold out one centre after another.
    splits : read the folds from this file.
    """

    count: int | None = None
    folds: int | None = None
    by_centre: bool = False
    splits: Path | None = None

    @property
    def is_chosen(self) -> bool:
        """Whether one of the ways was chosen."""
        return self._ways() > 0

    def or_default_folds(self) -> HoldOut:
        """Return this way or, if none was chosen, `DEFAULT_FOLDS` folds."""
        return self if self.is_chosen else HoldOut(folds=DEFAULT_FOLDS)

    def make(
        self,
        strata: Mapping[str, str],
        centres: Mapping[str, str],
        without_outcome: Collection[str],
        *,
        default_count: int,
        seed: int,
    ) -> Folds:
        """Return the folds of a cohort.

        Parameters
        ----------
        strata : centre and outcome of each patient that the task can learn from, by ID.
        centres : centre of each of these patients, by ID.
        without_outcome : IDs of the cohort's other patients, who are in no fold.
        default_count : number of patients to hold out if no way is chosen.

        Raises
        ------
        InputError
            If several ways are chosen, or the patients do not allow the chosen one.
        """
        if self._ways() > 1:
            raise InputError(
                "expected one way to hold out patients (a count, folds, centres or a file of "
                "splits), found several; choose one"
            )
        if self.splits is not None:
            return read_splits(self.splits, strata, without_outcome)
        if self.by_centre:
            return leave_one_centre_out(strata, centres)
        if self.folds is not None:
            return k_folds(strata, self.folds, seed)
        return one_held_out(strata, default_count if self.count is None else self.count, seed)

    def _ways(self) -> int:
        return sum(
            (
                self.count is not None,
                self.folds is not None,
                self.by_centre,
                self.splits is not None,
            )
        )


def one_held_out(strata: Mapping[str, str], count: int, seed: int) -> Folds:
    """Hold out `count` patients, in proportion to the size of each stratum.

    Parameters
    ----------
    strata : centre and outcome of each patient, by ID.
    count : with 0, the fold trains on everybody.

    Raises
    ------
    InputError
        If `count` is negative, or there are not more than `count` patients.
    """
    if not 0 <= count < len(strata):
        raise InputError(
            f"expected more patients than are held out, found {len(strata)} and {count}; give a "
            "larger cohort or hold out fewer patients"
        )
    order = _spread(strata, seed)
    # The order is by stratum, so every n-th patient gives each stratum its share.
    places = np.floor((np.arange(count) + 0.5) * len(order) / count).astype(int)
    held_out = {order[place] for place in places}
    how = f"{count} of {len(strata)} held out, stratified by centre and outcome, seed {seed}"
    if count == 0:
        how = f"nobody held out, all {len(strata)} trained on"
    return Folds(how=how, strata=_counts(strata), folds=(_fold("0", strata, held_out),))


def k_folds(strata: Mapping[str, str], count: int, seed: int) -> Folds:
    """Hold out each patient once, in one of `count` folds that each have a share of every stratum.

    Raises
    ------
    InputError
        If there are fewer than two folds or fewer patients than folds.
    """
    if not 2 <= count <= len(strata):
        raise InputError(
            f"expected at least 2 folds and at least one patient per fold, found {count} folds and "
            f"{len(strata)} patients; give another number of folds"
        )
    order = _spread(strata, seed)
    how = f"{count} folds of {len(strata)}, stratified by centre and outcome, seed {seed}"
    folds = (_fold(str(k), strata, set(order[k::count])) for k in range(count))
    return Folds(how=how, strata=_counts(strata), folds=tuple(folds))


def leave_one_centre_out(strata: Mapping[str, str], centres: Mapping[str, str]) -> Folds:
    """Hold out one centre after another; each fold has the name of its centre.

    Raises
    ------
    InputError
        If there is only one centre.
    """
    names = sorted(set(centres.values()))
    if len(names) < 2:
        raise InputError(
            f"expected patients of at least two centres, found {names}; use folds instead"
        )
    how = f"{LEAVE_ONE_CENTRE_OUT}, {len(names)} centres"
    folds = (
        _fold(name, strata, {patient for patient, centre in centres.items() if centre == name})
        for name in names
    )
    return Folds(how=how, strata=_counts(strata), folds=tuple(folds))


def read_splits(
    path: Path, strata: Mapping[str, str], without_outcome: Collection[str] = ()
) -> Folds:
    """Read folds from a file; patients that it does not name are in no fold.

    Parameters
    ----------
    path : a `folds.json`, or a list of {"train": [...], "val": [...]} as nnU-Net writes it.
    strata : centre and outcome of the patients that the task can learn from, by ID.
    without_outcome : IDs of the cohort's other patients. They are left out of the folds, so that
        tasks can share a file of folds, and no patient is held out in one task and trained on in
        another.

    Raises
    ------
    InputError
        If the file has neither form, has no fold, has two folds with one name, names a patient who
        is not in the cohort, or has a fold with an empty part or a patient in both parts.
    """
    try:
        folds = tuple(_without(fold, set(without_outcome)) for fold in _read(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"expected folds in {path}, a {FOLDS} of a training run or a list of 'train' and "
            f"'val', but it cannot be read as such: {_one_line(error)}"
        ) from None
    for fold in folds:
        both = set(fold.training) & set(fold.held_out)
        unknown = (set(fold.training) | set(fold.held_out)) - set(strata)
        if both or unknown or not fold.training or not fold.held_out:
            problem = (
                f"{sorted(both)[0]} is in both of its parts"
                if both
                else f"{len(unknown)} patients are not in the cohort, such as {sorted(unknown)[0]}"
                if unknown
                else "one of its parts is empty; only --held-out 0 holds nobody out"
            )
            raise InputError(f"fold {fold.name} of {path}: {problem}; correct the file")
    if len({fold.name for fold in folds}) != len(folds) or not folds:
        raise InputError(f"expected folds with distinct names in {path}, found duplicates or none")
    return Folds(how=f"read from {path.name}", strata=_counts(strata), folds=folds)


def share_folds(
    folds: Folds, strata: Mapping[str, str], without_outcome: Collection[str], seed: int
) -> Folds:
    """Return another task's folds for a task of the same cohort.

    A patient of both tasks is held out by the same fold in both. The patients who are only in this
    task are divided among the folds, stratified, and each is held out once; if there is only one
    fold, it trains on them. If the other task held nobody out, this task holds nobody out.

    Parameters
    ----------
    folds : the folds of the other task, Task 1.
    strata : centre and outcome of each patient that this task can learn from, by ID.
    without_outcome : IDs of the cohort's other patients; they are removed from the folds.

    Raises
    ------
    InputError
        If the folds name a patient who is not in the cohort, or a fold has no patients left to
        train on or to hold out.
    """
    shared = [_without(fold, set(without_outcome)) for fold in folds.folds]
    named = {name for fold in shared for name in (*fold.training, *fold.held_out)}
    if unknown := named - set(strata):
        raise InputError(
            f"expected Task 1's folds to be of this cohort, found {len(unknown)} patients that are "
            f"not in it, such as {sorted(unknown)[0]}; choose other folds"
        )
    order = _spread({name: strata[name] for name in strata if name not in named}, seed)
    extended = []
    for k, fold in enumerate(shared):
        joining = set(order[k :: len(shared)]) if len(shared) > 1 else set()
        extended.append(
            Fold(
                name=fold.name,
                training=tuple(sorted({*fold.training, *order} - joining)),
                held_out=tuple(sorted({*fold.held_out, *joining})),
            )
        )
    for fold in extended:
        if not fold.training or (folds.holds_out and not fold.held_out):
            raise InputError(
                f"expected patients to train on and to hold out in fold {fold.name} of Task 1, "
                f"found {len(fold.training)} and {len(fold.held_out)}; choose other folds"
            )
    return Folds(how=f"Task 1's folds ({folds.how})", strata=_counts(strata), folds=tuple(extended))


def keep(folds: Folds, folder: Path) -> None:
    """Write the folds of a new training run, or check that an earlier start wrote the same folds.

    Raises
    ------
    InputError
        If the folder holds other folds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_first(folder / FOLDS, folds.model_dump_json(indent=1) + "\n")
    existing = read_folds(folder)
    if existing.folds != folds.folds:
        raise InputError(
            f"expected the folds of the training run in {folder} to be '{folds.how}', found "
            f"'{existing.how}' or other patients; use the same options and cohort, give another "
            "folder of runs, or delete this training run"
        )


def read_folds(folder: Path) -> Folds:
    """Read the folds of a training run.

    Raises
    ------
    InputError
        If the file is missing or not valid.
    """
    return read_training_record(Folds, folder / FOLDS)


def _read(path: Path) -> tuple[Fold, ...]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list):
        return tuple(
            Fold(name=str(k), training=tuple(split["train"]), held_out=tuple(split["val"]))
            for k, split in enumerate(content)
        )
    return Folds.model_validate_json(json.dumps(content)).folds


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return first_problem(error)
    return f"{type(error).__name__}: {error}"


def _without(fold: Fold, names: Set[str]) -> Fold:
    training, held_out = (
        tuple(name for name in part if name not in names) for part in (fold.training, fold.held_out)
    )
    return Fold(name=fold.name, training=training, held_out=held_out)


def _spread(strata: Mapping[str, str], seed: int) -> list[str]:
    """Return the patients stratum by stratum, in a random order within each stratum.

    If patients are assigned to the folds in turn, each fold gets its share of every stratum to
    within one patient. scikit-learn's StratifiedKFold does the same, but warns about strata that
    are smaller than the number of folds, such as those of small centres.
    """
    rng = np.random.default_rng(seed)
    names = sorted(strata)
    ties = rng.permutation(len(names))
    return [names[i] for i in sorted(range(len(names)), key=lambda i: (strata[names[i]], ties[i]))]


def _fold(name: str, patients: Sequence[str] | Mapping[str, str], held_out: set[str]) -> Fold:
    training = sorted(set(patients) - held_out)
    return Fold(name=name, training=tuple(training), held_out=tuple(sorted(held_out)))


def _counts(strata: Mapping[str, str]) -> dict[str, int]:
    return dict(sorted(Counter(strata.values()).items()))
