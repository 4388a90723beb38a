"""The limits of the platform: one profile for each challenge.

A profile is a TOML file such as `evaluation/running/profiles/hecktor2025.toml`. Only the code that
runs the containers reads it; the containers do not.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import PositiveFloat, PositiveInt, ValidationError

from shared.editions import CURRENT
from shared.errors import InputError
from shared.grand_challenge.job import Mode
from shared.schema import Strict

PROFILES: Final = Path(__file__).resolve().with_name("profiles")


class Limits(Strict):
    """The limits for one container.

    Attributes
    ----------
    mode : how the platform runs the image.
    time_s : seconds for a case; in exec mode including the start, in invoke mode only the call.
    memory_gib : memory in GiB (2^30 bytes).
    cpus : number of CPUs.
    gpu : whether a run may use a GPU.
    gpu_memory_gib : memory of the platform's GPU in GiB. It is not enforced: a run may use all the
        memory of the machine's GPU.
    """

    mode: Mode
    time_s: PositiveInt
    memory_gib: PositiveFloat
    cpus: PositiveInt
    gpu: bool
    gpu_memory_gib: PositiveFloat = 16

    @property
    def memory_bytes(self) -> int:
        """The memory in bytes."""
        return int(self.memory_gib * 2**30)

    def __str__(self) -> str:
        """Return the limits in words."""
        gpu = "a GPU" if self.gpu else "no GPU"
        return (
            f"{self.mode} mode, {self.time_s} s, {self.memory_gib:g} GiB of memory, "
            f"{self.cpus} CPUs, {gpu}"
        )


class Changes(Strict):
    """The limits of a container that differ from those of the profile."""

    mode: Mode | None = None
    time_s: PositiveInt | None = None
    memory_gib: PositiveFloat | None = None
    cpus: PositiveInt | None = None
    gpu: bool | None = None
    gpu_memory_gib: PositiveFloat | None = None


class Profile(Strict):
    """The limits of a challenge.

    Attributes
    ----------
    name : name of the challenge.
    limits : the limits for every container.
    containers : changes for single containers, by the name of the container's folder.
    """

    name: str
    limits: Limits
    containers: Mapping[str, Changes] = {}

    def of(self, container: str) -> Limits:
        """Return the limits for a container."""
        changes = self.containers.get(container, Changes())
        return self.limits.model_copy(update=changes.model_dump(exclude_none=True))


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises
    ------
    InputError
        If the file cannot be read or is not a profile.
    """
    try:
        return Profile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        reason = error.strerror
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:  # neither UTF-8 nor TOML
        reason = str(error)
    raise InputError(
        f"expected a profile of limits in {path}, such as {PROFILES / 'hecktor2025.toml'}, found "
        f"{reason}; correct the file"
    )


@cache
def current_profile() -> Profile:
    """Return the profile of the current edition."""
    return read_profile(PROFILES / f"{CURRENT.name.lower().replace(' ', '')}.toml")
