"""Makes the input of a network from a batch of samples, on the device of the network.

A sample has CT and PET, and the label map in one byte per voxel. If the loader made the two lesion
channels instead, they would take eight bytes per voxel of shared memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shared.conventions import LESIONS
from shared.preprocessing.intensity import Channel, ImageChannel, has_lesion_channels


def image_channels(channels: Sequence[Channel]) -> tuple[ImageChannel, ...]:
    """Return the image channels among a network's channels, in the same order."""
    return tuple(channel for channel in channels if channel == "CT" or channel == "PET")


def network_input(batch: Mapping[str, Tensor], channels: Sequence[Channel]) -> Tensor:
    """Return a network's input, shape (n, channel, z, y, x), in the type of the images.

    Parameters
    ----------
    batch : tensors by key: `image`, shape (n, image channel, z, y, x), and, if the network has
        lesion channels, `labels`, shape (n, 1, z, y, x).
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
