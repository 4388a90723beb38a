"""A training cohort as the platform's cases, and out-of-fold predictions as the jobs.

Cases are what the containers run on and what the evaluation reads. In jobs made of the out-of-fold
predictions of a folder of runs, each patient's answer is that of the models which have not seen it.
So `python -m evaluation score` and `report` say of a cross-validation what they say of a container,
with two differences. C-index and AUC rank patients of all folds together, though their numbers come
from different models: risks are standardised in each fold, probabilities are not. And Task 3
decides at a probability of 0.5, whatever threshold the card of a model states.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import SimpleITK as sitk
from tqdm import tqdm

from evaluation.outputs import HPV_PROBABILITY
from evaluation.running.cases import cases_in
from evaluation.running.store import OUTPUT, JobRecord, RunCard, RunStore
from evaluation.running.tasks import TASKS
from evaluation.running.truth import GROUND_TRUTH, write_ground_truth
from shared.clinical import EHR_VARIABLES
from shared.errors import InputError
from shared.files import write_whole
from shared.grand_challenge.outputs import write_hpv, write_risk, write_segmentation
from shared.models.card import sha256_of
from shared.postprocessing.restore import restore
from shared.tasks import CURRENT
from training.cohort.cache import PreparedPatient
from training.cohort.layout import Patient
from training.tasks import out_of_fold

DRAFTS: Final = ".partial"
"""Folder of the cases that are not finished; none of it counts as a case."""


def write_cases(patients: Sequence[Patient], folder: Path) -> None:
    """Write patients as cases in the platform's layout, with `truth.nii.gz` and `truth.json`.

    Of a case that is there already the images are left as they are, so a command that was stopped
    goes on; record and outcomes are written again where the cohort's tables say something else.
    """
    for patient in tqdm(patients, desc="writing cases", unit="case"):
        target = folder / patient.patient_id
        if target.exists():
            _write_texts(patient, target)
            continue
        draft = folder / DRAFTS / patient.patient_id
        shutil.rmtree(draft, ignore_errors=True)
        _write_images(patient, draft)
        _write_texts(patient, draft)
        draft.rename(target)
    shutil.rmtree(folder / DRAFTS, ignore_errors=True)


def _write_images(patient: Patient, folder: Path) -> None:
    edition = CURRENT
    for socket, source in ((edition.ct, patient.ct), (edition.pet, patient.pet)):
        place = folder / "input" / socket.path
        place.mkdir(parents=True)
        image = sitk.ReadImage(str(source))
        for key in image.GetMetaDataKeys():  # NIfTI's words, at which MetaImage complains
            image.EraseMetaData(key)
        target = place / f"{patient.patient_id}.mha"
        sitk.WriteImage(image, str(target), useCompression=True, compressionLevel=1)
    if patient.labels is not None:
        labels = sitk.ReadImage(str(patient.labels), sitk.sitkUInt8)
        sitk.WriteImage(labels, str(folder / "truth.nii.gz"), useCompression=True)


def _write_texts(patient: Patient, folder: Path) -> None:
    values = {name: getattr(patient.clinical, v.key) for name, v in EHR_VARIABLES.items()}
    ehr = {name: value for name, value in values.items() if value is not None}
    truth = {"hpv": patient.hpv, "relapse": patient.relapse, "rfs_days": patient.rfs_days}
    for path, value in (
        (folder / "input" / CURRENT.ehr.path, ehr),
        (folder / "truth.json", truth),
    ):
        text = json.dumps(value, indent=2, allow_nan=False) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text)


def write_jobs(
    patients: Sequence[PreparedPatient], runs: Path, *, cases: Path, folder: Path
) -> list[str]:
    """Write the out-of-fold predictions of a folder of runs as the platform's jobs.

    Parameters
    ----------
    patients : of the cohort of the folds; patients without an outcome of a task have no job in it.
    cases : folder that `write_cases` has written for the same cohort; cases of other patients get
        no truth and are not scored.
    folder : new, or with jobs of the same predictions, which are completed.

    Returns
    -------
    The names of the algorithms that have predictions.

    Raises
    ------
    InputError
        If there are no predictions, some folds are not trained, a patient has no case, or the
        folder has jobs of other predictions. No job is written then.
    """
    found = {case.name: case for case in cases_in(cases)}
    answers = _answers(patients, runs)
    trained = [(task, answers[task.name]) for task in TASKS if answers[task.name].folder.is_dir()]
    if not trained:
        raise InputError(
            f"expected {out_of_fold.FOLDER} of a task in {runs}, found none; train with --folds"
        )
    for _, owner in trained:
        missing = [name for name in owner.names if name not in found]
        if missing:
            raise InputError(
                f"expected a case for each of {len(owner.names)} patients in {cases}, found none "
                f"for {missing[0]}; make them of this cohort with `python -m training cases`"
            )
        owner.require(owner.folder, owner.names)
    for task, owner in trained:
        card = RunCard(
            task=task.name,
            made_by=f"out-of-fold predictions in {owner.folder}, sha256 {owner.digest()}",
            engine="training",
            cases=str(cases.resolve()),
        )
        store = RunStore(folder / task.name)
        with store.opened():
            store.claim(card)
    names = [patient.patient_id for patient in patients]
    write_ground_truth([found[name] for name in names if name in found], folder / GROUND_TRUTH)
    for task, owner in trained:
        store = RunStore(folder / task.name)
        with store.opened():
            for patient in tqdm(owner.patients, desc=task.name, unit="patient"):
                _write_job(store, patient, partial(owner.write, owner.folder, patient))
            store.write_predictions(task, [found[name] for name in owner.names])
    return [task.name for task, _ in trained]


@dataclass(frozen=True)
class _Answers:
    """What was predicted out of fold for one task.

    Attributes
    ----------
    folder : of the predictions.
    patients : those whose truth is known.
    require : raises InputError if `folder` lacks a prediction of one of some patients.
    write : writes an answer as the task's container does: from `folder`, of a patient, into the
        output folder of its job.
    """

    folder: Path
    patients: Sequence[PreparedPatient]
    require: Callable[[Path, Sequence[str]], object]
    write: Callable[[Path, PreparedPatient, Path], None]

    @property
    def names(self) -> list[str]:
        """The patients' IDs."""
        return [patient.patient_id for patient in self.patients]

    def digest(self) -> str:
        """Return a hash of the predictions, which those of another training change."""
        files = sorted(self.folder.glob("[!.]*"))
        return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()[:16]


