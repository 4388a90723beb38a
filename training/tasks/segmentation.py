"""Task 1: a network is trained on crops; the checkpoint with the best combined score is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numpy as np
import SimpleITK as sitk
import torch
from monai.inferers.utils import sliding_window_inference
from monai.losses.dice import DiceCELoss
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.clinical import ClinicalFeature
from shared.conventions import LESIONS, Label, LabelVolume, Volume
from shared.editions import CURRENT
from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge.outputs import write_segmentation
from shared.metrics.segmentation import Detections, Overlap, detections, dice, overlap
from shared.models.card import MemberKind
from shared.models.networks.base import SegmentationNetworkConfig
from shared.models.segmentation import LABELS, SegmentationModel, mean_probabilities
from shared.models.sliding_window import sliding_window
from shared.postprocessing.components import remove_small
from shared.postprocessing.restore import SegmentedRegion, restore
from shared.postprocessing.rules import label_map
from shared.preprocessing.intensity import Channel, network_channels, scale_images
from shared.preprocessing.pipeline import Prepared
from shared.preprocessing.region import Preparation
from training.cohort.cache import PreparedPatient
from training.cohort.layout import Patient
from training.cohort.preparation import read_labels
from training.config import Configuration, SegmentationSettings
from training.loop.checkpointing import compute_again
from training.loop.hardware import Device
from training.loop.module import TrainedModule
from training.samples.batches import ShuffledBatches
from training.samples.crops import LesionCrops, no_lesion_centre
from training.samples.dataset import Sample, Samples, Variation, Windows
from training.tasks import out_of_fold
from training.tasks.base import FoldTraining, ScoredCase, Task, TrainedFold

T = TypeVar("T")

BATCH_DICE: Final = "batch_dice counts the voxels of the whole batch"

SCORES: Final = {
    "GTVp": ("gtvp_dice",),
    "GTVn": ("gtvn_aggregated_dice", "gtvn_aggregated_f1"),
}
"""The challenge's scores of each kind of lesion."""

NO_PRIMARY_FOUND: Final = "no_primary_found"
"""Metric: the share of the patients without a primary for whom no primary was predicted."""


def segmentation_loss(batch_dice: bool) -> DiceCELoss:
    """Return the paper's DiceCE on softmax outputs and label maps of shape (n, 1, z, y, x).

    With `batch_dice`, Dice is computed over all voxels of the batch of one process.
    """
    return DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=batch_dice)


@dataclass
class Totals:
    """Accumulates the terms of the challenge's Task 1 scores case by case."""

    gtvp_dice: list[float] = field(default_factory=list)
    gtvn_overlap: Overlap = field(default_factory=Overlap)
    gtvn_detections: Detections = field(default_factory=Detections)

    def add(self, prediction: LabelVolume, truth: LabelVolume, voxel_volume_mm3: float) -> None:
        """Add one case."""
        self.gtvp_dice.append(dice(prediction, truth, Label.GTVP))
        self.gtvn_overlap += overlap(
            prediction, truth, Label.GTVN, voxel_volume_mm3=voxel_volume_mm3
        )
        self.gtvn_detections += detections(prediction, truth, Label.GTVN)

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


def compare_with_truth(mask: sitk.Image, truth: sitk.Image) -> Totals:
    """Return the terms of the scores of one mask; both label maps are on the CT's grid."""
    totals = Totals()
    totals.add(
        sitk.GetArrayFromImage(mask),
        sitk.GetArrayFromImage(truth),
        Grid.of(truth).voxel_volume_mm3,
    )
    return totals


class SegmentationModule(TrainedModule[Totals]):
    """A network with the DiceCE loss, validated on whole regions by the paper's combined score."""

    schedule: SegmentationSettings

    def __init__(
        self, network: nn.Module, settings: SegmentationSettings, seed: int, spacing_mm: float
    ) -> None:
        super().__init__(network, settings, seed)
        self.criterion = segmentation_loss(settings.batch_dice)
        self.spacing_mm = spacing_mm

    def loss(self, batch: Sample) -> Tensor:
        """Return the loss, averaged over the levels of deep supervision with halving weights."""
        logits = self.network(batch["image"])
        levels = logits.unbind(dim=1) if logits.ndim == 6 else (logits,)
        weights = [0.5**level for level in range(len(levels))]
        weighted = [
            weight * self.criterion(level.float(), batch["labels"])
            for weight, level in zip(weights, levels, strict=True)
        ]
        return torch.stack(weighted).sum() / sum(weights)

    def validate(self, batch: Sample) -> Totals:
        """Segment one region and compare it with the truth."""
        logits = region_logits(self.network, batch["image"].float(), self.schedule)
        prediction = logits.argmax(dim=1)[0].cpu().numpy().astype(np.uint8)
        minimum = {LABELS[n]: v for n, v in self.schedule.min_component_mm3.items()}
        prediction = remove_small(prediction, self.spacing_mm**3, minimum)
        totals = Totals()
        totals.add(prediction, batch["labels"][0, 0].cpu().numpy(), self.spacing_mm**3)
        return totals

    def scores(self, observations: Sequence[Totals]) -> dict[str, float]:
        """Return the challenge's scores of the kinds of lesions to train on, and their sum.

        The sum of all three scores is the paper's criterion.
        """
        scores = scores_of(self.schedule.lesions, Totals.of(observations).scores())
        return scores | {"score": sum(scores.values())}


