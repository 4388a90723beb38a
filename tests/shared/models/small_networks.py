"""Small networks with random weights, and the cards that fit them."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets.dynunet import DynUNet

from shared.models.networks.dynunet import DynUNetConfig
from shared.models.networks.hpv import HpvConfig, HpvNetwork
from shared.models.networks.linear import LinearModel
from shared.models.networks.survival import SurvivalConfig, SurvivalNetwork
from training.export.model_folder import MemberModel

UNET = DynUNetConfig(filters=(4, 8, 12))
HPV_HEAD = HpvConfig(head_width=16)
RESNET = SurvivalConfig(block_inplanes=(4, 4, 8, 8))
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
    """Return a DynUNet for two channels, in evaluation mode."""
    torch.manual_seed(seed)
    return config.build(in_channels=2).eval()


def random_hpv(seed: int, backbone: DynUNetConfig = UNET) -> HpvNetwork:
    """Return an HPV network for two channels and one clinical feature, in evaluation mode."""
    torch.manual_seed(seed)
    return HPV_HEAD.build(backbone, in_channels=2, clinical_features=1).eval()


def random_survival(seed: int) -> SurvivalNetwork:
    """Return a survival network for four channels and two features, in evaluation mode."""
    torch.manual_seed(seed)
    return RESNET.build(in_channels=4, clinical_features=2).eval()


def unet_member(seed: int, name: str = "model") -> MemberModel:
    """Return `random_unet` as a member of a model folder."""
    return MemberModel(name=name, model=random_unet(seed), config=UNET)


def hpv_member(seed: int, name: str = "model") -> MemberModel:
    """Return `random_hpv` as a member of a model folder."""
    return MemberModel(name=name, model=random_hpv(seed), config=HPV_HEAD)


def survival_member(
    seed: int, name: str = "model", risk_mean: float = 0.0, risk_std: float = 1.0
) -> MemberModel:
    """Return `random_survival` as a member of a model folder."""
    return MemberModel(
        name=name,
        model=random_survival(seed),
        config=RESNET,
        risk_mean=risk_mean,
        risk_std=risk_std,
    )


def linear_member(model: LinearModel, name: str = "model") -> MemberModel:
    """Return a linear model as a member of a model folder."""
    return MemberModel(name=name, model=model, config=None)
