"""Makes one phantom patient, as a pure function of (seed, index, kind).

`draw_patient` decides everything except the voxels, in a tenth of a second, so statistics of a
cohort need no images. `make_patient` also makes the images.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from training.phantom.body import Body
from training.phantom.centres import CENTRES, Centre
from training.phantom.lesion import Lesion
from training.phantom.oracle import Evidence, weigh_evidence
from training.phantom.outcome import (
    Ehr,
    Person,
    draw_ehr,
    draw_person,
    draw_relapse,
    log_hazard,
)
from training.phantom.radiotherapy import Plan, plan_treatment
from training.phantom.real.body import RealBody
from training.phantom.real.folder import draw_real_body
from training.phantom.real.tissues import VERTEX_MM
from training.phantom.scanner import (
    IDENTITY,
    ScanProtocol,
    draw_protocol,
    reorient,
    scan_ct,
    scan_pet,
)
from training.phantom.shapes import Point
from training.phantom.synthetic.body import make_body
from training.phantom.tumour import draw_lesions, sites_with_room

# In HECKTOR 2025, 4.0 % of the patients have no GTVp and 11.1 % no GTVn; nobody has neither.
NO_PRIMARY_SHARE, NO_NODES_SHARE = 0.04, 0.111
NO_BRAIN_SHARE, FLIPPED_SHARE, PLANNED_SHARE = 0.05, 0.08, 0.1
NODE_COUNT_SHARES = (0.52, 0.25, 0.11, 0.06, 0.03, 0.015, 0.01, 0.005)  # 1 to 8 nodes
SCAN_STREAM, REAL_STREAM = 1, 2
"""Streams of random numbers: one for scans, and one for patients on real CTs."""
FLIPS = (
    (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0),
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Fixed properties of patients; None leaves a property to its distribution.

    `cohort.json` holds these fields, so their names and order are part of its format.
    """

    spacing_mm: Point | None = None  # of the CT, (x, y, z)
    whole_body: bool | None = None
    primary: bool | None = None  # whether there is a GTVp
    nodes: int | None = None  # number of nodes
    direction: tuple[float, ...] | None = None  # nine direction cosines of the CT file
    pet_direction: tuple[float, ...] | None = None  # nine direction cosines of the PET file
    prevalence: float | None = None  # share of HPV-positive patients; None: that of each centre
    bqml: bool | None = None  # whether the PET is stored in Bq/mL
    small: bool = False  # coarse voxels and small matrices
    centre: str | None = None  # a key of `CENTRES`
    centres: Literal["training", "unseen", "all"] = "training"  # from which a centre is drawn
    brain_in_fov: bool | None = None
    planned: bool | None = None  # whether there are a planning CT and a dose
    anatomy: str | None = None  # folder of CTs and labels, see `real.folder`
    real_share: float = 1.0  # share of patients on these CTs, if `anatomy` is set


ANY_KIND = Kind()


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """Everything about a patient except the images.

    Attributes
    ----------
    evidence : what images and record reveal about HPV status and hazard (see `oracle`).
    ct_direction, pet_direction : nine direction cosines of each file.
    ehr, hpv : the published record, with gaps, and the published HPV status; None if it is not
        recorded.
    """

    patient_id: str
    centre: Centre
    person: Person
    body: Body
    lesions: tuple[Lesion, ...]
    protocol: ScanProtocol
    ct_direction: tuple[float, ...]
    pet_direction: tuple[float, ...]
    whole_body: bool
    brain_in_fov: bool
    planned: bool
    ehr: Ehr
    hpv: bool | None
    evidence: Evidence
    relapse: int
    rfs_days: float

    def facts(self) -> dict[str, Any]:
        """Return the ground truth, in the types of JSON."""
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


@dataclass(frozen=True, kw_only=True)
class PhantomPatient:
    """Images, record and outcome of one patient."""

    patient_id: str
    ct_hu: sitk.Image  # int16
    pet_suv: sitk.Image  # float32, on its own grid; in Bq/mL if facts["bqml"]
    labels: sitk.Image  # uint8 on the CT's grid: 0, 1 GTVp, 2 GTVn
    ehr: Ehr
    hpv: bool | None  # None if not recorded
    relapse: int
    rfs_days: float
    plan: Plan | None = None  # planning CT and dose, for a few patients
    facts: dict[str, Any] = field(default_factory=dict)  # the ground truth, see `Blueprint.facts`


def _draw_centre(rng: np.random.Generator, kind: Kind) -> Centre:
    candidates = [
        centre
        for centre in CENTRES.values()
        if kind.centres in ("all", "unseen" if centre.unseen else "training")
    ]
    shares = np.array([centre.patients for centre in candidates], dtype=float)
    index = int(rng.choice(len(candidates), p=shares / shares.sum()))
    return CENTRES[kind.centre] if kind.centre else candidates[index]


