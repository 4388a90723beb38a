"""From the electronic health record (EHR) to the numbers that a network takes.

`FIELDS` is the one table of what the EHR may hold. Missing is a value, `None`: an absent field,
null, NaN, an empty text and 'Mx' all become it without a word, for missing values are normal. What
cannot be true (Age 900, Gender 7) also becomes `None`, with a remark. How `None` reaches a network
is the model card's choice (the paper: -1).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, field_validator

from shared.errors import InputError
from shared.schema import Strict

_YES_NO: Final = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
_MISSING_TEXTS: Final = frozenset({"", "nan", "na", "n/a", "none", "null", "unknown", "-"})


@dataclass(frozen=True)
class Field:
    """One clinical value.

    Attributes
    ----------
    key : attribute of `ClinicalRecord`, and the name that model cards use.
    ehr_name : key in the EHR, compared without case, spaces and punctuation.
    lowest, highest : the values between which it can be true, inclusive.
    is_category : whether only whole numbers can be true.
    codes : texts that stand for a number, in lower case; None stands for missing.
    """

    key: str
    ehr_name: str
    lowest: float
    highest: float
    is_category: bool = True
    codes: Mapping[str, float | None] = field(default_factory=lambda: MappingProxyType({}))


FIELDS: Final = (
    Field("age", "Age", 1, 120, is_category=False),
    Field("gender", "Gender", 0, 1, codes={"m": 1.0, "male": 1.0, "f": 0.0, "female": 0.0}),
    Field("tobacco", "Tobacco Consumption", 0, 1, codes=_YES_NO),
    Field("alcohol", "Alcohol Consumption", 0, 1, codes=_YES_NO),
    Field("performance_status", "Performance Status", 0, 4),
    Field("treatment", "Treatment", 0, 1),
    Field("m_stage", "M-stage", 0, 1, codes={"m0": 0.0, "m1": 1.0, "mx": None}),
    Field("centre_id", "CenterID", 0, math.inf),
)
"""The EHR of HECKTOR 2025 with the organisers' codes: Gender 1 male, 0 female; Treatment 1
chemoradiotherapy, 0 radiotherapy; Tobacco and Alcohol 1 yes, 0 no; Performance Status ECOG 0-4."""


@dataclass(frozen=True)
class ClinicalRecord:
    """The clinical values of one patient; None where nothing is known.

    Attributes
    ----------
    age : years.
    gender : 1 male, 0 female.
    tobacco, alcohol : consumption, 1 yes, 0 no.
    performance_status : ECOG, 0 to 4.
    treatment : 1 chemoradiotherapy, 0 radiotherapy.
    m_stage : 1 distant metastasis, 0 none.
    centre_id : the organisers' number of the centre; no model takes it.
    hpv : probability of HPV-positive disease; not in the EHR, Task 3 supplies it.
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


class ClinicalFeature(Strict):
    """One input of a clinical branch: (value - mean) / std, or `missing` where there is none."""

    key: str
    mean: float = 0.0
    std: PositiveFloat = 1.0
    missing: float = -1.0

    @field_validator("key")
    @classmethod
    def _check_key(cls, key: str) -> str:
        if key not in ClinicalRecord.__dataclass_fields__:
            raise ValueError(f"'{key}' is no clinical value of this code")
        return key


def parse_ehr(ehr: object) -> tuple[ClinicalRecord, tuple[str, ...]]:
    """Read a decoded EHR.

    Parameters
    ----------
    ehr : the decoded JSON of the EHR; an object, possibly empty.

    Returns
    -------
    The record, and a remark for each entry that was not understood or cannot be true.

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
    fields = {_plain(f.ehr_name): f for f in FIELDS}
    values: dict[str, set[float]] = {f.key: set() for f in FIELDS}
    remarks: list[str] = []
    for name, raw in ehr.items():
        known = fields.get(_plain(name))
        if known is None:
            remarks.append(f"EHR: '{_shortened(name)}' is not a known field and is ignored")
            continue
        try:
            value = _number(known, raw)
        except ValueError as error:
            remarks.append(f"EHR: {_shortened(name)}: {error}; taken as missing")
        else:
            if value is not None:
                values[known.key].add(value)
    for known in FIELDS:
        if len(values[known.key]) > 1:
            remarks.append(f"EHR: {known.ehr_name}: given twice, and differently; taken as missing")
    unique = {key: found.pop() for key, found in values.items() if len(found) == 1}
    return ClinicalRecord(**unique), tuple(remarks)


def encode(record: ClinicalRecord, features: Sequence[ClinicalFeature]) -> NDArray[np.float32]:
    """Return the values a network takes, shape (len(features),), in the card's order.

    A known value becomes (value - mean) / std, a missing one the feature's code for missing.
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


def _number(known: Field, raw: object) -> float | None:
    """Return the value of one EHR entry; ValueError says why it cannot be one."""
    value: float | None
    if raw is None:
        return None
    if isinstance(raw, str):
        text = raw.strip().lower()
        if text in _MISSING_TEXTS:
            return None
        if text in known.codes:
            return known.codes[text]
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"expected a number, found the text '{_shortened(raw)}'") from None
    elif isinstance(raw, bool) and known.highest == 1:
        value = float(raw)
    elif isinstance(raw, int | float) and not isinstance(raw, bool):
        try:
            value = float(raw)
        except OverflowError:
            raise ValueError("the number is too large to be true") from None
    else:
        raise ValueError(f"expected a number, found {_json_type(raw)}")
    if math.isnan(value):
        return None
    if not known.lowest <= value <= known.highest or math.isinf(value):
        raise ValueError(f"{value:g} is outside {known.lowest:g} to {known.highest:g}")
    if known.is_category and not value.is_integer():
        raise ValueError(f"{value:g} is not one of its codes, which are whole numbers")
    return value


def _json_type(value: object) -> str:
    names = {list: "a list", dict: "an object", str: "a text", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def _shortened(text: str, length: int = 40) -> str:
    """Return a text of the EHR as the log can print it: one line, not too long, valid Unicode."""
    one_line = " ".join(text.split()).encode("utf-8", "backslashreplace").decode("utf-8")
    return one_line if len(one_line) <= length else one_line[: length - 1] + "…"
