"""Model folders of small networks, exported once for the session, and a prepared case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shared.geometry import Grid
from shared.models.hpv import HpvCard
from shared.models.segmentation import SegmentationCard
from shared.models.survival import SurvivalCard
from shared.preprocessing.pipeline import Prepared, Undo
from tests.shared.models.small_networks import (
    HPV,
    REGION_XYZ,
    SEGMENTATION,
    SURVIVAL,
    hpv_member,
    survival_member,
    unet_member,
)
from training.export.model_folder import export


@pytest.fixture(scope="session")
def segmentation_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder of one segmentation network, `random_unet(0)`."""
    folder = tmp_path_factory.mktemp("segmentation")
    export(folder, SegmentationCard, members=[unet_member(0)], fields=SEGMENTATION)
    return folder


@pytest.fixture(scope="session")
def segmentation_pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder of two segmentation networks, `random_unet(0)` and `(1)`."""
    folder = tmp_path_factory.mktemp("segmentation_pair")
    members = [unet_member(seed, f"fold{seed}") for seed in (0, 1)]
    export(folder, SegmentationCard, members=members, fields=SEGMENTATION)
    return folder


@pytest.fixture(scope="session")
def hpv_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder of two HPV networks, `random_hpv(0)` and `(1)`."""
    folder = tmp_path_factory.mktemp("hpv")
    export(
        folder, HpvCard, members=[hpv_member(seed, f"fold{seed}") for seed in (0, 1)], fields=HPV
    )
    return folder


@pytest.fixture(scope="session")
def survival_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder of two survival networks with different scales of risk."""
    folder = tmp_path_factory.mktemp("survival")
    members = [
        survival_member(0, "fold0", risk_mean=0.5, risk_std=2.0),
        survival_member(1, "fold1", risk_mean=-1.0, risk_std=0.5),
    ]
    export(folder, SurvivalCard, members=members, fields=SURVIVAL)
    return folder


@pytest.fixture
def make_prepared() -> Callable[..., Prepared]:
    """Return a function that makes a prepared case with random images, all of it body."""

    def make(seed: int = 0) -> Prepared:
        rng = np.random.default_rng(seed)
        region = Grid(REGION_XYZ, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
        return Prepared(
            ct_hu=rng.uniform(-1000, 1000, region.shape_zyx).astype(np.float32),
            pet_suv=rng.uniform(0, 20, region.shape_zyx).astype(np.float32),
            body=np.ones(region.shape_zyx, bool),
            undo=Undo(region, region),
            remarks=(),
        )

    return make
