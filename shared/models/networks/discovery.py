"""Finds the Task 1 networks by name, the `architecture` in `[segmentation.network]` of a TOML file.

A network is one file in this folder. This module imports all files here and collects the subclasses
of `SegmentationNetworkConfig`, so a new network needs no other change.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias, Union

from pydantic import Field

from shared.models.networks.base import SegmentationNetworkConfig


def _find_networks() -> dict[str, type[SegmentationNetworkConfig]]:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
    configs = SegmentationNetworkConfig.__subclasses__()
    return {config.model_fields["architecture"].default: config for config in configs}


SEGMENTATION_NETWORKS: Final = _find_networks()
"""The configuration class of each network, by name."""

if TYPE_CHECKING:
    AnySegmentationNetwork: TypeAlias = SegmentationNetworkConfig
else:
    AnySegmentationNetwork = Annotated[
        Union[tuple(SEGMENTATION_NETWORKS.values())],  # noqa: UP007
        Field(discriminator="architecture"),
    ]
"""The configuration of any of these networks, as the type of a pydantic field."""
