"""Plans of a training run: shared folds, and starting weights that leak no held-out patient."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from shared.errors import InputError
from tests.training.synthetic import configuration, make_patient, names_of, with_facts
from training.cohort.cache import PreparedPatient
from training.cohort.folds import Fold, Folds, HoldOut, keep
from training.config import Configuration
from training.loop.hardware import Hardware
from training.tasks.base import StartingWeights, Task
from training.tasks.hpv import Hpv
from training.tasks.planning import Plan, plan_training, starting_weights
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival

CPU = Hardware(devices=1, accelerator="cpu")
PATIENTS = [
    make_patient(n, hpv=n % 2 == 0, relapse=n % 4 in (0, 3), days=100.0 - n) for n in range(8)
]
NAMES = names_of(PATIENTS)
FIRST, LAST = NAMES[:4], NAMES[4:]
MIXED = (*NAMES[0:2], *NAMES[4:6]), (*NAMES[2:4], *NAMES[6:8])
"""Two halves of the patients, each with two of `FIRST` and two of `LAST`."""


def plan(
    task: Task,
    runs: Path,
    hold_out: HoldOut | None = None,
    *,
    patients: list[PreparedPatient] = PATIENTS,
    settings: Configuration | None = None,
    only_fold: str | None = None,
    hardware: Hardware = CPU,
) -> Plan:
    return plan_training(
        task,
        patients,
        settings or configuration(),
        runs=runs,
        hold_out=hold_out or HoldOut(),
        only_fold=only_fold,
        seed=0,
        workers=0,
        hardware=hardware,
    )


def folds(**parts: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[Fold, ...]:
    """Return folds; each argument is a fold's name, with the patients trained on and held out."""
    return tuple(
        Fold(name=name.removeprefix("fold"), training=training, held_out=held_out)
        for name, (training, held_out) in parts.items()
    )


def task1_run(runs: Path, *trained: Fold) -> None:
    """Write a training run of Task 1; the weights of each network contain its fold's name."""
    folder = runs / "segmentation"
    keep(Folds(how="by hand", strata={}, folds=trained), folder)
    for fold in trained:
        path = folder / f"fold{fold.name}" / "late.pt"
        path.parent.mkdir()
        torch.save({fold.name: torch.zeros(1)}, path)


def splits(folder: Path, *chosen: Fold) -> HoldOut:
    """Return a `HoldOut` that reads these folds from a file."""
    path = folder / "splits.json"
    content = Folds(how="by hand", strata={}, folds=chosen)
    path.write_text(content.model_dump_json())
    return HoldOut(splits=path)


def fold_of_weights(start: StartingWeights | None) -> str:
    assert start is not None
    (name,) = start.weights
    return name


def test_task_3_is_refused_if_task_1_was_trained_on_held_out_patients_of_the_same_fold_name(
    tmp_path: Path,
) -> None:
    """Without the check, patients would leak: folds of one name may have different patients."""
    task1_run(tmp_path, *folds(fold0=(FIRST, LAST), fold1=(LAST, FIRST)))
    other = folds(fold0=(MIXED[0], MIXED[1]), fold1=(MIXED[1], MIXED[0]))
    assert set(other[0].held_out) & set(FIRST)  # fold 0 of Task 1 was trained on them
    with pytest.raises(
        InputError,
        match=r"fold 0: expected a Task 1 network that was trained on none of the 4 held-out "
        r"patients, found none in .*: even the network of fold 0 was trained on 2 of them, so the "
        "score would be too good; use Task 1's folds, which is the default, or train Task 1 in "
        "these folds",
    ):
        plan(Hpv(), tmp_path, splits(tmp_path, *other))


def test_folds_drawn_with_another_seed_leak_as_well(tmp_path: Path) -> None:
    """With `--folds 2` for both tasks, folds have the same names and sizes, but other patients."""
    task1_run(tmp_path, *plan(Segmentation(), tmp_path, HoldOut(folds=2)).folds.folds)
    with pytest.raises(InputError, match="expected a Task 1 network that was trained on none"):
        plan_training(
            Hpv(), PATIENTS, configuration(), runs=tmp_path, hold_out=HoldOut(folds=2),
            only_fold=None, seed=5, workers=0, hardware=CPU,
        )  # fmt: skip


@pytest.mark.parametrize("task", [Hpv(), Survival()], ids=["hpv", "survival"])
def test_tasks_take_the_folds_of_task_1_by_default(tmp_path: Path, task: Task) -> None:
    task1 = folds(fold0=(MIXED[0], MIXED[1]), fold1=(MIXED[1], MIXED[0]))
    task1_run(tmp_path, *task1)
    plan_of_task = plan(task, tmp_path)
    assert plan_of_task.folds.folds == task1
    for training, fold in zip(plan_of_task.trainings, task1, strict=True):
        assert training.fold == fold
        assert names_of(training.patients) == fold.training
        assert names_of(training.held_out) == fold.held_out
        if task.starts_from_segmentation:
            assert fold_of_weights(training.start) == fold.name
        else:
            assert training.start is None


