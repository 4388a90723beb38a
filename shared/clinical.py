"""Turns the electronic health record (EHR) into the numbers that a network takes.

`VARIABLES` is the one table of clinical values. A missing value is `None`: an absent field, null,
NaN, an empty text and 'Mx' become `None` without a remark, since missing values are normal. A value
that is impossible (Age 900, Gender 7) also becomes `None`, with a remark. The model card states the
number that a network gets in place of `None` (-1 in the paper).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from shared.errors import InputError
from shared.schema import Divisor, Magnitude, Strict

Kind: TypeAlias = Literal["continuous", "category", "binary"]
"""A category is a whole number. A binary value is 1 or 0; in the EHR, also a JSON boolean."""

Scale: TypeAlias = Literal["z-normalised", "as it is"]
"""How a value is scaled for a network: by mean and std of the training patients, or not at all."""

_YES_NO: Final = MappingProxyType({"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0})
_MISSING_TEXTS: Final = frozenset({"", "nan", "na", "n/a", "none", "null", "unknown", "-"})


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One row of the table of clinical values.

    Attributes
    ----------
    key : attribute of `ClinicalRecord`, and the name in configurations and model cards.
    ehr_name : key in the EHR, compared without case, spaces and punctuation; None if the value
        does not come from the EHR.
    kind : which numbers are possible between `lowest` and `highest`.
    lowest, highest : limits of the possible values, inclusive.
    codes : texts that stand for a number, in lower case.
    missing_texts : texts that stand for a missing value, in addition to the usual ones.
    scale : how the value is scaled for a network; None if no network takes it.
    """

    key: str
    ehr_name: str | None
    kind: Kind
    lowest: float = 0
    highest: float = 1
    codes: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    missing_texts: frozenset[str] = frozenset()
    scale: Scale | None = "as it is"


VARIABLES: Final = (
    Variable(
        key="age",
        ehr_name="Age",
        kind="continuous",
        lowest=1,
        highest=120,
        scale="z-normalised",
    ),
    Variable(
        key="gender",
        ehr_name="Gender",
        kind="binary",
        codes=MappingProxyType({"m": 1.0, "male": 1.0, "f": 0.0, "female": 0.0}),
    ),
    Variable(key="tobacco", ehr_name="Tobacco Consumption", kind="binary", codes=_YES_NO),
    Variable(key="alcohol", ehr_name="Alcohol Consumption", kind="binary", codes=_YES_NO),
    Variable(key="performance_status", ehr_name="Performance Status", kind="category", highest=4),
    Variable(key="treatment", ehr_name="Treatment", kind="binary"),
    Variable(
        key="m_stage",
        ehr_name="M-stage",
        kind="binary",
        codes=MappingProxyType({"m0": 0.0, "m1": 1.0}),
        missing_texts=frozenset({"mx"}),
    ),
    Variable(key="centre_id", ehr_name="CenterID", kind="category", highest=math.inf, scale=None),
    Variable(key="hpv", ehr_name=None, kind="continuous"),
)
"""All clinical values. `ClinicalRecord` has an attribute for each value and explains it.

The codes are those of HECKTOR 2025: Gender 1 male, 0 female; Treatment 1 chemoradiotherapy,
0 radiotherapy; Tobacco and Alcohol 1 yes, 0 no; Performance Status ECOG 0-4.
"""

EHR_VARIABLES: Final[Mapping[str, Variable]] = MappingProxyType(
    {variable.ehr_name: variable for variable in VARIABLES if variable.ehr_name is not None}
)
"""The values that the EHR may hold, by their names in the EHR."""

NETWORK_VARIABLES: Final[Mapping[str, Variable]] = MappingProxyType(
    {variable.key: variable for variable in VARIABLES if variable.scale is not None}
)
"""The values that a network can take, by their keys."""


@dataclass(frozen=True, kw_only=True)
class ClinicalRecord:
    """The clinical values of one patient; a missing value is None.

    Attributes
    ----------
    age : age in years.
    gender : 1 male, 0 female.
    tobacco, alcohol : consumption, 1 yes, 0 no.
    performance_status : ECOG, 0 to 4.
    treatment : 1 chemoradiotherapy, 0 radiotherapy.
    m_stage : 1 distant metastasis, 0 none.
    centre_id : the organisers' number of the centre; no model takes it.
    hpv : probability of HPV-positive disease; Task 3 supplies it, not the EHR.
    """

    age: float | None = None
    gender: float | None = None
    tobacco: float | None = None
    alcohol: float | None = None
    performance_status: float | None = None
    treatment: float | None = None
    m_stage: float | None = None
    centre_id: float | None = None
    hpv: float | None = None


