"""Results folders like those of nnU-Net v2.8, with small networks of random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from shared.models.networks.nnunet import build_unet

PREPARATION: Final = {"spacing_mm": 2.0, "size_xyz": [28, 24, 20], "interpolation": "linear"}
PATCH: Final = [16, 16, 16]
STAGES: Final = 3
CT: Final = {"mean": 41.5, "std": 63.25, "percentile_00_5": -310.0, "percentile_99_5": 420.0}


def arguments(residual: bool) -> dict[str, Any]:
    """Return `arch_kwargs` as nnU-Net plans them, for a small network."""
    blocks = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    return {
        "n_stages": STAGES,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * STAGES,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        blocks: [1, 2, 1] if residual else [2, 2, 2],
        "n_conv_per_stage_decoder": [1, 1] if residual else [2, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def configuration(residual: bool) -> dict[str, Any]:
    """Return the configuration 3d_fullres of `plans.json`."""
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": PATCH,
        "spacing": [2.0, 2.0, 2.0],
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False, False],
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
            "arch_kwargs": arguments(residual),
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }


def plans(residual: bool) -> dict[str, Any]:
    """Return `plans.json`, with also a 2-D configuration, a cascade and one that inherits."""
    fullres = configuration(residual)
    return {
        "dataset_name": "Dataset025_HECKTOR",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "configurations": {
            "2d": fullres | {"patch_size": [64, 64], "spacing": [2.0, 2.0]},
            "3d_fullres": fullres,
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
            "3d_larger_batch": {"inherits_from": "3d_fullres", "batch_size": 4},
        },
        "foreground_intensity_properties_per_channel": {
            "0": CT | {"min": -1000.0, "max": 3000.0, "median": 50.0},
            "1": {"mean": 6.0, "std": 4.0, "percentile_00_5": 1.0, "percentile_99_5": 20.0},
        },
    }


def dataset() -> dict[str, Any]:
    """Return `dataset.json` as `python -m training nnunet-dataset` writes it."""
    return {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "GTVp": 1, "GTVn": 2},
        "numTraining": 10,
        "file_ending": ".nii.gz",
        "hecktor_preparation": PREPARATION,
    }


def random_network(residual: bool, seed: int) -> nn.Module:
    """Return the package's network with random weights and biases, in evaluation mode."""
    torch.manual_seed(seed)
    classes = {"conv_op", "norm_op", "nonlin"}
    kept = {name: v for name, v in arguments(residual).items() if name not in classes}
    network = build_unet(residual=residual, in_channels=2, classes=3, **kept)
    for weight in network.parameters():
        if weight.ndim == 1:
            nn.init.normal_(weight, mean=float(weight.detach().mean()), std=0.2)
    return network.eval()


def checkpoint(
    network: nn.Module, configuration_name: str, axes: Sequence[int] | None
) -> dict[str, Any]:
    """Return the content of a checkpoint; as in nnU-Net, its log has NumPy numbers."""
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": {"param_groups": [{"lr": 0.01, "momentum": 0.99}]},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(0.1)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1000,
        "init_args": {
            "plans": {},
            "configuration": configuration_name,
            "fold": 0,
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": axes,
    }


def results_folder(
    folder: Path,
    *,
    residual: bool = False,
    folds: Sequence[str] = ("0",),
    configuration_name: str = "3d_fullres",
    axes: Sequence[int] | None = (0, 1, 2),
    plans_changes: Mapping[str, Any] = {},
    dataset_changes: Mapping[str, Any] = {},
) -> Path:
    """Write a results folder; fold k has the weights `random_network(residual, k)`."""
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans(residual) | dict(plans_changes)))
    (folder / "dataset.json").write_text(json.dumps(dataset() | dict(dataset_changes)))
    for k, fold in enumerate(folds):
        (folder / f"fold_{fold}").mkdir()
        content = checkpoint(random_network(residual, k), configuration_name, axes)
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder
