"""The command that runs POT's own tests: a difference fails it unless the page explains it."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

COMMAND = Path(__file__).parents[2] / "benches" / "pot_test_suite.py"

AGREE = """
import numpy as np
import ot
import pytest

def test_same(nx):
    a, M = nx.from_numpy(np.ones(3) / 3, np.eye(3))
    assert nx.to_numpy(ot.lp.emd(a, a, M)).sum() > 0.99

@pytest.skip_backend("numpy")
def test_skipped_for_numpy(nx):
    assert str(nx) == "torch"
    ot.emd2([], [], nx.from_numpy(np.eye(3)))

def test_not_relevant():
    assert False
"""
DIFFER = """
import inspect
import numpy as np
import ot

def NAME():
    ot.emd([], [], np.eye(3))
    assert "otbr_fast" not in inspect.unwrap(ot.emd).__module__
"""


def judged(tmp_path: Path, tests: str) -> tuple[int, str]:
    sdist = tmp_path / "pot-0.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for name, content in (("pot-0/test/test_it.py", tests), ("pot-0/ot/__init__.py", "1 / 0")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    command = [sys.executable, str(COMMAND), "--sdist", str(sdist)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_what_agrees_is_counted_and_what_differs_explained(tmp_path: Path) -> None:
    status, output = judged(tmp_path, AGREE + DIFFER.replace("NAME", "test_nan_warning"))
    assert status == 0, output
    assert "│ 4               │ 3                │ 1" in output
    assert "explained: test_nan_warning: AssertionError" in output


def test_no_difference_without_an_explanation_and_none_explained_in_vain(tmp_path: Path) -> None:
    agree = AGREE.replace("test_same", "test_nan_warning")
    status, output = judged(tmp_path, agree + DIFFER.replace("NAME", "test_something"))
    assert status == 1, output
    assert "UNEXPLAINED: test_something: AssertionError" in output
    assert "PASSES, but pot-migration.md explains why not: test_nan_warning" in output
