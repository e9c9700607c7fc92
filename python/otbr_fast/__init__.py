"""Data-free repair of backdoored neural networks by optimal transport.

Subpackages are loaded when first used, so that ``import otbr_fast`` is quick and
``otbr_fast.ot`` never brings in torch:

- `otbr_fast.ot`: exact and entropic optimal transport, distances;
- `otbr_fast.repair`: OTBR (arXiv 2408.15861): unlearn, rank, prune, fuse;
- `otbr_fast.models`, `otbr_fast.io`: architectures, checkpoints, BackdoorBench records;
- `otbr_fast.evaluate`, `otbr_fast.report`: triggers, ACC and ASR, tables and pictures.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from otbr_fast._core import __version__
from otbr_fast.versions import show_versions

_SUBPACKAGES = ("evaluate", "io", "models", "ot", "repair", "report")

__all__ = ["__version__", "show_versions", *_SUBPACKAGES]


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"otbr_fast.{name}")
    raise AttributeError(f"module 'otbr_fast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