def _draw_counts(rng: np.random.Generator, kind: Kind) -> tuple[bool, int]:
    """Return whether there is a primary, and the number of nodes; there is at least one lesion."""
    chance = rng.random()
    nodes = int(rng.choice(len(NODE_COUNT_SHARES), p=NODE_COUNT_SHARES)) + 1
    if kind.nodes is not None:
        nodes = kind.nodes
    elif kind.primary is not False and chance < NO_NODES_SHARE:
        nodes = 0
    primary = nodes == 0 or chance < 1 - NO_PRIMARY_SHARE
    return _choose(kind.primary, primary), nodes


def _choose(fixed: bool | None, default: bool) -> bool:
    return default if fixed is None else fixed


def draw_patient(seed: int, index: int, kind: Kind = ANY_KIND) -> Blueprint:
    """Draw patient `index` of the cohort `seed`; the same arguments give the same patient.

    Raises
    ------
    ValueError
        If `kind` excludes both primary and nodes, or names an unknown centre.
    """
    if kind.primary is False and kind.nodes == 0:
        raise ValueError("a patient needs a primary or a node, found primary=False and nodes=0")
    if kind.centre is not None and kind.centre not in CENTRES:
        raise ValueError(f"unknown centre {kind.centre!r}, expected one of {', '.join(CENTRES)}")
    rng = np.random.default_rng([seed, index])
    centre = _draw_centre(rng, kind)
    chance = rng.random(7)
    prevalence = centre.hpv_prevalence if kind.prevalence is None else kind.prevalence
    hpv = bool(chance[0] < prevalence)
    whole_body = _choose(kind.whole_body, bool(chance[1] < centre.whole_body_share))
    brain = _choose(kind.brain_in_fov, bool(chance[2] >= NO_BRAIN_SHARE))
    bqml = _choose(kind.bqml, bool(chance[3] < centre.bqml_share))
    primary, nodes = _draw_counts(rng, kind)

    person = draw_person(rng, hpv)
    body: Body
    real_rng = np.random.default_rng([seed, index, REAL_STREAM])
    if kind.anatomy is not None and real_rng.random() < kind.real_share:
        body, whole_body = draw_real_body(real_rng, kind.anatomy), False
    else:
        body = make_body(rng, arms_up=whole_body and bool(chance[4] < 0.3), coarse=kind.small)
    lesions = draw_lesions(rng, body, hpv=hpv, primary=primary, nodes=nodes)
    hazard = log_hazard(person, lesions, centre)
    relapse, rfs_days = draw_relapse(rng, hazard.total)
    ehr, recorded_hpv = draw_ehr(rng, person, centre)
    protocol = draw_protocol(
        rng, centre, body, whole_body=whole_body, brain=brain, bqml=bqml, small=kind.small,
        spacing_mm=kind.spacing_mm,
    )  # fmt: skip
    flip = FLIPS[rng.integers(len(FLIPS))] if chance[5] < FLIPPED_SHARE else IDENTITY
    return Blueprint(
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
        planned=_choose(kind.planned, bool(chance[6] < PLANNED_SHARE)),
        ehr=ehr,
        hpv=recorded_hpv,
        evidence=weigh_evidence(
            ehr, lesions, sites=sites_with_room(body), hazard=hazard, prevalence=prevalence
        ),
        relapse=relapse,
        rfs_days=rfs_days,
    )


def make_patient(seed: int, index: int, kind: Kind = ANY_KIND) -> PhantomPatient:
    """Draw patient `index` of the cohort `seed` and scan it; the same arguments give the same bits.

    Raises
    ------
    ValueError
        As for `draw_patient`.
    """
    blueprint = draw_patient(seed, index, kind)
    body, lesions, protocol = blueprint.body, blueprint.lesions, blueprint.protocol
    rng = np.random.default_rng([seed, index, SCAN_STREAM])
    ct_hu, labels = scan_ct(rng, body, lesions, protocol=protocol)
    ct_hu = reorient(ct_hu, blueprint.ct_direction, fill=-1024)
    labels = reorient(labels, blueprint.ct_direction, fill=0)
    pet_suv = scan_pet(rng, body, lesions, protocol=protocol)
    pet_suv = reorient(pet_suv, blueprint.pet_direction, fill=0)
    plan = plan_treatment(rng, body, lesions, protocol=protocol) if blueprint.planned else None
    return PhantomPatient(
        patient_id=blueprint.patient_id,
        ct_hu=ct_hu,
        pet_suv=pet_suv,
        labels=labels,
        ehr=blueprint.ehr,
        hpv=blueprint.hpv,
        relapse=blueprint.relapse,
        rfs_days=blueprint.rfs_days,
        plan=plan,
        facts=blueprint.facts(),
    )