def test_weights_are_chosen_by_the_patients_and_not_by_the_name(tmp_path: Path) -> None:
    task1_run(tmp_path, *folds(fold0=(FIRST, LAST), fold1=(LAST, FIRST)))
    swapped = folds(fold0=(LAST, FIRST), fold1=(FIRST, LAST))
    trainings = plan(Hpv(), tmp_path, splits(tmp_path, *swapped)).trainings
    assert [fold_of_weights(t.start) for t in trainings] == ["1", "0"]


def test_among_several_suitable_networks_the_one_with_the_same_name_is_used(tmp_path: Path) -> None:
    first_half = (NAMES[:2], NAMES[2:])
    task1_run(tmp_path, *folds(folda=first_half, foldb=first_half, foldc=first_half))
    fold = Fold(name="b", training=NAMES[:4], held_out=NAMES[4:])
    assert fold_of_weights(starting_weights(tmp_path, fold)) == "b"
    assert fold_of_weights(starting_weights(tmp_path, fold.model_copy(update={"name": "z"}))) == "a"


def test_single_task_1_network_serves_only_folds_that_it_was_not_trained_on(
    tmp_path: Path,
) -> None:
    held_out = (*FIRST[:1], *LAST[1:4])  # of both HPV statuses
    trained = tuple(name for name in NAMES if name not in held_out)
    task1_run(tmp_path, *folds(fold0=(trained, held_out)))
    first, second = held_out[:2], held_out[2:]
    disjoint = folds(
        fold0=((*trained, *second), first),
        fold1=((*trained, *first), second),
    )
    trainings = plan(Hpv(), tmp_path, splits(tmp_path, *disjoint)).trainings
    assert [fold_of_weights(t.start) for t in trainings] == ["0", "0"]
    leaking = folds(
        fold0=((*trained, *second), first),
        fold1=((*trained[1:], *first), (*second, trained[0])),
    )
    with pytest.raises(InputError, match=r"fold 1: .* none of the 3 .* was trained on 1 of them"):
        plan(Hpv(), tmp_path, splits(tmp_path, *leaking))


def test_missing_task_1_network_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a Task 1 network in .*; train Task 1 first"):
        plan(Hpv(), tmp_path, HoldOut(folds=2))
    task1_run(tmp_path, *folds(fold0=(FIRST, LAST), fold1=(LAST, FIRST)))
    (tmp_path / "segmentation/fold1/late.pt").unlink()
    with pytest.raises(InputError, match=r"expected a Task 1 network in .*fold1/late\.pt"):
        plan(Hpv(), tmp_path)
    assert plan(Hpv(), tmp_path, only_fold="0").trainings[0].fold.name == "0"


def test_linear_models_need_no_task_1_network(tmp_path: Path) -> None:
    content = configuration().model_dump()
    content["hpv"]["models"] = "linear"
    settings = Configuration.model_validate(content)
    trainings = plan(Hpv(), tmp_path, HoldOut(folds=2), settings=settings).trainings
    assert [training.start for training in trainings] == [None, None]


def test_patients_without_the_outcome_are_in_no_fold(tmp_path: Path) -> None:
    task1_run(tmp_path, *folds(fold0=(MIXED[0], MIXED[1]), fold1=(MIXED[1], MIXED[0])))
    patients = [with_facts(PATIENTS[0], hpv=None), *PATIENTS[1:]]
    for training in plan(Hpv(), tmp_path, patients=patients).trainings:
        assert NAMES[0] not in (*training.fold.training, *training.fold.held_out)
        assert names_of(training.without_outcome) == NAMES[:1]


def test_patients_that_task_1_lacks_are_divided_among_its_folds(tmp_path: Path) -> None:
    task1 = plan(Segmentation(), tmp_path, HoldOut(folds=2)).folds.folds
    task1_run(tmp_path, *task1)
    new = [make_patient(n, hpv=n % 2 == 0) for n in (20, 22)]
    trainings = plan(Hpv(), tmp_path, patients=[*PATIENTS, *new]).trainings
    for training, fold, other in zip(trainings, task1, reversed(task1), strict=True):
        (joined,) = set(training.fold.held_out) - set(fold.held_out)
        assert joined in names_of(new)
        assert set(training.fold.training) == {*fold.training, *names_of(new)} - {joined}
        assert set(training.fold.held_out).isdisjoint(fold.training)
        assert set(fold.training) == set(other.held_out)
    assert {t.fold.held_out[-1] for t in trainings} == set(names_of(new))


def test_clinical_scale_is_that_of_all_patients_trained_on(tmp_path: Path) -> None:
    held_out = Fold(name="0", training=NAMES[:6], held_out=NAMES[6:])
    plan_of_task = plan(Survival(), tmp_path, splits(tmp_path, held_out))
    (age,) = (feature for feature in plan_of_task.features if feature.key == "age")
    assert age.mean == pytest.approx(52.5)  # ages 50 to 55
    assert plan_of_task.trainings[0].features == plan_of_task.features


