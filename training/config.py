"""The configuration of a training run, a validated TOML file. Unknown keys are errors."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

from shared.clinical import check_key
from shared.conventions import LESIONS, Axis
from shared.errors import HecktorError
from shared.models.networks.discovery import AnySegmentationNetwork
from shared.models.networks.hpv import HpvConfig
from shared.models.networks.hpv_lesions import LesionHpvConfig
from shared.models.networks.survival import SurvivalConfig
from shared.postprocessing.rules import Rules
from shared.preprocessing.intensity import Channel, ImageChannel, Intensity
from shared.preprocessing.region import Preparation
from shared.schema import Strict

CONFIGS_DIR: Final = Path(__file__).parent / "configs"

Shape: TypeAlias = tuple[PositiveInt, PositiveInt, PositiveInt]
Probability: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Precision: TypeAlias = Literal["32-true", "bf16-mixed", "16-mixed"]
Strength: TypeAlias = Literal["trivial", "strong"]
RandomCrops: TypeAlias = Literal["region", "body"]


T = TypeVar("T")


def _check_lesions(sizes: dict[str, float]) -> dict[str, float]:
    if not set(sizes) <= set(LESIONS):
        raise ValueError(f"expected sizes of {', '.join(LESIONS)}, found {', '.join(sizes)}")
    return sizes


def _check_different(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"expected different entries, found {', '.join(map(str, values))}")
    return values


Axes: TypeAlias = Annotated[tuple[Axis, ...], AfterValidator(_check_different)]

ClinicalKeys: TypeAlias = Annotated[
    tuple[Annotated[str, AfterValidator(check_key)], ...],
    Field(min_length=1),
    AfterValidator(_check_different),
]
"""Keys of `shared.clinical.VARIABLES`, in the order in which a network takes them."""

LesionName: TypeAlias = Literal["GTVp", "GTVn"]

LesionSizes: TypeAlias = Annotated[dict[str, float], AfterValidator(_check_lesions)]


class Averaging(Strict):
    """Stochastic weight averaging (SWA), a second stage that starts from the best checkpoint.

    It has a constant learning rate and new moments of Adam. The result is the mean of the weights
    after each epoch. Instance norm and group norm have no running statistics that would have to be
    updated afterwards.

    References
    ----------
    Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization, UAI.
    """

    epochs: PositiveInt
    learning_rate: PositiveFloat
    keep: Literal["always", "better"]
    """Whether to keep the mean always, or only if it scores at least as well in validation."""


class Schedule(Strict):
    """The training settings that all tasks have."""

    epochs: PositiveInt
    batch_size: PositiveInt
    """Number of patients per process, that is, per GPU."""
    accumulate_batches: PositiveInt
    """Number of batches whose gradients are averaged for one step of the optimiser: the gradient of
    one large batch in the memory of a small one."""
    learning_rate: PositiveFloat
    cosine_decay: bool
    """Let the learning rate fall to zero along a half cosine; otherwise it is constant."""
    validate_every_epochs: PositiveInt
    precision: Precision
    augmentation: Strength = "trivial"
    """The augmentation of samples: "trivial" applies one random transform to each sample, as in the
    paper; "strong" applies about as many and as strong transforms as nnU-Net."""
    mirror: Axes = ()
    """Axes of mirroring in training, each for a random half of the samples; the paper has none."""
    checkpoint: Literal["best", "last"] = "best"
    """The weights to serve: those of the epoch that scores best on the held-out patients, as in the
    paper, or the late weights, the mean over the last epochs, which no held-out patient chooses.
    Out-of-fold predictions come from the late weights in both cases."""
    averaging: Averaging | None = None

    @model_validator(mode="after")
    def _check_averaging(self) -> Self:
        if self.checkpoint == "last" and self.averaging and self.averaging.keep == "better":
            raise ValueError(
                'expected averaging.keep = "always", since checkpoint = "last" lets no held-out '
                'patient choose the weights, found "better"'
            )
        return self


class SegmentationSettings(Schedule):
    """The settings of Task 1."""

    network: AnySegmentationNetwork
    """The architecture and its size; Task 3 uses the same network."""
    channels: Annotated[
        tuple[ImageChannel, ...], Field(min_length=1), AfterValidator(_check_different)
    ]
    """The input channels, in order; Task 3 starts from the weights, so it has the same channels."""
    lesions: Annotated[
        tuple[LesionName, ...], Field(min_length=1), AfterValidator(_check_different)
    ] = ("GTVp", "GTVn")
    """The kinds of lesions in the label maps. Each must be among the training and the held-out
    patients of every fold, and only their scores choose the epoch."""
    window_zyx: Shape
    crop_zyx: Shape
    overlap: Probability
    batch_dice: bool
    """Whether to compute the Dice loss over all voxels of a batch. Otherwise it is the mean over
    the images; a crop without a primary then has a Dice loss of 1 for the primary, with almost no
    gradient."""
    checkpoint_levels: NonNegativeInt = 0
    """Number of the network's finest resolutions that the backward pass computes again, in this
    task and in Task 3. This takes less memory and more time, and gives the same gradient."""
    random_crop_probability: Probability
    """Probability that a crop is placed anywhere instead of on a lesion."""
    random_crops: RandomCrops = "region"
    """Where the centre of a crop that is not placed on a lesion may be: anywhere in the region, as
    in the paper, or only in the body. If the region is much larger than the body, many crops
    anywhere in it show only air."""
    min_component_mm3: LesionSizes
    rules: Rules = Rules()
    """Post-processing rules in addition to the size; the paper has none."""
    mirror_axes: Axes = ()
    """Axes of mirroring at test time; the paper has none."""


Origin: TypeAlias = Literal["true", "predicted"]
"""The source, in training, of an input that is predicted in serving: the truth or out-of-fold
predictions."""


class PrognosisSettings(Schedule):
    """The settings that Tasks 2 and 3 share."""

    clinical: ClinicalKeys
    """The clinical variables that the models take, in order."""
    window_zyx: Shape
    clinical_dropout: Probability = 0.0
    """Probability of hiding a clinical value in training; 0 in the paper."""
    missing: Literal["minus one", "mean"] = "minus one"
    """The network's input for a missing clinical value: -1, as in the paper, or the mean of the
    training patients, which carries no information."""
    models: Literal["networks", "linear", "both", "best"] = "networks"
    """The kinds of models: networks, as in the paper; linear models of the clinical values and the
    lesion measures; both, with weights fitted to their out-of-fold outputs; or the better of
    "linear" and "both", so that networks are served only if the models rank patients better out of
    fold with them."""
    masks: Origin = "true"
    """The source of the lesions in training; the truth in the paper."""


def _head(table: object) -> object:
    """Return the head that a table names; by default the paper's."""
    if isinstance(table, Mapping):
        return table.get("head", "bottleneck")
    return getattr(table, "head", None)


