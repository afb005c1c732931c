"""What all configuration models share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Frozen"]


class Frozen(BaseModel):
    """A validated, immutable record; an unknown key is a mistake, not a note."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
