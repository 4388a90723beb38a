"""Writes cohorts to disk, in the layout of the challenge or as cases of the platform.

A cohort folder holds `cohort.json` (the recipe and, once the cohort is complete, the best possible
scores, see `oracle`), `cohort.jsonl` (one line for each finished patient) and the patients. Each
patient is written to a temporary folder and then moved, so that an interrupted cohort can be
resumed. Patients depend only on the recipe.

    challenge   Task 1|2|3/<ID>/<ID>__CT.nii.gz, __PT.nii.gz; Task 1: <ID>.nii.gz; Task 2, for a
                few: __CTPlanning.nii.gz, __RTDOSE.nii.gz; HECKTOR_2025_Training_Task_N.csv
    cases       <ID>/input/ in the platform's layout, <ID>/truth.nii.gz and truth.json;
                ground_truth/patients.csv and ground_truth/masks/<ID>.nii.gz for the evaluation
                image; `python -m evaluation run` reads the truth.* files instead
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

from shared.editions import CURRENT
from shared.files import write_whole
from training.phantom.oracle import oracle_scores
from training.phantom.patient import ANY_KIND, Kind, PhantomPatient, make_patient
from training.phantom.real.folder import fingerprint

GENERATOR_VERSION = 2
RECIPE, RECORDS, PARTIAL = "cohort.json", "cohort.jsonl", ".partial"
CLINICAL_COLUMNS = ("CenterID", "Age", "Gender", "Tobacco Consumption", "Alcohol Consumption",
                    "Performance Status", "Treatment", "M-stage")  # fmt: skip
TASK_COLUMNS = {1: (), 2: ("Relapse", "RFS"), 3: ("HPV Status",)}
TRUTH = "ground_truth"
TRUTH_COLUMNS = ("CenterID", "FieldOfView", "Relapse", "RFS", "HPV Status")

Record: TypeAlias = dict[str, Any]
"""A patient's line in `cohort.jsonl`."""


def _make_recipe(seed: int, kind: Kind, *, tasks: Sequence[int], as_cases: bool) -> dict[str, Any]:
    # The folder of real CTs may be moved, but not renamed: its name and contents identify it.
    anatomy = None if kind.anatomy is None else fingerprint(kind.anatomy)
    recipe = {
        "made_by": "training.phantom",
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "kind": {**asdict(kind), "anatomy": anatomy},
        "layout": "cases" if as_cases else "challenge",
        "tasks": [] if as_cases else sorted(tasks),
    }
    return json.loads(json.dumps(recipe))


def _claim_folder(folder: Path, recipe: dict[str, Any]) -> None:
    """Write the recipe to a new or empty folder, or check that the folder has the same recipe."""
    path = folder / RECIPE
    if path.exists():
        existing = json.loads(path.read_text())
        differences = [key for key, value in recipe.items() if existing.get(key) != value]
        if differences:
            raise ValueError(
                f"{folder} holds a cohort with other options (its {RECIPE} differs in "
                f"{', '.join(differences)}): use another folder or the same options"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and has no {RECIPE}: use a new or an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write_json(recipe, path)


def _write_image(image: sitk.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system, or hard links are not supported
        shutil.copy2(source, target)


def _write_json(value: object, path: Path) -> None:
    write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_case(patient: PhantomPatient, folder: Path) -> None:
    """Write one case of the platform: `input/`, `truth.nii.gz`, `truth.json`."""
    name = patient.patient_id
    _write_image(patient.ct_hu, folder / "input" / CURRENT.ct.path / f"{name}.mha")
    _write_image(patient.pet_suv, folder / "input" / CURRENT.pet.path / f"{name}.mha")
    if patient.plan:
        _write_image(patient.plan.ct_hu, folder / "input/images/ct-planning" / f"{name}.mha")
        _write_image(patient.plan.dose_gy, folder / "input/images/rt-dose" / f"{name}.mha")
    _write_image(patient.labels, folder / "truth.nii.gz")
    _write_json(patient.ehr, folder / "input" / CURRENT.ehr.path)
    truth = {"hpv": patient.hpv, "relapse": patient.relapse, "rfs_days": patient.rfs_days}
    _write_json({**truth, "facts": patient.facts}, folder / "truth.json")


def write_patient(
    patient: PhantomPatient, folder: Path, *, task: int, images_from: Path | None
) -> None:
    """Write one patient in the challenge's layout.

    Parameters
    ----------
    task : 1, 2 or 3. Task 1 has the labels; Task 2 has the planning CT and the dose, if any.
    images_from : folder of this patient in another task, whose images are linked instead of
        written; None to write them.
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
    if target.exists():  # from a run that stopped before it recorded the patient
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def make_one(
    folder: Path, *, seed: int, index: int, kind: Kind, tasks: Sequence[int], as_cases: bool
) -> Record:
    """Make one patient, move it into the cohort folder, and return its record."""
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
            target = partial / str(task)
            images_from = None if target == first else first
            write_patient(patient, target, task=task, images_from=images_from)
        for task in tasks:
            _move_in(partial / str(task), folder / f"Task {task}" / name)
        partial.rmdir()
    return {
        "index": index, "PatientID": name, "ehr": patient.ehr, "hpv": patient.hpv,
        "relapse": patient.relapse, "rfs_days": patient.rfs_days, "facts": patient.facts,
    }  # fmt: skip


def _outcome_columns(record: Record) -> dict[str, Any]:
    """Return the outcome columns of the tables; the HPV status is empty if not recorded."""
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
            writer.writerow(row | record["ehr"] | _outcome_columns(record))


def read_records(folder: Path) -> list[Record]:
    """Return the records of a cohort's finished patients, sorted by index; empty if none exist."""
    path = folder / RECORDS
    if not path.exists():
        return []
    records = {}
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # cut off when the run was stopped; the patient is made again
            continue
        records[record["index"]] = record
    return [records[index] for index in sorted(records)]


def make_cohort(
    folder: Path | str,
    patients: int,
    *,
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
        A new or empty folder, or a cohort with the same options, which is then completed.
    patients
        Number of patients of the complete cohort.
    seed, kind
        See `make_patient`.
    workers
        Number of processes. It does not affect the patients.
    tasks
        Tasks whose folders are written in the challenge's layout. Hard links share the images.
    as_cases
        Write cases of the platform instead of the challenge's layout.

    Raises
    ------
    ValueError
        If the folder holds other files or a cohort with other options, or `tasks` is empty or has
        an unknown task.
    """
    folder = Path(folder)
    if not as_cases and (not tasks or not set(tasks) <= set(TASK_COLUMNS)):
        raise ValueError(f"expected tasks among 1, 2, 3, found {list(tasks)}")
    recipe = _make_recipe(seed, kind, tasks=tasks, as_cases=as_cases)
    _claim_folder(folder, recipe)
    finished = {record["index"] for record in read_records(folder)}
    missing = [index for index in range(patients) if index not in finished]
    records_path = folder / RECORDS
    if records_path.exists() and not records_path.read_bytes().endswith(b"\n"):
        with records_path.open("a") as file:
            file.write("\n")
    # Spawn, because SimpleITK's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(
                make_one, folder, seed=seed, index=index, kind=kind, tasks=tuple(tasks),
                as_cases=as_cases,
            )
            for index in missing
        ]  # fmt: skip
        try:
            progress = tqdm(as_completed(futures), total=len(futures), unit="patient", disable=None)
            for future in progress:
                with records_path.open("a") as file:
                    file.write(json.dumps(future.result()) + "\n")
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
    scores = {"patients": len(records), "oracle": oracle_scores(records)}
    _write_json({**recipe, **scores}, folder / RECIPE)
    return records
