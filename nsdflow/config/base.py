"""Base class of all configuration models."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from nsdflow.errors import ConfigError
from nsdflow.io.paths import normalize

__all__ = ["Frozen", "Place", "expand"]


def expand(path: str) -> str:
    """Expand a path or URL of a setting as one of the command line."""
    try:
        return normalize(path)
    except ConfigError as error:
        raise ValueError("; ".join(error.problems)) from None


#: A setting that is a path or URL.
Place = Annotated[str, AfterValidator(expand)]


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
