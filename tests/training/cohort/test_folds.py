"""Folds: each patient is held out once, strata keep their shares, no one is in both parts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError
from training.cohort.folds import (
    FOLDS,
    Fold,
    Folds,
    HoldOut,
    k_folds,
    keep,
    leave_one_centre_out,
    one_held_out,
    read_folds,
    read_splits,
    share_folds,
)

STRATA = {f"MDA-{n:03d}": f"MDA: HPV {n % 4 == 0:d}" for n in range(40)} | {
    f"USZ-{n:03d}": f"USZ: HPV {n % 2:d}" for n in range(10)
}
CENTRES = {name: name[:3] for name in STRATA}


def is_partition(folds: Folds) -> bool:
    """Return whether every patient is held out by one fold and trained on by all others."""
    held_out = [name for fold in folds.folds for name in fold.held_out]
    return sorted(held_out) == sorted(STRATA) and all(
        sorted((*fold.training, *fold.held_out)) == sorted(STRATA) for fold in folds.folds
    )


def test_k_folds_hold_each_patient_out_once_with_the_share_of_each_stratum() -> None:
    folds = k_folds(STRATA, 5, seed=0)
    assert is_partition(folds)
    for fold in folds.folds:
        counts = Counter(STRATA[name] for name in fold.held_out)
        expected = {"MDA: HPV 1": 2, "MDA: HPV 0": 6, "USZ: HPV 1": 1, "USZ: HPV 0": 1}
        assert counts == expected


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    count=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_shares_of_a_stratum_differ_by_at_most_one_patient(
    sizes: list[int], count: int, seed: int
) -> None:
    strata = {f"{k}-{n}": str(k) for k, size in enumerate(sizes) for n in range(size)}
    if len(strata) < count:
        return
    folds = k_folds(strata, count, seed)
    for stratum in set(strata.values()):
        held = [sum(strata[name] == stratum for name in fold.held_out) for fold in folds.folds]
        assert max(held) - min(held) <= 1


def test_seed_decides_the_folds() -> None:
    assert k_folds(STRATA, 5, 1) == k_folds(STRATA, 5, 1)
    assert k_folds(STRATA, 5, 1).folds != k_folds(STRATA, 5, 2).folds


def test_single_held_out_part_has_the_share_of_each_stratum() -> None:
    (fold,) = one_held_out(STRATA, 15, seed=3).folds
    assert len(fold.held_out) == 15
    assert set(fold.held_out).isdisjoint(fold.training)
    counts = Counter(STRATA[name] for name in fold.held_out)
    expected = {"MDA: HPV 1": 3, "MDA: HPV 0": 9, "USZ: HPV 1": 1.5, "USZ: HPV 0": 1.5}
    assert all(abs(counts[name] - share) <= 1 for name, share in expected.items())


def test_leave_one_centre_out_holds_out_whole_centres() -> None:
    folds = leave_one_centre_out(STRATA, CENTRES)
    assert [fold.name for fold in folds.folds] == ["MDA", "USZ"]
    assert is_partition(folds)
    for fold in folds.folds:
        assert {CENTRES[name] for name in fold.held_out} == {fold.name}


@pytest.mark.parametrize(
    "split",
    [
        lambda: one_held_out(STRATA, 50, 0),
        lambda: one_held_out(STRATA, -1, 0),
        lambda: k_folds(STRATA, 51, 0),
        lambda: k_folds(STRATA, 1, 0),
        lambda: leave_one_centre_out(STRATA, dict.fromkeys(STRATA, "MDA")),
    ],
)
def test_impossible_split_is_an_error_of_one_line(split: Callable[[], Folds]) -> None:
    with pytest.raises(InputError, match="expected") as caught:
        split()
    assert "\n" not in str(caught.value)


# The ways to hold patients out


def folds_of(hold_out: HoldOut, without_outcome: tuple[str, ...] = ()) -> Folds:
    return hold_out.make(STRATA, CENTRES, without_outcome, default_count=7, seed=3)


def test_each_way_to_hold_out_gives_its_folds(tmp_path: Path) -> None:
    names = sorted(STRATA)
    path = tmp_path / "splits.json"
    path.write_text(json.dumps([{"train": [*names[:30], "X-1"], "val": names[30:]}]))
    assert folds_of(HoldOut()) == one_held_out(STRATA, 7, 3)
    assert folds_of(HoldOut(count=12)) == one_held_out(STRATA, 12, 3)
    assert folds_of(HoldOut(folds=4)) == k_folds(STRATA, 4, 3)
    assert folds_of(HoldOut(by_centre=True)) == leave_one_centre_out(STRATA, CENTRES)
    assert folds_of(HoldOut(splits=path), ("X-1",)) == read_splits(path, STRATA, ("X-1",))


def test_nobody_is_held_out_by_a_count_of_zero() -> None:
    """Another task with the same folds also holds nobody out, and trains on new patients too."""
    folds = folds_of(HoldOut(count=0))
    (fold,) = folds.folds
    assert fold.training == tuple(sorted(STRATA))
    assert fold.held_out == ()
    assert not folds.holds_out
    assert folds.how == "nobody held out, all 50 trained on"
    names = sorted(STRATA)
    other = {name: STRATA[name] for name in names[5:]} | {"X-1": "X: 0"}
    (shared,) = share_folds(folds, other, names[:5], seed=0).folds
    assert shared.training == tuple(sorted(other))
    assert shared.held_out == ()


@given(st.integers(0, 49), st.integers(0, 5))
def test_any_count_holds_out_so_many_and_trains_on_the_others(count: int, seed: int) -> None:
    folds = one_held_out(STRATA, count, seed)
    (fold,) = folds.folds
    assert len(fold.held_out) == count
    assert sorted((*fold.training, *fold.held_out)) == sorted(STRATA)
    assert folds.holds_out == (count > 0)


WAYS: dict[str, object] = {
    "count": 3, "folds": 3, "by_centre": True, "splits": Path("splits.json"),
}  # fmt: skip


@pytest.mark.parametrize("ways", list(combinations(WAYS, 2)))
def test_several_ways_to_hold_out_are_refused(ways: tuple[str, ...]) -> None:
    hold_out = HoldOut(**{way: WAYS[way] for way in ways})  # type: ignore[arg-type]
    assert hold_out.is_chosen
    with pytest.raises(InputError, match="expected one way to hold out patients"):
        folds_of(hold_out)


def test_hold_out_knows_whether_a_way_was_chosen() -> None:
    assert not HoldOut().is_chosen
    for way, value in WAYS.items():
        assert HoldOut(**{way: value}).is_chosen  # type: ignore[arg-type]


# Files of folds


def test_run_keeps_its_folds_and_another_run_can_read_them(tmp_path: Path) -> None:
    folds = k_folds(STRATA, 5, seed=0)
    keep(folds, tmp_path)
    keep(folds, tmp_path)
    assert read_folds(tmp_path) == folds
    content = json.loads((tmp_path / FOLDS).read_text())
    assert "seed 0" in content["how"]
    assert content["strata"]["MDA: HPV 1"] == 10
    assert read_splits(tmp_path / FOLDS, STRATA).folds == folds.folds
    with pytest.raises(InputError, match=r"expected the folds of .* to be '4 folds"):
        keep(k_folds(STRATA, 4, seed=0), tmp_path)
    assert read_folds(tmp_path) == folds


def test_fold_is_chosen_by_its_name() -> None:
    folds = k_folds(STRATA, 3, seed=0)
    assert folds.choose(None) == list(folds.folds)
    assert folds.choose("1") == [folds.folds[1]]
    with pytest.raises(InputError, match="expected one of the folds 0, 1, 2, found '7'"):
        folds.choose("7")


def test_file_of_folds_may_name_patients_without_the_outcome(tmp_path: Path) -> None:
    folds = k_folds(STRATA, 5, seed=0)
    keep(folds, tmp_path)
    others = set(list(STRATA)[::3])
    learnable = {name: stratum for name, stratum in STRATA.items() if name not in others}
    with pytest.raises(InputError, match="are not in the cohort"):
        read_splits(tmp_path / FOLDS, learnable)
    shared = read_splits(tmp_path / FOLDS, learnable, others).folds
    for fold, own in zip(folds.folds, shared, strict=True):
        assert own.name == fold.name
        assert set(own.held_out) == set(fold.held_out) - others
        assert set(own.training) == set(fold.training) - others


def test_splits_of_nnu_net_are_read(tmp_path: Path) -> None:
    names = sorted(STRATA)
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": names[:30], "val": names[30:]}]))
    (fold,) = read_splits(path, STRATA).folds
    assert (fold.name, len(fold.training), len(fold.held_out)) == ("0", 30, 20)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as such"),
        ('{"folds": 3}', "cannot be read as such"),
        ("[]", "distinct names in .* found duplicates or none"),
        ('[{"train": ["MDA-000"], "val": ["MDA-000"]}]', "MDA-000 is in both of its parts"),
        ('[{"train": ["MDA-000"], "val": ["XYZ-000"]}]', "1 patients are not in the cohort"),
        ('[{"train": ["MDA-000"], "val": []}]', "one of its parts is empty"),
    ],
)
def test_invalid_splits_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_splits(path, STRATA)


@pytest.mark.parametrize(("count", "possible"), [(-1, False), (0, True), (49, True), (50, False)])
def test_held_out_part_leaves_at_least_one_patient(count: int, possible: bool) -> None:
    if possible:
        (fold,) = one_held_out(STRATA, count, seed=0).folds
        assert len(fold.held_out) == count
    else:
        with pytest.raises(InputError, match=f"found 50 and {count};"):
            one_held_out(STRATA, count, seed=0)


def test_as_many_folds_as_patients_are_possible() -> None:
    folds = k_folds(STRATA, 50, seed=0)
    assert is_partition(folds)
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
    assert (folder / FOLDS).is_file()


# Folds shared by tasks


def folds_by_hand(*parts: tuple[str, str]) -> Folds:
    """Return folds of patients with one-letter IDs; each pair: training, held out."""
    folds = tuple(
        Fold(name=str(k), training=tuple(training), held_out=tuple(held_out))
        for k, (training, held_out) in enumerate(parts)
    )
    return Folds(how="by hand", strata={}, folds=folds)


def letters(folds: Folds) -> list[tuple[str, str]]:
    return [("".join(fold.training), "".join(fold.held_out)) for fold in folds.folds]


def test_shared_folds_drop_patients_without_the_outcome() -> None:
    task1 = folds_by_hand(("abc", "def"), ("def", "abc"))
    shared = share_folds(task1, dict.fromkeys("abde", "MDA"), {"c", "f", "z"}, seed=0)
    assert letters(shared) == [("ab", "de"), ("de", "ab")]
    assert [fold.name for fold in shared.folds] == ["0", "1"]
    assert shared.how == "Task 1's folds (by hand)"
    assert shared.strata == {"MDA": 4}


def test_patients_that_task_1_lacks_are_held_out_stratified_from_one_of_several_folds() -> None:
    task1 = folds_by_hand(("ab", "cd"), ("cd", "ab"))
    strata = dict.fromkeys("abcd", "USZ") | dict.fromkeys("pqrs", "MDA 1") | {"x": "MDA 0"}
    strata["y"] = "MDA 0"
    shared = share_folds(task1, strata, (), seed=0)
    joining = [set(held_out) - set("abcd") for _, held_out in letters(shared)]
    assert joining[0] | joining[1] == set("pqrsxy")
    for fold, joined in zip(letters(shared), joining, strict=True):
        assert len(joined & set("pqrs")) == 2
        assert len(joined & set("xy")) == 1
        assert set(fold[0]) == set(strata) - set(fold[1])
    assert share_folds(task1, strata, (), seed=0) == shared


def test_patients_that_task_1_lacks_join_the_training_part_of_a_single_fold() -> None:
    shared = share_folds(folds_by_hand(("ab", "cd")), dict.fromkeys("abcdxy", "MDA"), (), seed=0)
    assert letters(shared) == [("abxy", "cd")]


def test_shared_folds_of_another_cohort_are_refused() -> None:
    task1 = folds_by_hand(("ab", "cd"), ("cd", "ab"))
    with pytest.raises(InputError, match=r"of this cohort, found 2 patients .* such as b; choose"):
        share_folds(task1, dict.fromkeys("ad", "MDA"), (), seed=0)


@pytest.mark.parametrize(("learnable", "counts"), [("cd", "0 and 2"), ("ab", "2 and 0")])
def test_shared_fold_with_an_empty_part_is_refused(learnable: str, counts: str) -> None:
    others = set("abcd") - set(learnable)
    with pytest.raises(InputError, match=f"in fold 0 of Task 1, found {counts}; choose other"):
        share_folds(folds_by_hand(("ab", "cd")), dict.fromkeys(learnable, "MDA"), others, seed=0)


@given(data=st.data(), count=st.integers(1, 4), seed=st.integers(0, 99))
def test_no_patient_is_held_out_from_one_task_and_trained_on_by_task_1_in_the_same_fold(
    data: st.DataObject, count: int, seed: int
) -> None:
    names = [f"{n:02d}" for n in range(data.draw(st.integers(2 * count, 20)))]
    stratum_of = {name: data.draw(st.sampled_from("ABC")) for name in names}
    task1 = k_folds(stratum_of, count, seed) if count > 1 else one_held_out(stratum_of, 1, seed)
    # One patient of each part at least, so that no part is empty.
    needed = {part[0] for fold in task1.folds for part in (fold.training, fold.held_out)}
    chosen = needed | data.draw(st.sets(st.sampled_from(names)))
    new = {f"new {n}" for n in range(data.draw(st.integers(0, 6)))}
    strata = {name: stratum_of.get(name, "A") for name in chosen | new}
    shared = share_folds(task1, strata, set(names) - chosen, seed)
    held_out = [name for fold in shared.folds for name in fold.held_out]
    assert len(held_out) == len(set(held_out))
    assert count == 1 or set(held_out) == set(strata)
    for fold, first in zip(shared.folds, task1.folds, strict=True):
        assert fold.name == first.name
        assert set(fold.held_out).isdisjoint(first.training)
        assert set(fold.held_out).isdisjoint(fold.training)
        assert sorted((*fold.held_out, *fold.training)) == sorted(strata)
