"""Task 1: train the DynUNet on crops, keep the checkpoint with the best combined score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from shared.conventions import Label, LabelVolume
from shared.metrics.segmentation import Detections, Overlap, detections, dice, overlap
from shared.models.networks.dynunet import DynUNetConfig, WithoutHeads, build
from shared.models.segmentation import LABELS
from shared.postprocessing.components import remove_small
from training.config import Configuration, SegmentationSettings
from training.data import Cached
from training.engine import TrainedModule, fit
from training.samples import LesionCrops, Samples, ShuffledBatches, loader, window


def network_config(settings: SegmentationSettings) -> DynUNetConfig:
    """Return the shape of the Task 1 network, which Task 3 shares."""
    levels = len(settings.filters)
    return DynUNetConfig(
        filters=settings.filters,
        strides=(1,) + (2,) * (levels - 1),
        deep_supervision_heads=settings.deep_supervision_heads,
    )


def segmentation_loss() -> DiceCELoss:
    """Return the paper's DiceCE on softmax outputs and label maps of shape (n, 1, z, y, x)."""
    return DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)


@dataclass
class Totals:
    """The challenge's scores of Task 1, summed up case by case."""

    gtvp_dice: list[float] = field(default_factory=list)
    gtvn_overlap: Overlap = field(default_factory=Overlap)
    gtvn_detections: Detections = field(default_factory=Detections)

    def add(self, found: LabelVolume, truth: LabelVolume, voxel_volume_mm3: float) -> None:
        """Add one case."""
        self.gtvp_dice.append(dice(found, truth, Label.GTVP))
        self.gtvn_overlap += overlap(found, truth, Label.GTVN, voxel_volume_mm3)
        self.gtvn_detections += detections(found, truth, Label.GTVN)

    @classmethod
    def of(cls, parts: Sequence[Totals]) -> Totals:
        """Return the totals of several groups of cases together."""
        return cls(
            [value for part in parts for value in part.gtvp_dice],
            sum((part.gtvn_overlap for part in parts), Overlap()),
            sum((part.gtvn_detections for part in parts), Detections()),
        )

    def scores(self) -> dict[str, float]:
        """Return mean GTVp DSC, aggregated GTVn DSC and aggregated GTVn F1."""
        return {
            "gtvp_dice": float(np.mean(self.gtvp_dice)),
            "gtvn_aggregated_dice": self.gtvn_overlap.dice(),
            "gtvn_aggregated_f1": self.gtvn_detections.f1(),
        }


class SegmentationModule(TrainedModule):
    """DynUNet with DiceCE; validated on whole regions as serving runs them."""

    schedule: SegmentationSettings

    def __init__(self, settings: SegmentationSettings, voxel_volume_mm3: float) -> None:
        super().__init__(build(network_config(settings)), settings)
        self.loss = segmentation_loss()
        self.voxel_volume_mm3 = voxel_volume_mm3
        self.totals = Totals()

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Return the loss, averaged over the levels of deep supervision with halving weights."""
        logits = self.network(batch["image"])
        levels = logits.unbind(dim=1) if logits.ndim == 6 else (logits,)
        weights = [0.5**level for level in range(len(levels))]
        weighted = [
            weight * self.loss(level.float(), batch["labels"])
            for weight, level in zip(weights, levels, strict=True)
        ]
        loss = torch.stack(weighted).sum() / sum(weights)
        self.log_loss(loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        """Segment one region and keep its overlap with the truth."""
        logits = sliding_window_inference(
            batch["image"],
            self.schedule.window_zyx,
            1,
            WithoutHeads(self.network),  # type: ignore[arg-type]
            overlap=self.schedule.overlap,
            mode="gaussian",
        )
        found = logits.argmax(dim=1)[0].cpu().numpy().astype(np.uint8)  # type: ignore[union-attr]
        minimum = {LABELS[n]: v for n, v in self.schedule.min_component_mm3.items()}
        found = remove_small(found, self.voxel_volume_mm3, minimum)
        self.totals.add(found, batch["labels"][0, 0].cpu().numpy(), self.voxel_volume_mm3)

    def on_validation_epoch_end(self) -> None:
        """Log the challenge's three scores and their sum, the paper's criterion."""
        scores = self.totals.scores()
        self.totals = Totals()
        self.log_dict(scores, prog_bar=True)
        self.log("score", sum(scores.values()), prog_bar=True)


@dataclass(frozen=True)
class WholeRegions(Dataset[dict[str, Tensor]]):
    """Patients' whole regions, for validation."""

    patients: Sequence[Cached]
    configuration: Configuration

    def __len__(self) -> int:
        """How many patients there are."""
        return len(self.patients)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return image (2, z, y, x) and labels (1, z, y, x)."""
        everything = (slice(None),) * 3
        image, labels = window(self.patients[index], everything, self.configuration.intensity)
        return {"image": image, "labels": labels[None]}


def train(
    configuration: Configuration,
    patients: Sequence[Cached],
    held_out: Sequence[Cached],
    run_folder: Path,
    seed: int,
    loader_workers: int,
) -> nn.Module:
    """Train on patients, validate on others, and return the network with the best score."""
    settings = configuration.segmentation
    samples = Samples(
        patients,
        configuration.intensity,
        LesionCrops(settings.crop_zyx, settings.random_crop_probability),
        [{} for _ in patients],
    )
    batches = ShuffledBatches(len(patients), settings.batch_size, seed)
    module = SegmentationModule(settings, configuration.preparation.spacing_mm**3)
    validation: DataLoader[Any] = DataLoader(WholeRegions(held_out, configuration), batch_size=1)
    return fit(module, loader(samples, batches, loader_workers), validation, run_folder)
