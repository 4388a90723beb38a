"""Writes a training cohort as cases of the platform, and out-of-fold predictions as jobs.

The containers and the evaluation can then be used on a training cohort. In the jobs, the answer
about each patient comes from models that were not trained on that patient. The commands `score` and
`report` of `python -m evaluation` then treat a cross-validation like the jobs of a container. There
are two differences. First, C-index and AUC rank the patients of all folds together although their
predictions come from different models: risks are standardised within each fold, probabilities are
not. Second, Task 3 decides at a probability of 0.5, whatever threshold the card of a model states.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

import SimpleITK as sitk
from tqdm import tqdm

from evaluation.job_folder import OUTPUT
from evaluation.running.case_folders import find_cases
from evaluation.running.ground_truth import GROUND_TRUTH, write_ground_truth
from evaluation.running.job_store import JobRecord, JobsOrigin, JobStore
from shared.clinical import ehr_of
from shared.editions import CURRENT
from shared.errors import InputError
from shared.files import write_whole
from shared.models.card import sha256_of
from shared.tasks import Algorithm, TaskName
from training.cohort.cache import PreparedPatient
from training.cohort.folds import FOLDS, read_folds
from training.cohort.layout import Patient
from training.tasks import out_of_fold
from training.tasks.base import Task
from training.tasks.discovery import TASKS

DRAFTS: Final = ".partial"
"""Folder in which a case is written before it is moved to its place."""


def write_cases(patients: Sequence[Patient], folder: Path) -> None:
    """Write patients as cases in the platform's layout, with `truth.nii.gz` and `truth.json`.

    The images of an existing case are not written again, so a command that was stopped can resume.
    The clinical record and the outcomes are written again if the cohort's tables have changed.
    """
    for patient in tqdm(patients, desc="writing cases", unit="case"):
        target = folder / patient.patient_id
        if target.exists():
            _write_json(patient, target)
            continue
        draft = folder / DRAFTS / patient.patient_id
        shutil.rmtree(draft, ignore_errors=True)
        _write_images(patient, draft)
        _write_json(patient, draft)
        draft.rename(target)
    shutil.rmtree(folder / DRAFTS, ignore_errors=True)


def _write_images(patient: Patient, folder: Path) -> None:
    edition = CURRENT
    for socket, source in ((edition.ct, patient.ct), (edition.pet, patient.pet)):
        place = folder / "input" / socket.path
        place.mkdir(parents=True)
        image = sitk.ReadImage(str(source))
        for key in image.GetMetaDataKeys():  # the writer warns about NIfTI's fields
            image.EraseMetaData(key)
        target = place / f"{patient.patient_id}.mha"
        sitk.WriteImage(image, str(target), useCompression=True, compressionLevel=1)
    if patient.labels is not None:
        labels = sitk.ReadImage(str(patient.labels), sitk.sitkUInt8)
        sitk.WriteImage(labels, str(folder / "truth.nii.gz"), useCompression=True)


def _write_json(patient: Patient, folder: Path) -> None:
    truth = {"hpv": patient.hpv, "relapse": patient.relapse, "rfs_days": patient.rfs_days}
    for path, value in (
        (folder / "input" / CURRENT.ehr.path, ehr_of(patient.clinical)),
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
    patients : the patients of the cohort; a patient without a task's outcome, or whom no fold holds
        out, has no job for it.
    runs : the folder of training runs.
    cases : folder that `write_cases` wrote for the same cohort; cases of other patients are
        ignored.
    folder : a new folder, or one with some jobs of the same predictions; missing jobs are added.

    Returns
    -------
    The names of the algorithms that have predictions.

    Raises
    ------
    InputError
        If there are no predictions, some folds are not trained, a patient has no case, or the
        folder has jobs of other predictions. No job is written then.
    """
    case_folders = {case.name: case for case in find_cases(cases)}
    predictions = {name: _Predictions.of(task, patients, runs) for name, task in TASKS.items()}
    algorithms = [
        algorithm
        for algorithm in CURRENT.algorithms
        if all(predictions[task].folder.is_dir() for task in algorithm.tasks)
    ]
    if not algorithms:
        raise InputError(
            f"expected TASK/{out_of_fold.FOLDER} of all tasks of an algorithm in {runs}, found "
            "none; train with --folds first"
        )
    patients_of = {a.name: _patients_of(a, predictions) for a in algorithms}
    for algorithm in algorithms:
        missing = [
            p.patient_id for p in patients_of[algorithm.name] if p.patient_id not in case_folders
        ]
        if missing:
            raise InputError(
                f"expected a case in {cases} for each of {len(patients_of[algorithm.name])} "
                f"patients, found none for {missing[0]}; make the cases from this cohort with "
                "`python -m training cases`"
            )
        for task in algorithm.tasks:
            predictions[task].require_all()
    for algorithm in algorithms:
        store = JobStore(folder / algorithm.name)
        with store.opened():
            store.claim(_origin(algorithm, predictions, cases))
    tasks = {task for algorithm in algorithms for task in algorithm.tasks}
    scored = [
        case_folders[patient.patient_id]
        for patient in patients
        if patient.patient_id in case_folders
        and all(predictions[task].covers(patient) for task in tasks)
    ]
    write_ground_truth(scored, folder / GROUND_TRUTH)
    for algorithm in algorithms:
        store = JobStore(folder / algorithm.name)
        with store.opened():
            for patient in tqdm(patients_of[algorithm.name], desc=algorithm.name, unit="patient"):
                answers = [partial(predictions[task].write, patient) for task in algorithm.tasks]
                _write_job(store, patient, answers)
            jobs = [case_folders[p.patient_id] for p in patients_of[algorithm.name]]
            store.write_predictions(algorithm, jobs)
    return [algorithm.name for algorithm in algorithms]