def model_for(folder: Path, preparation: Preparation) -> SegmentationModel:
    """Return the Task 1 model in a model folder, for patients with a given preparation.

    Raises
    ------
    InputError
        If the model needs another preparation.
    ModelError
        If the model folder cannot be used.
    """
    model = SegmentationModel.load(folder)
    if model.card.preparation != preparation:
        raise InputError(
            f"expected a Task 1 model in {folder} for the region {preparation}, found a model for "
            f"{model.card.preparation}; give another model folder or configuration"
        )
    return model


def scores_of(lesions: Sequence[str], scores: Mapping[str, T]) -> dict[str, T]:
    """Return the scores of the given kinds of lesions."""
    return {name: scores[name] for lesion in lesions for name in SCORES[lesion]}


def region_logits(network: nn.Module, image: Tensor, settings: SegmentationSettings) -> Tensor:
    """Return the logits of regions, shape (n, 3, z, y, x), by the sliding window of serving."""
    logits = sliding_window_inference(
        image,
        settings.window_zyx,
        1,
        settings.network.reference(network),
        overlap=settings.overlap,
        mode="gaussian",
    )
    return cast(Tensor, logits)


def predictor(
    network: nn.Module, configuration: Configuration, device: Device
) -> Callable[[Prepared], Volume]:
    """Move a network to a device, and return a function that predicts with it.

    The function takes a prepared case, mirrors as in serving, and returns the probabilities in its
    region, shape (3, z, y, x).
    """
    settings = configuration.segmentation
    reference = settings.network.reference(network).to(device).eval()

    @torch.inference_mode()
    def window_logits(window: Volume) -> Volume:
        logits: Volume = reference(torch.from_numpy(window).to(device)).cpu().numpy()
        return logits

    def predict(image: Volume, body: NDArray[np.bool_]) -> Volume:
        return sliding_window(
            window_logits,
            image,
            window_zyx=settings.window_zyx,
            overlap=settings.overlap,
            outputs=len(LABELS),
            needed=body,
        )

    def probabilities(prepared: Prepared) -> Volume:
        images = scale_images(prepared.ct_hu, prepared.pet_suv, configuration.intensity)
        image = network_channels(images, settings.channels)
        return mean_probabilities(
            predict, image, body=prepared.body, mirror_axes=settings.mirror_axes
        )

    return probabilities


def segment(
    probabilities: Volume, prepared: Prepared, configuration: Configuration
) -> SegmentedRegion:
    """Return a region's probabilities with the label map after the configured rules."""
    settings = configuration.segmentation
    labels = label_map(
        probabilities,
        prepared.pet_suv,
        spacing_mm=configuration.preparation.spacing_mm,
        min_component_mm3=settings.min_component_mm3,
        rules=settings.rules,
    )
    return SegmentedRegion(labels=labels, probabilities=probabilities)


