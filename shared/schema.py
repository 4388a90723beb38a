"""The base of everything that is read from a model card: strict, frozen, finite."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A record that refuses unknown keys, wrong types, NaN and changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
