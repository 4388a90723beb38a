"""Makes the viewer page of one case.

The page shows the region around head and neck, as the report's pictures do. It contains the
volumes. NiiVue is also in the page, or in a script in the same folder, which a page may load
without a server. A content security policy forbids every other request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from evaluation.report.html import render_page
from evaluation.report.pictures import CT_WINDOW_HU, OUTLINE, Scene, make_scene
from evaluation.report.viewer.places import GROUPS, Place, find_places
from evaluation.report.viewer.volumes import (
    SUV_STEP,
    ct_steps,
    encode,
    nifti_bytes,
    pet_grid,
    pet_steps,
)
from evaluation.scoring_rules import ScoringRules
from shared.case import Case
from shared.conventions import Label, LabelVolume
from shared.geometry import Grid

FOLDER: Final = Path(__file__).parent
SCRIPTS: Final = (
    "volumes.js",
    "outlines.js",
    "projection.js",
    "controls.js",
    "images.js",
    "viewer.js",
)
"""The scripts of a page, in their order."""
PET_WINDOW_SUV: Final = (1.0, 8.0)
"""The PET is shown in colour over the CT. Normal tissue of the neck, below SUV 1, has no
colour."""
NIIVUE_FILE: Final = "niivue.js"
"""The script with NiiVue, if several pages share it."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link on the page, for example to the report."""

    text: str
    address: str


@dataclass(frozen=True, kw_only=True)
class ViewedCase:
    """A case with its label maps.

    Attributes
    ----------
    name : name of the case.
    case : its images.
    prediction : label map on the CT's grid, indexed [z, y, x].
    truth : the true label map on the same grid; None if it is not known.
    rules : the scoring rules, which define what one lesion is and what an error is.
    facts : what the page's header says about the case, such as its scores.
    """

    name: str
    case: Case
    prediction: LabelVolume
    truth: LabelVolume | None
    rules: ScoringRules
    facts: Sequence[str] = ()

    @property
    def ct_grid(self) -> Grid:
        """The grid of the CT and of the label maps."""
        return Grid.of(self.case.ct_hu)

    @cached_property
    def scene(self) -> Scene:
        """The images of the region that the page shows.

        Raises
        ------
        InputError
            If CT and PET do not overlap.
        """
        return make_scene(self.case)

    def on_region(self, labels: LabelVolume) -> LabelVolume:
        """Return a label map resampled from the CT's grid to that of the region."""
        return self.scene.labels(self.ct_grid.image(labels))


def render_case(viewed: ViewedCase, *, niivue: str | None, link: Link | None = None) -> str:
    """Return the page of a case.

    Parameters
    ----------
    niivue : the script to put into the page; None if it is in the folder of the page, as the file
        `NIIVUE_FILE`.
    link : where the page's header leads.

    Raises
    ------
    InputError
        If CT and PET do not overlap.
    """
    scene = viewed.scene
    masks = {"prediction": viewed.prediction, "truth": viewed.truth}
    files = {
        "ct": nifti_bytes(ct_steps(scene.ct_hu), scene.grid, window=CT_WINDOW_HU),
        "pet": nifti_bytes(
            pet_steps(scene.pet_suv), pet_grid(scene.grid), window=PET_WINDOW_SUV, slope=SUV_STEP
        ),
    }
    for name, labels in masks.items():
        if labels is not None:
            files[name] = nifti_bytes(viewed.on_region(labels), scene.grid, window=(0, max(Label)))
    places = find_places(
        viewed.prediction, viewed.truth, grid=viewed.ct_grid, region=scene.grid, rules=viewed.rules
    )
    return _render(viewed, files, places, region=scene.grid, niivue=niivue, link=link)


def _render(
    viewed: ViewedCase,
    files: Mapping[str, bytes],
    places: Sequence[Place],
    *,
    region: Grid,
    niivue: str | None,
    link: Link | None,
) -> str:
    groups = [
        (title, [(index, place) for index, place in enumerate(places) if place.group == group])
        for group, title in GROUPS.items()
        if group == "predicted" or viewed.truth is not None
    ]
    start = next((place.voxel_xyz for place in places if place.voxel_xyz), None)
    middle = tuple(int(n) // 2 for n in region.size_xyz)
    case = {
        "size_xyz": region.size_xyz,
        "spacing_mm": region.spacing_mm[0],
        "origin_mm": np.round(region.origin_mm, 3).tolist(),
        "start_xyz": start or middle,
        "places": [asdict(place) for place in places],
    }
    values = {
        "name": viewed.name,
        "facts": viewed.facts,
        "has_truth": viewed.truth is not None,
        "groups": groups,
        "outside": sum(place.voxel_xyz is None for place in places),
        "ct_window_hu": CT_WINDOW_HU,
        "pet_window_suv": PET_WINDOW_SUV,
        "outline": OUTLINE,
        "case": _json(case),
        "files": {name: encode(content) for name, content in files.items()},
        "niivue": None if niivue is None else Markup(niivue),
        "niivue_file": NIIVUE_FILE,
        "scripts": SCRIPTS,
        "size_xyz": region.size_xyz,
        "extent_mm": [round(n * region.spacing_mm[0]) for n in region.size_xyz],
        "link": link,
    }
    return render_page("viewer.html.j2", values=values, functions={}, folders=[FOLDER])


def _json(value: Any) -> Markup:
    """Return a value as JSON that cannot end the HTML element that contains it."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))