class Segmentation(Task):
    """Task 1: a network that is trained on crops."""

    name = "segmentation"
    model_type = SegmentationModel
    about = "Train Task 1 and write its model folder. By default 36 patients are held out."
    default_held_out = 36  # as in the paper

    def settings(self, configuration: Configuration) -> SegmentationSettings:
        """Return the task's part of a configuration."""
        return configuration.segmentation

    def not_additive(self, configuration: Configuration) -> str | None:
        """Return why batches cannot be accumulated with `batch_dice`; None without it."""
        return BATCH_DICE if configuration.segmentation.batch_dice else None

    def has_truth(self, patient: Patient) -> bool:
        """Return whether the patient has a label map."""
        return patient.labels is not None

    def stratum(self, patient: PreparedPatient) -> str:
        """Return the lesions and the outcomes of all tasks, so that the tasks can share folds."""
        lesions = [name for name, label in LESIONS.items() if np.any(patient.labels == label)]
        outcomes = {"HPV": patient.patient.hpv, "relapse": patient.patient.relapse}
        words = [f"{name} {value:d}" for name, value in outcomes.items() if value is not None]
        return ", ".join([*words, *(lesions or ["no lesion"])])

    def network_config(self, configuration: Configuration) -> SegmentationNetworkConfig:
        """Return the configuration of the network."""
        return configuration.segmentation.network

    def channels(self, configuration: Configuration) -> tuple[Channel, ...]:
        """Return the network's channels in order."""
        return configuration.segmentation.channels

    def network(self, configuration: Configuration, _: Sequence[ClinicalFeature]) -> nn.Module:
        """Return the network with fresh weights."""
        settings = configuration.segmentation
        return settings.network.build(len(settings.channels))

    def module(self, training: FoldTraining) -> SegmentationModule:
        """Return the network with its loss and scores."""
        configuration, settings = training.configuration, training.configuration.segmentation
        network = self.network(configuration, ())
        levels = settings.network.levels(network)
        compute_again(chain.from_iterable(levels[: settings.checkpoint_levels]))
        return SegmentationModule(
            network, settings, training.seed, configuration.preparation.spacing_mm
        )

    def samples(self, training: FoldTraining) -> Samples:
        """Return crops."""
        settings = training.configuration.segmentation
        return Samples(
            patients=training.patients,
            intensity=training.configuration.intensity,
            channels=settings.channels,
            place=LesionCrops(
                settings.crop_zyx, settings.random_crop_probability, settings.random_crops
            ),
            targets=[{} for _ in training.patients],
            augmentation=settings.augmentation,
            variation=Variation(mirror=settings.mirror),
        )

    def batches(self, training: FoldTraining) -> ShuffledBatches:
        """Return batches of all patients."""
        settings = training.configuration.segmentation
        return ShuffledBatches(
            len(training.patients),
            settings.batch_size,
            training.seed,
            training.hardware.accumulation_of(settings),
        )

    def windows(self, patients: Sequence[PreparedPatient], training: FoldTraining) -> Windows:
        """Return whole regions."""
        x, y, z = training.configuration.preparation.size_xyz
        return Windows(
            patients=patients,
            intensity=training.configuration.intensity,
            channels=training.configuration.segmentation.channels,
            window_zyx=(z, y, x),
            centre_of=no_lesion_centre,
            targets=[{} for _ in patients],
        )

    def check(self, training: FoldTraining) -> None:
        """Raise InputError if no training or no held-out patient has a configured lesion."""
        for name in training.configuration.segmentation.lesions:
            for part, patients in training.parts.items():
                if not any(np.any(p.labels == LESIONS[name]) for p in patients):
                    raise InputError(
                        f"fold {training.fold.name}: expected a patient with {name} among the "
                        f"{len(patients)} {part} patients, found none; the score for {name} would "
                        "be meaningless; use other folds or a larger cohort, or leave it out of "
                        "segmentation.lesions if the label maps do not have it"
                    )

    def card(
        self, configuration: Configuration, run_folder: Path, kinds: Sequence[MemberKind]
    ) -> dict[str, Any]:
        """Return the fields of the model card that only this task has."""
        del run_folder, kinds
        settings = configuration.segmentation
        return {
            "window_zyx": settings.window_zyx,
            "overlap": settings.overlap,
            "labels": tuple(LABELS),
            "min_component_mm3": settings.min_component_mm3,
            "rules": settings.rules,
            "mirror_axes": settings.mirror_axes,
        }

    def predict_held_out(self, trained: TrainedFold) -> None:
        """Write label maps and probabilities of the held-out patients, and their scores.

        Patients without a label map are in no fold. Each fold predicts them, and the predictions of
        the fold that was trained last stay.
        """
        training = trained.training
        settings = training.configuration.segmentation
        network = trained.models["network"]
        patients = [*training.held_out, *training.without_outcome]
        folder = training.runs / self.name / out_of_fold.FOLDER
        out_of_fold.write(
            folder,
            training.fold.name,
            patients,
            predict=predictor(network, training.configuration, training.device),
            min_component_mm3=settings.min_component_mm3,
            rules=settings.rules,
        )
        network.cpu()

    def require_predictions(self, folder: Path, patient_ids: Sequence[str]) -> None:
        """Raise InputError if a patient has no label map."""
        out_of_fold.require(folder, patient_ids)

    def write_answer(self, folder: Path, patient: PreparedPatient, output_dir: Path) -> None:
        """Write a patient's label map on the CT's grid."""
        segmented = out_of_fold.read(folder, patient.patient_id)
        write_segmentation(output_dir, restore(segmented, patient.undo), CURRENT)

    def observe(self, model: SegmentationModel, case: ScoredCase) -> dict[str, Totals | bool]:
        """Compare label maps on the CT's grid.

        If there is no true primary, `no_primary_found` says whether no primary was predicted.

        Raises
        ------
        InputError
            If the patient has no label map.
        """
        del model
        assert case.predictions.mask is not None
        mask, truth = case.predictions.mask, read_labels(case.patient)
        totals = compare_with_truth(mask, truth)
        observations: dict[str, Totals | bool] = dict.fromkeys(totals.scores(), totals)
        if not np.any(sitk.GetArrayViewFromImage(truth) == Label.GTVP):
            found = np.any(sitk.GetArrayViewFromImage(mask) == Label.GTVP)
            observations[NO_PRIMARY_FOUND] = not found
        return observations

    def score(self, metric: str, observations: Sequence[Any]) -> float:
        """Return one of the challenge's scores, or the share of cases without a false primary."""
        if metric == NO_PRIMARY_FOUND:
            return float(np.mean(observations))
        return Totals.of(observations).scores()[metric]
