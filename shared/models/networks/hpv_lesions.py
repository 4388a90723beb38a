"""The Task 3 network that looks at the lesions: features of a Task 1 encoder, averaged over them.

A 3 cm lesion is lost in the mean over a window, and instance norm removes the mean of each channel.
This head therefore averages the features over GTVp and over GTVn, at levels that still resolve a
lesion. The network gets the lesions as channels of its input, so it needs no decoder. The encoder
of Task 1 is frozen or trained further.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from shared.conventions import LESIONS
from shared.models.networks.base import (
    HpvNetworkBase,
    HpvNetworkConfig,
    SegmentationNetworkConfig,
)
from shared.models.networks.clinical import clinical_mlp
from shared.preprocessing.intensity import Channel, ImageChannel


class LesionHpvConfig(HpvNetworkConfig):
    """The configuration of the head on the lesions."""

    head: Literal["lesions"]
    encoder: Literal["frozen", "trained"] = "frozen"
    """Whether the encoder keeps the weights of Task 1. A frozen encoder is run once per view of a
    patient, so an epoch takes seconds."""
    strides: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (4, 8)
    """The levels of the encoder whose features are pooled, by their downsampling."""
    views: PositiveInt = 8
    """With a frozen encoder: how many windows of each training patient are kept. The first one is
    as in serving; the others are augmented."""

    def build(
        self, backbone: SegmentationNetworkConfig, *, in_channels: int, clinical_features: int
    ) -> LesionHpvNetwork:
        """Return the network with fresh weights.

        Raises
        ------
        ValueError
            If the Task 1 network has no level of one of the strides.
        """
        return LesionHpvNetwork(
            self, backbone, in_channels=in_channels, clinical_features=clinical_features
        )

    def merged(self, networks: Sequence[nn.Module]) -> list[nn.Module]:
        """Return one network with all heads if all encoders have the same weights.

        This is possible if the encoders are frozen.
        """
        first, *others = [cast(LesionHpvNetwork, network) for network in networks]
        if not all(_are_alike(first.encoder, other.encoder) for other in others):
            return list(networks)
        first.head = MeanHead([first.head, *(other.head for other in others)])
        return [first]

    def channels(self, image_channels: Sequence[ImageChannel]) -> tuple[Channel, ...]:
        """Return the channels of the Task 1 network, followed by GTVp and GTVn."""
        return (*image_channels, "GTVp", "GTVn")


class LesionPooling(nn.Module):
    """Averages the features of given levels over each lesion class."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)

    def forward(self, features: Sequence[Tensor], lesions: Tensor) -> Tensor:
        """Return the pooled features, then the size of each class.

        Parameters
        ----------
        features : the features of every level of an encoder, each of shape (n, channels, z, y, x).
        lesions : probabilities or masks of GTVp and GTVn at full resolution, shape (n, 2, Z, Y, X).
            Values outside 0 to 1 are clipped.

        Returns
        -------
        Shape (n, 2 x channels of the given levels + 2). First, for each level, the weighted mean of
        its features over GTVp and over GTVn; the weight of a coarse voxel is the mean over its fine
        voxels. The mean over an absent class is 0. Then the size of each class, log(1 + voxels).
        """
        lesions = lesions.clamp(0, 1)
        pooled = []
        for level in self.levels:
            each = features[level]
            sides = zip(lesions.shape[2:], each.shape[2:], strict=True)
            stride = [fine // coarse for fine, coarse in sides]
            weights = functional.avg_pool3d(lesions, stride).flatten(2)
            sums = weights @ each.flatten(2).transpose(1, 2)
            pooled.append((sums / weights.sum(2, keepdim=True).clamp(min=1e-6)).flatten(1))
        sizes = torch.log1p(lesions.flatten(2).sum(2))
        return torch.cat([*pooled, sizes], dim=1)


class LesionHead(nn.Module):
    """Maps pooled features and the clinical vector to the HPV logit.

    Batch norm puts all features on one scale, so that one learning rate suits them.
    """

    def __init__(self, config: LesionHpvConfig, *, features: int, clinical_features: int) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.BatchNorm1d(features), nn.Dropout(config.dropout))
        self.clinical = clinical_mlp(clinical_features, config.clinical_width, config.dropout)
        self.output = nn.Linear(features + config.clinical_width, 1)

    def forward(self, pooled: Tensor, clinical: Tensor) -> Tensor:
        """Return the HPV logits, shape (n, 1), from features of shape (n, features)."""
        fused = torch.cat([self.image(pooled), self.clinical(clinical)], dim=1)
        return cast(Tensor, self.output(fused))


