"""The same answers on every SIMD path of the machine, each forced in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

PATHS = ("avx512", "avx2", "neon", "portable")

WORK = """
import json
import numpy as np
from otbr_fast import ot, show_versions

found = {"path": show_versions()["simd"], "costs": [], "entropic": [], "distances": []}
rng = np.random.default_rng(5)
for n, m, d in [(1, 1, 1), (7, 5, 2), (33, 64, 3), (150, 97, 20), (400, 400, 70)]:
    for dtype in (np.float32, np.float64):
        X, Y = rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((m, d)).astype(dtype)
        X[: n // 3] = X[0]
        Y[: m // 4] = X[0]
        a, b = rng.exponential(size=n), rng.exponential(size=m)
        a, b = a / a.sum(), b / b.sum()
        M = np.abs(rng.standard_normal((n, m))).astype(dtype)
        solution = ot.solve(M, a, b)
        found["costs"].append([solution.status, float(solution.value)])
        found["costs"].append([ot.solve(M.round(), a, b).status, ot.solve(M.round(), a, b).value])
        found["entropic"].append(float(ot.solve(M, a, b, reg=0.1 * float(M.max())).value))
        for metric in ("euclidean", "sqeuclidean", "cosine"):
            D = ot.cost_matrix(X, Y, metric)
            found["distances"].append(D.ravel()[:: max(1, D.size // 97)].tolist())
print(json.dumps(found))
"""


def run(path: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OTBR_FAST_SIMD": path}
    command = [sys.executable, "-c", WORK]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """Return what each path of this machine found."""
    refusal = run("none of them")
    listed = re.search(r"this machine has (.*), choose one", refusal.stderr)
    assert refusal.returncode != 0
    assert listed is not None, refusal.stderr
    found = {}
    for path in listed[1].split(", "):
        assert path in PATHS
        done = run(path)
        assert done.returncode == 0, done.stderr
        found[path] = json.loads(done.stdout)
    return found


def test_the_path_that_is_asked_for_is_taken(results: dict[str, dict[str, Any]]) -> None:
    assert "portable" in results
    assert {path: found["path"] for path, found in results.items()} == {p: p for p in results}


def test_exact_costs_agree_and_are_proven(results: dict[str, dict[str, Any]]) -> None:
    for found in results.values():
        assert {status for status, _ in found["costs"]} == {"optimal"}
        values = [value for _, value in found["costs"]]
        expected = [value for _, value in results["portable"]["costs"]]
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)


def test_entropic_costs_agree(results: dict[str, dict[str, Any]]) -> None:
    for found in results.values():
        np.testing.assert_allclose(
            found["entropic"], results["portable"]["entropic"], rtol=1e-6, atol=1e-9
        )


def test_distances_agree(results: dict[str, dict[str, Any]]) -> None:
    for found in results.values():
        for mine, theirs in zip(found["distances"], results["portable"]["distances"], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=32 * 78 * 2.0**-24, atol=0)
            assert [x == 0 for x in mine] == [x == 0 for x in theirs]


def test_a_path_that_does_not_exist_is_refused() -> None:
    done = run("avx1024")
    assert done.returncode != 0
    assert 'OTBR_FAST_SIMD is "avx1024"; this machine has' in done.stderr
    assert "unset it" in done.stderr