def _answers(patients: Sequence[PreparedPatient], runs: Path) -> dict[str, _Answers]:
    """Return what each task has predicted, by the name of its folder in the repository."""
    segmented = [p for p in patients if p.patient.labels is not None]
    followed = [p for p in patients if None not in (p.patient.relapse, p.patient.rfs_days)]
    tested = [p for p in patients if p.patient.hpv is not None]
    return {
        task: _Answers(runs / name / out_of_fold.FOLDER, known, require, write)
        for task, name, known, require, write in (
            ("task1_segmentation", "segmentation", segmented, out_of_fold.require, _write_labels),
            ("task2_survival", "survival", followed, out_of_fold.read_risks, _write_risk),
            ("task3_hpv", "hpv", tested, out_of_fold.read_hpv_probabilities, _write_hpv),
        )
    }


def _write_job(store: RunStore, patient: PreparedPatient, answer: Callable[[Path], None]) -> None:
    name = patient.patient_id
    with store.locked(name):
        if store.record(name) is not None:
            return
        draft = store.draft(name)
        (draft / OUTPUT).mkdir()
        answer(draft / OUTPUT)
        for log in ("stdout.txt", "stderr.txt"):
            (draft / log).touch()
        record = JobRecord(
            case=name, status="Succeeded", reason=None, seconds=0.0, peak_memory_gb=None
        )
        store.move_in(draft, record)


def _write_labels(folder: Path, patient: PreparedPatient, output: Path) -> None:
    labels = out_of_fold.read(folder, patient.patient_id).labels
    write_segmentation(output, restore(labels, patient.undo), CURRENT)


def _write_risk(folder: Path, patient: PreparedPatient, output: Path) -> None:
    (risk,) = out_of_fold.read_risks(folder, [patient.patient_id])
    write_risk(output, risk, CURRENT)


def _write_hpv(folder: Path, patient: PreparedPatient, output: Path) -> None:
    (probability,) = out_of_fold.read_hpv_probabilities(folder, [patient.patient_id])
    write_hpv(output, probability >= 0.5, CURRENT)
    (output / HPV_PROBABILITY).write_text(json.dumps(probability), encoding="utf-8")