class MeanHead(nn.Module):
    """The mean logit of several heads."""

    def __init__(self, heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, pooled: Tensor, clinical: Tensor) -> Tensor:
        """Return the HPV logits, shape (n, 1), from features of shape (n, features)."""
        return torch.stack([head(pooled, clinical) for head in self.heads]).mean(dim=0)


class LesionClassifier(nn.Module):
    """Encoder, pooling and head."""

    def __init__(self, encoder: nn.Module, pooling: LesionPooling, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.pooling, self.head = encoder, pooling, head

    def pooled(self, image: Tensor) -> Tensor:
        """Return the pooled features, shape (n, features), of a window with its lesions."""
        images, lesions = image[:, : -len(LESIONS)], image[:, -len(LESIONS) :]
        return cast(Tensor, self.pooling(self.encoder(images), lesions))

    def forward(self, image: Tensor, clinical: Tensor) -> Tensor:
        """Return the HPV logits, shape (n, 1); a positive logit means HPV+.

        Parameters
        ----------
        image : shape (n, image channels + 2, z, y, x); the last two are GTVp and GTVn.
        clinical : shape (n, features), from `shared.clinical.encode`.
        """
        return cast(Tensor, self.head(self.pooled(image), clinical))


class LesionHpvNetwork(HpvNetworkBase):
    """The encoder of a Task 1 network and the head.

    Attributes
    ----------
    is_frozen : whether the encoder keeps its weights. If so, it is always in evaluation mode.
    """

    def __init__(
        self,
        config: LesionHpvConfig,
        backbone: SegmentationNetworkConfig,
        *,
        in_channels: int,
        clinical_features: int,
    ) -> None:
        super().__init__()
        self.config, self.in_channels = backbone.as_backbone(), in_channels
        self.encoder = self.config.encoder(self.config.build(in_channels))
        levels = _levels(self.encoder, in_channels, side=2 * self.config.divisor)
        chosen = [_level_of(stride, levels) for stride in config.strides]
        features = len(LESIONS) * (sum(levels[level][1] for level in chosen) + 1)
        self.pooling = LesionPooling(chosen)
        self.head: nn.Module = LesionHead(
            config, features=features, clinical_features=clinical_features
        )
        self.is_frozen = config.encoder == "frozen"
        self.encoder.requires_grad_(not self.is_frozen)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the head, and of the encoder if it is trained."""
        super().train(mode)
        self.encoder.train(mode and not self.is_frozen)
        return self

    def forward(self, image: Tensor, clinical: Tensor) -> Tensor:
        """Return the HPV logits, see `LesionClassifier.forward`."""
        return cast(Tensor, self.classifier()(image, clinical))

    def classifier(self) -> LesionClassifier:
        """Return encoder, pooling and head."""
        classifier = LesionClassifier(self.encoder, self.pooling, self.head)
        classifier.training = self.training  # does not change the mode of its parts
        return classifier

    def load_segmentation(self, weights: Mapping[str, Tensor]) -> None:
        """Load the encoder from the `state_dict` of a Task 1 network."""
        network = self.config.build(self.in_channels)
        network.load_state_dict(self.config.backbone_weights(weights))
        self.load_encoder(self.config.encoder(network).state_dict())

    def load_encoder(self, weights: Mapping[str, Tensor]) -> None:
        """Load the `state_dict` of a Task 1 network's encoder.

        Raises
        ------
        RuntimeError
            From torch, if a weight is missing, unknown or of a different shape.
        """
        self.encoder.load_state_dict(weights)


def _are_alike(first: nn.Module, second: nn.Module) -> bool:
    """Return whether two modules of the same class have equal weights."""
    return all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


@torch.no_grad()
def _levels(encoder: nn.Module, in_channels: int, side: int) -> list[tuple[int, int]]:
    """Return stride and channels of each level, finest first."""
    was_training = encoder.training
    features = encoder.eval()(torch.zeros(1, in_channels, side, side, side))
    encoder.train(was_training)
    return [(side // min(each.shape[2:]), each.shape[1]) for each in features]


def _level_of(stride: int, levels: Sequence[tuple[int, int]]) -> int:
    """Return the index of the deepest level with a given stride."""
    indices = [index for index, (each, _) in enumerate(levels) if each == stride]
    if not indices:
        found = ", ".join(str(each) for each, _ in levels)
        raise ValueError(f"expected strides that the Task 1 network has ({found}), found {stride}")
    return indices[-1]
