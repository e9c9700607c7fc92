"""What pydantic found wrong, in one line."""

from __future__ import annotations

from pydantic import ValidationError

_SHOWN = 3


def faults(error: ValidationError) -> str:
    """Name the wrong keys and say what is wrong with them."""
    found = error.errors(include_url=False, include_input=False)
    texts = [
        f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}"
        for fault in found[:_SHOWN]
    ]
    rest = len(found) - _SHOWN
    return "; ".join([*texts, f"and {rest} more"] if rest > 0 else texts)
