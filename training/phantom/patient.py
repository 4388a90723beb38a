"""One phantom patient, a pure function of (seed, index, kind)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import SimpleITK as sitk

from training.phantom.anatomy import make_body
from training.phantom.centres import CENTRES
from training.phantom.outcome import draw_ehr, draw_person, draw_relapse, log_hazard
from training.phantom.painting import Anatomy
from training.phantom.real_anatomy import RealBody, draw_real_body
from training.phantom.real_scan import VERTEX_MM
from training.phantom.scanner import IDENTITY, draw_protocol, reorient, scan_ct, scan_pet
from training.phantom.shapes import Point
from training.phantom.tumour import draw_lesions

# HECKTOR 2025: GTVp absent in 4.0 %, GTVn in 11.1 %, never both.
NO_PRIMARY, NO_NODES, WITHOUT_BRAIN, STORED_FLIPPED = 0.04, 0.111, 0.05, 0.08
REAL_STREAM = 1  # of the random numbers that choose and pose a real CT
NODE_COUNTS = (0.56, 0.24, 0.10, 0.05, 0.03, 0.02)  # of 1..6 nodes
FLIPS = (
    (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0),
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
)


@dataclass(frozen=True)
class Kind:
    """What is forced; None leaves it to the distributions."""

    spacing_mm: Point | None = None  # of the CT, (x, y, z)
    whole_body: bool | None = None
    primary: bool | None = None  # GTVp present
    nodes: int | None = None
    direction: tuple[float, ...] | None = None  # nine direction cosines of the CT file
    pet_direction: tuple[float, ...] | None = None
    prevalence: float | None = None  # of HPV, instead of each centre's own
    bqml: bool | None = None  # PET stored in Bq/mL
    small: bool = False  # coarse voxels, small matrices
    center: str | None = None
    brain_in_fov: bool | None = None
    anatomy: str | None = None  # a folder of CTs and labels, see `real_anatomy`
    real_share: float = 1.0  # of the patients built on one of these CTs, where there are any


ANY_KIND = Kind()


@dataclass(frozen=True)
class Patient:
    """Images, record and outcome of one patient.

    `facts` holds what only the maker of a phantom knows: true HPV status, log hazard, lesions.
    """

    patient_id: str
    ct_hu: sitk.Image  # int16
    pet_suv: sitk.Image  # float32, on its own grid; Bq/mL in some, see facts["bqml"]
    labels: sitk.Image  # uint8 on the CT's grid: 0, 1 GTVp, 2 GTVn
    ehr: dict[str, int | float | str | None]
    hpv: bool | None  # None where not recorded
    relapse: int
    rfs_days: float
    facts: dict[str, Any] = field(default_factory=dict)


def _either(forced: bool | None, drawn: bool) -> bool:
    return drawn if forced is None else forced


def make_patient(seed: int, index: int, kind: Kind = ANY_KIND) -> Patient:
    """Make patient `index` of the cohort `seed`, the same bit for bit wherever it is made.

    Raises
    ------
    ValueError
        If `kind` asks for a patient with neither primary nor nodes, or an unknown centre.
    """
    if kind.primary is False and kind.nodes == 0:
        raise ValueError("a patient needs a primary or a node: kind has primary=False and nodes=0")
    if kind.center is not None and kind.center not in CENTRES:
        raise ValueError(f"unknown centre {kind.center!r}, expected one of {', '.join(CENTRES)}")
    rng = np.random.default_rng([seed, index])
    shares = np.array([centre.patients for centre in CENTRES.values()], dtype=float)
    drawn = str(rng.choice(list(CENTRES), p=shares / shares.sum()))
    centre = CENTRES[kind.center or drawn]
    chance = rng.random(7)
    prevalence = centre.hpv_prevalence if kind.prevalence is None else kind.prevalence
    hpv = bool(chance[0] < prevalence)
    whole_body = _either(kind.whole_body, bool(chance[1] < centre.whole_body))
    brain = _either(kind.brain_in_fov, bool(chance[2] >= WITHOUT_BRAIN))
    bqml = _either(kind.bqml, bool(chance[3] < centre.bqml))
    nodes = int(rng.choice(len(NODE_COUNTS), p=NODE_COUNTS)) + 1
    if kind.nodes is not None:
        nodes = kind.nodes
    elif chance[4] < NO_NODES and kind.primary is not False:
        nodes = 0
    primary = bool(chance[4] < 1 - NO_PRIMARY) if kind.nodes is None else nodes == 0
    primary = _either(kind.primary, primary or (kind.nodes is not None and chance[4] > NO_PRIMARY))

    person = draw_person(rng, hpv)
    choice = np.random.default_rng([seed, index, REAL_STREAM])
    body: Anatomy
    if kind.anatomy is not None and choice.random() < kind.real_share:
        body, whole_body = draw_real_body(choice, kind.anatomy), False
    else:
        body = make_body(rng, arms_up=whole_body and bool(chance[5] < 0.3), coarse=kind.small)
    lesions = draw_lesions(rng, body, hpv, primary, nodes)
    eta = log_hazard(person, lesions, centre)
    relapse, rfs_days = draw_relapse(rng, eta)
    ehr, known_hpv = draw_ehr(rng, person, centre)

    protocol = draw_protocol(
        rng, centre, body, whole_body, brain, bqml, kind.small, kind.spacing_mm
    )
    flip = FLIPS[rng.integers(len(FLIPS))] if chance[6] < STORED_FLIPPED else IDENTITY
    ct_hu, labels = scan_ct(rng, body, lesions, protocol)
    pet_suv = scan_pet(rng, body, lesions, protocol)
    direction = kind.direction or flip
    return Patient(
        patient_id=f"{centre.name}-{index:03d}",
        ct_hu=reorient(ct_hu, direction, fill=-1024),
        pet_suv=reorient(pet_suv, kind.pet_direction or flip, fill=0),
        labels=reorient(labels, direction, fill=0),
        ehr=ehr,
        hpv=known_hpv,
        relapse=relapse,
        rfs_days=rfs_days,
        facts={
            "hpv": hpv,
            "log_hazard": round(eta, 4),
            "centre": centre.name,
            "whole_body": whole_body,
            "brain_in_fov": brain and body.z_range_mm[1] > VERTEX_MM,
            "anatomy": body.scan.name if isinstance(body, RealBody) else None,
            "bqml": bqml,
            "lesions": [
                {
                    "label": 1 if lesion.primary else 2,
                    "place": lesion.place,
                    "side": "left" if lesion.side > 0 else "right",
                    "volume_ml": round(lesion.volume_ml, 2),
                    "suv": round(lesion.suv, 2),
                    "necrotic": lesion.necrosis > 0,
                }
                for lesion in lesions
            ],
        },
    )
