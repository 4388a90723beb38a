"""Reads folders of real CTs, and draws patients on them.

A folder holds pairs NAME_ct.nii.gz and NAME_labels.nii.gz (see `labels`). A CT on which no patient
can be built is skipped, and the next CT in random order is used.
`python -m training.phantom.check_anatomy FOLDER` lists which CTs are usable and why the others are
not.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from shared.errors import InputError
from training.phantom.places import SIDES
from training.phantom.pose import draw_pose
from training.phantom.real.body import RealBody
from training.phantom.real.labels import CT_SUFFIX, LABELS_SUFFIX, UnusableError
from training.phantom.real.scan import Scan, read_scan
from training.phantom.shapes import Ellipsoid
from training.phantom.tissue import Organ, T, draw_looks

CACHED_SCANS = 32
"""Number of scans to keep in memory; each takes about 10 MB."""


def list_scans(folder: str) -> tuple[str, ...]:
    """Return the names of the CTs in a folder, sorted.

    Raises
    ------
    InputError
        If there is no CT, or a CT has no labels.
    """
    names = sorted(path.name.removesuffix(CT_SUFFIX) for path in Path(folder).glob(f"*{CT_SUFFIX}"))
    if not names:
        raise InputError(
            f"expected CTs named NAME{CT_SUFFIX} with NAME{LABELS_SUFFIX} in {folder}, found none: "
            "use a folder in the form of OpenKBP"
        )
    unlabelled = [name for name in names if not (Path(folder) / f"{name}{LABELS_SUFFIX}").exists()]
    if unlabelled:
        raise InputError(
            f"expected a NAME{LABELS_SUFFIX} for each of the {len(names)} CTs in {folder}, found "
            f"none for {', '.join(unlabelled)}: add the labels or remove these CTs"
        )
    return tuple(names)


def fingerprint(folder: str) -> dict[str, str]:
    """Return the name and the SHA-256 of a folder of CTs, which identify it on every machine."""
    digest = hashlib.sha256()
    for name in list_scans(folder):
        for suffix in (CT_SUFFIX, LABELS_SUFFIX):
            path = Path(folder) / f"{name}{suffix}"
            digest.update(path.name.encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return {"folder": Path(folder).resolve().name, "sha256": digest.hexdigest()}


_list_scans_once = lru_cache(maxsize=4)(list_scans)


@lru_cache(maxsize=CACHED_SCANS)
def load_scan(folder: str, name: str) -> Scan:
    """Return a scan, from the cache if possible; see `read_scan` for errors."""
    return read_scan(Path(folder), name)


@lru_cache(maxsize=1000)
def why_unusable(folder: str, name: str) -> str | None:
    """Return why no patient can be built on a CT, or None if the CT is usable."""
    try:
        load_scan(folder, name)
    except UnusableError as error:
        return str(error)
    return None


def draw_real_body(rng: np.random.Generator, folder: str) -> RealBody:
    """Draw one patient without tumours on a CT of the folder.

    Raises
    ------
    InputError
        If the folder holds no usable CT, or a file cannot be read.
    """
    names = _list_scans_once(folder)
    order = [names[i] for i in rng.permutation(len(names))]
    name = next((name for name in order if why_unusable(folder, name) is None), None)
    if name is None:
        raise InputError(
            f"expected a usable CT in {folder}, found none among {len(names)}; "
            f"the first: {why_unusable(folder, names[0])}"
        )
    scan = load_scan(folder, name)
    ct_hu, pet_suv = draw_looks(rng)
    brown_fat: list[Organ] = []
    if rng.random() < 0.06:
        for side in SIDES:
            shape = Ellipsoid((side * 55.0, 15.0, -135.0), (16.0, 14.0, 14.0))
            brown_fat.append(Organ(shape, T.BROWN_FAT, (T.FAT,)))
    pose = draw_pose(
        rng, size_sd=0.03, stretch_sd=0.015, turn_degrees_sd=3, bend_mm_sd=3, max_ripple_mm=1.2
    )
    return RealBody(
        scan=scan,
        mirrored=bool(rng.random() < 0.5),
        organs=tuple(brown_fat),
        pose=pose,
        ct_hu=ct_hu,
        pet_suv=pet_suv,
    )
