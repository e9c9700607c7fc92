"""How much memory a call takes, from inside the process that makes it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"


def watch_memory() -> Callable[[], int | None]:
    """Start to watch; the function returned tells by how much the peak has grown since, in bytes.

    Linux sets the peak resident size back to the present one first. Elsewhere the peak since the
    process began counts, so that what fits below an earlier peak is not seen. Windows tells
    neither: ``None``.
    """
    with suppress(OSError):  # not Linux, or not allowed
        _CLEAR.write_text(_RESET_PEAK)
    before = _peak()
    return lambda: None if before is None else (_peak() or before) - before


def _peak() -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return _peak_by_rusage()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _peak_by_rusage() -> int | None:
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        return None
    peak = getrusage(RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
