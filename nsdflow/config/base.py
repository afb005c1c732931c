"""Base class of all configuration models."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["Frozen"]


class Frozen(BaseModel):
    """A validated, immutable record. An unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _one_name_is_a_list_of_one(cls, values: Any) -> Any:
        """Accept ``rois: V1`` for ``rois: [V1]``."""
        if not isinstance(values, dict):
            return values
        lists = {name for name, field in cls.model_fields.items() if _is_list_of_names(field.annotation)}
        return {key: (value,) if key in lists and isinstance(value, str) else value for key, value in values.items()}


def _is_list_of_names(annotation: Any) -> bool:
    """Whether a field holds several names and does not accept a single word such as ``all``."""
    choices = (annotation, *get_args(annotation))
    if any(get_origin(choice) is Literal for choice in choices):
        return get_origin(annotation) is tuple
    return any(get_origin(choice) is tuple and get_args(choice)[-1] is Ellipsis for choice in choices)
