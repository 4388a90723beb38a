"""Cohorts on disk: the challenge's layout, or Grand Challenge case folders.

A cohort folder holds `cohort.json` (the card: what made it and, once it is complete, the oracle's
scores), `cohort.jsonl` (one line for each finished patient) and the patients. A patient is written
aside and moved in whole, so that a stopped run can go on where it was; what a patient is depends on
the card alone, not on the run.

    challenge   Task 1|2|3/<ID>/<ID>__CT.nii.gz, __PT.nii.gz; Task 1 <ID>.nii.gz; Task 2, for a few,
                __CTPlanning.nii.gz and __RTDOSE.nii.gz; HECKTOR_2025_Training_Task_N.csv
    cases       <ID>/input/ as the platform mounts it, <ID>/truth.nii.gz and truth.json for people,
                ground_truth/patients.csv and masks/<ID>.nii.gz for the evaluation
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import SimpleITK as sitk
from tqdm import tqdm

from shared.files import write_whole
from training.phantom.oracle import oracle_scores
from training.phantom.patient import ANY_KIND, Kind, Patient, make_patient
from training.phantom.real_anatomy import fingerprint

GENERATOR_VERSION = 2
CARD, RECORDS, PARTIAL = "cohort.json", "cohort.jsonl", ".partial"
CLINICAL_COLUMNS = ("CenterID", "Age", "Gender", "Tobacco Consumption", "Alcohol Consumption",
                    "Performance Status", "Treatment", "M-stage")  # fmt: skip
TASK_COLUMNS = {1: (), 2: ("Relapse", "RFS"), 3: ("HPV Status",)}
TRUTH = "ground_truth"
TRUTH_COLUMNS = ("CenterID", "FieldOfView", "Relapse", "RFS", "HPV Status")

Record: TypeAlias = dict[str, Any]
"""A patient's line in `cohort.jsonl`."""


def _card(seed: int, kind: Kind, tasks: Sequence[int], as_cases: bool) -> dict[str, Any]:
    # the CTs by what they are, not by where: a cohort is recognised on another machine
    anatomy = None if kind.anatomy is None else fingerprint(kind.anatomy)
    card = {
        "made_by": "training.phantom",
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "kind": {**asdict(kind), "anatomy": anatomy},
        "layout": "cases" if as_cases else "challenge",
        "tasks": [] if as_cases else sorted(tasks),
    }
    return json.loads(json.dumps(card))


