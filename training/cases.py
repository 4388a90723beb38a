"""A training cohort as the platform's cases, and out-of-fold predictions as the jobs.

Cases are what the containers run on and what the evaluation reads. In jobs made of the out-of-fold
predictions of a folder of runs, each patient's answer is that of the models which have not seen it;
Task 3 decides at a probability of 0.5. So `python -m evaluation score` and `report` say of a
cross-validation what they say of a container.
"""

from __future__ import annotations

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
from shared.clinical import FIELDS
from shared.errors import InputError
from shared.grand_challenge import HECKTOR_2025, write_hpv, write_risk, write_segmentation
from shared.postprocessing.restore import restore
from training import out_of_fold
from training.cache import Cached
from training.data import PatientFiles

PARTIAL: Final = ".partial"


def write_cases(patients: Sequence[PatientFiles], folder: Path) -> None:
    """Write patients as cases in the platform's layout, with `truth.nii.gz` and `truth.json`.

    A case that is there already is left as it is, so a command that was stopped goes on.
    """
    for patient in tqdm(patients, desc="writing cases", unit="case"):
        target = folder / patient.patient_id
        if target.exists():
            continue
        draft = folder / f"{PARTIAL}-{patient.patient_id}"
        shutil.rmtree(draft, ignore_errors=True)
        _write_case(patient, draft)
        draft.rename(target)


def _write_case(patient: PatientFiles, folder: Path) -> None:
    edition = HECKTOR_2025
    for slug, source in ((edition.ct, patient.ct), (edition.pet, patient.pet)):
        place = folder / "input" / edition.relative_paths[slug]
        place.mkdir(parents=True)
        image = sitk.ReadImage(str(source))
        for key in image.GetMetaDataKeys():  # NIfTI's words, at which MetaImage complains
            image.EraseMetaData(key)
        target = place / f"{patient.patient_id}.mha"
        sitk.WriteImage(image, str(target), useCompression=True, compressionLevel=1)
    known = {field.ehr_name: getattr(patient.clinical, field.key) for field in FIELDS}
    ehr = {name: value for name, value in known.items() if value is not None}
    truth = {"hpv": patient.hpv, "relapse": patient.relapse, "rfs_days": patient.rfs_days}
    for path, value in (
        (folder / "input" / edition.relative_paths[edition.ehr], ehr),
        (folder / "truth.json", truth),
    ):
        path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if patient.labels is not None:
        labels = sitk.ReadImage(str(patient.labels), sitk.sitkUInt8)
        sitk.WriteImage(labels, str(folder / "truth.nii.gz"), useCompression=True)


def write_jobs(patients: Sequence[Cached], runs: Path, cases: Path, run: Path) -> list[str]:
    """Write the out-of-fold predictions of a folder of runs as the jobs of a run of `evaluation`.

    Parameters
    ----------
    patients : of the cohort that the folds are of; those without an outcome of a task have no job.
    cases : folder that `write_cases` has made of the same cohort.
    run : new folder.

    Returns
    -------
    The tasks that have predictions, by the names of their folders.

    Raises
    ------
    InputError
        If there are no predictions, some folds are not trained, or the cases are of others.
    """
    found = {case.name: case for case in cases_in(cases)}
    done = []
    answers = _answers(patients, runs)
    for task in TASKS:
        owner = answers[task.name]
        if not owner.folder.is_dir():
            continue
        names = [patient.files.patient_id for patient in owner.patients]
        missing = [name for name in names if name not in found]
        if missing:
            raise InputError(
                f"expected a case for each of {len(names)} patients in {cases}, found none for "
                f"{missing[0]}; make them of this cohort with `python -m training cases`"
            )
        store = RunStore(run / task.name)
        card = RunCard(
            task=task.name,
            made_by=f"out-of-fold predictions in {owner.folder}",
            engine="training",
            cases=str(cases.resolve()),
        )
        with store.opened():
            store.claim(card)
            for patient in tqdm(owner.patients, desc=task.name, unit="patient"):
                _write_job(store, patient, partial(owner.write, owner.folder, patient))
            store.write_predictions(task, [found[name] for name in names])
        done.append(task.name)
    if not done:
        raise InputError(
            f"expected {out_of_fold.FOLDER} of a task in {runs}, found none; train with --folds"
        )
    write_ground_truth(list(found.values()), run / GROUND_TRUTH)
    return done


@dataclass(frozen=True)
class _Answers:
    """What was predicted out of fold for one task.

    Attributes
    ----------
    folder : of the predictions.
    patients : those whose truth is known.
    write : writes an answer as the task's container does: from `folder`, of a patient, into the
        output folder of its job.
    """

    folder: Path
    patients: Sequence[Cached]
    write: Callable[[Path, Cached, Path], None]


def _answers(patients: Sequence[Cached], runs: Path) -> dict[str, _Answers]:
    """Return what each task has predicted, by the name of its folder in the repository."""
    segmented = [p for p in patients if p.files.labels is not None]
    followed = [p for p in patients if None not in (p.files.relapse, p.files.rfs_days)]
    tested = [p for p in patients if p.files.hpv is not None]
    return {
        task: _Answers(runs / name / out_of_fold.FOLDER, known, write)
        for task, name, known, write in (
            ("task1_segmentation", "segmentation", segmented, _write_labels),
            ("task2_survival", "survival", followed, _write_risk),
            ("task3_hpv", "hpv", tested, _write_hpv),
        )
    }


def _write_job(store: RunStore, patient: Cached, answer: Callable[[Path], None]) -> None:
    name = patient.files.patient_id
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


def _write_labels(folder: Path, patient: Cached, output: Path) -> None:
    labels = out_of_fold.read(folder, patient.files.patient_id).labels
    write_segmentation(output, restore(labels, patient.undo), HECKTOR_2025)


def _write_risk(folder: Path, patient: Cached, output: Path) -> None:
    (risk,) = out_of_fold.read_risks(folder, [patient.files.patient_id])
    write_risk(output, risk, HECKTOR_2025)


def _write_hpv(folder: Path, patient: Cached, output: Path) -> None:
    (probability,) = out_of_fold.read_hpv_probabilities(folder, [patient.files.patient_id])
    write_hpv(output, probability >= 0.5, HECKTOR_2025)
    (output / HPV_PROBABILITY).write_text(json.dumps(probability), encoding="utf-8")
