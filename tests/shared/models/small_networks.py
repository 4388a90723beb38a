"""Small networks with random weights, and the cards that fit them."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets.dynunet import DynUNet

from shared.models.networks.dynunet import DynUNetConfig, build
from shared.models.networks.hpv import HpvConfig, HpvNetwork
from shared.models.networks.survival import SurvivalConfig, SurvivalNetwork

UNET = DynUNetConfig(filters=(4, 8, 12), strides=(1, 2, 2))
REGION_XYZ = (28, 24, 20)
WINDOW_ZYX = (16, 16, 16)
FIELDS: dict[str, Any] = {
    "configuration": "demo",
    "notice": "Random weights, for tests only.",
    "licence": "Apache-2.0",
    "preparation": {"spacing_mm": 2, "size_xyz": REGION_XYZ, "interpolation": "linear"},
    "intensity": {"ct_window_hu": (-200, 300), "pet_max_suv": 20, "pet_unit_suv": 5},
    "window_zyx": WINDOW_ZYX,
    "channels": ("CT", "PET"),
    "training": {"data": "none", "patients": 1, "command": "-", "revision": "-", "seed": 0},
}
SEGMENTATION = {**FIELDS, "overlap": 0.5, "labels": ("background", "GTVp", "GTVn")}
HPV = {**FIELDS, "threshold": 0.5, "clinical": ({"key": "age", "mean": 60, "std": 9},)}
SURVIVAL = {
    **FIELDS,
    "channels": ("CT", "PET", "GTVp", "GTVn"),
    "clinical": ({"key": "age", "mean": 60, "std": 9}, {"key": "hpv"}),
}


def random_unet(seed: int, config: DynUNetConfig = UNET) -> DynUNet:
    """Return a DynUNet in evaluation mode."""
    torch.manual_seed(seed)
    return build(config).eval()


def random_hpv(seed: int) -> HpvNetwork:
    """Return an HPV network in evaluation mode."""
    torch.manual_seed(seed)
    return HpvNetwork(HpvConfig(unet=UNET, clinical_features=1, head_width=16)).eval()


def random_survival(seed: int) -> SurvivalNetwork:
    """Return a survival network in evaluation mode."""
    torch.manual_seed(seed)
    config = SurvivalConfig(block_inplanes=(4, 4, 8, 8), clinical_features=2)
    return SurvivalNetwork(config).eval()