def test_each_fold_has_its_own_seed_also_if_trained_alone(tmp_path: Path) -> None:
    """The first fold has the seed of the run, so a single fold is trained with that seed."""
    chosen = HoldOut(folds=3)
    seeds = [training.seed for training in plan(Segmentation(), tmp_path, chosen).trainings]
    assert seeds[0] == 0
    assert len(set(seeds)) == 3
    (alone,) = plan(Segmentation(), tmp_path, chosen, only_fold="2").trainings
    assert alone.seed == seeds[2]


def changed(task: str, **changes: str) -> Configuration:
    content = configuration().model_dump()
    content[task] |= changes
    return Configuration.model_validate(content)


@pytest.mark.parametrize(
    ("settings", "task", "message"),
    [
        (changed("hpv", models="both"), Hpv(), 'hpv: .*training of hpv, .* models = "both" in'),
        (changed("hpv", models="best"), Hpv(), 'set models = "networks" or "linear", or train hpv'),
        (changed("hpv", threshold="out of fold"), Hpv(), 'threshold = "out of fold" in .hpv. of'),
        (changed("hpv", masks="predicted"), Hpv(), 'training of segmentation, .* masks = "predict'),
        (changed("survival", models="best"), Survival(), 'models = "best" in .survival. of the'),
        (changed("survival", masks="predicted"), Survival(), 'nobody is held out; set masks = "tr'),
    ],
)
@pytest.mark.parametrize("hold_out", [HoldOut(count=0), HoldOut()], ids=["chosen", "of Task 1"])
def test_settings_that_need_held_out_patients_are_refused_without_them(
    settings: Configuration, task: Task, message: str, hold_out: HoldOut, tmp_path: Path
) -> None:
    task1_run(tmp_path, *folds(fold0=(NAMES, ())))
    with pytest.raises(InputError, match=message):
        plan(task, tmp_path, hold_out, settings=settings)


@pytest.mark.parametrize("task", [Segmentation(), Hpv(), Survival()], ids=lambda task: task.name)
def test_every_task_is_trained_on_everybody_if_task_1_was(task: Task, tmp_path: Path) -> None:
    task1_run(tmp_path, *folds(fold0=(NAMES, ())))
    two = dataclasses.replace(CPU, devices=2)
    (training,) = plan(task, tmp_path, HoldOut(count=0), hardware=two).trainings
    assert (names_of(training.patients), names_of(training.held_out)) == (NAMES, ())
    if task.follows:
        assert plan(task, tmp_path).folds.folds == (training.fold,)


def test_task_3_may_be_trained_on_everybody_after_folds_of_task_1(tmp_path: Path) -> None:
    task1_run(tmp_path, *folds(fold0=(FIRST, LAST), fold1=(LAST, FIRST)))
    (training,) = plan(Hpv(), tmp_path, HoldOut(count=0)).trainings
    assert fold_of_weights(training.start) == "0"


def test_checks_without_held_out_patients(tmp_path: Path) -> None:
    """The training patients must meet the same conditions as with held-out patients."""
    cured = [with_facts(patient, relapse=False) for patient in PATIENTS]
    with pytest.raises(InputError, match="fold 0: expected a recurrence among the 8 training pati"):
        plan(Survival(), tmp_path, HoldOut(count=0), patients=cured)
    positive = [with_facts(patient, hpv=True) for patient in PATIENTS]
    task1_run(tmp_path, *folds(fold0=(NAMES, ())))
    with pytest.raises(InputError, match=r"both HPV statuses among the 8 training pat.*, found 8"):
        plan(Hpv(), tmp_path, HoldOut(count=0), patients=positive)


def test_unknown_fold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one of the folds 0, 1, found '7'"):
        plan(Segmentation(), tmp_path, HoldOut(folds=2), only_fold="7")


def test_several_ways_to_hold_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one way to hold out patients"):
        plan(Segmentation(), tmp_path, HoldOut(folds=2, by_centre=True))


def test_cohort_without_the_outcome_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="patients that hpv can learn from, found none among 1;"):
        plan(Hpv(), tmp_path, patients=[make_patient(0)])


def test_fewer_patients_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fold 0: expected at least the 2 patients of a batch"):
        plan(Segmentation(), tmp_path, HoldOut(count=7))


def test_fewer_held_out_patients_than_processes_are_refused(tmp_path: Path) -> None:
    two = Hardware(devices=2, accelerator="cpu")
    with pytest.raises(InputError, match="held-out patient for each of the 2 processes, found 1"):
        plan(Segmentation(), tmp_path, HoldOut(count=1), hardware=two)


def test_plan_writes_nothing(tmp_path: Path) -> None:
    plan(Segmentation(), tmp_path, HoldOut(folds=2))
    assert not list(tmp_path.iterdir())
