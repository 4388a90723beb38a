"""The base class of everything that is read from a model card."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A record that rejects unknown keys, wrong types, NaN, infinity and later changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
