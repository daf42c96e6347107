"""What every section of the configuration shares: strictness, and the ranges of its values."""

import os
from pathlib import Path
from typing import Annotated, Any, get_args
from unicodedata import category

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Byte = Annotated[int, Field(ge=0, le=255)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Odd = Annotated[int, Field(ge=1, le=31)]
CaseName = Annotated[str, Field(min_length=1)]
# Larger ones are slips of the pen that would exhaust the memory.
ImageSide = Annotated[int, Field(ge=1, le=8192)]
GridSide = Annotated[int, Field(ge=2, le=512)]
FilterCount = Annotated[int, Field(ge=8, le=2048, multiple_of=8)]
SourceValue = Annotated[int, Field(ge=0, lt=2**31)]
SheetTiles = Annotated[int, Field(ge=1, le=600)]


CONTROL = ("Cc", "Zl", "Zp")
"""Unicode's control characters and line breaks: no name of a file or case needs them."""


class Section(BaseModel):
    """What every section shares: unknown keys are errors and values do not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _is_meant_so(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - before types
        """Refuse what would be taken for something else: true for 1, a path cut at a null.

        A path that begins with ``~`` is one below the home folder.
        """
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, str) and Path in (annotation, *get_args(annotation)):
            value = expand_home(value)
        if value is False and "off" in get_args(annotation):
            # YAML reads a bare off as false.
            return "off"
        takes_bool = annotation is bool
        for entry in value if isinstance(value, list | tuple) else (value,):
            if isinstance(entry, bool) and not takes_bool:
                raise ValueError("true and false do not fit here")
            if isinstance(entry, str) and any(category(c) in CONTROL for c in entry):
                raise ValueError("expected text without a null character or line breaks")
        return value


def expand_home(path: str) -> str:
    """Return a path with ``~`` or ``~user`` at its beginning replaced by the home folder.

    It stays as it is where no home folder is known.
    """
    # Not Path.expanduser: it fails without a home folder.
    return os.path.expanduser(path)  # noqa: PTH111
