"""Reads `plans.json` and `dataset.json` of a trained nnU-Net v2, and refuses what is not supported.

nnU-Net's arrays are [z, y, x] like ours. Only the parts of the files that decide how a case is
segmented are read; everything else is ignored. A setting that changes the segmentation and that the
containers do not support is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from shared.conventions import IntTriple
from shared.errors import InputError, escaped
from shared.models.segmentation import LABELS
from shared.preprocessing.intensity import ImageChannel, NnunetIntensity
from shared.preprocessing.region import Preparation
from shared.schema import Side, Strict
from training.records import first_problem

PREPARATION_KEY: Final = "hecktor_preparation"
"""The key of `dataset.json` with the preparation of our regions."""

CONFIGURATION: Final = "3d_fullres"
PLAIN: Final = "PlainConvUNet"
RESIDUAL: Final = "ResidualEncoderUNet"
ARCHITECTURES: Final = (PLAIN, RESIDUAL)

_CHANNEL_NAMES: Final[dict[str, ImageChannel]] = {"ct": "CT", "pet": "PET", "pt": "PET"}
_NORMALISATIONS: Final[dict[ImageChannel, str]] = {
    "CT": "CTNormalization",
    "PET": "ZScoreNormalization",
}
_SPACING_TOLERANCE: Final = 1e-3
"""Relative tolerance: nnU-Net writes the median of the spacings, read from float32 headers."""

Triple: TypeAlias = Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]


class Foreign(BaseModel):
    """A record of another program: unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class NormArguments(Strict):
    """Arguments of instance norm."""

    eps: Annotated[float, Field(gt=0)] = 1e-5
    affine: Literal[True]


class ActivationArguments(Strict):
    """Arguments of the leaky ReLU."""

    inplace: bool = False
    negative_slope: float = 0.01


class NetworkArguments(Strict):
    """The arguments of both architectures; any other argument is refused."""

    n_stages: Annotated[int, Field(ge=2, le=10)]
    features_per_stage: list[PositiveInt]
    conv_op: Literal["torch.nn.modules.conv.Conv3d"]
    kernel_sizes: list[Triple]
    strides: list[Triple]
    n_conv_per_stage: list[PositiveInt] | None = None
    n_blocks_per_stage: list[PositiveInt] | None = None
    n_conv_per_stage_decoder: list[PositiveInt]
    conv_bias: bool
    norm_op: Literal["torch.nn.modules.instancenorm.InstanceNorm3d"]
    norm_op_kwargs: NormArguments
    dropout_op: None
    dropout_op_kwargs: None
    nonlin: Literal["torch.nn.LeakyReLU"]
    nonlin_kwargs: ActivationArguments


class Architecture(Foreign):
    """The network of a configuration."""

    network_class_name: str
    arch_kwargs: NetworkArguments


class PlannedConfiguration(Foreign):
    """The settings of a configuration of `plans.json` that decide how a case is segmented."""

    preprocessor_name: Literal["DefaultPreprocessor"]
    patch_size: tuple[Side, Side, Side]
    spacing: Annotated[list[float], Field(min_length=3, max_length=3)]
    normalization_schemes: list[str]
    use_mask_for_norm: list[bool]
    architecture: Architecture


