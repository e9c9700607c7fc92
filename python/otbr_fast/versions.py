"""What is installed and what the machine gives."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from otbr_fast import _core

_FOLDER = Path(__file__).parent
_PACKAGES = ("numpy", "scipy", "torch", "safetensors", "POT")


def show_versions() -> dict[str, str | int | None]:
    """Versions, SIMD path, threads and build profile, for reports and bug reports.

    Returns
    -------
    dict
        ``otbr_fast``, ``python``, ``platform``, the version of each package that matters (None
        where it is not installed), ``simd`` (the path chosen at run time: "avx512", "avx2",
        "neon" or "portable"), ``threads`` (used when ``n_threads`` is None) and
        ``build_profile`` ("release" or "debug"). Nothing is imported to find them.
    """
    packages: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "otbr_fast": _core.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **packages,
        "simd": _core.simd_path(),
        "threads": _core.default_threads(),
        "build_profile": _core.build_profile,
    }


def code_hash() -> str:
    """SHA-256 of this package's files: what one code found, another may not."""
    digest = hashlib.sha256()
    for path in sorted(_FOLDER.rglob("*")):
        if path.suffix in (".py", ".so", ".pyd"):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(_FOLDER).as_posix()} {content}\n".encode())
    return digest.hexdigest()
