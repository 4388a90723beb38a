"""One phantom patient, a pure function of (seed, index, kind).

`draw_patient` decides everything but the voxels, in a tenth of a second; `make_patient` scans what
was drawn. Statistics of a cohort therefore need no images.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from training.phantom.anatomy import make_body
from training.phantom.centres import CENTRES, Centre
from training.phantom.oracle import Evidence, weigh
from training.phantom.outcome import (
    Person,
    Record,
    draw_ehr,
    draw_person,
    draw_relapse,
    log_hazard,
)
from training.phantom.painting import Anatomy
from training.phantom.radiotherapy import Plan, plan_treatment
from training.phantom.real_anatomy import RealBody, draw_real_body
from training.phantom.real_scan import VERTEX_MM
from training.phantom.scanner import (
    IDENTITY,
    Protocol,
    draw_protocol,
    reorient,
    scan_ct,
    scan_pet,
)
from training.phantom.shapes import Point
from training.phantom.tumour import Lesion, draw_lesions, offered_sites

# HECKTOR 2025: GTVp absent in 4.0 %, GTVn in 11.1 %, never both.
NO_PRIMARY, NO_NODES, WITHOUT_BRAIN, STORED_FLIPPED = 0.04, 0.111, 0.05, 0.08
NODE_COUNTS = (0.52, 0.25, 0.11, 0.06, 0.03, 0.015, 0.01, 0.005)  # of 1..8 nodes
PLANNED = 0.1  # share of patients with planning CT and dose
SCANS, REAL_STREAM = 1, 2  # streams of random numbers: of the scans, of the choice of a real CT
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
    centre: str | None = None
    centres: Literal["training", "unseen", "all"] = "training"  # among which to draw
    brain_in_fov: bool | None = None
    planned: bool | None = None  # with planning CT and dose
    anatomy: str | None = None  # a folder of CTs and labels, see `real_anatomy`
    real_share: float = 1.0  # of the patients built on one of these CTs, where there are any


ANY_KIND = Kind()


@dataclass(frozen=True)
class Drawn:
    """All that is true of a patient before the first scan.

    Attributes
    ----------
    evidence : what the images and the record tell of HPV status and hazard (`oracle`).
    ct_direction, pet_direction : nine direction cosines of the files.
    """

    patient_id: str
    centre: Centre
    person: Person
    body: Anatomy
    lesions: tuple[Lesion, ...]
    protocol: Protocol
    ct_direction: tuple[float, ...]
    pet_direction: tuple[float, ...]
    whole_body: bool
    brain_in_fov: bool
    planned: bool
    ehr: Record
    hpv: bool | None  # None where not recorded
    evidence: Evidence
    relapse: int
    rfs_days: float

    def facts(self) -> dict[str, Any]:
        """Return what only the maker of a phantom knows, as JSON has it."""
        return {
            "hpv": self.person.hpv,
            "evidence": {name: round(value, 4) for name, value in asdict(self.evidence).items()},
            "centre": self.centre.name,
            "whole_body": self.whole_body,
            "brain_in_fov": self.brain_in_fov,
            "anatomy": self.body.scan.name if isinstance(self.body, RealBody) else None,
            "bqml": self.protocol.bqml_per_suv != 1,
            "planned": self.planned,
            "lesions": [
                {
                    "label": 1 if lesion.primary else 2,
                    "place": lesion.place,
                    "side": "left" if lesion.side > 0 else "right",
                    "volume_ml": round(lesion.volume_ml, 2),
                    "suv": round(lesion.suv, 2),
                    "core": lesion.core,
                }
                for lesion in self.lesions
            ],
        }


@dataclass(frozen=True)
class Patient:
    """Images, record and outcome of one patient.

    `facts` holds what only the maker of a phantom knows: true HPV status, hazard, lesions.
    """

    patient_id: str
    ct_hu: sitk.Image  # int16
    pet_suv: sitk.Image  # float32, on its own grid; Bq/mL in some, see facts["bqml"]
    labels: sitk.Image  # uint8 on the CT's grid: 0, 1 GTVp, 2 GTVn
    ehr: Record
    hpv: bool | None  # None where not recorded
    relapse: int
    rfs_days: float
    plan: Plan | None = None  # planning CT and dose, for a few
    facts: dict[str, Any] = field(default_factory=dict)


def _either(forced: bool | None, drawn: bool) -> bool:
    return drawn if forced is None else forced


def _draw_centre(rng: np.random.Generator, kind: Kind) -> Centre:
    among = [c for c in CENTRES.values() if kind.centres in ("all", _group(c))]
    shares = np.array([centre.patients for centre in among], dtype=float)
    drawn = among[int(rng.choice(len(among), p=shares / shares.sum()))]
    return CENTRES[kind.centre] if kind.centre else drawn


def _group(centre: Centre) -> str:
    return "unseen" if centre.unseen else "training"


def _draw_counts(rng: np.random.Generator, kind: Kind) -> tuple[bool, int]:
    """Return whether there is a primary, and the number of nodes; never neither."""
    chance = rng.random()
    nodes = int(rng.choice(len(NODE_COUNTS), p=NODE_COUNTS)) + 1
    if kind.nodes is not None:
        nodes = kind.nodes
    elif kind.primary is not False and chance < NO_NODES:
        nodes = 0
    return _either(kind.primary, nodes == 0 or chance < 1 - NO_PRIMARY), nodes


def draw_patient(seed: int, index: int, kind: Kind = ANY_KIND) -> Drawn:
    """Draw patient `index` of the cohort `seed`, the same wherever it is drawn.

    Raises
    ------
    ValueError
        If `kind` asks for a patient with neither primary nor nodes, or an unknown centre.
    """
    if kind.primary is False and kind.nodes == 0:
        raise ValueError("a patient needs a primary or a node: kind has primary=False and nodes=0")
    if kind.centre is not None and kind.centre not in CENTRES:
        raise ValueError(f"unknown centre {kind.centre!r}, expected one of {', '.join(CENTRES)}")
    rng = np.random.default_rng([seed, index])
    centre = _draw_centre(rng, kind)
    chance = rng.random(7)
    prevalence = centre.hpv_prevalence if kind.prevalence is None else kind.prevalence
    hpv = bool(chance[0] < prevalence)
    whole_body = _either(kind.whole_body, bool(chance[1] < centre.whole_body))
    brain = _either(kind.brain_in_fov, bool(chance[2] >= WITHOUT_BRAIN))
    bqml = _either(kind.bqml, bool(chance[3] < centre.bqml))
    primary, nodes = _draw_counts(rng, kind)

    person = draw_person(rng, hpv)
    body: Anatomy
    choice = np.random.default_rng([seed, index, REAL_STREAM])
    if kind.anatomy is not None and choice.random() < kind.real_share:
        body, whole_body = draw_real_body(choice, kind.anatomy), False
    else:
        body = make_body(rng, arms_up=whole_body and bool(chance[4] < 0.3), coarse=kind.small)
    lesions = draw_lesions(rng, body, hpv, primary, nodes)
    hazard = log_hazard(person, lesions, centre)
    relapse, rfs_days = draw_relapse(rng, hazard.total)
    ehr, known_hpv = draw_ehr(rng, person, centre)
    protocol = draw_protocol(
        rng, centre, body, whole_body, brain, bqml, kind.small, kind.spacing_mm
    )
    flip = FLIPS[rng.integers(len(FLIPS))] if chance[5] < STORED_FLIPPED else IDENTITY
    return Drawn(
        patient_id=f"{centre.name}-{index:03d}",
        centre=centre,
        person=person,
        body=body,
        lesions=tuple(lesions),
        protocol=protocol,
        ct_direction=kind.direction or flip,
        pet_direction=kind.pet_direction or flip,
        whole_body=whole_body,
        brain_in_fov=brain and body.z_range_mm[1] > VERTEX_MM,
        planned=_either(kind.planned, bool(chance[6] < PLANNED)),
        ehr=ehr,
        hpv=known_hpv,
        evidence=weigh(ehr, lesions, offered_sites(body), hazard, prevalence),
        relapse=relapse,
        rfs_days=rfs_days,
    )


def make_patient(seed: int, index: int, kind: Kind = ANY_KIND) -> Patient:
    """Draw patient `index` of the cohort `seed` and scan it, the same bit for bit everywhere.

    Raises
    ------
    ValueError
        As `draw_patient`.
    """
    drawn = draw_patient(seed, index, kind)
    rng = np.random.default_rng([seed, index, SCANS])
    ct_hu, labels = scan_ct(rng, drawn.body, drawn.lesions, drawn.protocol)
    ct_hu = reorient(ct_hu, drawn.ct_direction, fill=-1024)
    labels = reorient(labels, drawn.ct_direction, fill=0)
    pet_suv = scan_pet(rng, drawn.body, drawn.lesions, drawn.protocol)
    pet_suv = reorient(pet_suv, drawn.pet_direction, fill=0)
    plan = plan_treatment(rng, drawn.body, drawn.lesions, drawn.protocol) if drawn.planned else None
    return Patient(
        patient_id=drawn.patient_id,
        ct_hu=ct_hu,
        pet_suv=pet_suv,
        labels=labels,
        ehr=drawn.ehr,
        hpv=drawn.hpv,
        relapse=drawn.relapse,
        rfs_days=drawn.rfs_days,
        plan=plan,
        facts=drawn.facts(),
    )