def check_key(key: str) -> str:
    """Return the key if a network can take this value; otherwise a ValueError lists all keys."""
    if key not in NETWORK_VARIABLES:
        raise ValueError(
            f"expected a clinical variable, one of {', '.join(NETWORK_VARIABLES)}, found {key!r}"
        )
    return key


class ClinicalFeature(Strict):
    """One clinical input: a model gets (value - mean) / std, or `missing` for an unknown value."""

    key: str
    mean: Magnitude = 0.0
    std: Divisor = 1.0
    missing: Magnitude = -1.0

    _check_key = field_validator("key")(check_key)


def parse_ehr(ehr: object) -> tuple[ClinicalRecord, tuple[str, ...]]:
    """Read a decoded EHR.

    Parameters
    ----------
    ehr : the decoded JSON of the EHR; an object, possibly empty.

    Returns
    -------
    The record, and a remark for each entry that is unknown, impossible or contradictory.

    Raises
    ------
    InputError
        If the EHR is not an object.
    """
    if not isinstance(ehr, Mapping):
        raise InputError(
            f'expected the EHR to be a JSON object such as {{"Age": 60}}, found '
            f"{_json_type(ehr)}; write one object with a key for each clinical value"
        )
    by_plain_name = {_plain(name): variable for name, variable in EHR_VARIABLES.items()}
    values: dict[str, set[float]] = {variable.key: set() for variable in EHR_VARIABLES.values()}
    remarks: list[str] = []
    for name, raw in ehr.items():
        variable = by_plain_name.get(_plain(name))
        if variable is None:
            remarks.append(f"EHR: '{_shortened(name)}' is not a known field and is ignored")
            continue
        try:
            value = _number(variable, raw)
        except ValueError as error:
            remarks.append(f"EHR: {_shortened(name)}: {error}; treated as missing")
        else:
            if value is not None:
                values[variable.key].add(value)
    for name, variable in EHR_VARIABLES.items():
        if len(values[variable.key]) > 1:
            remarks.append(f"EHR: {name}: given twice with different values; treated as missing")
    unique = {key: numbers.pop() for key, numbers in values.items() if len(numbers) == 1}
    return ClinicalRecord(**unique), tuple(remarks)


def ehr_of(record: ClinicalRecord) -> dict[str, float]:
    """Return a record as a decoded EHR without missing values; `parse_ehr` is the inverse.

    `hpv` is left out, because the EHR does not contain it.
    """
    values = {name: getattr(record, each.key) for name, each in EHR_VARIABLES.items()}
    return {name: value for name, value in values.items() if value is not None}


def encode(record: ClinicalRecord, features: Sequence[ClinicalFeature]) -> NDArray[np.float32]:
    """Return the values that a model takes, shape (len(features),), in the order of the features.

    A value becomes (value - mean) / std. A missing value becomes `feature.missing`.
    """
    encoded = []
    for feature in features:
        value: float | None = getattr(record, feature.key)
        if value is None:
            encoded.append(feature.missing)
        else:
            encoded.append((value - feature.mean) / feature.std)
    return np.asarray(encoded, dtype=np.float32)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _number(variable: Variable, raw: object) -> float | None:
    """Return the value of one EHR entry; a ValueError says why the value is not possible."""
    value: float | None
    if raw is None:
        return None
    if isinstance(raw, str):
        text = raw.strip().lower()
        if text in _MISSING_TEXTS or text in variable.missing_texts:
            return None
        if text in variable.codes:
            return variable.codes[text]
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"expected a number, found the text '{_shortened(raw)}'") from None
    elif isinstance(raw, bool) and variable.kind == "binary":
        value = float(raw)
    elif isinstance(raw, int | float) and not isinstance(raw, bool):
        try:
            value = float(raw)
        except OverflowError:
            raise ValueError("the number is too large") from None
    else:
        raise ValueError(f"expected a number, found {_json_type(raw)}")
    if math.isnan(value):
        return None
    if not variable.lowest <= value <= variable.highest or math.isinf(value):
        raise ValueError(f"{value:g} is outside {variable.lowest:g} to {variable.highest:g}")
    if variable.kind != "continuous" and not value.is_integer():
        raise ValueError(f"{value:g} is not one of its codes, which are whole numbers")
    return value


def _json_type(value: object) -> str:
    names = {list: "a list", dict: "an object", str: "a text", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def _shortened(text: str, length: int = 40) -> str:
    """Return a text of the EHR in a form for the log: one short line of valid Unicode."""
    one_line = " ".join(text.split()).encode("utf-8", "backslashreplace").decode("utf-8")
    return one_line if len(one_line) <= length else one_line[: length - 1] + "…"
