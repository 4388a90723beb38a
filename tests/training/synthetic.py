"""Patients made of a bright ball and cube, cached in memory, and a configuration for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import SimpleITK as sitk

from shared.clinical import ClinicalRecord
from shared.conventions import Label
from shared.geometry import Grid
from shared.preprocessing.pipeline import Undo
from training.cohort.cache import Cached
from training.cohort.layout import PatientFiles
from training.config import Configuration, load_configuration

TINY = Path(__file__).with_name("tiny.toml")
SHAPE = (24, 24, 24)
GRID = Grid(SHAPE, (6.0, 6.0, 6.0), (0.0, 0.0, 0.0))


def configuration(
    epochs: int = 2,
    averaging: int | None = None,
    network: Mapping[str, Any] = MappingProxyType({"filters": (4, 8, 8)}),
    **task1: Any,
) -> Configuration:
    """Return a configuration of a few steps with crops and windows of 16 voxels.

    Parameters
    ----------
    network : what the Task 1 network has instead of the settings of `tiny.toml`; another
        architecture replaces all of them.
    task1 : the same for `[segmentation]`.
    """
    fields = load_configuration(str(TINY)).model_dump()
    mean = {"epochs": averaging, "learning_rate": 1e-3, "keep": "always"} if averaging else None
    changes = {
        "window_zyx": (16, 16, 16),
        "crop_zyx": (16, 16, 16),
        "epochs": epochs,
        "averaging": mean,
        **task1,
    }
    fields["segmentation"] |= changes
    if "architecture" not in network:
        network = {**tiny_network(), **network}
    fields["segmentation"]["network"] = network
    fields["preparation"]["size_xyz"] = SHAPE
    for other in ("hpv", "survival"):
        fields[other]["window_zyx"] = (16, 16, 16)
    return Configuration.model_validate(fields)


def tiny_network() -> dict[str, Any]:
    """Return the Task 1 network of `tiny.toml`, with strides left to its filters."""
    network = load_configuration(str(TINY)).segmentation.network
    return network.model_dump(exclude={"strides"})


def patient(number: int, centre: str = "MDA", folder: Path | None = None, **known: Any) -> Cached:
    """Return a patient; in `folder`, where given, lies the label map."""
    rng = np.random.default_rng(number)
    labels = np.zeros(SHAPE, np.uint8)
    z, y, x = np.indices(SHAPE)
    c = rng.integers(7, 11, 3)
    labels[(z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 < 12] = Label.GTVP
    a, b, d = rng.integers(15, 18, 3)
    labels[a : a + 4, b : b + 4, d : d + 4] = Label.GTVN
    ct = rng.normal(30, 20, SHAPE)
    pet = rng.uniform(0, 1, SHAPE) + np.where(labels == Label.GTVP, 9, 0) + 5 * (labels == 2)
    image = np.stack([ct, pet]).astype(np.float16)
    name = f"{centre}-{number:03d}"
    path = Path("nowhere") if folder is None else folder / f"{name}.nii.gz"
    if folder is not None:
        sitk.WriteImage(GRID.image(labels), str(path))
    record = ClinicalRecord(age=50.0 + number, gender=1.0)
    files = PatientFiles(
        name, path, path, path, record, known.get("hpv"), known.get("relapse"), known.get("days")
    )
    return Cached(files, image, labels, Undo(GRID, GRID), float(image[1].max()))
