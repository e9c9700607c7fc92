"""Kinds of values that a report holds, and what its parts have in common."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

_DIGITS = 6
_PNG = b"\x89PNG\r\n\x1a\n"


def _known(value: Any) -> float | None:
    """Return a number that is finite; anything else that is a number is not known."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _rounded(values: Any) -> tuple[float | None, ...]:
    numbers = values.tolist() if hasattr(values, "tolist") else values
    known = (_known(value) for value in numbers)
    return tuple(None if v is None else float(f"{v:.{_DIGITS}g}") for v in known)


def _check_png(text: str) -> str:
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if not content.startswith(_PNG):
        raise ValueError("not a PNG")
    return text


Number = Annotated[float | None, BeforeValidator(_known)]
"""A finite number, or ``None`` where it is not known."""

Values = Annotated[tuple[float | None, ...], BeforeValidator(_rounded)]
"""Many numbers, kept to six significant digits."""

Png = Annotated[str, AfterValidator(_check_png)]
"""A PNG file in base64."""


class Part(BaseModel):
    """What a report is made of: it cannot be changed, and has no field that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