AnyHpvNetwork: TypeAlias = Annotated[
    Annotated[HpvConfig, Tag("bottleneck")] | Annotated[LesionHpvConfig, Tag("lesions")],
    Discriminator(_head),
]


class HpvSettings(PrognosisSettings):
    """The settings of Task 3: a Task 1 network with a head at its bottleneck or on the lesions."""

    network: AnyHpvNetwork
    """`head` names the head, "bottleneck" as in the paper or "lesions"; the rest is its size."""
    selected_by: Literal["balanced accuracy", "AUC", "balanced log-loss"] = "balanced log-loss"
    """The score that chooses the best epoch. Balanced accuracy, as in the paper, changes in steps
    of one patient of the rarer class, so the epoch that it chooses is largely a matter of luck."""
    threshold: Literal["half", "out of fold"] = "half"
    """The lowest probability that counts as positive. "half" is 0.5, because batches have as many
    positive as negative patients. "out of fold" is the threshold with the best balanced accuracy on
    out-of-fold predictions."""

    @model_validator(mode="after")
    def _check_clinical(self) -> Self:
        if "hpv" in self.clinical:
            raise ValueError("expected clinical variables without hpv, which Task 3 predicts")
        return self


class SurvivalSettings(PrognosisSettings):
    """The settings of Task 2: a ResNet18 and a clinical branch."""

    network: SurvivalConfig
    channels: Annotated[tuple[Channel, ...], Field(min_length=1), AfterValidator(_check_different)]
    """The input channels, in order."""
    hpv: Origin = "true"
    """The source of the HPV status in training; the truth in the paper."""


class Configuration(Strict):
    """The settings of all tasks; they share one preparation, so that models can be chained."""

    preparation: Preparation
    intensity: Intensity
    segmentation: SegmentationSettings
    hpv: HpvSettings
    survival: SurvivalSettings

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        region_zyx, divisor = self.preparation.size_xyz[::-1], self.segmentation.network.divisor
        for name, window_zyx in (
            ("segmentation.window_zyx", self.segmentation.window_zyx),
            ("segmentation.crop_zyx", self.segmentation.crop_zyx),
            ("hpv.window_zyx", self.hpv.window_zyx),
        ):
            if any(side % divisor for side in window_zyx):
                raise ValueError(
                    f"expected sides of {name} that are multiples of {divisor}, as "
                    f"segmentation.network needs, found {window_zyx}"
                )
        for name, window_zyx in (
            ("hpv.window_zyx", self.hpv.window_zyx),
            ("survival.window_zyx", self.survival.window_zyx),
        ):
            if any(w > r for w, r in zip(window_zyx, region_zyx, strict=True)):
                raise ValueError(
                    f"expected {name} to fit into the region of {region_zyx}, found {window_zyx}"
                )
        return self


def load_configuration(name: str) -> Configuration:
    """Read a configuration by its name in `configs/` or by its path.

    Raises
    ------
    HecktorError
        If there is no such file, the file is not valid TOML, or a key is unknown, missing or has an
        invalid value.
    """
    path = Path(name) if name.endswith(".toml") else CONFIGS_DIR / f"{name}.toml"
    try:
        return Configuration.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError:
        names = ", ".join(sorted(file.stem for file in CONFIGS_DIR.glob("*.toml")))
        raise HecktorError(
            f"expected a configuration, one of {names} or the path of a .toml file, found {name!r}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise HecktorError(f"{path.name} is not valid TOML: {error}; correct the file") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise HecktorError(f"{path.name}: {where}: {first['msg']}; correct the file") from None
