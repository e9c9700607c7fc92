"""The runner's end of a contestant's process, with a limit on the time of each answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

from otbr_fast.bench.messages import Answer, Order, encode
from otbr_fast.bench.solvers import SolverError, find_solver

_START_LIMIT = 300.0  # seconds to import, and to read the problem

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "NPROC",  # XLA's pool
)


class TimeLimitError(Exception):
    """A contestant took longer than allowed, and was ended."""


class AbsentError(Exception):
    """A contestant's library cannot be imported; the message says why."""


class Remote:
    """A contestant in a process of its own, started at once; use as a context manager.

    Parameters
    ----------
    order : Order
        Who it is and what it gets.
    pot_old : Path, optional
        The folder that holds another POT, for the contestant of that name.
    """

    def __init__(self, order: Order, pot_old: Path | None = None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "otbr_fast.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            encoding="utf-8",
            env=_environment(order, pot_old),
        )
        self._send(encode(order))

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def wait_ready(self) -> str | None:
        """Wait until it can run; return its library's version.

        Raises
        ------
        AbsentError
            Its library cannot be imported.
        SolverError
            It could not prepare.
        TimeLimitError
            It took minutes.
        """
        reply = self._receive(_START_LIMIT)
        if "missing" in reply:
            raise AbsentError(reply["missing"])
        version: str | None = reply["ready"]
        return version

    def run(self, effort: float, limit: float) -> Answer:
        """Let it run once.

        Raises
        ------
        TimeLimitError
            It took more than `limit` seconds, and is gone.
        SolverError
            It gave no usable result, or died.
        """
        self._send(encode(effort))
        reply = self._receive(limit)
        if "failed" in reply:
            raise SolverError(reply["failed"])
        return Answer(**reply)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died: the missing reply tells
            self._process.stdin.write(line)

    def _receive(self, limit: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        ended: list[bool] = []

        def end() -> None:
            ended.append(True)
            self._process.kill()

        timer = Timer(limit, end)
        timer.daemon = True  # or it would hold up the exit after Ctrl-C
        try:
            timer.start()
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if line:
            reply: dict[str, Any] = json.loads(line)
            return reply
        if ended:
            raise TimeLimitError(f"more than {limit:g} s")
        raise SolverError(self._last_words())

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if lines:
            return f"its process ended: {lines[-1]}"
        killed = "; memory may have run out" if code == -9 else ""
        return f"its process ended with code {code}{killed}"


def _environment(order: Order, pot_old: Path | None) -> Mapping[str, str]:
    threads = dict.fromkeys(_THREAD_VARIABLES, str(order.threads))
    solver = find_solver(order.task, order.solver)
    environment = {**os.environ, **threads, "JAX_PLATFORMS": "cpu", **solver.environment}
    if order.threads == 1:
        environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    if order.solver == "pot-old" and pot_old is not None:
        paths = (str(pot_old), os.environ.get("PYTHONPATH"))
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment
