"""A pytest plugin: POT's own tests, with POT's solvers or with ours in their places.

It supplies what POT's tests expect from a conftest.py that its sdist lacks (the fixture `nx` and
two decorators), and writes what became of each test, and how often it called our functions, as
JSON.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ot as pot
import pytest
from ot.backend import get_backend_list

from otbr_fast import ot

REPLACED = ("emd", "emd2", "sinkhorn", "sinkhorn2")


# Handed on by POT's entropic Gromov-Wasserstein to `sinkhorn`, whose algorithms all ignore them.
UNKNOWN_TO_POT = ("tol_rel", "tol_abs")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--judge-ours", action="store_true", help="put our functions in place")
    parser.addoption("--judge-report", type=Path, required=True, help="where the JSON goes")


def pytest_configure(config: pytest.Config) -> None:
    for name in ("skip_backend", "skip_arg"):
        config.addinivalue_line("markers", f"{name}: as in POT's conftest")
        setattr(pytest, name, getattr(pytest.mark, name))
    judge = Judge(config.getoption("--judge-report"))
    config.pluginmanager.register(judge)
    if config.getoption("--judge-ours"):
        for name in REPLACED:
            put_in_place(getattr(pot, name), judge.counted(getattr(ot, name)))


def put_in_place(theirs: Any, ours: Any) -> None:
    """Replace a function of POT's wherever POT's modules have it, under whatever name."""
    modules = [m for name, m in sys.modules.items() if name.split(".")[0] == "ot"]
    for module in modules:
        for name in [name for name, value in vars(module).items() if value is theirs]:
            setattr(module, name, ours)


class Judge:
    """Keeps what became of each test."""

    def __init__(self, report: Path) -> None:
        self.report = report
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.calls = 0

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            known = {k: v for k, v in kwargs.items() if k not in UNKNOWN_TO_POT}
            return function(*args, **known)

        return call

    def pytest_runtest_setup(self, item: pytest.Function) -> None:
        self.calls = 0
        params = item.callspec.params if hasattr(item, "callspec") else {}
        for mark in item.iter_markers("skip_backend"):
            if str(params.get("nx")) == mark.args[0]:
                pytest.skip(f"not for the backend {mark.args[0]}")
        for mark in item.iter_markers("skip_arg"):
            names, values = mark.args
            getter = mark.kwargs.get("getter", lambda value: value)
            if all(getter(params[n]) == v for n, v in zip(names, values, strict=True)):
                pytest.skip(mark.kwargs.get("reason", ""))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        entry = self.outcomes.setdefault(
            report.nodeid, {"outcome": "passed", "why": "", "calls": 0}
        )
        if report.when == "call":
            entry["calls"] = self.calls
        if not report.passed:
            entry["outcome"] = report.outcome
            crash = getattr(report.longrepr, "reprcrash", None)
            entry["why"] = crash.message if crash else ""

    def pytest_sessionfinish(self) -> None:
        self.report.write_text(json.dumps(self.outcomes))


@pytest.fixture(
    params=[nx for nx in get_backend_list() if str(nx) in ("numpy", "torch")],
    ids=str,
)
def nx(request: pytest.FixtureRequest) -> Any:
    """Each of POT's array backends that otbr_fast knows."""
    return request.param
