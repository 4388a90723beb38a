"""Turns HU, SUV and labels into the channels of a network, for training and serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydantic import field_validator

from shared.conventions import LESIONS, LabelVolume, Volume
from shared.geometry import bounding_slices
from shared.schema import Divisor, Magnitude, Strict

ImageChannel: TypeAlias = Literal["CT", "PET"]
Channel: TypeAlias = Literal["CT", "PET", "GTVp", "GTVn"]

IMAGE_CHANNELS: Final[tuple[ImageChannel, ...]] = ("CT", "PET")
"""The channels of `scale_images`; the other channels come from the label map."""
MIN_WINDOW_HU: Final = 1.0


def has_lesion_channels(channels: Sequence[Channel]) -> bool:
    """Return whether some of a network's channels come from the label map."""
    return not set(channels) <= set(IMAGE_CHANNELS)


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


class NnunetIntensity(Strict):
    """How nnU-Net v2 scales values.

    CT is clipped and standardised with the numbers of the plans ("CTNormalization"). PET is
    standardised with the mean and the standard deviation of the case ("ZScoreNormalization").
    nnU-Net crops a case to the box around the voxels in which CT or PET is not 0.

    References
    ----------
    Isensee et al. 2021, nnU-Net, Nature Methods 18:203-211 (online methods, intensity).
    """

    kind: Literal["nnunet"]
    ct_range_hu: tuple[Magnitude, Magnitude]
    """The percentiles 0.5 and 99.5 of the HU in the lesions of the training patients."""
    ct_mean_hu: Magnitude
    ct_std_hu: Divisor
    pet_nonzero_only: bool
    """Whether PET is standardised only in the voxels where CT or PET is not 0, and in the holes
    that they enclose. Other voxels then keep their values ("use_mask_for_norm")."""

    @field_validator("ct_range_hu")
    @classmethod
    def _check_range(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if limits[0] > limits[1]:
            raise ValueError(f"expected a range that rises, found {limits}")
        return limits


AnyIntensity: TypeAlias = Intensity | NnunetIntensity

LEAST_STD: Final = 1e-8
"""Lower bound of the standard deviation of a PET (nnU-Net)."""


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
    ct_hu: Volume, pet_suv: Volume, intensity: AnyIntensity
) -> dict[ImageChannel, Volume]:
    """Return scaled CT and PET, in the order of `IMAGE_CHANNELS`.

    Parameters
    ----------
    ct_hu, pet_suv : volumes of the same shape; for `NnunetIntensity`, those of a whole case,
        cropped to `nonzero_box`.
    """
    if isinstance(intensity, Intensity):
        return {"CT": scale_ct(ct_hu, intensity), "PET": scale_pet(pet_suv, intensity)}
    ct = np.clip(ct_hu, *intensity.ct_range_hu) - np.float32(intensity.ct_mean_hu)
    ct /= np.float32(intensity.ct_std_hu)
    mask = _filled_nonzero(ct_hu, pet_suv) if intensity.pet_nonzero_only else slice(None)
    pet = pet_suv.astype(np.float32)
    values = pet[mask]
    if values.size:
        std = max(values.std(), np.float32(LEAST_STD))
        pet[mask] = (values - values.mean()) / std
    return {"CT": ct.astype(np.float32, copy=False), "PET": pet}


def nonzero_box(ct_hu: Volume, pet_suv: Volume) -> tuple[slice, slice, slice]:
    """Return the box (z, y, x) around the voxels in which CT or PET is not 0.

    Without such voxels, it is the whole volume. Air does not have 0 HU, so the box is smaller than
    a region only if both images were set to 0 near an edge.
    """
    box = bounding_slices((ct_hu != 0) | (pet_suv != 0))
    return box or (slice(None), slice(None), slice(None))


def _filled_nonzero(ct_hu: Volume, pet_suv: Volume) -> NDArray[np.bool_]:
    """Return the voxels in which CT or PET is not 0, and the holes that they enclose."""
    mask = sitk.GetImageFromArray(((ct_hu != 0) | (pet_suv != 0)).astype(np.uint8))
    filled = sitk.BinaryFillhole(mask, fullyConnected=False, foregroundValue=1)
    return sitk.GetArrayFromImage(filled).astype(bool)


def network_channels(
    images: Mapping[ImageChannel, Volume],
    channels: Sequence[Channel],
    labels: LabelVolume | None = None,
) -> Volume:
    """Return a network's input, shape (channel, z, y, x), in the given order of channels.

    Parameters
    ----------
    images : the images that `scale_images` returns, each [z, y, x]; augmented in training.
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
