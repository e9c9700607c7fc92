"""What a comparison found, as one JSON document."""

from __future__ import annotations

import os
import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from otbr_fast.bench.plan import Plan
from otbr_fast.bench.solvers import OURS, SOLVERS, Task
from otbr_fast.errors import OtbrFastError

Status = Literal["ok", "failed", "time_limit", "not_reached", "skipped", "not_applicable"]
"""``not_reached``: an entropic solver ended without the accuracy asked for. ``skipped``: it took
too long for a smaller problem."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Environment(_Record):
    """Where and when it was run."""

    command: str
    date: str
    cpu: str
    cores: int
    memory: int | None
    load: float | None
    versions: dict[str, str | int | None]

    @classmethod
    def here(cls) -> Environment:
        """Describe this machine now."""
        from otbr_fast import show_versions

        return cls(
            command=" ".join(["otbr-fast", *map(_without_folder, sys.argv[1:])]),
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            cpu=_cpu_name(),
            cores=os.cpu_count() or 1,
            memory=_memory(),
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            versions={**show_versions(), **_peers()},
        )


class Absent(_Record):
    """A contestant that did not take part, and what to do about it."""

    task: Task
    solver: str
    label: str
    reason: str


class Entry(_Record):
    """One contestant's part in a cell.

    Parameters
    ----------
    seconds, cpu_seconds : list of float
        Of each run that counts; the lists of a cell's entries are paired.
    memory : int, optional
        Bytes by which the first run raised the peak resident size.
    value, error : float, optional
        See `otbr_fast.bench.reading`, of the last run.
    effort : float
        Entropic: the tolerance, or number of iterations, that the solver was given.
    agrees : bool, optional
        Whether its result is that of the others; None where there is nothing to compare.
    """

    solver: str
    label: str
    status: Status = "ok"
    reason: str | None = None
    version: str | None = None
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    memory: int | None = None
    value: float | None = None
    error: float | None = None
    effort: float = 0
    is_bound: bool = False
    agrees: bool | None = None


class Cell(_Record):
    """One problem, and how each contestant did."""

    task: Task
    family: str
    n: int
    m: int
    dtype: str
    reg: float | None = None
    calls: int = 1
    layer: str | None = None
    threads: int = 1
    entries: list[Entry] = []

    def entry(self, solver: str) -> Entry | None:
        """Return a contestant's part, if it took part."""
        return next((entry for entry in self.entries if entry.solver == solver), None)

    @property
    def ours(self) -> Entry | None:
        """Our part, if its times count."""
        entry = self.entry(OURS)
        return entry if entry is not None and counts(entry) else None


def counts(entry: Entry) -> bool:
    """Tell whether a contestant's times may be used."""
    return entry.status == "ok" and entry.agrees is not False


class Results(_Record):
    """A whole comparison, perhaps an interrupted one."""

    format: Literal[1] = 1
    environment: Environment
    plan: Plan
    complete: bool = False
    absent: list[Absent] = Field(default_factory=list)
    cells: list[Cell] = Field(default_factory=list)

    def to_json(self) -> str:
        """Return the document."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read a document.

        Raises
        ------
        OtbrFastError
            The file is not one.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            raise OtbrFastError(
                f"{path} holds no results of 'otbr-fast bench': {where}: {fault['msg']}"
            ) from None


def _peers() -> dict[str, str | int | None]:
    found: dict[str, str | int | None] = {}
    for package in sorted({solver.package for solver in SOLVERS} - {"otbr-fast"}):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _without_folder(argument: str) -> str:
    return Path(argument).name if Path(argument).is_absolute() else argument


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
