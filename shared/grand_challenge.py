"""The platform's contract: where inputs lie, where outputs go, how a job ends.

The only module that knows `/input`, `/output`, sockets and editions of the challenge. Socket
names, output names and the sign of the risk belong to an `Edition`: another year is another
constant, not another code path. `main` is the entry point of every container.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import SimpleITK as sitk

from shared.case import Case
from shared.clinical import parse_ehr
from shared.conventions import AIR_HU, NO_UPTAKE_SUV
from shared.errors import HecktorError, InputError
from shared.models.card import CARD_NAME
from shared.resources import granted_cpus, peak_memory_gb

IMAGE_READERS: Final = {".mha": "MetaImageIO", ".tif": "TIFFImageIO", ".tiff": "TIFFImageIO"}
"""SimpleITK's readers of the platform's image files, by their suffix in lower case."""
MODEL_TARBALL: Final = Path("/opt/ml/model")
"""Where the platform unpacks a model tarball; empty when none was uploaded."""

Model = TypeVar("Model")


@dataclass(frozen=True)
class Edition:
    """What one year's challenge calls its inputs and outputs.

    Attributes
    ----------
    name : of the challenge, with its year.
    ct, pet, ehr : slugs of the input sockets.
    relative_paths : where each socket lies below the input folder when `inputs.json` does not say.
    optional : sockets that no algorithm here reads; their presence is logged.
    segmentation, risk, hpv : output paths below the output folder.
    risk_sign : 1 if the platform wants higher = earlier recurrence, -1 for the reverse.
    """

    name: str
    ct: str
    pet: str
    ehr: str
    relative_paths: dict[str, str]
    optional: tuple[str, ...]
    segmentation: str
    risk: str
    hpv: str
    risk_sign: int


HECKTOR_2025: Final = Edition(
    name="HECKTOR 2025",
    ct="ct-image",
    pet="pet-image",
    ehr="electronic-health-record",
    relative_paths={
        "ct-image": "images/ct",
        "pet-image": "images/pet",
        "electronic-health-record": "ehr.json",
        "planning-ct-image": "images/ct-planning",
        "rt-dose-image": "images/rt-dose",
    },
    optional=("planning-ct-image", "rt-dose-image"),
    segmentation="images/tumor-lymph-node-segmentation/output.mha",
    risk="rfs.json",
    hpv="hpv-status.json",
    risk_sign=1,
)


def log(*lines: str) -> None:
    """Print lines to the job's log. Stderr is for the one line that explains a failure."""
    for line in lines:
        print(line, flush=True)


def read_case(input_dir: Path, edition: Edition) -> Case:
    """Read the case that the platform has laid out.

    Parameters
    ----------
    input_dir : folder of the inputs; may be a symbolic link. `inputs.json`, where present, says
        where each socket lies; else the edition's paths do.

    Raises
    ------
    InputError
        If a required input is missing, ambiguous, unreadable, or not one 3-D scalar image.
    """
    entries = _read_inputs_json(input_dir / "inputs.json")
    ct_path = _find_image(input_dir, entries, edition, edition.ct)
    ct, ct_remarks = _read_image(ct_path, edition.ct, AIR_HU)
    pet_path = _find_image(input_dir, entries, edition, edition.pet)
    pet, pet_remarks = _read_image(pet_path, edition.pet, NO_UPTAKE_SUV)
    clinical, ehr_remarks = parse_ehr(_read_ehr(input_dir, entries, edition))
    unused = tuple(
        f"{slug}: present, not used"
        for slug in edition.optional
        if _images_in(input_dir / _relative_path(entries, edition, slug))
    )
    remarks = ct_remarks + pet_remarks + ehr_remarks + unused
    return Case(ct_hu=ct, pet=pet, clinical=clinical, remarks=remarks)


def write_segmentation(output_dir: Path, mask: sitk.Image, edition: Edition) -> None:
    """Write a label map as the platform's compressed image, whole or not at all."""
    with _whole_file(output_dir, edition.segmentation) as path:
        sitk.WriteImage(mask, str(path), useCompression=True)


def write_risk(output_dir: Path, risk: float, edition: Edition) -> None:
    """Write a risk (higher = earlier recurrence), with the sign that the edition wants."""
    _write_json(output_dir, edition.risk, edition.risk_sign * risk)


def write_hpv(output_dir: Path, is_positive: bool, edition: Edition) -> None:
    """Write the decision on HPV status."""
    _write_json(output_dir, edition.hpv, is_positive)


