"""A training run from prepared patients to a model folder, with patients in memory."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from shared.errors import ExportError, HecktorError, InputError
from shared.lesions import MEASURES
from shared.metrics.probability import best_threshold
from shared.models.card import BaseCard, MemberKind, load_card
from shared.models.hpv import HpvModel
from shared.models.survival import SurvivalModel
from shared.tasks import TaskName
from tests.training.synthetic import (
    configuration,
    make_patient,
    names_of,
    with_facts,
    without_labels,
)
from training import __main__ as program
from training.cohort.cache import PreparedPatient
from training.cohort.folds import Fold, Folds, HoldOut, read_folds
from training.config import Configuration
from training.export.record import Provenance
from training.export.run import export_run
from training.loop.hardware import Hardware
from training.studies.ablation import by_held_out_models
from training.studies.held_out_scores import held_out_scores
from training.tasks import out_of_fold
from training.tasks.discovery import TASKS
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival
from training.train import Options, train, train_patients

CPU = Hardware(devices=1, accelerator="cpu")
ONE_EPOCH = configuration(epochs=1)
TWO_FOLDS = HoldOut(folds=2)


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedPatient]:
    folder = tmp_path_factory.mktemp("labels")
    return [
        make_patient(
            n, "MDA" if n % 3 else "USZ", folder, hpv=n % 2 == 0, relapse=n % 4 < 2, days=9.0 + n
        )
        for n in range(6)
    ]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Ignore the warnings of Lightning and MONAI."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def options(tmp_path: Path, hold_out: HoldOut = TWO_FOLDS, **changes: object) -> Options:
    start = Options(
        hold_out=hold_out,
        seed=1,
        workers=0,
        hardware=CPU,
        model=tmp_path / "model",
        provenance=Provenance(notice="For tests."),
    )
    return dataclasses.replace(start, **changes)  # type: ignore[arg-type]


def first_two_held_out(patients: Sequence[PreparedPatient], folder: Path) -> HoldOut:
    names = names_of(patients)
    fold = Fold(name="0", training=tuple(sorted(names[2:])), held_out=tuple(sorted(names[:2])))
    path = folder / "splits.json"
    path.write_text(Folds(how="by hand", strata={}, folds=(fold,)).model_dump_json())
    return HoldOut(splits=path)


def with_models(models: str) -> Configuration:
    """Return a configuration in which Tasks 2 and 3 train these kinds of models."""
    content = configuration(epochs=1).model_dump()
    for name in ("hpv", "survival"):
        content[name]["models"] = models
    return Configuration.model_validate(content)


def card_of(folder: Path, task: TaskName) -> BaseCard:
    return load_card(folder, TASKS[task].model_type.card_type)


def files_of(card: BaseCard) -> list[str]:
    return [member.file for member in card.members]


# From folds to model folders


@pytest.mark.slow
def test_folds_give_an_ensemble_or_a_single_model_and_predictions_for_all_patients(
    patients: list[PreparedPatient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, task, model = tmp_path / "runs", Segmentation(), tmp_path / "model"
    train_patients(task, patients, ONE_EPOCH, runs=runs, options=options(tmp_path, only_fold="0"))
    assert "folds are left to train" in capsys.readouterr().out
    assert not model.exists()
    with pytest.raises(HecktorError, match="expected a trained fold 1 in"):
        export_run(task, runs, model=model)
    (runs / "segmentation/fold0/member.json").unlink()  # as if the fold had been interrupted
    export_run(task, runs, folds=["0"], model=tmp_path / "last", checkpoint="last")
    assert files_of(card_of(tmp_path / "last", "segmentation")) == ["segmentation.onnx"]
    with pytest.raises(HecktorError, match=r"expected weights in .*fold1/best.ckpt, found no such"):
        export_run(task, runs, folds=["1"], model=model, checkpoint="best")
    train_patients(task, patients, ONE_EPOCH, runs=runs, options=options(tmp_path))
    card = card_of(model, "segmentation")
    assert files_of(card) == ["segmentation_fold0.onnx", "segmentation_fold1.onnx"]
    assert card.training.patients == 6
    assert card.notice == "For tests."
    assert card.licence == "Apache-2.0"
    export_run(task, runs, folds=["1"], model=tmp_path / "single")
    single = card_of(tmp_path / "single", "segmentation")
    assert files_of(single) == ["segmentation.onnx"]
    assert single.training.patients == 3
    folder = runs / "segmentation" / out_of_fold.FOLDER
    table = pd.read_csv(folder / out_of_fold.SCORES, index_col="PatientID")
    assert sorted(table.index) == sorted(names_of(patients))
    for fold in read_folds(runs / "segmentation").folds:
        for name in fold.held_out:
            prediction = out_of_fold.read(folder, name)
            assert prediction.fold == fold.name == str(table.loc[name, "fold"])
            assert prediction.labels.shape == patients[0].labels.shape
            assert prediction.probabilities.shape == (3, *prediction.labels.shape)
            np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=0.01)
    with pytest.raises(InputError, match="expected an out-of-fold prediction in"):
        out_of_fold.read(folder, "ABC-001")
    other_folds = options(tmp_path, HoldOut(folds=3))
    for other in (other_folds, options(tmp_path, seed=2)):
        with pytest.raises(HecktorError, match="expected the folds of the training run in"):
            train_patients(task, patients, ONE_EPOCH, runs=runs, options=other)


def test_tasks_2_and_3_train_on_the_folds_of_task_1(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    by_hand = options(tmp_path, first_two_held_out(patients, tmp_path))
    with pytest.raises(HecktorError, match="expected a Task 1 network in"):
        train_patients(Hpv(), patients, ONE_EPOCH, runs=runs, options=by_hand)
    assert not runs.exists()
    train_patients(Segmentation(), patients, ONE_EPOCH, runs=runs, options=by_hand)
    for task in (Hpv(), Survival()):
        default = options(tmp_path, HoldOut(), model=tmp_path / task.name)
        train_patients(task, patients, ONE_EPOCH, runs=runs, options=default)
        assert read_folds(runs / task.name).folds == read_folds(runs / "segmentation").folds
        card = load_card(tmp_path / task.name, task.model_type.card_type)
        assert [f.key for f in card.clinical] == list(task.settings(ONE_EPOCH).clinical)
        assert card.training.patients == 4
    (member,) = card_of(tmp_path / "survival", "survival").members
    assert member.risk_std != 1.0
    with pytest.raises(HecktorError, match="expected no checkpoint for survival"):
        export_run(Survival(), runs, model=tmp_path / "late", checkpoint="late")


def test_task_3_does_not_start_from_weights_that_have_seen_its_held_out_patients(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    """The same fold name is not enough; see `tests/training/tasks/test_planning.py`."""
    runs = tmp_path / "runs"
    by_hand = options(tmp_path, first_two_held_out(patients, tmp_path))
    train_patients(Segmentation(), patients, ONE_EPOCH, runs=runs, options=by_hand)
    path = tmp_path / "other.json"
    names = names_of(patients)
    fold = Fold(name="0", training=names[:4], held_out=names[4:])
    path.write_text(Folds(how="by hand", strata={}, folds=(fold,)).model_dump_json())
    with pytest.raises(
        InputError, match=r"network of fold 0 was trained on 2 of them, so the score"
    ):
        train_patients(
            Hpv(), patients, ONE_EPOCH, runs=runs, options=options(tmp_path, HoldOut(splits=path))
        )
    assert not (runs / "hpv").exists()


def test_training_resumes_wherever_the_disk_was_full(
    patients: list[PreparedPatient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each attempt, a different file cannot be written, because its draft is /dev/full."""
    runs = tmp_path / "runs"
    train_task1 = partial(
        train_patients,
        Segmentation(),
        patients,
        ONE_EPOCH,
        runs=runs,
        options=options(tmp_path, first_two_held_out(patients, tmp_path)),
    )
    files = (
        "folds.json", "run.json", "best.ckpt", "last.ckpt", "network.pt", "late.pt",
        "result.json",
        f"{patients[0].patient_id}.npz", "member.json",
    )  # fmt: skip

    def draft_without_room(path: Path, name: str) -> Path:
        draft = path.with_name(f"draft-{path.name}")
        if path.name == name:
            draft.symlink_to("/dev/full")
        return draft

    for name in files:
        with monkeypatch.context() as patched:
            patched.setattr("shared.files.draft_of", partial(draft_without_room, name=name))
            with pytest.raises(OSError, match="No space left"):
                train_task1()
        assert not list(runs.rglob(name))
    train_task1()
    assert card_of(tmp_path / "model", "segmentation").training.patients == 4


