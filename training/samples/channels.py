"""From a sample to the input of a network: lesion channels are drawn where the network runs.

A sample carries CT and PET and, in one byte per voxel, the label map. Drawn by the loader, two
lesion channels in float32 would take eight bytes per voxel of shared memory instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shared.conventions import LESIONS
from shared.preprocessing.intensity import IMAGE_CHANNELS, Channel, ImageChannel


def image_channels(channels: Sequence[Channel]) -> tuple[ImageChannel, ...]:
    """Return those of a network's channels that are images, in the network's order."""
    return tuple(channel for channel in channels if channel == "CT" or channel == "PET")


def has_lesion_channels(channels: Sequence[Channel]) -> bool:
    """Whether some of a network's channels are drawn from the label map."""
    return not set(channels) <= set(IMAGE_CHANNELS)


def network_input(batch: Mapping[str, Tensor], channels: Sequence[Channel]) -> Tensor:
    """Return a network's input, shape (n, channel, z, y, x), in the type of the images.

    Parameters
    ----------
    batch : `image`, shape (n, `image_channels`, z, y, x), and, if the network sees lesions,
        `labels`, shape (n, 1, z, y, x).
    """
    image = batch["image"]
    if not has_lesion_channels(channels):
        return image
    images = dict(zip(image_channels(channels), image.unbind(dim=1), strict=True))
    labels = batch["labels"][:, 0]
    return torch.stack(
        [
            images[channel]
            if channel == "CT" or channel == "PET"
            else (labels == LESIONS[channel]).to(image.dtype)
            for channel in channels
        ],
        dim=1,
    )