def main(
    init_model: Callable[[Path], Model],
    run: Callable[[Model, Path, Path], None],
    baked_model: Path,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run one job and return its exit code.

    Parameters
    ----------
    init_model : loads the models from a model folder.
    run : predicts one case; takes the models, the input folder and the output folder.
    baked_model : the model folder in the image, used unless a model tarball was uploaded.
    arguments : the command line; `sys.argv` by default.

    Returns
    -------
    0; or 1 after one line on stderr, which the platform shows to the user.
    """
    parser = argparse.ArgumentParser(description="Run the algorithm on one case.")
    parser.add_argument("--input", type=Path, default=Path("/input"), help="folder of the inputs")
    parser.add_argument("--output", type=Path, default=Path("/output"), help="folder to write to")
    parser.add_argument("--model", type=Path, help="model folder (default: tarball, else baked)")
    options = parser.parse_args(arguments)
    uploaded = (MODEL_TARBALL / CARD_NAME).is_file()
    model_dir = options.model or (MODEL_TARBALL if uploaded else baked_model)

    def predict() -> None:
        log(f"models from {model_dir}")
        run(init_model(model_dir), options.input, options.output)

    return run_job(predict)


def run_job(job: Callable[[], None]) -> int:
    """Do what a container is for, and return its exit code.

    Returns
    -------
    0, the last line of the log being time and memory; or 1 after one line on stderr.
    """
    started = time.perf_counter()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(granted_cpus())
    try:
        job()
    except HecktorError as error:
        return _fail(str(error))
    except Exception as error:  # a job must end with one readable line, whatever happened
        traceback.print_exc(file=sys.stdout)
        return _fail(f"unexpected {type(error).__name__}: {error}; the log has the traceback")
    seconds = time.perf_counter() - started
    log(f"done in {seconds:.1f} s, peak memory {peak_memory_gb():.2f} GB")
    return 0


def _fail(message: str) -> int:
    sys.stdout.flush()
    print(" ".join(message.split()), file=sys.stderr, flush=True)
    return 1


@dataclass(frozen=True)
class _Entry:
    """One line of `inputs.json`."""

    relative_path: str | None
    value: object


def _read_inputs_json(path: Path) -> dict[str, _Entry] | None:
    """Return the entries of `inputs.json` by slug, or None where there is no such file."""
    if not path.exists():
        return None
    listed = _read_json(path)
    hint = f'expected {path} to be a list of objects with "socket" or "interface"'
    if not isinstance(listed, list):
        raise InputError(f"{hint}, found something else; send the platform's own file or none")
    entries = {}
    for item in listed:
        socket = None
        if isinstance(item, dict):
            socket = item.get("socket") or item.get("interface")
        if not isinstance(socket, dict) or not isinstance(socket.get("slug"), str):
            raise InputError(f"{hint}, found an entry without; send the platform's own file")
        relative = socket.get("relative_path")
        entries[socket["slug"]] = _Entry(
            relative if isinstance(relative, str) else None, item.get("value")
        )
    return entries


def _relative_path(entries: dict[str, _Entry] | None, edition: Edition, slug: str) -> str:
    listed = (entries or {}).get(slug)
    return (listed.relative_path if listed else None) or edition.relative_paths[slug]


def _require_listed(entries: dict[str, _Entry] | None, slug: str) -> None:
    if entries is not None and slug not in entries:
        raise InputError(
            f"expected the socket {slug} in inputs.json, found {', '.join(entries) or 'none'}; "
            f"add the input {slug} to the job"
        )


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_READERS)


def _find_image(
    input_dir: Path, entries: dict[str, _Entry] | None, edition: Edition, slug: str
) -> Path:
    _require_listed(entries, slug)
    folder = input_dir / _relative_path(entries, edition, slug)
    found = _images_in(folder)
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        count = "" if not found else f"{len(found)}: "
        raise InputError(
            f"expected exactly one image ({', '.join(IMAGE_READERS)}) for {slug} in {folder}, "
            f"found {count}{names}; give the case one image for this input"
        )
    return found[0]


def _read_image(path: Path, slug: str, outside: float) -> tuple[sitk.Image, tuple[str, ...]]:
    """Read one 3-D scalar image; values that are not finite become `outside`, with a remark."""
    try:
        with errors_of_libraries_in_log():
            image = sitk.ReadImage(str(path), imageIO=IMAGE_READERS[path.suffix.lower()])
    except RuntimeError:
        raise InputError(
            f"expected a readable image for {slug}, found {path} that is truncated or no image; "
            "write it again, for example with SimpleITK"
        ) from None
    components = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() != 3 or components != 1:
        raise InputError(
            f"expected a 3-D image with one value a voxel for {slug}, found {path} with "
            f"{image.GetDimension()} dimensions and {components} value(s) a voxel; "
            "give one scalar volume"
        )
    values = sitk.GetArrayViewFromImage(image)
    if not np.issubdtype(values.dtype, np.floating):
        return image, ()
    finite = np.isfinite(values)
    broken = values.size - int(np.count_nonzero(finite))
    if broken == 0:
        return image, ()
    if broken == values.size:
        raise InputError(
            f"expected numbers in {path} for {slug}, found NaN or infinity in every voxel; "
            "convert the image again"
        )
    repaired = sitk.GetImageFromArray(np.where(finite, values, values.dtype.type(outside)))
    repaired.CopyInformation(image)
    return repaired, (f"{slug}: {broken} voxels are not finite and count as {outside:g}",)


def _read_ehr(input_dir: Path, entries: dict[str, _Entry] | None, edition: Edition) -> object:
    _require_listed(entries, edition.ehr)
    path = input_dir / _relative_path(entries, edition, edition.ehr)
    listed = (entries or {}).get(edition.ehr)
    if listed is not None and listed.value is not None and not path.exists():
        return listed.value
    return _read_json(path)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError:
        raise InputError(
            f"expected a JSON file at {path}, found none; add it to the case"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"expected JSON in {path}, found a file that is none ({error}); write it again"
        ) from None


def _write_json(output_dir: Path, name: str, value: float | bool) -> None:
    if not math.isfinite(value):
        raise ValueError(f"JSON has no {value}; refused to write {name}")
    with _whole_file(output_dir, name) as path:
        path.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")


@contextmanager
def _whole_file(output_dir: Path, name: str) -> Iterator[Path]:
    """Give a temporary path to write to, and move it to its name once it is complete.

    It lies in `output_dir` itself, so that the move is atomic and no folder of images ever holds
    two files.
    """
    target = output_dir / name
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=output_dir) as folder:
        partial = Path(folder) / target.name
        yield partial
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)


@contextmanager
def errors_of_libraries_in_log() -> Iterator[None]:
    """Send what C libraries print on stderr to stdout: the platform shows stderr to the user."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(1, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