def test_training_whose_export_fails_keeps_its_weights_and_says_how_to_export_again(
    patients: list[PreparedPatient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, model = tmp_path / "runs", tmp_path / "model"

    def refuse(*_: object, **__: object) -> None:
        raise ExportError("hpv.onnx differs from torch")

    with monkeypatch.context() as patched:
        patched.setattr("training.export.run.export", refuse)
        with pytest.raises(ExportError, match="differs from torch; the trained weights are") as e:
            train_patients(
                Hpv(), patients, with_models("linear"), runs=runs, options=options(tmp_path)
            )
    command = str(e.value).split("`")[1].split()
    assert command[:3] == ["python", "-m", "training"]
    result = CliRunner().invoke(program.app, command[3:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert files_of(card_of(model, "hpv")) == ["hpv_fold0_linear.onnx", "hpv_fold1_linear.onnx"]


def test_missing_gpu_is_reported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    gpu = options(tmp_path, hardware=Hardware(accelerator="gpu"))
    with pytest.raises(HecktorError, match="expected a GPU that torch sees"):
        train(Segmentation(), tmp_path / "no cohort", tmp_path / "runs", gpu)
    with pytest.raises(HecktorError, match="expected a GPU that torch sees"):
        train_patients(Segmentation(), [], ONE_EPOCH, runs=tmp_path / "runs", options=gpu)
    assert not (tmp_path / "runs").exists()


# What later tasks learn from earlier ones


@pytest.mark.slow  # CI runs it in a step of its own
def test_survival_learns_from_the_masks_and_hpv_status_that_it_will_be_served(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    cohort = [with_facts(p, relapse=True) for p in patients]
    cohort[0] = with_facts(cohort[0], hpv=None)
    changes = {"masks": "predicted", "hpv": "predicted", "mirror": ("x",), "clinical_dropout": 0.2}
    survival = ONE_EPOCH.survival.model_copy(update=changes)
    settings = ONE_EPOCH.model_copy(update={"survival": survival})
    runs = tmp_path / "runs"
    start = partial(
        train_patients,
        patients=cohort,
        configuration=settings,
        runs=runs,
        options=options(tmp_path, HoldOut()),
    )

    with pytest.raises(InputError, match="train all folds of Task 1"):
        start(Survival(), options=options(tmp_path))
    start(Segmentation(), options=options(tmp_path))
    with pytest.raises(InputError, match="train all folds of Task 3"):
        start(Survival())
    start(Hpv())
    table = pd.read_csv(runs / "hpv" / out_of_fold.FOLDER / out_of_fold.LOGITS)
    counts = table["PatientID"].value_counts()
    # The first patient's status is unknown, so both folds predict it.
    assert counts.to_dict() == dict.fromkeys(names_of(patients[1:]), 1) | {
        patients[0].patient_id: 2
    }
    start(Survival())

    known = table.dropna(subset="HPV Status")
    assert known["PatientID"].tolist() == sorted(names_of(patients[1:]))
    tuned = settings.hpv.model_copy(update={"threshold": "out of fold"})
    settings = settings.model_copy(update={"hpv": tuned})
    probability = 1 / (1 + np.exp(-known["logit"]))
    threshold = Hpv().card(settings, runs / "hpv", ["network"])["threshold"]
    assert threshold == pytest.approx(best_threshold(probability, known["HPV Status"]))
    assert Hpv().card(configuration(), runs / "hpv", ["network"])["threshold"] == 0.5

    (served,) = Survival().with_inputs(cohort[:1], runs, settings)
    logits = table.loc[table["PatientID"] == served.patient_id, "logit"]
    assert served.patient.clinical.hpv == pytest.approx(1 / (1 + np.exp(-logits.mean())))
    mask = out_of_fold.read(runs / "segmentation" / out_of_fold.FOLDER, served.patient_id)
    np.testing.assert_array_equal(served.labels, mask.labels)
    truth = settings.survival.model_copy(update={"masks": "true", "hpv": "true"})
    papers = settings.model_copy(update={"survival": truth})
    assert Survival().with_inputs(cohort[1:], runs, papers) == cohort[1:]


def test_all_tasks_are_trained_on_everybody(
    patients: list[PreparedPatient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the patient whom a task cannot learn from has out-of-fold predictions."""
    cohort = [*patients[:5], without_labels(with_facts(patients[5], hpv=None, relapse=None))]
    settings, runs = configuration(epochs=1, averaging=1), tmp_path / "runs"
    tasks: dict[TaskName, HoldOut] = {
        "segmentation": HoldOut(count=0), "hpv": HoldOut(), "survival": HoldOut(count=0)
    }  # fmt: skip
    for name, hold_out in tasks.items():
        chosen = options(tmp_path, hold_out, model=tmp_path / name)
        train_patients(TASKS[name], cohort, settings, runs=runs, options=chosen)
        card = card_of(tmp_path / name, name)
        assert files_of(card) == [f"{name}.onnx"]
        assert card.training.patients == 5
    text = capsys.readouterr().out
    assert (
        "segmentation: nobody is held out, so nothing is scored, and no epoch is chosen: the mean "
        'of weight averaging is served instead of checkpoint = "best"' in text
    )
    assert "hpv: nobody is held out, so nothing is scored, and no epoch is chosen: the late" in text
    predictions = runs / "segmentation" / out_of_fold.FOLDER
    assert [path.stem for path in predictions.glob("*.npz")] == [cohort[5].patient_id]
    logits = pd.read_csv(runs / "hpv" / out_of_fold.FOLDER / out_of_fold.LOGITS)
    assert logits["PatientID"].tolist() == [cohort[5].patient_id]
    assert not (runs / "survival" / out_of_fold.FOLDER).exists()
    with pytest.raises(InputError, match="expected a task with held-out patients whose folds are"):
        held_out_scores([runs])
    with pytest.raises(InputError, match=r"expected held-out patients in .*segmentation, found a"):
        next(by_held_out_models(TASKS["segmentation"], [], runs))


def test_patients_without_a_label_map_are_segmented_for_later_tasks(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    cohort = [*patients[:5], without_labels(patients[5])]
    runs = tmp_path / "runs"
    train_patients(Segmentation(), cohort, ONE_EPOCH, runs=runs, options=options(tmp_path))
    folder, name = runs / "segmentation" / out_of_fold.FOLDER, cohort[5].patient_id
    assert out_of_fold.read(folder, name).labels.shape == cohort[5].labels.shape
    scores = pd.read_csv(folder / out_of_fold.SCORES)["PatientID"].tolist()
    assert scores == sorted(names_of(cohort[:5]))


# Linear models


def test_linear_models_serve_what_was_fitted(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    runs, settings = tmp_path / "runs", with_models("linear")
    # Linear models need no network of Task 1.
    train_patients(Hpv(), patients, settings, runs=runs, options=options(tmp_path))
    card = load_card(tmp_path / "model", Hpv.model_type.card_type)
    assert files_of(card) == ["hpv_fold0_linear.onnx", "hpv_fold1_linear.onnx"]
    assert card.measures == MEASURES
    assert (
        HpvModel.load(tmp_path / "model")
        .describe()[1]
        .startswith("hpv model: demo configuration, 2 linear models")
    )
    table = pd.read_csv(runs / "hpv" / out_of_fold.FOLDER / out_of_fold.LOGITS)
    assert set(table["kind"]) == {"linear"}
    by_id = {patient.patient_id: patient for patient in patients}
    for fold in "01":
        export_run(Hpv(), runs, folds=[fold], model=tmp_path / fold)
        model = HpvModel.load(tmp_path / fold)
        for patient_id, logit in table[table["fold"] == int(fold)][["PatientID", "logit"]].values:
            each = by_id[patient_id]
            served = model.predict(each.prepared(), each.patient.clinical, each.labels).logit
            assert served == pytest.approx(logit, rel=1e-3)


def survival_run(patients: list[PreparedPatient], folder: Path, settings: Configuration) -> Path:
    """Train Task 2 with the first two patients held out; return the folder of runs."""
    runs, hold_out = folder / "runs", first_two_held_out(patients, folder)
    train_patients(Survival(), patients, settings, runs=runs, options=options(folder, hold_out))
    return runs


@pytest.mark.slow  # CI runs it in a step of its own
def test_networks_and_linear_models_are_averaged(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    runs = survival_run(patients, tmp_path, with_models("both"))
    risks = {}
    names: tuple[Literal["both", "network", "linear"], ...] = ("both", "network", "linear")
    for name in names:
        kinds: tuple[MemberKind, ...] = () if name == "both" else (name,)
        export_run(Survival(), runs, folds=["0"], model=tmp_path / name, kinds=kinds)
        model = SurvivalModel.load(tmp_path / name)
        first = patients[0]
        risks[name] = model.predict(
            first.prepared(), labels=first.labels, clinical=first.patient.clinical
        )
    assert risks["network"] != risks["linear"]
    assert risks["both"] == pytest.approx((risks["network"] + risks["linear"]) / 2)


def test_kinds_of_models_that_were_not_trained_are_not_exported(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    runs = survival_run(patients, tmp_path, with_models("linear"))
    with pytest.raises(
        HecktorError, match=r"expected kinds of models .* \(linear\), found network"
    ):
        export_run(Survival(), runs, folds=["0"], model=tmp_path / "other", kinds=["network"])
    assert not (tmp_path / "other").exists()
