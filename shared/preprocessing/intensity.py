"""From HU, SUV and labels to the input channels of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from pydantic import PositiveFloat, field_validator

from shared.conventions import LESIONS, LabelVolume, Volume
from shared.preprocessing.pipeline import Prepared
from shared.schema import Strict

Channel: TypeAlias = Literal["CT", "PET", "GTVp", "GTVn"]


class Intensity(Strict):
    """How HU and SUV are scaled for a network.

    CT is clipped to `ct_window_hu` and mapped linearly to [-1, 1]; PET is clipped to
    [0, `pet_max_suv`] and divided by `pet_unit_suv`.
    """

    ct_window_hu: tuple[float, float]
    pet_max_suv: PositiveFloat
    pet_unit_suv: PositiveFloat

    @field_validator("ct_window_hu")
    @classmethod
    def _check_window(cls, window: tuple[float, float]) -> tuple[float, float]:
        if window[0] >= window[1]:
            raise ValueError(f"expected a window from a lower to a higher HU, found {window}")
        return window


def scale_ct(ct_hu: Volume, intensity: Intensity) -> Volume:
    """Clip CT to `ct_window_hu` and map this window linearly to [-1, 1]."""
    low, high = intensity.ct_window_hu
    scaled = (np.clip(ct_hu, low, high) - low) * np.float32(2 / (high - low)) - 1
    return scaled.astype(np.float32, copy=False)


def scale_pet(pet_suv: Volume, intensity: Intensity) -> Volume:
    """Clip PET to [0, `pet_max_suv`] and divide it by `pet_unit_suv`."""
    scaled = np.clip(pet_suv, 0, intensity.pet_max_suv) / np.float32(intensity.pet_unit_suv)
    return scaled.astype(np.float32, copy=False)


def network_channels(
    prepared: Prepared,
    intensity: Intensity,
    channels: Sequence[Channel],
    labels: LabelVolume | None = None,
) -> Volume:
    """Return a network's input, shape (channel, z, y, x), with the channels in the given order.

    Parameters
    ----------
    labels : label map on the region's grid. The channels GTVp and GTVn, which are 0 or 1, need it.

    Raises
    ------
    ValueError
        If a channel needs a label map and there is none.
    """

    def volume(channel: Channel) -> Volume:
        if channel == "CT":
            return scale_ct(prepared.ct_hu, intensity)
        if channel == "PET":
            return scale_pet(prepared.pet_suv, intensity)
        if labels is None:
            raise ValueError(f"the channel {channel} needs a label map")
        return np.equal(labels, LESIONS[channel]).astype(np.float32)

    return np.stack([volume(channel) for channel in channels])