@dataclass(frozen=True, kw_only=True)
class _Predictions:
    """The out-of-fold predictions of one task.

    Attributes
    ----------
    patients : the patients whose outcome of this task is known, and whom the run's folds hold out.
    """

    task: Task
    folder: Path
    patients: Sequence[PreparedPatient]

    @classmethod
    def of(cls, task: Task, patients: Sequence[PreparedPatient], runs: Path) -> Self:
        """Return the predictions of a task in a folder of runs."""
        folder, known = runs / task.name, [p for p in patients if task.has_truth(p.patient)]
        if (folder / FOLDS).exists():
            held_out = {name for fold in read_folds(folder).folds for name in fold.held_out}
            known = [patient for patient in known if patient.patient_id in held_out]
        return cls(task=task, folder=folder / out_of_fold.FOLDER, patients=known)

    def covers(self, patient: PreparedPatient) -> bool:
        """Return whether the task has a prediction for a patient, or no truth to compare it with.

        A patient with a truth but without a prediction would be scored as a failure.
        """
        covered = {each.patient_id for each in self.patients}
        return not self.task.has_truth(patient.patient) or patient.patient_id in covered

    def require_all(self) -> None:
        """Raise InputError if a patient's prediction is missing."""
        names = [patient.patient_id for patient in self.patients]
        self.task.require_predictions(self.folder, names)

    def write(self, patient: PreparedPatient, output: Path) -> None:
        """Write the answer about a patient to the output folder of a job."""
        self.task.write_answer(self.folder, patient, output)

    def digest(self) -> str:
        """Return a short hash of the predictions, which differs after another training."""
        files = sorted(self.folder.glob("[!.]*"))
        return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()[:16]


def _patients_of(
    algorithm: Algorithm, predictions: Mapping[TaskName, _Predictions]
) -> list[PreparedPatient]:
    """Return the patients whose truth is known for all tasks of an algorithm."""
    first, *others = (predictions[task].patients for task in algorithm.tasks)
    names = [{patient.patient_id for patient in patients} for patients in others]
    return [p for p in first if all(p.patient_id in each for each in names)]


def _origin(
    algorithm: Algorithm, predictions: Mapping[TaskName, _Predictions], cases: Path
) -> JobsOrigin:
    sources = (predictions[task] for task in algorithm.tasks)
    source = ", ".join(f"{each.folder} ({each.digest()})" for each in sources)
    return JobsOrigin(
        algorithm=algorithm.name,
        source=f"out-of-fold predictions in {source}",
        engine="training",
        cases=str(cases.resolve()),
    )


def _write_job(
    store: JobStore, patient: PreparedPatient, answers: Sequence[Callable[[Path], None]]
) -> None:
    name = patient.patient_id
    with store.locked(name):
        if store.record(name) is not None:
            return
        draft = store.draft(name)
        (draft / OUTPUT).mkdir()
        for answer in answers:
            answer(draft / OUTPUT)
        for log in ("stdout.txt", "stderr.txt"):
            (draft / log).touch()
        record = JobRecord(
            case=name, status="Succeeded", reason=None, seconds=0.0, peak_memory_gb=None
        )
        store.move_in(draft, record)
