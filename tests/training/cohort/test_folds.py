"""Folds: every patient held out once, shares kept, nobody on both sides."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError
from training.cohort.folds import (
    FILE,
    Folds,
    k_folds,
    keep,
    leave_one_centre_out,
    one_held_out,
    read_folds,
    read_splits,
)

STRATA = {f"MDA-{n:03d}": f"MDA: HPV {n % 4 == 0:d}" for n in range(40)} | {
    f"USZ-{n:03d}": f"USZ: HPV {n % 2:d}" for n in range(10)
}
CENTRES = {name: name[:3] for name in STRATA}


def is_a_partition(folds: Folds) -> bool:
    held_out = [name for fold in folds.folds for name in fold.held_out]
    return sorted(held_out) == sorted(STRATA) and all(
        sorted((*fold.fitted, *fold.held_out)) == sorted(STRATA) for fold in folds.folds
    )


def test_k_folds_hold_every_patient_out_once_with_each_stratums_share() -> None:
    folds = k_folds(STRATA, 5, seed=0)
    assert is_a_partition(folds)
    for fold in folds.folds:
        counts = Counter(STRATA[name] for name in fold.held_out)
        expected = {"MDA: HPV 1": 2, "MDA: HPV 0": 6, "USZ: HPV 1": 1, "USZ: HPV 0": 1}
        assert counts == expected


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    count=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_shares_differ_by_one_patient_at_most(sizes: list[int], count: int, seed: int) -> None:
    strata = {f"{k}-{n}": str(k) for k, size in enumerate(sizes) for n in range(size)}
    if len(strata) < count:
        return
    folds = k_folds(strata, count, seed)
    for stratum in set(strata.values()):
        held = [sum(strata[name] == stratum for name in fold.held_out) for fold in folds.folds]
        assert max(held) - min(held) <= 1


def test_the_seed_decides() -> None:
    assert k_folds(STRATA, 5, 1) == k_folds(STRATA, 5, 1)
    assert k_folds(STRATA, 5, 1).folds != k_folds(STRATA, 5, 2).folds


def test_one_held_out_part_keeps_the_shares() -> None:
    (fold,) = one_held_out(STRATA, 15, seed=3).folds
    assert len(fold.held_out) == 15
    assert set(fold.held_out).isdisjoint(fold.fitted)
    counts = Counter(STRATA[name] for name in fold.held_out)
    expected = {"MDA: HPV 1": 3, "MDA: HPV 0": 9, "USZ: HPV 1": 1.5, "USZ: HPV 0": 1.5}
    assert all(abs(counts[name] - share) <= 1 for name, share in expected.items())


def test_a_centre_is_held_out_whole() -> None:
    folds = leave_one_centre_out(STRATA, CENTRES)
    assert [fold.name for fold in folds.folds] == ["MDA", "USZ"]
    assert is_a_partition(folds)
    for fold in folds.folds:
        assert {CENTRES[name] for name in fold.held_out} == {fold.name}


@pytest.mark.parametrize(
    "impossible",
    [
        lambda: one_held_out(STRATA, 50, 0),
        lambda: k_folds(STRATA, 51, 0),
        lambda: k_folds(STRATA, 1, 0),
        lambda: leave_one_centre_out(STRATA, dict.fromkeys(STRATA, "MDA")),
    ],
)
def test_what_cannot_be_split_is_said_in_one_line(impossible: object) -> None:
    with pytest.raises(InputError, match="expected") as caught:
        impossible()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_run_keeps_its_folds_and_its_file_can_be_given_to_another(tmp_path: Path) -> None:
    folds = k_folds(STRATA, 5, seed=0)
    keep(folds, tmp_path)
    keep(folds, tmp_path)
    assert read_folds(tmp_path) == folds
    stated = json.loads((tmp_path / FILE).read_text())
    assert "seed 0" in stated["how"]
    assert stated["strata"]["MDA: HPV 1"] == 10
    assert read_splits(tmp_path / FILE, STRATA).folds == folds.folds
    with pytest.raises(InputError, match=r"expected the run in .* to be of '4 folds"):
        keep(k_folds(STRATA, 4, seed=0), tmp_path)
    assert read_folds(tmp_path) == folds


def test_tasks_share_the_folds_of_those_that_they_can_learn_from(tmp_path: Path) -> None:
    folds = k_folds(STRATA, 5, seed=0)
    keep(folds, tmp_path)
    others = set(list(STRATA)[::3])
    known = {name: stratum for name, stratum in STRATA.items() if name not in others}
    with pytest.raises(InputError, match="are not in the cohort"):
        read_splits(tmp_path / FILE, known)
    shared = read_splits(tmp_path / FILE, known, others).folds
    for fold, own in zip(folds.folds, shared, strict=True):
        assert own.name == fold.name
        assert set(own.held_out) == set(fold.held_out) - others
        assert set(own.fitted) == set(fold.fitted) - others


def test_splits_of_nnu_net_are_read(tmp_path: Path) -> None:
    names = sorted(STRATA)
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": names[:30], "val": names[30:]}]))
    (fold,) = read_splits(path, STRATA).folds
    assert (fold.name, len(fold.fitted), len(fold.held_out)) == ("0", 30, 20)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as such"),
        ('{"folds": 3}', "cannot be read as such"),
        ("[]", "names of their own"),
        ('[{"train": ["MDA-000"], "val": ["MDA-000"]}]', "MDA-000 is in both of its parts"),
        ('[{"train": ["MDA-000"], "val": ["XYZ-000"]}]', "1 patients are not in the cohort"),
        ('[{"train": ["MDA-000"], "val": []}]', "a part of it is empty"),
    ],
)
def test_bad_splits_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_splits(path, STRATA)


@pytest.mark.parametrize(("count", "possible"), [(0, False), (1, True), (49, True), (50, False)])
def test_held_out_part_has_at_least_one_patient_and_leaves_one(count: int, possible: bool) -> None:
    if possible:
        (fold,) = one_held_out(STRATA, count, seed=0).folds
        assert len(fold.held_out) == count
    else:
        with pytest.raises(InputError, match=f"found 50 and {count};"):
            one_held_out(STRATA, count, seed=0)


def test_as_many_folds_as_patients_are_possible() -> None:
    folds = k_folds(STRATA, 50, seed=0)
    assert is_a_partition(folds)
    assert {len(fold.held_out) for fold in folds.folds} == {1}


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": ["MDA-001", "MDA-000"], "val": ["MDA-000", "MDA-001"]}, "MDA-000 is in both"),
        ({"train": ["MDA-000"], "val": ["XYZ-001", "XYZ-000"]}, "2 patients .* such as XYZ-000"),
    ],
)
def test_errors_of_a_split_name_the_first_patient(
    tmp_path: Path, split: dict[str, list[str]], message: str
) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps([split]))
    with pytest.raises(InputError, match=message):
        read_splits(path, STRATA)


def test_folder_of_a_run_is_created(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "hpv"
    keep(k_folds(STRATA, 5, seed=0), folder)
    assert (folder / FILE).is_file()
