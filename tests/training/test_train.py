"""A training command from cohort to model folder, on patients made in memory."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from shared.clinical import ClinicalRecord
from shared.errors import HecktorError, InputError
from shared.lesions import MEASURES
from shared.metrics.probability import best_threshold
from shared.models.card import HpvCard, SegmentationCard, SurvivalCard, load_card
from shared.models.hpv import HpvModel
from shared.models.survival import SurvivalModel
from tests.training.synthetic import configuration, patient
from training import train as run
from training.cohort.cache import Cached
from training.cohort.features import fit_features
from training.cohort.folds import Fold
from training.config import Configuration
from training.loop.fit import Hardware
from training.tasks import out_of_fold
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival
from training.train import Job, Options, export_run, train

CPU = Hardware(devices=1, accelerator="cpu")


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> list[Cached]:
    folder = tmp_path_factory.mktemp("labels")
    return [
        patient(
            n, "MDA" if n % 3 else "USZ", folder, hpv=n % 2 == 0, relapse=n % 4 < 2, days=9.0 + n
        )
        for n in range(6)
    ]


@pytest.fixture(autouse=True)
def _in_memory(patients: list[Cached], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(run, "prepared", lambda *_: patients)
    monkeypatch.setattr(run, "load_configuration", lambda _: configuration(epochs=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's and MONAI's
        yield


def options(tmp_path: Path, **changes: object) -> Options:
    start = Options(seed=1, workers=0, hardware=CPU, model=tmp_path / "model", notice="For tests.")
    return dataclasses.replace(start, **changes)  # type: ignore[arg-type]


def test_folds_become_an_ensemble_a_single_model_and_predictions_for_all(
    patients: list[Cached], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, task = tmp_path / "runs", Segmentation()
    train(task, tmp_path, runs, options(tmp_path, folds=2, fold="0"))
    assert "folds are left to train" in capsys.readouterr().out
    assert not (tmp_path / "model").exists()
    with pytest.raises(HecktorError, match=r"expected fold 1 of .* trained"):
        export_run(task, runs, model=tmp_path / "model")
    train(task, tmp_path, runs, options(tmp_path, folds=2))
    card = load_card(tmp_path / "model", SegmentationCard)
    files = [member.file for member in card.members]
    assert files == ["segmentation_fold0.onnx", "segmentation_fold1.onnx"]
    assert card.training.patients == 6
    assert card.notice == "For tests."
    assert card.licence == "Apache-2.0"
    export_run(task, runs, ["1"], tmp_path / "single")
    single = load_card(tmp_path / "single", SegmentationCard)
    assert [member.file for member in single.members] == ["segmentation.onnx"]
    assert single.training.patients == 3
    folder = runs / "segmentation" / out_of_fold.FOLDER
    stated = json.loads((runs / "segmentation/folds.json").read_text())
    table = pd.read_csv(folder / out_of_fold.SCORES, index_col="PatientID")
    assert sorted(table.index) == sorted(p.files.patient_id for p in patients)
    for fold in stated["folds"]:
        for name in fold["held_out"]:
            found = out_of_fold.read(folder, name)
            assert found.fold == fold["name"] == str(table.loc[name, "fold"])
            assert found.labels.shape == patients[0].labels.shape
            assert found.probabilities.shape == (3, *found.labels.shape)
            np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=0.01)
    with pytest.raises(InputError, match="expected an out-of-fold prediction in"):
        out_of_fold.read(folder, "ABC-001")
    for other in ({"folds": 3}, {"seed": 2, "folds": 2}):
        with pytest.raises(HecktorError, match="expected the run in"):
            train(task, tmp_path, runs, options(tmp_path, **other))


def test_a_run_keeps_what_its_first_start_says(patients: list[Cached], tmp_path: Path) -> None:
    def keep(**changes: object) -> None:
        settings = configuration()
        features = fit_features(("age",), [p.files.clinical for p in patients], "minus one")
        chosen = options(tmp_path, **changes)
        run._keep_run(tmp_path, settings, settings.segmentation, features, chosen)

    with pytest.raises(HecktorError, match="expected --licence, since the weights are of 'real'"):
        keep(data="real")
    assert not (tmp_path / run.RUN).exists()
    keep(notice="Research use only.", data="real", licence="CC BY-NC 4.0")
    first = json.loads((tmp_path / run.RUN).read_text())
    keep(notice=None, hardware=Hardware(devices=2, nodes=3))
    assert json.loads((tmp_path / run.RUN).read_text()) == first
    assert first["notice"] == "Research use only."
    assert first["training"]["data"] == "real"
    assert first["licence"] == "CC BY-NC 4.0"
    keep(notice=None, data="real")
    with pytest.raises(HecktorError, match=r"expected --notice 'Research .*', with which"):
        keep(notice="Another.")
    with pytest.raises(HecktorError, match="expected --data 'real', with which the run in"):
        keep(notice=None, data="phantoms")
    with pytest.raises(HecktorError, match=r"expected --licence 'CC BY-NC 4\.0', with"):
        keep(notice=None, licence="Apache-2.0")
    for hardware, name in (
        (Hardware(precision="bf16-mixed"), "precision"),
        (Hardware(accumulate_batches=3), "accumulate_batches"),
    ):
        with pytest.raises(HecktorError, match=f"found another {name};"):
            keep(notice=None, hardware=hardware)
    older = [dataclasses.replace(p.files.clinical, age=90.0) for p in patients]
    patients = [
        dataclasses.replace(p, files=dataclasses.replace(p.files, clinical=c))
        for p, c in zip(patients, older, strict=True)
    ]
    with pytest.raises(HecktorError, match="found another features;"):
        keep(notice=None)
    assert json.loads((tmp_path / run.RUN).read_text()) == first


def first_two_held_out(patients: list[Cached], folder: Path) -> Path:
    names = [p.files.patient_id for p in patients]
    path = folder / "splits.json"
    path.write_text(json.dumps([{"train": names[2:], "val": names[:2]}]))
    return path


def test_the_other_tasks_run_on_the_same_frame(patients: list[Cached], tmp_path: Path) -> None:
    runs, splits = tmp_path / "runs", first_two_held_out(patients, tmp_path)
    with pytest.raises(HecktorError, match="expected a Task 1 network in"):
        train(Hpv(), tmp_path, runs, options(tmp_path, splits=splits))
    train(Segmentation(), tmp_path, runs, options(tmp_path, splits=splits))
    for task in (Hpv(), Survival()):
        train(task, tmp_path, runs, options(tmp_path, splits=splits, model=tmp_path / task.name))
        card = load_card(tmp_path / task.name, task.card_type)
        assert [feature.key for feature in card.clinical] == list(
            task.settings(configuration()).clinical
        )
        assert card.training.patients == 4
    (member,) = load_card(tmp_path / "survival", SurvivalCard).members
    assert member.risk_std != 1.0


def test_wherever_the_disk_was_full_the_run_goes_on(
    patients: list[Cached], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start finds no room for another file; what is written to /dev/full fails so."""
    runs = tmp_path / "runs"
    chosen = options(tmp_path, splits=first_two_held_out(patients, tmp_path))
    first = f"{patients[0].files.patient_id}.npz"
    files = (
        "folds.json", "run.json", "best.ckpt", "last.ckpt", "network.pt", "result.json", first,
        "member.json",
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
                train(Segmentation(), tmp_path, runs, chosen)
        assert not list(runs.rglob(name))
    train(Segmentation(), tmp_path, runs, chosen)
    assert load_card(tmp_path / "model", SegmentationCard).training.patients == 4


def with_outcome(cached: Cached, **changes: bool | None) -> Cached:
    return dataclasses.replace(cached, files=dataclasses.replace(cached.files, **changes))


def test_task_2_learns_from_what_it_will_be_served(
    patients: list[Cached], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = [with_outcome(p, relapse=True) for p in patients]
    cohort[0] = with_outcome(cohort[0], hpv=None)
    monkeypatch.setattr(run, "prepared", lambda *_: cohort)
    settings = configuration(epochs=1)
    stated = {"masks": "predicted", "hpv": "predicted", "mirror": True, "clinical_dropout": 0.2}
    survival = settings.survival.model_copy(update=stated)
    settings = settings.model_copy(update={"survival": survival})
    monkeypatch.setattr(run, "load_configuration", lambda _: settings)
    runs = tmp_path / "runs"

    with pytest.raises(InputError, match="train all folds of Task 1"):
        train(Survival(), tmp_path, runs, options(tmp_path, folds=2))
    train(Segmentation(), tmp_path, runs, options(tmp_path, folds=2))
    with pytest.raises(InputError, match="train all folds of Task 3"):
        train(Survival(), tmp_path, runs, options(tmp_path, folds=2))
    train(Hpv(), tmp_path, runs, options(tmp_path, folds=2))
    table = pd.read_csv(runs / "hpv" / out_of_fold.FOLDER / out_of_fold.LOGITS)
    counts = table["PatientID"].value_counts()
    assert counts.to_dict() == {p.files.patient_id: 1 for p in patients[1:]} | {
        patients[0].files.patient_id: 2
    }
    train(Survival(), tmp_path, runs, options(tmp_path, folds=2))

    known = table.dropna(subset="HPV Status")
    assert known["PatientID"].tolist() == sorted(p.files.patient_id for p in patients[1:])
    chosen = settings.hpv.model_copy(update={"threshold": "out of fold"})
    settings = settings.model_copy(update={"hpv": chosen})
    probability = 1 / (1 + np.exp(-known["logit"]))
    threshold = Hpv().card(settings, runs / "hpv", ["network"])["threshold"]
    assert threshold == pytest.approx(best_threshold(probability, known["HPV Status"]))
    assert Hpv().card(configuration(), runs / "hpv", ["network"])["threshold"] == 0.5

    (fed,) = Survival().fed(cohort[:1], runs, settings)
    logits = table.loc[table["PatientID"] == fed.files.patient_id, "logit"]
    assert fed.files.clinical.hpv == pytest.approx(1 / (1 + np.exp(-logits.mean())))
    found = out_of_fold.read(runs / "segmentation" / out_of_fold.FOLDER, fed.files.patient_id)
    np.testing.assert_array_equal(fed.labels, found.labels)
    truth = settings.survival.model_copy(update={"masks": "true", "hpv": "true"})
    papers = settings.model_copy(update={"survival": truth})
    assert Survival().fed(cohort[1:], runs, papers) == cohort[1:]


def with_models(models: str, **more: str) -> Configuration:
    stated = configuration(epochs=1).model_dump()
    for name in ("hpv", "survival"):
        stated[name] |= {"models": models, **more}
    return Configuration.model_validate(stated)


def test_linear_models_serve_what_was_fitted(
    patients: list[Cached], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "load_configuration", lambda _: with_models("linear"))
    runs = tmp_path / "runs"
    train(Hpv(), tmp_path, runs, options(tmp_path, folds=2))  # needs no network of Task 1
    card = load_card(tmp_path / "model", HpvCard)
    assert [member.file for member in card.members] == [
        "hpv_fold0_linear.onnx",
        "hpv_fold1_linear.onnx",
    ]
    assert card.measures == MEASURES
    assert (
        HpvModel.load(tmp_path / "model")
        .describe()[1]
        .startswith("hpv model: demo configuration, 2 linear models")
    )
    table = pd.read_csv(runs / "hpv" / out_of_fold.FOLDER / out_of_fold.LOGITS)
    assert set(table["kind"]) == {"linear"}
    for fold in "01":
        export_run(Hpv(), runs, [fold], tmp_path / fold)
        model = HpvModel.load(tmp_path / fold)
        for patient_id, logit in table[table["fold"] == int(fold)][["PatientID", "logit"]].values:
            (p,) = [p for p in patients if p.files.patient_id == patient_id]
            served = model.predict(p.prepared(), p.files.clinical, p.labels).logit
            assert served == pytest.approx(logit, rel=1e-3)


def survival_run(patients: list[Cached], folder: Path) -> Path:
    """Train Task 2 with the first two patients held out; return the folder of runs."""
    runs, splits = folder / "runs", first_two_held_out(patients, folder)
    train(Survival(), folder, runs, options(folder, splits=splits))
    return runs


def test_networks_and_linear_models_are_averaged(
    patients: list[Cached], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "load_configuration", lambda _: with_models("both"))
    runs = survival_run(patients, tmp_path)
    kinds = {"both": (), "network": ("network",), "linear": ("linear",)}
    risks = {}
    for name, kind in kinds.items():
        export_run(Survival(), runs, ["0"], tmp_path / name, kinds=kind)
        model = SurvivalModel.load(tmp_path / name)
        risks[name] = model.predict(
            patients[0].prepared(), patients[0].labels, patients[0].files.clinical
        )
    assert risks["network"] != risks["linear"]
    assert risks["both"] == pytest.approx((risks["network"] + risks["linear"]) / 2)


def test_measures_are_of_true_or_predicted_lesions(patients: list[Cached], tmp_path: Path) -> None:
    def volume(**settings: str) -> float:
        job = Job(with_models("linear", **settings), (), (), (), None, 0, 0, tmp_path)
        return float(Hpv().linear_inputs(patients[:1], job)[0, 0])

    assert volume() == pytest.approx(np.log1p(np.count_nonzero(patients[0].labels) * 0.216))
    with pytest.raises(InputError, match="train all folds of Task 1"):
        volume(masks="predicted")


def test_models_that_were_not_trained_are_not_exported(
    patients: list[Cached], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "load_configuration", lambda _: with_models("linear"))
    runs = survival_run(patients, tmp_path)
    with pytest.raises(HecktorError, match=r"expected models of the kinds .* linear, found netw"):
        export_run(Survival(), runs, ["0"], tmp_path / "model", kinds=["network"])


def test_a_fold_with_one_hpv_status_is_refused(patients: list[Cached]) -> None:
    positive = [p for p in patients if p.files.hpv]
    job = Job(configuration(), patients, positive, (), None, 0, 0, Path())
    with pytest.raises(InputError, match=r"fold 2: expected patients of both .* held out, found 3"):
        Hpv().check(job, Fold("2", (), ()))


@pytest.mark.parametrize("held_out", [[False, False, True], [False, False, False]])
def test_a_fold_whose_risks_cannot_be_ranked_is_refused(
    patients: list[Cached], held_out: list[bool]
) -> None:
    cohort = [with_outcome(p, relapse=r) for p, r in zip(patients[:3], held_out, strict=True)]
    job = Job(configuration(), patients, cohort, (), None, 0, 0, Path())
    with pytest.raises(InputError, match="fold 2: expected a recurrence among the 6 trained on"):
        Survival().check(job, Fold("2", (), ()))
    Survival().check(dataclasses.replace(job, held_out=patients), Fold("2", (), ()))


def test_ways_to_hold_out_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(HecktorError, match="expected one of --folds, --by-centre and --splits"):
        train(Segmentation(), tmp_path, tmp_path, options(tmp_path, folds=2, by_centre=True))


def test_a_fold_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HecktorError, match="expected one of the folds 0, 1, found '7'"):
        train(Segmentation(), tmp_path, tmp_path, options(tmp_path, folds=2, fold="7"))


@pytest.mark.parametrize("part", ["trained on", "held out"])
def test_a_fold_with_no_node_at_all_is_refused(patients: list[Cached], part: str) -> None:
    without = [dataclasses.replace(p, labels=np.minimum(p.labels, 1)) for p in patients]
    fitted = without[:4] if part == "trained on" else patients[:4]
    job = Job(configuration(), fitted, without[4:], (), None, 0, 0, Path())
    with pytest.raises(InputError, match=rf"fold 3: expected a patient with GTVn .* {part}"):
        Segmentation().check(job, Fold("3", (), ()))


def test_fewer_patients_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected at least the 2 patients of a batch"):
        train(Segmentation(), tmp_path, tmp_path, options(tmp_path, held_out=5))


def test_fewer_held_out_than_processes_are_refused(tmp_path: Path) -> None:
    two = Hardware(devices=2, accelerator="cpu")
    with pytest.raises(InputError, match="held-out patient for each of the 2 processes, found 1"):
        train(Segmentation(), tmp_path, tmp_path, options(tmp_path, held_out=1, hardware=two))


def test_a_gpu_that_is_not_there_is_told_of_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    gpu = Hardware(accelerator="gpu")
    with pytest.raises(HecktorError, match="expected a GPU that torch sees"):
        train(Segmentation(), tmp_path, tmp_path / "runs", options(tmp_path, hardware=gpu))
    assert not (tmp_path / "runs").exists()


def without_outline(cached: Cached) -> Cached:
    files = dataclasses.replace(cached.files, labels=None)
    return dataclasses.replace(cached, files=files, labels=np.zeros_like(cached.labels))


def test_patients_without_a_label_map_are_segmented_for_the_later_tasks(
    patients: list[Cached], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = [*patients[:5], without_outline(patients[5])]
    monkeypatch.setattr(run, "prepared", lambda *_: cohort)
    runs = tmp_path / "runs"
    train(Segmentation(), tmp_path, runs, options(tmp_path, folds=2))
    folder, name = runs / "segmentation" / out_of_fold.FOLDER, cohort[5].files.patient_id
    assert out_of_fold.read(folder, name).labels.shape == cohort[5].labels.shape
    scored = pd.read_csv(folder / out_of_fold.SCORES)["PatientID"].tolist()
    assert scored == sorted(p.files.patient_id for p in cohort[:5])
    for task in (Hpv(), Survival()):
        with pytest.raises(InputError, match=rf"found 1 without, such as {name}; set masks ="):
            task.fed(cohort, runs, configuration())


def test_what_was_not_outlined_teaches_no_outlines(patients: list[Cached]) -> None:
    def gradient(cohort: list[Cached]) -> torch.Tensor:
        job = Job(configuration(), cohort, cohort, (), None, 0, 0, Path())
        torch.manual_seed(0)
        module = Hpv().module(job).eval()
        batch = next(iter(Hpv().loaders(job)[0]))
        module.loss(batch).backward()
        last = next(p for name, p in module.named_parameters() if "output_block" in name)
        assert last.grad is not None
        return last.grad

    assert gradient(patients[:2]).abs().max() > 0
    assert not gradient([without_outline(p) for p in patients[:2]]).any()


@pytest.mark.parametrize(("status", "expected"), [(True, 1.0), (False, 0.0), (None, None)])
def test_training_of_task_2_sees_the_true_hpv_status(
    status: bool | None, expected: float | None
) -> None:
    seen = Survival().seen(patient(0, hpv=status, relapse=True, days=3.0))
    assert seen is not None
    assert seen.files.clinical == ClinicalRecord(age=50.0, gender=1.0, hpv=expected)
    assert Survival().seen(patient(0, hpv=status)) is None


def test_card_names_no_path_of_the_training_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["training", "hpv", "/data/secret/train", "/data/runs", "--data", "two words"]
    monkeypatch.setattr(run.sys, "argv", words)
    training = run._training("phantoms", 3)
    assert training["command"] == "python -m training hpv train runs --data 'two words'"
    assert (training["data"], training["seed"]) == ("phantoms", 3)
    assert training["revision"]
