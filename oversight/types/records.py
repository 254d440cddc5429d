"""The base of all records: immutable, checked, and exact when copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of all stored records: immutable, and unknown keys are an error."""

    # Numbers that are not finite stay what they are in JSON: as null they could not be read back.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with changes; ids cached from the old content do not come along."""
        copied = super().model_copy(update=update, deep=deep)
        values = copied.__dict__
        if len(values) > len(type(copied).model_fields):
            for name in values.keys() - type(copied).model_fields.keys():
                del values[name]
        return copied