class ForegroundIntensities(Foreign):
    """Statistics of the voxels in lesions, over the training patients."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class Plans(Foreign):
    """`plans.json`; its configurations are checked later, because one may inherit from another."""

    dataset_name: str
    plans_name: str
    label_manager: Literal["LabelManager"] = "LabelManager"
    transpose_forward: list[int]
    configurations: dict[str, dict[str, Any]]
    foreground_intensity_properties_per_channel: dict[str, ForegroundIntensities]


class Dataset(Foreign):
    """`dataset.json`."""

    channel_names: dict[str, str]
    labels: dict[str, int | list[int]]
    regions_class_order: list[int] | None = None
    patients: Annotated[PositiveInt, Field(alias="numTraining")]
    hecktor_preparation: Preparation | None = None


class Results(Strict):
    """The content of the two files, in our terms.

    Attributes
    ----------
    name : names of data set, plans and configuration, for the card.
    class_order : for each of our labels, the index of the network's output channel.
    """

    name: str
    dataset: str
    patients: int
    preparation: Preparation
    channels: tuple[ImageChannel, ...]
    intensity: NnunetIntensity
    window_zyx: IntTriple
    class_order: tuple[int, ...]
    residual: bool
    network: NetworkArguments


def read_results(
    folder: Path, configuration: str, preparation: Preparation | None = None
) -> Results:
    """Read the files of a results folder.

    Parameters
    ----------
    folder : nnU-Net's folder `TRAINER__PLANS__CONFIGURATION`.
    configuration : the configuration that was trained, as its checkpoints say.
    preparation : how the cases were prepared before nnU-Net saw them; None stands for that of
        `dataset.json`.

    Raises
    ------
    InputError
        If a file is missing or not valid, or says something that is not supported.
    """
    plans, dataset = _read(Plans, folder / "plans.json"), _read(Dataset, folder / "dataset.json")
    planned = _configuration(plans, configuration, folder / "plans.json")
    channels = _channels(dataset, folder)
    if plans.transpose_forward != [0, 1, 2]:
        raise _unsupported(folder, f"the transposed axes {plans.transpose_forward}", "[0, 1, 2]")
    expected = dataset.hecktor_preparation or preparation
    if expected is None:
        raise InputError(
            f"expected the preparation of the images in {folder / 'dataset.json'}, which "
            "`python -m training nnunet-dataset` writes, found none; if nnU-Net was trained on our "
            "regions, name their configuration with --configuration"
        )
    if any(abs(s / expected.spacing_mm - 1) > _SPACING_TOLERANCE for s in planned.spacing):
        raise _unsupported(
            folder,
            f"a spacing of {planned.spacing} mm",
            f"that of the regions, {expected.spacing_mm:g} mm along each axis, so that nothing is "
            "resampled twice",
        )
    return Results(
        name=f"{plans.dataset_name} {plans.plans_name} {configuration}",
        dataset=plans.dataset_name,
        patients=dataset.patients,
        preparation=expected,
        channels=channels,
        intensity=_intensity(plans, planned, channels, folder),
        window_zyx=planned.patch_size,
        class_order=_class_order(dataset, folder),
        residual=_class_name(planned, folder) == RESIDUAL,
        network=planned.architecture.arch_kwargs,
    )


def _configuration(plans: Plans, name: str, path: Path) -> PlannedConfiguration:
    values = _inherited(plans.configurations, name, path)
    patch = values.get("patch_size")
    if isinstance(patch, list) and len(patch) == 2:
        raise _unsupported(path.parent, f"the 2d configuration {name!r}", CONFIGURATION)
    if values.get("previous_stage"):
        raise _unsupported(path.parent, f"the cascade {name!r}", f"{CONFIGURATION} alone")
    if "architecture" not in values:
        raise _unsupported(
            path.parent, "plans without an architecture", "plans of nnU-Net 2.4 or newer"
        )
    return _validated(PlannedConfiguration, values, path, f"configurations.{name}.")


def _inherited(
    configurations: Mapping[str, dict[str, Any]], name: str, path: Path
) -> dict[str, Any]:
    """Return a configuration with the values that it inherits."""
    chain: list[dict[str, Any]] = []
    seen: set[str] = set()
    next_name: object = name
    while next_name is not None:
        if not isinstance(next_name, str) or next_name in seen or next_name not in configurations:
            raise InputError(
                f"expected the configuration {escaped(str(next_name)[:100])!r} in {path}, found "
                "none or a circle; copy plans.json from nnU-Net's results again"
            )
        seen.add(next_name)
        chain.append(configurations[next_name])
        next_name = chain[-1].get("inherits_from")
    return {key: value for values in reversed(chain) for key, value in values.items()}


def _class_name(planned: PlannedConfiguration, folder: Path) -> str:
    name = planned.architecture.network_class_name.rsplit(".", 1)[-1]
    arguments = planned.architecture.arch_kwargs
    blocks = {PLAIN: arguments.n_conv_per_stage, RESIDUAL: arguments.n_blocks_per_stage}
    if blocks.get(name) is None or sum(value is not None for value in blocks.values()) != 1:
        raise _unsupported(
            folder, f"the architecture {escaped(name[:100])!r}", " and ".join(ARCHITECTURES)
        )
    return name


def _channels(dataset: Dataset, folder: Path) -> tuple[ImageChannel, ...]:
    names = [dataset.channel_names.get(str(k), "") for k in range(len(dataset.channel_names))]
    channels = tuple(_CHANNEL_NAMES.get(name.lower()) for name in names)
    if sorted(map(str, channels)) != ["CT", "PET"]:
        raise _unsupported(
            folder, f"the channels {escaped(', '.join(names)[:100])!r}", "CT and PET, in any order"
        )
    return tuple(channel for channel in channels if channel is not None)


def _intensity(
    plans: Plans,
    planned: PlannedConfiguration,
    channels: tuple[ImageChannel, ...],
    folder: Path,
) -> NnunetIntensity:
    expected = [_NORMALISATIONS[channel] for channel in channels]
    if planned.normalization_schemes != expected or len(planned.use_mask_for_norm) != 2:
        raise _unsupported(
            folder,
            f"the normalisations {escaped(', '.join(planned.normalization_schemes)[:100])!r}",
            f"{' and '.join(expected)} for {' and '.join(channels)}",
        )
    ct = plans.foreground_intensity_properties_per_channel.get(str(channels.index("CT")))
    if ct is None:
        raise InputError(
            f"expected the intensities of the CT in {folder / 'plans.json'}, found none; copy "
            "plans.json from nnU-Net's results again"
        )
    return NnunetIntensity(
        kind="nnunet",
        ct_range_hu=(ct.percentile_00_5, ct.percentile_99_5),
        ct_mean_hu=ct.mean,
        ct_std_hu=max(ct.std, 1e-6),
        pet_nonzero_only=planned.use_mask_for_norm[channels.index("PET")],
    )


def _class_order(dataset: Dataset, folder: Path) -> tuple[int, ...]:
    values = {name.lower(): value for name, value in dataset.labels.items()}
    if dataset.regions_class_order or any(isinstance(v, list) for v in values.values()):
        raise _unsupported(folder, "overlapping region classes", f"the labels {', '.join(LABELS)}")
    order = [values.get(name.lower()) for name in LABELS]
    if len(values) != len(LABELS) or sorted(map(str, order)) != ["0", "1", "2"] or order[0] != 0:
        raise _unsupported(
            folder,
            f"the labels {escaped(', '.join(dataset.labels)[:200])!r}",
            f"{', '.join(LABELS)} with the numbers 0, 1 and 2",
        )
    return tuple(value for value in order if isinstance(value, int))


RecordT = TypeVar("RecordT", bound=BaseModel)


def _read(schema: type[RecordT], path: Path) -> RecordT:
    try:
        return schema.model_validate_json(path.read_bytes())
    except OSError:
        raise InputError(
            f"expected {path.name} in {path.parent}, found none; give nnU-Net's folder "
            "TRAINER__PLANS__CONFIGURATION of nnUNet_results"
        ) from None
    except ValidationError as error:
        raise InputError(f"{path}: {escaped(first_problem(error)[:300])}; {_REPAIR}") from None


def _validated(schema: type[RecordT], values: Any, path: Path, where: str) -> RecordT:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise InputError(
            f"{path}: {where}{escaped(first_problem(error)[:300])}; {_REPAIR}"
        ) from None


_REPAIR: Final = (
    "supported are the networks that nnU-Net v2 plans itself, PlainConvUNet and "
    "ResidualEncoderUNet, with its own preprocessing"
)


def _unsupported(folder: Path, found: str, supported: str) -> InputError:
    return InputError(f"{folder} has {found}, which is not supported; supported: {supported}")