def _claim(folder: Path, card: dict[str, Any]) -> None:
    """Make the folder ours, or refuse one that holds anything else."""
    path = folder / CARD
    if path.exists():
        found = json.loads(path.read_text())
        differing = [key for key, value in card.items() if found.get(key) != value]
        if differing:
            raise ValueError(
                f"{folder} holds another cohort (its {CARD} differs in {', '.join(differing)}): "
                "give another folder or the same options"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and has no {CARD}: give a new or an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write_json(card, path)


def _write_image(image: sitk.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _write_json(value: object, path: Path) -> None:
    write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_case(patient: Patient, folder: Path) -> None:
    """Write one Grand Challenge case: `input/`, `truth.nii.gz`, `truth.json`."""
    name = patient.patient_id
    _write_image(patient.ct_hu, folder / "input/images/ct" / f"{name}.mha")
    _write_image(patient.pet_suv, folder / "input/images/pet" / f"{name}.mha")
    if patient.plan:
        _write_image(patient.plan.ct_hu, folder / "input/images/ct-planning" / f"{name}.mha")
        _write_image(patient.plan.dose_gy, folder / "input/images/rt-dose" / f"{name}.mha")
    _write_image(patient.labels, folder / "truth.nii.gz")
    _write_json(patient.ehr, folder / "input/ehr.json")
    truth = {"hpv": patient.hpv, "relapse": patient.relapse, "rfs_days": patient.rfs_days}
    _write_json({**truth, "facts": patient.facts}, folder / "truth.json")


def write_task(patient: Patient, folder: Path, task: int, images_from: Path | None) -> None:
    """Write one patient as the challenge does for a task.

    Parameters
    ----------
    task : Task 1 has the labels, Task 2 planning CT and dose where there are any.
    images_from : folder of another task of this patient, whose images are linked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = patient.patient_id
    for suffix, image in (("CT", patient.ct_hu), ("PT", patient.pet_suv)):
        file = f"{name}__{suffix}.nii.gz"
        if images_from:
            _link(images_from / file, folder / file)
        else:
            _write_image(image, folder / file)
    if task == 1:
        _write_image(patient.labels, folder / f"{name}.nii.gz")
    if task == 2 and patient.plan:
        _write_image(patient.plan.ct_hu, folder / f"{name}__CTPlanning.nii.gz")
        _write_image(patient.plan.dose_gy, folder / f"{name}__RTDOSE.nii.gz")


def _move_in(source: Path, target: Path) -> None:
    if target.exists():  # left by a run that stopped before it noted the patient
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def make_one(
    folder: Path, seed: int, index: int, kind: Kind, tasks: Sequence[int], as_cases: bool
) -> Record:
    """Make one patient, move it into the cohort whole, and return its record."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    patient = make_patient(seed, index, kind)
    name = patient.patient_id
    partial = folder / PARTIAL / str(index)
    shutil.rmtree(partial, ignore_errors=True)
    if as_cases:
        write_case(patient, partial)
        _move_in(partial, folder / name)
        masks = folder / TRUTH / "masks"
        masks.mkdir(parents=True, exist_ok=True)
        (masks / f"{name}.nii.gz").unlink(missing_ok=True)
        _link(folder / name / "truth.nii.gz", masks / f"{name}.nii.gz")
    else:
        first = partial / str(min(tasks))
        for task in sorted(tasks):
            own = partial / str(task)
            write_task(patient, own, task, images_from=None if own == first else first)
        for task in tasks:
            _move_in(partial / str(task), folder / f"Task {task}" / name)
        partial.rmdir()
    return {
        "index": index, "PatientID": name, "ehr": patient.ehr, "hpv": patient.hpv,
        "relapse": patient.relapse, "rfs_days": patient.rfs_days, "facts": patient.facts,
    }  # fmt: skip


def _outcome(record: Record) -> dict[str, Any]:
    """Return what the tables call the outcome; empty where it is not known."""
    hpv = record["hpv"]
    return {
        "Relapse": record["relapse"],
        "RFS": record["rfs_days"],
        "HPV Status": "" if hpv is None else int(hpv),
    }


def _write_table(path: Path, columns: Sequence[str], records: Iterable[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["PatientID", *columns], extrasaction="ignore")
        writer.writeheader()
        for record in records:
            field_of_view = "whole_body" if record["facts"]["whole_body"] else "head_neck"
            row = {"PatientID": record["PatientID"], "FieldOfView": field_of_view}
            writer.writerow(row | record["ehr"] | _outcome(record))


def read_records(folder: Path) -> list[Record]:
    """Return what is known of each finished patient of a cohort, by index."""
    path = folder / RECORDS
    if not path.exists():
        return []
    records = {}
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # a last line cut short: that patient is made again
            continue
        records[record["index"]] = record
    return [records[index] for index in sorted(records)]


def make_cohort(
    folder: Path | str,
    patients: int,
    seed: int = 0,
    kind: Kind = ANY_KIND,
    workers: int = 1,
    tasks: Sequence[int] = (1, 2, 3),
    as_cases: bool = False,
) -> list[Record]:
    """Write patients 0 to `patients` - 1 of a cohort and return their records.

    Parameters
    ----------
    folder
        New, empty, or a cohort made with the same options, which is then completed.
    patients
        How many there are to be in the end.
    seed, kind
        What `make_patient` takes.
    workers
        Number of processes; it does not change the patients.
    tasks
        Whose folders to write in the challenge's layout; images of several tasks are hard links.
    as_cases
        Write Grand Challenge case folders instead.

    Raises
    ------
    ValueError
        If the folder holds something else, or no or an unknown task is asked for.
    """
    folder = Path(folder)
    if not as_cases and (not tasks or not set(tasks) <= set(TASK_COLUMNS)):
        raise ValueError(f"expected tasks among 1, 2, 3, found {list(tasks)}")
    card = _card(seed, kind, tasks, as_cases)
    _claim(folder, card)
    done = {record["index"] for record in read_records(folder)}
    missing = [index for index in range(patients) if index not in done]
    records_path = folder / RECORDS
    if records_path.exists() and not records_path.read_bytes().endswith(b"\n"):
        with records_path.open("a") as file:
            file.write("\n")
    # spawn: SimpleITK's threads do not survive a fork
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(make_one, folder, seed, index, kind, tuple(tasks), as_cases)
            for index in missing
        ]
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), unit="patient", disable=None):
                with records_path.open("a") as file:
                    file.write(json.dumps(job.result()) + "\n")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    records = [record for record in read_records(folder) if record["index"] < patients]
    if as_cases:
        _write_table(folder / TRUTH / "patients.csv", TRUTH_COLUMNS, records)
    for task in () if as_cases else tasks:
        table = folder / f"Task {task}" / f"HECKTOR_2025_Training_Task_{task}.csv"
        _write_table(table, (*CLINICAL_COLUMNS, *TASK_COLUMNS[task]), records)
    complete = {**card, "patients": len(records), "oracle": oracle_scores(records)}
    _write_json(complete, folder / CARD)
    return records
