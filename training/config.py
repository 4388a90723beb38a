"""What a training run is made of: a TOML file in `configs/`, checked; unknown keys are errors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from shared.errors import HecktorError
from shared.preprocessing.intensity import Intensity
from shared.preprocessing.region import Preparation
from shared.schema import Strict

CONFIGS_DIR: Final = Path(__file__).parent / "configs"

Name: TypeAlias = Literal["paper", "demo"]
Shape: TypeAlias = tuple[PositiveInt, PositiveInt, PositiveInt]
Probability: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Schedule(Strict):
    """How a network is trained, whatever the task."""

    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    cosine_decay: bool
    """Let the learning rate fall to zero along a half cosine; otherwise it is constant."""
    validate_every_epochs: PositiveInt
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]


class SegmentationSettings(Schedule):
    """Task 1: DynUNet."""

    filters: tuple[PositiveInt, ...]
    window_zyx: Shape
    crop_zyx: Shape
    overlap: Probability
    deep_supervision_heads: int
    min_component_mm3: dict[str, float]
    random_crop_probability: Probability
    """How often a crop is drawn anywhere rather than on a lesion."""


class HpvSettings(Schedule):
    """Task 3: the Task 1 network with a linear head on its bottleneck."""

    head_width: PositiveInt
    clinical_width: PositiveInt
    dropout: Probability
    window_zyx: Shape


class SurvivalSettings(Schedule):
    """Task 2: ResNet18 and a clinical branch."""

    block_inplanes: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
    clinical_width: PositiveInt
    dropout: Probability
    window_zyx: Shape


class Configuration(Strict):
    """All three tasks on one preparation, so that Task 2 can chain them on one case."""

    preparation: Preparation
    intensity: Intensity
    segmentation: SegmentationSettings
    hpv: HpvSettings
    survival: SurvivalSettings


def load_configuration(name: Name) -> Configuration:
    """Read a configuration by its name.

    Raises
    ------
    HecktorError
        If a key is unknown, missing or of the wrong kind.
    """
    path = CONFIGS_DIR / f"{name}.toml"
    try:
        return Configuration.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HecktorError(f"{path.name}: {where}: {first['msg']}") from None
