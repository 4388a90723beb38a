"""Turns HU, SUV and labels into the channels of a network, for training and serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
from pydantic import field_validator

from shared.conventions import LESIONS, LabelVolume, Volume
from shared.schema import Divisor, Magnitude, Strict

ImageChannel: TypeAlias = Literal["CT", "PET"]
Channel: TypeAlias = Literal["CT", "PET", "GTVp", "GTVn"]

IMAGE_CHANNELS: Final[tuple[ImageChannel, ...]] = ("CT", "PET")
"""The channels of `scale_images`; the others are drawn from the labels."""
MIN_WINDOW_HU: Final = 1.0


class Intensity(Strict):
    """How values are scaled for a network.

    CT is clipped to `ct_window_hu` and mapped linearly to [-1, 1]. PET is clipped to
    [0, `pet_max_suv`] and divided by `pet_unit_suv`.
    """

    ct_window_hu: tuple[Magnitude, Magnitude]
    pet_max_suv: Divisor
    pet_unit_suv: Divisor

    @field_validator("ct_window_hu")
    @classmethod
    def _check_window(cls, window: tuple[float, float]) -> tuple[float, float]:
        if window[1] - window[0] < MIN_WINDOW_HU:
            raise ValueError(f"expected a window that rises by at least 1 HU, found {window}")
        return window


def scale_ct(ct_hu: Volume, intensity: Intensity) -> Volume:
    """Clip CT to its window and map the window linearly to [-1, 1]."""
    low, high = intensity.ct_window_hu
    scaled = (np.clip(ct_hu, low, high) - low) * np.float32(2 / (high - low)) - 1
    return scaled.astype(np.float32, copy=False)


def scale_pet(pet_suv: Volume, intensity: Intensity) -> Volume:
    """Clip PET to [0, `pet_max_suv`] and divide it by `pet_unit_suv`."""
    scaled = np.clip(pet_suv, 0, intensity.pet_max_suv) / np.float32(intensity.pet_unit_suv)
    return scaled.astype(np.float32, copy=False)


def scale_images(
    ct_hu: Volume, pet_suv: Volume, intensity: Intensity
) -> dict[ImageChannel, Volume]:
    """Return scaled CT and PET, in the order of `IMAGE_CHANNELS`."""
    return {"CT": scale_ct(ct_hu, intensity), "PET": scale_pet(pet_suv, intensity)}


def network_channels(
    images: Mapping[ImageChannel, Volume],
    channels: Sequence[Channel],
    labels: LabelVolume | None = None,
) -> Volume:
    """Return a network's input, shape (channel, z, y, x), in the given order of channels.

    Parameters
    ----------
    images : the images that `scale_images` returns, each [z, y, x]; training augments them first.
    labels : label map on the same grid; needed for the channels GTVp and GTVn, which are 0/1.

    Raises
    ------
    ValueError
        If a channel needs labels and there are none.
    """

    def volume(channel: Channel) -> Volume:
        if channel == "CT" or channel == "PET":
            return images[channel]
        if labels is None:
            raise ValueError(f"the channel {channel} needs a label map")
        return np.equal(labels, LESIONS[channel]).astype(np.float32)

    return np.stack([volume(channel) for channel in channels])
