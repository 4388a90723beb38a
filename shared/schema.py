"""The base class of all records that are read from files, and types with limits for model cards.

The limits are generous. They reject what a damaged or hostile card could contain: numbers that
would exhaust the memory or overflow float32, and control codes that would reach a terminal.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """A record that rejects unknown keys, wrong types, NaN, infinity and later changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def check_text(text: str) -> str:
    """Return a text that a terminal prints unchanged; raise ValueError for any other text.

    Control codes could move the cursor, and direction marks could reorder what a reader sees.
    """
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            raise ValueError(f"expected text without control codes, found {character!a}")
    return text


Text: TypeAlias = Annotated[str, Field(max_length=10_000), AfterValidator(check_text)]
Side: TypeAlias = Annotated[int, Field(ge=1, le=512)]
"""The side of a region or window in voxels; one float32 image of 512³ takes 0.5 GB."""
Spacing: TypeAlias = Annotated[float, Field(ge=0.1, le=20)]
"""In millimetres."""
Magnitude: TypeAlias = Annotated[float, Field(ge=-1e6, le=1e6)]
"""A mean, a score or another number of either sign."""
Divisor: TypeAlias = Annotated[float, Field(ge=1e-6, le=1e6)]
"""A standard deviation or another divisor."""
Limit: TypeAlias = Annotated[float, Field(ge=0, le=1e9)]
"""A limit that lesions must meet, in any unit."""
