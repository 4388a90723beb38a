"""What a training run is made of: a TOML file in `configs/`, checked; unknown keys are errors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, ValidationError

from shared.conventions import LESIONS
from shared.errors import HecktorError
from shared.postprocessing.rules import Rules
from shared.preprocessing.intensity import Intensity
from shared.preprocessing.region import Preparation
from shared.schema import Strict

CONFIGS_DIR: Final = Path(__file__).parent / "configs"

Shape: TypeAlias = tuple[PositiveInt, PositiveInt, PositiveInt]
Probability: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Precision: TypeAlias = Literal["32-true", "bf16-mixed", "16-mixed"]


def _of_lesions(sizes: dict[str, float]) -> dict[str, float]:
    if not set(sizes) <= set(LESIONS):
        raise ValueError(f"expected sizes of {', '.join(LESIONS)}, found {', '.join(sizes)}")
    return sizes


class Averaging(Strict):
    """Stochastic weight averaging (SWA) after the training proper, from its best checkpoint.

    The network is trained on with a constant learning rate and fresh moments of Adam, and the mean
    is taken of its weights after each epoch. Instance norm keeps no statistics of its own, so none
    have to be measured again.

    References
    ----------
    Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization, UAI.
    """

    epochs: PositiveInt
    learning_rate: PositiveFloat
    keep: Literal["always", "better"]
    """Whether the mean is the result in any case, or only where it scores better in validation."""


class Schedule(Strict):
    """How a network is trained, whatever the task."""

    epochs: PositiveInt
    batch_size: PositiveInt
    """Of each process, that is of each GPU."""
    accumulate_batches: PositiveInt
    """Batches whose gradients are added up to one step."""
    learning_rate: PositiveFloat
    cosine_decay: bool
    """Let the learning rate fall to zero along a half cosine; otherwise it is constant."""
    validate_every_epochs: PositiveInt
    precision: Precision
    averaging: Averaging | None = None


class SegmentationSettings(Schedule):
    """Task 1: DynUNet."""

    filters: tuple[PositiveInt, ...]
    window_zyx: Shape
    crop_zyx: Shape
    overlap: Probability
    deep_supervision_heads: int
    batch_dice: bool
    """Whether the Dice loss counts the voxels of a batch together rather than image by image."""
    random_crop_probability: Probability
    """How often a crop is drawn anywhere rather than on a lesion."""
    min_component_mm3: Annotated[dict[str, float], AfterValidator(_of_lesions)]
    rules: Rules = Rules()
    """Rules on lesions beyond their size; the paper has none."""
    mirror_axes: tuple[Literal["x", "y", "z"], ...] = ()
    """Mirroring at test time; the paper has none."""


Origin: TypeAlias = Literal["true", "predicted"]
"""Where an input that serving predicts comes from in training: the truth, or the models that have
not seen the patient."""


class PrognosisSettings(Schedule):
    """What the networks of Tasks 2 and 3 share: one window of the region and a clinical branch."""

    clinical_width: PositiveInt
    dropout: Probability
    window_zyx: Shape
    clinical_dropout: Probability = 0.0
    """How often a known clinical value is shown as missing in training; the paper does not."""
    missing: Literal["minus one", "mean"] = "minus one"
    """What a network is shown where a clinical value is missing: the paper's -1, or the mean of the
    patients trained on, which says nothing."""
    models: Literal["networks", "linear", "both"] = "networks"
    """What is trained and served: the paper's networks; linear models of the clinical values and of
    what the lesions measure; or both, averaged."""
    masks: Origin = "true"
    """Lesions that models are shown in training; the paper shows the true ones."""
    mirror: bool = False
    """Show every other sample in training with left and right exchanged; the paper does not."""


class HpvSettings(PrognosisSettings):
    """Task 3: the Task 1 network with a linear head on its bottleneck."""

    head_width: PositiveInt
    threshold: Literal["half", "out of fold"] = "half"
    """The probability from which a status is positive: 0.5, since each batch has as many of both,
    or that of the best balanced accuracy on the patients whom each network has not seen."""


class SurvivalSettings(PrognosisSettings):
    """Task 2: ResNet18 and a clinical branch."""

    block_inplanes: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
    hpv: Origin = "true"
    """The HPV status that models are shown in training; the paper shows the true one."""


class Configuration(Strict):
    """All three tasks on one preparation, so that Task 2 can chain them on one case."""

    preparation: Preparation
    intensity: Intensity
    segmentation: SegmentationSettings
    hpv: HpvSettings
    survival: SurvivalSettings


def load_configuration(name: str) -> Configuration:
    """Read a configuration by its name in `configs/`, or by the path of a file of one's own.

    Raises
    ------
    HecktorError
        If there is no such file, or a key is unknown, missing or of the wrong kind.
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
        raise HecktorError(f"{path.name} is no TOML: {error}; correct the file") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HecktorError(f"{path.name}: {where}: {first['msg']}") from None
