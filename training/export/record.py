"""The records of a training run: `run.json`, and the `member.json` of each fold.

A run can be resumed only with the same configuration, seed, precision, accumulation of batches,
clinical scale and budget in hours. Its notice, description of the data and licence come from the
first start. The numbers of devices, machines and workers may change.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from shared.clinical import ClinicalFeature
from shared.errors import HecktorError
from shared.files import write_first
from shared.models.card import MemberKind
from shared.schema import Strict
from training.cohort.code_version import REPOSITORY
from training.config import Configuration, Precision, Schedule
from training.loop.hardware import Hardware
from training.records import read_training_record
from training.tasks.base import MemberStatistics

RUN: Final = "run.json"
MEMBER: Final = "member.json"

PHANTOM_NOTICE: Final = (
    "NOTICE: these weights were trained on computer-made phantoms. They show that the software "
    "works; they are not for patients and not for submissions."
)
PHANTOM_DATA: Final = "phantoms of training/phantom"
PHANTOM_LICENCE: Final = "Apache-2.0"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The user's texts about weights and training data; None stands for those of the first start.

    Attributes
    ----------
    notice : a warning to the users of the weights.
    data : the training data in words.
    licence : the licence of the weights; required with `data`.
    """

    notice: str | None = None
    data: str | None = None
    licence: str | None = None


class Source(Strict):
    """The origin of the weights, apart from the number of patients."""

    data: str
    command: str
    revision: str
    seed: int


class RunRecord(Strict):
    """`run.json`: everything that decides the result of a training run, and texts for the cards.

    Attributes
    ----------
    name : name of the configuration.
    notice, licence, training : texts from the first start, for the cards.
    configuration, seed, precision, accumulate_batches, features : values that decide the result.
    hours : the budget that set the schedule in `configuration`; None if there was none.
    """

    name: str
    notice: str
    licence: str
    training: Source
    configuration: Configuration
    seed: int
    precision: Precision
    accumulate_batches: int
    features: tuple[ClinicalFeature, ...]
    hours: float | None = None

    @classmethod
    def first(
        cls,
        name: str,
        configuration: Configuration,
        *,
        schedule: Schedule,
        features: Sequence[ClinicalFeature],
        hardware: Hardware,
        seed: int,
        provenance: Provenance,
        hours: float | None = None,
    ) -> Self:
        """Return the record of a run that starts now.

        Parameters
        ----------
        name : name of the configuration.
        schedule : the task's part of the configuration.
        """
        data = PHANTOM_DATA if provenance.data is None else provenance.data
        return cls(
            name=name,
            notice=PHANTOM_NOTICE if provenance.notice is None else provenance.notice,
            licence=PHANTOM_LICENCE if provenance.licence is None else provenance.licence,
            training=Source(data=data, command=command(), revision=revision(), seed=seed),
            configuration=configuration,
            seed=seed,
            precision=hardware.precision_of(schedule),
            accumulate_batches=hardware.accumulation_of(schedule),
            features=tuple(features),
            hours=hours,
        )

    def keep(self, folder: Path, provenance: Provenance) -> None:
        """Write the record of a new run, or check that a resumed run began with the same values.

        Raises
        ------
        HecktorError
            If the run began with other values, or a new run has `data` without a licence.
        """
        path = folder / RUN
        if provenance.data is not None and provenance.licence is None and not path.exists():
            raise HecktorError(
                f"expected a licence, because the weights are trained on {provenance.data!r} and "
                "not on phantoms, found none; state the licence of the weights"
            )
        write_first(path, self.model_dump_json(indent=1) + "\n")
        first = read_run(folder)
        deciding = ("configuration", "seed", "precision", "accumulate_batches", "features", "hours")
        differing = [name for name in deciding if getattr(first, name) != getattr(self, name)]
        if differing:
            raise HecktorError(
                f"expected the options with which the run in {folder} began, found other values of "
                f"{' and '.join(differing)}; give the same options or another folder of runs, or "
                "delete this run"
            )
        for what, value, first_value in (
            ("notice", provenance.notice, first.notice),
            ("data", provenance.data, first.training.data),
            ("licence", provenance.licence, first.licence),
        ):
            if value not in (None, first_value):
                raise HecktorError(
                    f"expected the {what} {first_value!r}, with which the run in {folder} began, "
                    f"found {value!r}; leave it out, or give another folder of runs"
                )


class FoldRecord(Strict):
    """`member.json`: the statistics of each model of a fold; written when the fold is complete."""

    members: dict[MemberKind, MemberStatistics]


def read_run(folder: Path) -> RunRecord:
    """Read the record of a training run.

    Raises
    ------
    InputError
        If the file is missing or not valid.
    """
    return read_training_record(RunRecord, folder / RUN)


def revision() -> str:
    """Return the revision of the checkout, or "unknown" outside of one."""
    return (
        subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        or "unknown"
    )


def command() -> str:
    """Return this process's command with file names instead of the paths of this machine."""
    words = [Path(word).name if "/" in word else word for word in sys.argv]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:  # a script, not a module
        return shlex.join(["python", *words])
    return shlex.join(["python", "-m", spec.name.removesuffix(".__main__"), *words[1:]])
